"""
Where do two images differ?
===========================

Eight metrics have a map: a value for every pixel. Here is what each shows of the same pair, which
differs in four places.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage
from skimage import data
from tabulate import tabulate

import imsim

# %%
# A colour photograph and four faults: a blot that is darker, a patch that is blurred, a patch in
# another colour of the same brightness, and a scratch one pixel wide.

reference = data.coffee()[60:316, 130:386]
test = reference.astype(float)

rows, columns = np.ogrid[:256, :256]
blot = (rows - 60) ** 2 + (columns - 40) ** 2 < 8**2
test[blot] *= 0.6
patch = np.s_[80:120, 90:140]
test[patch] = ndimage.gaussian_filter(test[patch], 2, axes=(0, 1))
tint = np.s_[180:220, 30:80]
test[tint] += np.array([40.0, -28.0, 17.0])  # 0.299 R + 0.587 G + 0.114 B stays nearly the same
scratch = (np.arange(150, 230), 180 + np.arange(80) // 2)
test[scratch] += 50
test = np.clip(np.rint(test), 0, 255).astype(np.uint8)

figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
for axis, title, image in zip(axes, ("reference", "test"), (reference, test), strict=True):
    axis.imshow(image)
    axis.set_title(title)
    axis.set_axis_off()
plt.show()

# %%
# All maps have the shape of the images. Similarities are shown from 1 to 0, distances from 0, with
# their unit. Dark is alike, yellow is different; grey was not scored: windows that do not fit into
# the frame have no value.

figure, axes = plt.subplots(2, 4, figsize=(11, 5.6), layout="constrained")
with_map = [metric for metric in imsim.METRICS.values() if metric.map_function]
for axis, metric in zip(axes.flat, with_map, strict=True):
    values = metric.map_function(reference, test, channel_axis=-1)
    similarity = metric.map_higher_is_better
    colours = plt.get_cmap("viridis_r" if similarity else "viridis").with_extremes(bad="0.6")
    high = 1 if similarity else np.nanpercentile(values, 99.5)
    shown = axis.imshow(values, cmap=colours, vmin=0, vmax=high)
    unit = {"se": "grey levels²", "imed": "grey levels²", "sam": "rad"}.get(metric.name)
    extend = ("min" if metric.map_bounds[0] < 0 else "neither") if similarity else "max"
    figure.colorbar(shown, ax=axis, label=unit, extend=extend)
    axis.set_title(f"{metric.name}_map")
    axis.set_axis_off()
plt.show()

# %%
# From map to place: threshold, label, box. The worst connected places of the SSIM map.

dissimilarity = np.nan_to_num(1 - imsim.ssim_map(reference, test, channel_axis=-1))
labels, count = ndimage.label(dissimilarity > 0.4)
print(f"{count} places")
for place, (down, across) in enumerate(ndimage.find_objects(labels), start=1):
    worst = dissimilarity[labels == place].max()
    print(
        f"rows {down.start:3}-{down.stop:3}  columns {across.start:3}-{across.stop:3}  {worst:.2f}"
    )

# %%
# The mean of a map dilutes a small fault in the whole frame; its worst value does not. A blot of
# 5 x 5 pixels in frames of growing size:

rows = []
for size in (32, 64, 128, 256):
    frame = data.camera()[100 : 100 + size, 100 : 100 + size]
    spotted = frame.copy()
    spotted[14:19, 14:19] //= 2
    values = imsim.ssim_map(frame, spotted)
    rows.append([size, np.nanmean(values), np.nanmin(values)])
heads = ["frame", "mean of ssim_map", "worst of ssim_map"]
print(tabulate(rows, heads, tablefmt="plain", floatfmt=".4f"))
