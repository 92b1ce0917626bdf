"""Moments of windows about a pixel of their own, where the offset of a tile is not precise enough.

The windows of a tile share an offset. Where pixels of a window are far from it, their sums lose
digits. A kernel marks such results as doubtful, and they are computed again from the moments here,
which are those of `imsim.portable.moments.Moments`.
"""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import exact_part, inline, kernel, part
from imsim.kernels.common.window_sums import load, load_mask
from imsim.typing import Array
from imsim.validation import SMALLEST

SUM_X, SUM_Y, SUM_XX, SUM_YY, SUM_XY, WEIGHT, PIXEL_X, PIXEL_Y, PIXELS = range(9)
"""The planes: weighted sums of pixels minus the window's own pixel, this pixel, and the number of
pixels inside the mask."""
PLANES = 9
TINY = SMALLEST**2
"""Smaller sums of squares have lost digits."""


@inline
def is_lost(total, squares):  # type: ignore[no-untyped-def]
    """Whether a sum of squares is too small for float64; it is exactly 0 where nothing varies."""
    return squares < TINY and (squares > 0 or total != 0)


def moments_at(
    x: Array,
    y: Array,
    mask: Array,
    rows: Array,
    columns: slice,
    taps: Array,
    order: Array,
    *,
    is_weighted: bool = False,
) -> Array:
    """Return the moments at some rows, in ascending order, of positions; (rows, PLANES, columns).

    `order` lists the taps from the lightest to the heaviest. The images are float64. A weighted
    mask holds the weights of the pixels, 0 outside.
    """
    count = columns.stop - columns.start
    found = np.empty((rows.size, PLANES, count))
    pixels = np.empty((3, count + taps.size - 1))
    ring = np.empty((taps.size, PLANES, count))
    _moments(x, y, mask, rows, columns.start, taps, order, is_weighted, pixels, ring, found)
    return found


def volume_moments(
    x: Array,
    y: Array,
    mask: Array,
    firsts: Array,
    taps: tuple[Array, ...],
    orders: tuple[Array, ...],
) -> Array:
    """Return the moments of rows of windows that lie one behind the other in a volume.

    The volume is as high as a window; `firsts` are the first planes of the windows, in ascending
    order. Shape (firsts, PLANES, columns). The volumes are float64; `taps` and `orders` are those
    along each axis.
    """
    count = x.shape[2] - taps[2].size + 1
    found = np.empty((firsts.size, PLANES, count))
    pixels = np.empty((3, x.shape[2]))
    ring, rows = (np.empty((n.size, PLANES, count)) for n in taps[:2])
    _volume_moments(x, y, mask, firsts, taps, orders, pixels, rows, ring, found)
    return found


@kernel
def _volume_moments(x, y, mask, firsts, taps, orders, pixels, rows, ring, found):  # type: ignore[no-untyped-def]
    """Add up along each axis; a ring buffer keeps the planes that the next windows need."""
    offset, scale, known, deep = 0.0, 1.0, 0, ring.shape[0]
    for n in range(firsts.size):
        first = firsts[n]
        for k in range(max(first, known), first + deep):
            for i in range(rows.shape[0]):
                load(x[k], mask[k], i, 0, pixels.shape[1], offset, scale, pixels[0])
                load(y[k], mask[k], i, 0, pixels.shape[1], offset, scale, pixels[1])
                load_mask(mask[k], i, 0, pixels.shape[1], pixels[2])
                _along_row(pixels[0], pixels[1], pixels[2], taps[2], orders[2], rows[i])
            _across_rows(rows, 0, taps[1], orders[1], False, ring[k % deep])
        known = first + deep
        _across_rows(ring, first, taps[0], orders[0], False, found[n])


@kernel
def _moments(x, y, mask, rows, left, taps, order, is_weighted, pixels, ring, found):  # type: ignore[no-untyped-def]
    """Go through the rows of pixels; a ring buffer keeps those that the next positions need."""
    size, right, known = taps.size, left + pixels.shape[1], 0
    offset, scale = 0.0, 1.0
    for n in range(rows.size):
        row = rows[n]
        for i in range(max(row, known), row + size):
            load(x, mask, i, left, right, offset, scale, pixels[0])
            load(y, mask, i, left, right, offset, scale, pixels[1])
            load_mask(mask, i, left, right, pixels[2])
            _along_row(pixels[0], pixels[1], pixels[2], taps, order, ring[i % size])
        known = row + size
        _across_rows(ring, row, taps, order, is_weighted, found[n])


@exact_part
def _along_row(p, q, inside, taps, order, found):  # type: ignore[no-untyped-def]
    """Moments of each row of windows about its heaviest pixel inside the mask."""
    count = found.shape[1]
    for j in range(count):
        found[PIXEL_X, j], found[PIXEL_Y, j], found[WEIGHT, j] = 0.0, 0.0, 0.0
    for k in order:
        for j in range(count):
            weight = taps[k] * inside[j + k]
            if inside[j + k] > 0 and weight >= found[WEIGHT, j]:
                found[PIXEL_X, j], found[PIXEL_Y, j] = p[j + k], q[j + k]
                found[WEIGHT, j] = weight
    _clear(found)
    for k in range(taps.size):
        for j in range(count):
            a, b = p[j + k] - found[PIXEL_X, j], q[j + k] - found[PIXEL_Y, j]
            weight = taps[k] * inside[j + k]
            found[SUM_X, j] += weight * a
            found[SUM_Y, j] += weight * b
            found[SUM_XX, j] += weight * (a * a)
            found[SUM_YY, j] += weight * (b * b)
            found[SUM_XY, j] += weight * (a * b)
            found[WEIGHT, j] += weight
            found[PIXELS, j] += inside[j + k]


@exact_part
def _across_rows(ring, row, taps, order, is_weighted, sums):  # type: ignore[no-untyped-def]
    """Move the moments of the rows to the heaviest of their pixels, and add them up."""
    size, count = taps.size, sums.shape[1]
    for j in range(count):
        sums[PIXEL_X, j], sums[PIXEL_Y, j], sums[WEIGHT, j] = 0.0, 0.0, 0.0
    for k in order:
        found = ring[(row + k) % size]
        for j in range(count):
            # Without weights of pixels, the tap alone decides.
            weight = taps[k] * (found[WEIGHT, j] if is_weighted else 1.0)
            if found[WEIGHT, j] > 0 and weight >= sums[WEIGHT, j]:
                sums[PIXEL_X, j], sums[PIXEL_Y, j] = found[PIXEL_X, j], found[PIXEL_Y, j]
                sums[WEIGHT, j] = weight
    _clear(sums)
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
            sums[PIXELS, j] += found[PIXELS, j]


@part
def _clear(planes):  # type: ignore[no-untyped-def]
    """Put 0 into the planes of sums."""
    for k in (SUM_X, SUM_Y, SUM_XX, SUM_YY, SUM_XY, WEIGHT, PIXELS):
        for j in range(planes.shape[1]):
            planes[k, j] = 0.0
