"""
Find defects on printed circuit boards
======================================

Each tested board is compared with an aligned image of its defect-free template: similarity map,
threshold, boxes. The folder holds ``NAME_temp.*``, ``NAME_test.*`` and ``boxes.csv`` with the
columns ``pair, x1, y1, x2, y2``, as DeepPCB (https://github.com/tangsanli5201/DeepPCB) put into
one folder::

    python examples/board_defects.py FOLDER

The side of the window that the map is averaged over, the threshold and the smallest area are
chosen for each metric on every other board and judged on the rest. A given box is found if a
detection touches it; a detection that touches no given box is a false alarm. Without a folder, the
script draws boards of its own.
"""

import csv
import sys
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

import imsim

# %%
# A board: template, tested image, and the boxes (x1, y1, x2, y2) of its known defects.


def read_boards(folder):
    boxes = {}
    with (folder / "boxes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            box = [int(row[key]) for key in ("x1", "y1", "x2", "y2")]
            boxes.setdefault(row["pair"], []).append(box)
    for name in sorted(boxes):
        pair = [next(iter(folder.glob(f"{name}_{kind}.*"))) for kind in ("temp", "test")]
        template, test = (np.asarray(Image.open(path).convert("L")) for path in pair)
        yield template, test, boxes[name]


def draw_boards(count=6, size=160):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        template = np.zeros((size, size))
        for start in range(12, size, 24):  # tracks
            template[start : start + 8, 8:-8] = 255
        test, boxes = template.copy(), []
        for row, col in zip(rng.choice(6, 4, replace=False), rng.integers(20, 130, 4), strict=True):
            top = 12 + 24 * row + rng.integers(-3, 4)
            side = rng.integers(4, 8)
            defect = test[top : top + side, col : col + side]
            defect[...] = 255 - defect  # a bite or a spur, or both
            boxes.append([col - 4, top - 4, col + side + 4, top + side + 4])
        yield *(as_photographed(image, rng) for image in (template, test)), boxes


def as_photographed(image, rng):
    blurred = ndimage.gaussian_filter(image, 0.7) + rng.normal(0, 6, image.shape)
    return np.clip(np.rint(blurred), 0, 255).astype(np.uint8)


boards = list(read_boards(Path(sys.argv[1])) if len(sys.argv) > 1 else draw_boards())
metrics = [m for m in imsim.METRICS.values() if m.map_function and m.name != "sam"]  # grey: no sam

# %%
# From a map to detections: join what lies above the threshold, and drop small spots.


def detect(dissimilarity, threshold, smallest):
    labels, _ = ndimage.label(ndimage.binary_closing(dissimilarity > threshold, np.ones((5, 5))))
    areas = np.bincount(labels.ravel())
    keep = areas >= smallest
    keep[0] = False
    return np.where(keep[labels], labels, 0)


def judge(labels, boxes):
    """Count given boxes, those found, detections, and those that touch a box."""
    inside = np.zeros(labels.shape, bool)
    found = 0
    for x1, y1, x2, y2 in boxes:
        inside[y1:y2, x1:x2] = True
        found += labels[y1:y2, x1:x2].any()
    detections, right = (np.unique(part[part > 0]).size for part in (labels, labels[inside]))
    return np.array([len(boxes), found, detections, right])


def quality(counts):
    given, found, detections, right = counts
    precision, recall = right / max(detections, 1), found / given
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-12)


# %%
# Every metric that has a map, with the settings that served it best on the other boards.
# Averaging forgives edges that lie half a pixel off, which cover few pixels of any window.


def best_settings(maps, boxes):
    """Return the window, threshold and smallest area with the largest F1."""
    best = (-1.0, None)
    for window in (1, 5, 11):
        averaged = [ndimage.uniform_filter(m, window) for m in maps]
        pixels = np.concatenate([m[::4, ::4].ravel() for m in averaged])
        levels = np.unique(np.quantile(pixels, 1 - np.geomspace(0.0005, 0.05, 8)))
        for threshold, smallest in product(levels, (5, 40, 120)):
            f1 = quality(count(averaged, boxes, threshold, smallest))[2]
            best = max(best, (f1, (window, threshold, smallest)))
    return best[1]


def count(averaged, boxes, threshold, smallest):
    found = [detect(m, threshold, smallest) for m in averaged]
    return sum(judge(labels, given) for labels, given in zip(found, boxes, strict=True))


print(f"{len(boards)} boards, {sum(len(given) for *_, given in boards)} given boxes")
print("metric  precision  recall     F1  window  threshold  smallest area")
boxes = [given for *_, given in boards]
for metric in metrics:
    maps = []
    for template, test, _ in boards:
        local = metric.map_function(template, test, data_range=255)
        # Nothing is scored where a window does not fit into the image: as alike as can be.
        maps.append(np.nan_to_num(metric.map_dissimilarity(local).astype(np.float32)))
    window, threshold, smallest = best_settings(maps[::2], boxes[::2])
    judged = [ndimage.uniform_filter(m, window) for m in maps[1::2]]
    precision, recall, f1 = quality(count(judged, boxes[1::2], threshold, smallest))
    numbers = f"{precision:9.3f}  {recall:6.3f}  {f1:5.3f}  {window:6d}  {threshold:9.4g}"
    print(f"{metric.name:<6}  {numbers}  {smallest:13d}")
