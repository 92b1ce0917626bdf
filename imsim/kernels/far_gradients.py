"""Gradients of the means of 2x2 pixels that lie far from 0, next to their contrast."""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.jit import exact, kernel


@exact
def far_gradients(image, mask, r, scale, lines, found):  # type: ignore[no-untyped-def]
    """Gradients in a row of cells, as sums of differences of pixels two cells apart."""
    for k in range(6):
        i = 2 * r - 2 + k
        if 0 <= i < image.shape[0]:
            for j in range(image.shape[1]):
                lines[k, j + 2] = scale * pixel(image, mask, i, j, np.float64)
        else:
            lines[k] = 0
    for j in range(found.size):
        gx, gy = 0.0, 0.0
        for k in range(6):
            row = lines[k, 2 * j : 2 * j + 6]
            gx += (row[4] - row[0]) + (row[5] - row[1])
            column = lines[:, 2 * j + k]
            gy += (column[4] - column[0]) + (column[5] - column[1])
        found[j] = math.sqrt(gx * gx + gy * gy)


@kernel
def pixel(image, mask, i, j, real):  # type: ignore[no-untyped-def]
    """Return a pixel, 0 outside the mask."""
    if mask is None:
        return real(image[i, j])
    v = real(image[i, j])
    return v if mask[i, j] else real(0)
