"""Moments of windows about a pixel of their own, where the offset of a tile is not precise enough.

The windows of a tile share an offset. Where pixels of a window are far from it, their sums lose
digits. A kernel marks such results as doubtful, and computes them again from the moments here,
which are those of `imsim.portable.windows.Moments`.
"""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import exact, inline, kernel
from imsim.kernels.common.window_sums import load, load_mask
from imsim.validation import SMALLEST

SUM_X, SUM_Y, SUM_XX, SUM_YY, SUM_XY, WEIGHT, PIXEL_X, PIXEL_Y = range(8)
"""The planes: weighted sums of pixels minus the window's own pixel, and this pixel."""
PLANES = 8
TINY = SMALLEST**2
"""Smaller sums of squares have lost digits."""


@inline
def is_lost(total, squares):  # type: ignore[no-untyped-def]
    """Whether a sum of squares is too small for float64; it is exactly 0 where nothing varies."""
    return squares < TINY and (squares > 0 or total != 0)


@kernel
def moments_workspace(size, tile):  # type: ignore[no-untyped-def]
    """Return memory for rows of pixels, a ring buffer of row sums, and the sums of windows."""
    return (
        np.zeros((3, tile + size - 1)),
        np.empty((size, PLANES, tile)),
        np.empty((PLANES, tile)),
    )


@kernel
def find_moments(x, y, mask, row, left, count, taps, order, known, workspace):  # type: ignore[no-untyped-def]
    """Find the moments at a row of positions; return the number of rows of pixels now known.

    `order` lists the taps from the lightest to the heaviest. The caller goes through the rows in
    ascending order, and the ring buffer keeps the rows of pixels that the next ones need.
    """
    rows, ring, sums = workspace
    size = taps.size
    right = left + count + size - 1
    for i in range(max(row, known), row + size):
        load(x, mask, i, left, right, 0.0, 1.0, rows[0])
        load(y, mask, i, left, right, 0.0, 1.0, rows[1])
        if mask is not None:
            load_mask(mask, i, left, right, rows[2])
        _along_row(
            rows[0], rows[1], None if mask is None else rows[2], count, taps, order, ring[i % size]
        )
    _across_rows(ring, row, mask is not None, count, taps, order, sums)
    return row + size


@exact
def _along_row(p, q, inside, count, taps, order, found):  # type: ignore[no-untyped-def]
    """Moments of each row of windows about its heaviest pixel inside the mask."""
    for j in range(count):
        found[PIXEL_X, j] = p[j + order[-1]]
        found[PIXEL_Y, j] = q[j + order[-1]]
    if inside is not None:
        for k in order:
            for j in range(count):
                if inside[j + k] > 0:
                    found[PIXEL_X, j] = p[j + k]
                    found[PIXEL_Y, j] = q[j + k]
    found[: WEIGHT + 1] = 0
    for k in range(taps.size):
        for j in range(count):
            a, b = p[j + k] - found[PIXEL_X, j], q[j + k] - found[PIXEL_Y, j]
            weight = taps[k] if inside is None else taps[k] * inside[j + k]
            found[SUM_X, j] += weight * a
            found[SUM_Y, j] += weight * b
            found[SUM_XX, j] += weight * (a * a)
            found[SUM_YY, j] += weight * (b * b)
            found[SUM_XY, j] += weight * (a * b)
            found[WEIGHT, j] += weight


@exact
def _across_rows(ring, row, is_masked, count, taps, order, sums):  # type: ignore[no-untyped-def]
    """Move the moments of the rows to the heaviest of their pixels, and add them up."""
    size = taps.size
    heaviest = ring[(row + order[-1]) % size]
    for j in range(count):
        sums[PIXEL_X, j] = heaviest[PIXEL_X, j]
        sums[PIXEL_Y, j] = heaviest[PIXEL_Y, j]
    if is_masked:
        for k in order:
            found = ring[(row + k) % size]
            for j in range(count):
                if found[WEIGHT, j] > 0:
                    sums[PIXEL_X, j] = found[PIXEL_X, j]
                    sums[PIXEL_Y, j] = found[PIXEL_Y, j]
    sums[: WEIGHT + 1] = 0
    for k in range(size):
        found = ring[(row + k) % size]
        for j in range(count):
            weight = found[WEIGHT, j]
            a, b = found[PIXEL_X, j] - sums[PIXEL_X, j], found[PIXEL_Y, j] - sums[PIXEL_Y, j]
            sum_x, sum_y = found[SUM_X, j], found[SUM_Y, j]
            sums[SUM_X, j] += taps[k] * (sum_x + weight * a)
            sums[SUM_Y, j] += taps[k] * (sum_y + weight * b)
            sums[SUM_XX, j] += taps[k] * (found[SUM_XX, j] + 2 * (a * sum_x) + weight * (a * a))
            sums[SUM_YY, j] += taps[k] * (found[SUM_YY, j] + 2 * (b * sum_y) + weight * (b * b))
            sums[SUM_XY, j] += taps[k] * (
                found[SUM_XY, j] + (a * sum_y + b * sum_x) + weight * (a * b)
            )
            sums[WEIGHT, j] += taps[k] * weight
