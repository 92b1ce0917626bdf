"""
Volumes
=======

A CT of a sphere phantom and two reconstructions of it. One is noisy; the other is smoothed from
slice to slice, so that every slice looks clean. Scores of slices prefer the second. Scores of the
volume see that it has lost what is thin along the depth.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from tabulate import tabulate

import imsim

# %%
# The phantom, in Hounsfield units: water in a cylinder of plastic, spheres of several sizes, and two
# thin plates across the axis. Voxels are 2 mm deep and 1 mm wide.

spacing = (2.0, 1.0, 1.0)
z, y, x = (
    np.arange(n)[tuple(slice(None) if k == axis else None for k in range(3))] * spacing[axis]
    for axis, n in enumerate((40, 96, 96))
)
radius = np.hypot(y - 48, x - 48)
phantom = np.full((40, 96, 96), -1000.0)
phantom[np.broadcast_to(radius < 45, phantom.shape)] = 120
phantom[np.broadcast_to(radius < 41, phantom.shape)] = 0
rng = np.random.default_rng(1)
for _ in range(24):
    angle, reach = rng.uniform(0, 2 * np.pi), 32 * np.sqrt(rng.uniform())
    centre = rng.uniform(8, 70), 48 + reach * np.sin(angle), 48 + reach * np.cos(angle)
    size, value = rng.uniform(2, 7), rng.choice([-90, 60, 300])
    distance = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    phantom[distance < size**2] = value
for plane in (12, 27):
    phantom[plane][np.hypot(y - 48, x - 48)[0] < 20] = 200

noise = 40 * gaussian_filter(rng.standard_normal(phantom.shape), 0.7) / 0.3
noisy = phantom + noise
smoothed = gaussian_filter1d(noisy, 1.5, axis=0)

# %%
# The mask is the cylinder: the air around it would count as perfectly alike. ``ndim=3`` says that
# the last three axes are a volume; without it, each plane is an image of its own, and there are 40
# scores. ``spacing`` makes windows as deep as they are wide, in millimetres.

body = np.broadcast_to(radius < 45, phantom.shape)
options = {"mask": body, "data_range": 2000}
rows = []
for name, image in (("noisy", noisy), ("smoothed along z", smoothed)):
    slices = imsim.ssim(phantom, image, **options)
    rows.append(
        [
            name,
            imsim.rmse(phantom, image, ndim=3, mask=body),
            slices.mean(),
            imsim.ssim(phantom, image, ndim=3, spacing=spacing, sigma=2.0, **options),
            imsim.gmsd(phantom, image, ndim=3, **options),
            imsim.by_slice("fsim", phantom, image, **options),
        ]
    )
header = ["", "rmse (HU)", "ssim, 40 slices", "ssim, volume", "gmsd, volume", "fsim, by slice"]
print(tabulate(rows, header, floatfmt=".4f"))

# %%
# Where: three cuts through the place at which the map of the smoothed volume is lowest.

local = imsim.ssim_map(phantom, smoothed, ndim=3, border="replicate", **options)
worst = np.unravel_index(np.nanargmin(local), local.shape)
print("lowest at plane, row, column", *map(int, worst), "with", round(float(local[worst]), 3))

figure, axes = plt.subplots(3, 3, figsize=(8, 6.2), layout="constrained")
for row, axis in enumerate(range(3)):
    aspect = spacing[1] / spacing[2] if axis == 0 else spacing[0] / spacing[2]
    for column, (title, volume, limits) in enumerate(
        (
            ("phantom", phantom, (-150, 250)),
            ("smoothed along z", smoothed, (-150, 250)),
            ("ssim_map", local, (0, 1)),
        )
    ):
        shown = axes[row, column]
        cut = np.take(volume, worst[axis], axis=axis)
        shown.imshow(cut, cmap="gray", vmin=limits[0], vmax=limits[1], aspect=aspect)
        shown.set_axis_off()
        if row == 0:
            shown.set_title(title)
        if column == 0:
            where = ("plane", "row", "column")[axis]
            shown.text(2, 6, f"{where} {worst[axis]}", color="yellow", fontsize=8)
plt.show()
