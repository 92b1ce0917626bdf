"""
Weights: cosine latitude
========================

On a grid of latitudes and longitudes, the rows near the poles stand for little area. Weights by the
cosine of the latitude give each pixel the share that it has on the sphere. A mask is the special
case of weights of 0 and 1.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from tabulate import tabulate

import imsim

# %%
# A temperature at 850 hPa in kelvin, and two forecasts of it. Both miss by the same amount: one in
# the tropics, the other near the poles.

latitude = np.linspace(88.5, -88.5, 60)[:, None]
longitude = np.linspace(0, 357, 120)[None]
rng = np.random.default_rng(4)


def weather(shape, scale):
    field = gaussian_filter(rng.standard_normal(shape), scale, mode=("nearest", "wrap"))
    return field / field.std()


truth = 258 + 38 * np.cos(np.deg2rad(latitude)) ** 2 + 4 * weather((60, 120), 4)
error = 3 * weather((60, 120), 2)
is_tropical = np.abs(latitude) < 25
forecasts = {
    "misses the tropics": truth + np.where(is_tropical, error, 0.2 * error),
    "misses the poles": truth + np.where(np.abs(latitude) > 65, error, 0.2 * error),
}

# %%
# By pixels, the forecast that misses the poles has the larger error. By area it has little more
# than half of the other's: the tropics are 41 % of the earth, and what is beyond 65 degrees is 9 %.

area = np.broadcast_to(np.cos(np.deg2rad(latitude)), truth.shape)
print("area of the tropics:", round(float(area[is_tropical[:, 0]].sum() / area.sum()), 3))
rows = []
for name, forecast in forecasts.items():
    row = [name]
    for weights in (None, area):
        row.append(imsim.rmse(truth, forecast, weights=weights))
        row.append(imsim.ssim(truth, forecast, weights=weights, data_range=60))
        row.append(imsim.gmsd(truth, forecast, weights=weights, data_range=60))
    rows.append(row)
header = ["", "rmse (K)", "ssim", "gmsd", "rmse by area", "ssim by area", "gmsd by area"]
print(tabulate(rows, header, floatfmt=".4f"))

# %%
# A mask and weights may both be given: here the northern hemisphere by area. Weights count by their
# ratios only, and pixels of weight 0 cannot change a bit of the result, as with a mask.

north = np.broadcast_to(latitude > 0, truth.shape)
forecast = forecasts["misses the tropics"]
score = imsim.rmse(truth, forecast, mask=north, weights=area)
print("north:", round(score, 4), round(imsim.rmse(truth, forecast, weights=area * north), 4))
print("scaled:", round(imsim.rmse(truth, forecast, mask=north, weights=1000 * area), 4))

figure, axes = plt.subplots(3, 1, figsize=(7, 8), layout="constrained")
extent = (-1.5, 358.5, -90, 90)
panels = [("weights: cosine of the latitude", area, "viridis", (0, 1))]
panels += [
    (f"error of the forecast that {n}, K", f - truth, "coolwarm", (-8, 8))
    for n, f in forecasts.items()
]
for shown, (title, field, colours, (low, high)) in zip(axes, panels, strict=True):
    picture = shown.imshow(field, extent=extent, cmap=colours, vmin=low, vmax=high)
    shown.set_title(title)
    shown.set_ylabel("latitude")
    figure.colorbar(picture, ax=shown)
axes[-1].set_xlabel("longitude")
plt.show()
