"""
What each metric sees
=====================

All metrics, fifteen distortions, one scale. Scores of different metrics cannot be compared:
one has decibels, another lies between 0 and 1. So each score is turned into the amount of white
noise that the same metric finds equally bad. "8" means: for this metric, the distortion is as bad
as noise with a standard deviation of 8 grey levels.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from PIL import Image
from scipy import ndimage
from skimage import data
from tabulate import tabulate

import imsim

# %%
# Three photographs of 256 x 256 pixels, grey, values from 0 to 255. Results are medians over them.

# sphinx_gallery_thumbnail_number = 2

PHOTOGRAPHS = [
    image[top : top + 256, left : left + 256].astype(float)
    for image, top, left in ((data.camera(), 60, 130), (data.coins(), 20, 60), (data.grass(), 0, 0))
]

# %%
# Ten distortions of the whole image, five of a small part. Nothing is clipped or rounded to 8 bits,
# except by JPEG, so that each distortion is only what its name says.


def noise(photo, sigma=8.0):
    return photo + np.random.default_rng(7).normal(0, sigma, photo.shape)


def salt_and_pepper(photo):
    dirty = photo.copy()
    chosen = np.random.default_rng(8).random(photo.shape) < 0.002
    dirty[chosen] = 255.0 - photo[chosen]
    return dirty


def jpeg(photo):
    buffer = io.BytesIO()
    Image.fromarray(photo.astype(np.uint8)).save(buffer, format="JPEG", quality=20)
    return np.asarray(Image.open(buffer), dtype=float)


def shading(photo):
    return photo + np.linspace(-15, 15, photo.shape[1])


def disc(radius, row=150, column=100):
    rows, columns = np.ogrid[:256, :256]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def blot(photo, radius):
    return np.where(disc(radius), photo - 60, photo)


def scratch(photo):
    scratched = photo.copy()
    for step in range(80):
        scratched[60 + step, 90 + step // 2] += 60
    return scratched


def smoothed_patch(photo):
    return np.where(disc(16), ndimage.gaussian_filter(photo, 3), photo)


DISTORTIONS = {
    "noise, σ 8": noise,
    "10 brighter": lambda photo: photo + 10,
    "contrast x 0.8": lambda photo: 0.8 * (photo - photo.mean()) + photo.mean(),
    "gamma 1.2": lambda photo: 255 * (photo / 255) ** 1.2,
    "shading, ±15": shading,
    "inverted": lambda photo: 255 - photo,
    "shift 1 px": lambda photo: np.roll(photo, 1, axis=1),
    "turned 1°": lambda photo: ndimage.rotate(photo, 1, reshape=False, order=1, mode="nearest"),
    "blur, σ 1 px": lambda photo: ndimage.gaussian_filter(photo, 1),
    "JPEG, quality 20": jpeg,
    "0.2 % of pixels": salt_and_pepper,
    "blot, Ø 5 px": lambda photo: blot(photo, 2),
    "blot, Ø 17 px": lambda photo: blot(photo, 8),
    "scratch, 1 px": scratch,
    "smooth patch, Ø 33 px": smoothed_patch,
}

# %%
# The noise that a metric finds as bad: the smallest standard deviation on a grid at which its score
# is as bad as that of the distortion, interpolated between the points of the grid. All noisy images
# are one batch, so that each metric is called once.

SIGMAS = np.geomspace(0.05, 100, 67)


def dissimilarity(name, reference, tests):
    metric = imsim.METRICS[name]
    return metric.dissimilarity(metric.function(reference, tests, data_range=255))


def equally_bad_noise(name, reference):
    grain = np.random.default_rng(9).normal(size=reference.shape)
    noisy = reference + SIGMAS[:, None, None] * grain
    tests = np.stack([distort(reference) for distort in DISTORTIONS.values()])
    scores = dissimilarity(name, reference, np.concatenate([reference[None], noisy, tests]))
    nothing, scale, found = scores[0], scores[1 : 1 + len(SIGMAS)], scores[1 + len(SIGMAS) :]
    worst_so_far = np.maximum.accumulate(scale)
    sigmas = []
    for bad in found:
        k = np.searchsorted(worst_so_far, bad)
        if bad <= nothing:
            sigmas.append(0.0)
        elif k == 0 or k == len(SIGMAS):
            sigmas.append(SIGMAS[min(k, len(SIGMAS) - 1)])
        else:
            between = (bad - worst_so_far[k - 1]) / (worst_so_far[k] - worst_so_far[k - 1])
            sigmas.append(SIGMAS[k - 1] * (SIGMAS[k] / SIGMAS[k - 1]) ** between)
    return sigmas


table = {
    name: np.median([equally_bad_noise(name, photo) for photo in PHOTOGRAPHS], axis=0)
    for name in imsim.METRICS
}

# %%
# The first photograph under every distortion.

figure, axes = plt.subplots(3, 5, figsize=(10, 6.6), layout="constrained")
for axis, (title, distort) in zip(axes.flat, DISTORTIONS.items(), strict=True):
    axis.imshow(distort(PHOTOGRAPHS[0]), cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
plt.show()

# %%
# The result. Blue cells are blind spots: the metric hardly notices. Yellow cells are what it minds
# most.

ORDER = (
    "se",
    "rmse",
    "psnr",
    "sre",
    "imed",
    "sam",
    "zncc",
    "ssim",
    "uiq",
    "gmsd",
    "fsim",
    "issm",
    "sh",
)
values = np.array([table[name] for name in ORDER]).T
figure, axis = plt.subplots(figsize=(10, 6.4), layout="constrained")
shown = axis.imshow(values.clip(0.1, 100), norm=LogNorm(0.1, 100), cmap="cividis", aspect="auto")
axis.set_xticks(range(len(ORDER)), ORDER)
axis.set_yticks(range(len(DISTORTIONS)), list(DISTORTIONS))
axis.xaxis.tick_top()
for (row, column), value in np.ndenumerate(values):
    text = "≥100" if value >= 99.9 else "0" if value < 0.005 else f"{value:.2g}"
    axis.text(
        column, row, text, ha="center", va="center", color="k" if value > 6 else "w", fontsize=9
    )
bar = figure.colorbar(shown, extend="both", pad=0.01)
bar.set_label("equally bad white noise: standard deviation in grey levels")
plt.show()

# %%
# The same as text.

rows = [[title, *row] for title, row in zip(DISTORTIONS, values, strict=True)]
print(tabulate(rows, ["", *ORDER], tablefmt="plain", floatfmt=".2g", numalign="right"))
