"""
Batches and throughput
======================

Leading axes are batch axes. A batch gives the numbers of a loop to the last bit, computes what a
shared reference contributes once, and keeps all processors busy. The times are those of the machine
that built this page; ``make bench`` measures yours, next to other libraries.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from tabulate import tabulate

import imsim

# %%
# One reference against 16 tests, and 5 x 16 pairs, in single calls.

reference = data.camera()[::4, ::4].astype(np.float32)  # 128 x 128
rng = np.random.default_rng(0)
tests = reference + rng.normal(0, 8, (16, *reference.shape)).astype(np.float32)

scores = imsim.fsim(reference, tests, data_range=255)
loop = [imsim.fsim(reference, test, data_range=255) for test in tests]
grid = imsim.ssim(tests[:5, None], tests, data_range=255)
print(scores.shape, grid.shape)
print("the batch equals the loop:", scores.tolist() == loop)

# %%
# Time per pair: a loop of single calls, a batch of pairs, and a batch with one reference. The first
# call of each metric compiles its kernel, so it is made beforehand. Times are medians of five.


def milliseconds(call, *images):
    call(*images)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call(*images)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times)) / len(tests)


references = np.repeat(reference[None], len(tests), axis=0)
names = ("rmse", "imed", "ssim", "uiq", "gmsd", "fsim")
measured = {}
for name in names:
    function = imsim.METRICS[name].function

    def one_by_one(a, b, function=function):
        return [function(x, y, data_range=255) for x, y in zip(a, b, strict=True)]

    def at_once(a, b, function=function):
        return function(a, b, data_range=255)

    measured[name] = (
        milliseconds(one_by_one, references, tests),
        milliseconds(at_once, references, tests),
        milliseconds(at_once, reference, tests),
    )

rows = [[name, *times] for name, times in measured.items()]
heads = ["ms per pair", "loop", "batch", "one reference"]
print(tabulate(rows, heads, tablefmt="plain", floatfmt=".3f"))

# %%
# The same as a figure.

figure, axis = plt.subplots(figsize=(8, 3.8), layout="constrained")
LABELS = ("loop of single calls", "batch of pairs", "batch, one reference")
COLOURS = ("#000000", "#0072b2", "#e69f00")  # black, blue, orange: told apart by everybody
for k, (label, colour) in enumerate(zip(LABELS, COLOURS, strict=True)):
    heights = [measured[name][k] for name in names]
    axis.bar(np.arange(len(names)) + 0.27 * (k - 1), heights, 0.25, label=label, color=colour)
axis.set_yscale("log")
axis.set_xticks(range(len(names)), names)
axis.set_ylabel("time per pair [ms]")
axis.set_title(f"128 x 128 float32, 16 pairs, {imsim.get_workers()} threads", fontsize=10)
axis.legend()
plt.show()

# %%
# Threads: ``workers`` sets how many are used within a block. The result does not depend on it.

with imsim.workers(1):
    alone = imsim.fsim(reference, tests, data_range=255)
print("one thread gives the same:", bool((alone == scores).all()))

# %%
# Too many images for the memory: a generator of batches. A batch of some megabytes is large enough.


def batches(images, size=8):
    for start in range(0, len(images), size):
        yield images[start : start + size]


streamed = np.concatenate([imsim.fsim(reference, b, data_range=255) for b in batches(tests)])
print("small batches give the same:", bool((streamed == scores).all()))
