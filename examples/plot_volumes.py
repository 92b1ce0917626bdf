"""
Volumes
=======

A CT phantom and two reconstructions of it with the same error. In one, noise is spread over the
volume. In the other, every slice is clean, but brighter or darker than its neighbours. Scores of
the slices find that one nearly perfect. Scores of the volume see the stripes along the depth.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from tabulate import tabulate

import imsim

# %%
# The phantom: water in a cylinder of plastic, with spheres of several sizes. Values are Hounsfield
# units plus 1000, since the luminance term of SSIM assumes that none is negative. Voxels are 2 mm
# deep and 1 mm wide.

spacing = (2.0, 1.0, 1.0)
z, y, x = (
    np.arange(n)[tuple(slice(None) if k == axis else None for k in range(3))] * spacing[axis]
    for axis, n in enumerate((40, 96, 96))
)
radius = np.hypot(y - 48, x - 48)
phantom = np.full((40, 96, 96), 0.0)
phantom[np.broadcast_to(radius < 45, phantom.shape)] = 1120
phantom[np.broadcast_to(radius < 41, phantom.shape)] = 1000
rng = np.random.default_rng(1)
for _ in range(24):
    angle, reach = rng.uniform(0, 2 * np.pi), 32 * np.sqrt(rng.uniform())
    centre = rng.uniform(8, 70), 48 + reach * np.sin(angle), 48 + reach * np.cos(angle)
    size, value = rng.uniform(2, 7), rng.choice([910, 1060, 1300])
    distance = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    phantom[distance < size**2] = value

noise = gaussian_filter(rng.standard_normal(phantom.shape), 0.7)
noisy = phantom + 20 * noise / noise.std()
stripes = rng.standard_normal((40, 1, 1))
striped = phantom + 20 * stripes / stripes.std()

# %%
# The mask is the cylinder: the air around it would count as perfectly alike. ``ndim=3`` says that
# the last three axes are a volume; without it, each plane is an image of its own, and there are 40
# scores. ``spacing`` makes windows as deep as they are wide, in millimetres. FSIM is defined for
# images only: ``by_slice`` averages it over the slices across all three axes.

body = np.broadcast_to(radius < 45, phantom.shape)
options = {"mask": body, "data_range": 2000}
rows = []
for name, image in (("noisy", noisy), ("striped", striped)):
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
# Where: three cuts through the place at which the map of the striped volume is lowest.

local = imsim.ssim_map(phantom, striped, ndim=3, border="replicate", **options)
worst = np.unravel_index(np.nanargmin(local), local.shape)
print("lowest at plane, row, column", *map(int, worst), "with", round(float(local[worst]), 3))

figure, axes = plt.subplots(3, 3, figsize=(8, 6.2), layout="constrained")
for row, axis in enumerate(range(3)):
    aspect = spacing[1] / spacing[2] if axis == 0 else spacing[0] / spacing[2]
    for column, (title, volume, limits) in enumerate(
        (
            ("phantom", phantom, (850, 1250)),
            ("striped", striped, (850, 1250)),
            ("ssim_map", local, (0.75, 1)),
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
