"""
Masks, and how pool-only masking leaks
======================================

A round part in front of a background that is none of our business. Many programs "mask" a metric by
computing the map of the whole frame and averaging it over the mask. But a local window or a Fourier
transform looks beyond the edge of the mask, and so the background changes the score of the part.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage
from skimage import data
from tabulate import tabulate

import imsim

# %%
# A textured part, slightly blurred in the test image. Four backgrounds: the same in both images
# (black), the same in both (texture), different noise in each, and black against white.

texture = data.grass()[:256, :256].astype(float)
blurred = ndimage.gaussian_filter(texture, 0.8)
rows, columns = np.ogrid[:256, :256]
part = (rows - 127.5) ** 2 + (columns - 127.5) ** 2 < 70**2  # True = use

rng = np.random.default_rng(0)
black, white = np.zeros_like(texture), np.full_like(texture, 255.0)
BACKGROUNDS = {
    "none: texture everywhere": (texture, blurred),
    "black in both": (black, black),
    "noise, another in each": tuple(rng.uniform(0, 255, (2, 256, 256))),
    "black and white": (black, white),
}
PAIRS = {
    name: (np.where(part, texture, behind), np.where(part, blurred, behind_test))
    for name, (behind, behind_test) in BACKGROUNDS.items()
}

# %%
# Pool-only masking: the map knows nothing of the mask, only the average does (for GMSD the standard
# deviation). This is *not* what imsim does.


def pool_only(name, a, b):
    values = getattr(imsim, f"{name}_map")(a, b, data_range=255)[part]
    return np.nanstd(values, ddof=1) if name == "gmsd" else np.nanmean(values)


def masked(name, a, b):
    if name == "fsim":  # the mean of the map without FSIM's weight, to compare like with like
        return np.nanmean(imsim.fsim_map(a, b, mask=part, data_range=255))
    return getattr(imsim, name)(a, b, mask=part, data_range=255)


# %%
# The same part, four backgrounds. The masked score has to be the same number in every row.

NAMES = ("ssim", "uiq", "gmsd", "fsim")
scores = {
    title: [(pool_only(name, a, b), masked(name, a, b)) for name in NAMES]
    for title, (a, b) in PAIRS.items()
}
table = [[title, *(score for both in row for score in both)] for title, row in scores.items()]
heads = ["background", *(f"{name}\n{way}" for name in NAMES for way in ("pool-only", "masked"))]
print(tabulate(table, heads, tablefmt="plain", floatfmt=".4f"))

different = [len({row[column][1] for row in scores.values()}) for column in range(len(NAMES))]
print("masked scores are the same to the last bit:", different == [1, 1, 1, 1])

# %%
# Where it leaks: the SSIM map with the mask given to imsim, and what the map of the whole frame has
# in its place. The pixels that change lie within half a window of the edge of the mask.

figure, axes = plt.subplots(3, 4, figsize=(9.4, 7), layout="constrained")
for column, (title, (a, b)) in zip(axes.T, PAIRS.items(), strict=True):
    whole = np.where(part, imsim.ssim_map(a, b, data_range=255), np.nan)
    inside = imsim.ssim_map(a, b, mask=part, data_range=255)
    column[0].imshow(np.hstack([a[:, :128], b[:, 128:]]), cmap="gray", vmin=0, vmax=255)
    column[0].set_title(title, fontsize=10)
    shown = column[1].imshow(inside, cmap="viridis_r", vmin=0, vmax=1)
    leaked = column[2].imshow(whole - inside, cmap="RdBu", vmin=-0.5, vmax=0.5)
for axis in axes.flat:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_facecolor("0.6")
    axis.set(xlim=(45, 210), ylim=(210, 45))
axes[0, 0].set_ylabel("reference | test")
axes[1, 0].set_ylabel("ssim_map with mask")
axes[2, 0].set_ylabel("pool-only minus masked")
figure.colorbar(shown, ax=axes[1], label="SSIM")
figure.colorbar(leaked, ax=axes[2], label="difference of SSIM", extend="both")
plt.show()

# %%
# How much it leaks depends on the size of the part: the rim is a larger share of a small part.

radii = np.array([8, 12, 20, 35, 60, 100])
errors = []
for radius in radii:
    disc = (rows - 127.5) ** 2 + (columns - 127.5) ** 2 < radius**2
    a, b = (
        np.where(disc, image, noise)
        for image, noise in zip(
            (texture, blurred), BACKGROUNDS["noise, another in each"], strict=True
        )
    )
    pooled = np.nanmean(imsim.ssim_map(a, b, data_range=255)[disc])
    errors.append(pooled - imsim.ssim(a, b, mask=disc, data_range=255))

figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
axis.plot(2 * radii, errors, "o-", color="#0072b2", label="pool-only minus masked")
axis.axhline(0, color="0.5", linewidth=1, label="imsim with mask")
axis.set_xscale("log")
axis.set_xticks(2 * radii, 2 * radii)
axis.minorticks_off()
axis.set_xlabel("diameter of the part [pixels]")
axis.set_ylabel("error of SSIM")
axis.legend()
plt.show()
