"""Gradients at single windows, from moments about their own mean.

For the few windows whose fields have lost digits to the offset of their block, and for those
without a variance or a mean.
"""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import exact, exact_part
from imsim.typing import Array

(WEIGHT, PIXELS, PIXEL_X, PIXEL_Y, MEAN_X, MEAN_Y, XX, YY, XY, UU, DD) = range(11)
"""The moments: weight and number of pixels inside the mask; a pixel of the window; means about it;
variances of x and y, their covariance, and the variances of x + y and x - y."""
MOMENTS = 11


def moments_at(x: Array, y: Array, mask: Array, places: Array, taps: Array, order: Array) -> Array:
    """Return the moments, (MOMENTS, positions), of the windows at some places, (positions, 2).

    `order` lists the taps from the lightest to the heaviest. The images are float64.
    """
    found = np.zeros((MOMENTS, len(places)))
    _moments(x, y, mask, places, taps, order, found)
    return found


@exact
def _moments(x, y, mask, places, taps, order, found):  # type: ignore[no-untyped-def]
    size = taps.size
    for n in range(places.shape[0]):
        top, left = places[n]
        row, column = _heaviest(mask, top, left, order)
        pixel_x, pixel_y = x[row, column], y[row, column]
        weight, pixels, sum_x, sum_y = 0.0, 0.0, 0.0, 0.0
        for i in range(size):
            for j in range(size):
                if mask[top + i, left + j]:
                    w = taps[i] * taps[j]
                    weight += w
                    pixels += 1
                    sum_x += w * (x[top + i, left + j] - pixel_x)
                    sum_y += w * (y[top + i, left + j] - pixel_y)
        mean_x, mean_y = sum_x / weight, sum_y / weight
        for i in range(size):
            for j in range(size):
                if mask[top + i, left + j]:
                    w = taps[i] * taps[j] / weight
                    a = (x[top + i, left + j] - pixel_x) - mean_x
                    b = (y[top + i, left + j] - pixel_y) - mean_y
                    found[XX, n] += w * (a * a)
                    found[YY, n] += w * (b * b)
                    found[XY, n] += w * (a * b)
                    found[UU, n] += w * ((a + b) * (a + b))
                    found[DD, n] += w * ((a - b) * (a - b))
        found[WEIGHT, n], found[PIXELS, n] = weight, pixels
        found[PIXEL_X, n], found[PIXEL_Y, n] = pixel_x, pixel_y
        found[MEAN_X, n], found[MEAN_Y, n] = mean_x, mean_y


@exact_part
def _heaviest(mask, top, left, order):  # type: ignore[no-untyped-def]
    """Find the pixel that `imsim.portable.moments.local_moments` takes."""
    for i in order[::-1]:
        for j in order[::-1]:
            if mask[top + i, left + j]:
                return top + i, left + j
    return top, left


@exact  # without fused operations, equal images have a gradient of exactly 0
def spread_from(x, y, mask, places, taps, moments, coefficients, factor, place, both, out_x, out_y):  # type: ignore[no-untyped-def]
    """Add the gradient of the values at some places to a block, which lies at `place`.

    With the coefficients a, b and c of each value, it is a + b (x - mean) + c (y - mean) times the
    weight of a pixel, for each of the images.
    """
    top, left = place
    for n in range(places.shape[0]):
        a_x, a_y, b_x, b_y, c = coefficients[:, n]
        share = factor / moments[WEIGHT, n]
        row, column = places[n]
        for i in range(max(row, top), min(row + taps.size, top + out_x.shape[0])):
            for j in range(max(column, left), min(column + taps.size, left + out_x.shape[1])):
                if mask[i, j]:
                    w = share * (taps[i - row] * taps[j - column])
                    p = (x[i, j] - moments[PIXEL_X, n]) - moments[MEAN_X, n]
                    q = (y[i, j] - moments[PIXEL_Y, n]) - moments[MEAN_Y, n]
                    out_x[i - top, j - left] += w * (a_x + (b_x * p + c * q))
                    if both:
                        out_y[i - top, j - left] += w * (a_y + (b_y * q + c * p))
