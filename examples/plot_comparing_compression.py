"""
Compare compression
===================

JPEG and WebP of the same photograph at the same file size: which is nearer to the original, and do
the metrics agree? Every metric sees all qualities as one batch.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, features
from skimage import data

import imsim

# %%
# Compress at several qualities and keep the decoded images and the sizes in bits per pixel.

photo = data.coffee()[40:360, 100:484]
QUALITIES = (5, 15, 35, 60, 80, 93)
FORMATS = [name for name in ("JPEG", "WEBP") if name == "JPEG" or features.check("webp")]


def compress(photo, name, quality):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format=name, quality=quality)
    bits = 8 * buffer.tell() / (photo.shape[0] * photo.shape[1])
    return np.asarray(Image.open(buffer).convert("RGB")), bits


decoded, bits = {}, {}
for name in FORMATS:
    images, sizes = zip(*(compress(photo, name, quality) for quality in QUALITIES), strict=True)
    decoded[name], bits[name] = np.stack(images), np.array(sizes)

# %%
# The scores. ``chromatic=True`` is the FSIM for colour, ``downsample=True`` the SSIM of its
# authors' later program, for images seen from a usual distance.

CURVES = {
    "PSNR [dB]": lambda a, b: imsim.psnr(a, b, channel_axis=-1),
    "SSIM, downsampled": lambda a, b: imsim.ssim(a, b, channel_axis=-1, downsample=True),
    "FSIMc": lambda a, b: imsim.fsim(a, b, channel_axis=-1, chromatic=True),
    "GMSD (lower is better)": lambda a, b: imsim.gmsd(a, b, channel_axis=-1),
}
scores = {
    (label, name): metric(photo, decoded[name])
    for label, metric in CURVES.items()
    for name in FORMATS
}

figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained", sharex=True)
STYLES = {"JPEG": ("o-", "#0072b2"), "WEBP": ("s--", "#d55e00")}
for axis, label in zip(axes.flat, CURVES, strict=True):
    for name in FORMATS:
        style, colour = STYLES[name]
        axis.plot(bits[name], scores[label, name], style, color=colour, label=name)
    axis.set_xscale("log")
    axis.set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    axis.minorticks_off()
    axis.set_ylabel(label)
    axis.grid(alpha=0.3)
for axis in axes[1]:
    axis.set_xlabel("bits per pixel")
axes[0, 0].legend()
plt.show()

# %%
# Where does the damage lie? The GMSD map of the smallest JPEG: bright where gradients were lost.

smallest = decoded["JPEG"][0]
values = imsim.gmsd_map(photo, smallest, channel_axis=-1)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.3), layout="constrained")
axes[0].imshow(photo)
axes[0].set_title("original", fontsize=10)
axes[1].imshow(smallest)
axes[1].set_title(f"JPEG, {bits['JPEG'][0]:.2f} bits per pixel", fontsize=10)
shown = axes[2].imshow(values, cmap="viridis_r", vmin=0, vmax=1)
axes[2].set_title("gmsd_map", fontsize=10)
figure.colorbar(shown, ax=axes[2], label="gradient magnitude similarity")
for axis in axes:
    axis.set_axis_off()
plt.show()
