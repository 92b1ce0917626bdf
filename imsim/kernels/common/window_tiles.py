"""Tiles of a strip: their memory, whether they lie inside the mask, and their offsets.

A strip of rows is cut into tiles of equally many columns. The data of a tile fit into the
first-level cache: two rows of pixels, and the last rows of the horizontally filtered planes. Loops
run over all columns of a tile, even where the last one needs fewer: whole vectors are fastest.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.caches import kept_by_thread
from imsim.kernels.common.jit import inline, kernel, part
from imsim.kernels.common.planes import count as number_inside
from imsim.typing import Array

TILE = 512
"""Most bytes in a row of a tile: few enough for the cache, enough for a fast loop."""
VECTORS = 64
"""Bytes in a row of a tile are a multiple of this, two vectors of 32 bytes."""
SPARSE = 8
"""One in so many rows tells whether the pixels of a tile lie in two groups."""
APART = 16.0
"""The groups are so many times as far from each other as they are wide."""
GOLDEN = 40503
"""The golden ratio times 2^16: its multiples modulo 2^16 are spread evenly."""
OUTSIDE, CROSSED, INSIDE, DOUBTFUL = range(4)
"""Where a tile lies: no pixel, some pixels or all pixels of it are inside the mask; or all are, and
float32 would leave many of its windows in doubt."""


@kept_by_thread
def workspaces(
    size: int, planes: int, tile: int, dtype: Any
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Return memory for a tile of windows without a mask, and with the weights of a mask."""
    return workspace(size, planes, tile, dtype), workspace(size, planes + 1, tile, dtype)


def workspace(size: int, planes: int, tile: int, dtype: Any) -> tuple[Array, ...]:
    """Return memory for `tile` columns of windows of `size` pixels a side.

    It holds four rows of pixels; a ring buffer of the last filtered rows, which two rows of windows
    need, as (slots, planes * columns); the sums of these two, as (2, planes, columns) and as (2,
    planes * columns); a row of results; which of these are scored; a ring buffer of counted pixels;
    two rows for their sums and what follows from them; two rows for sums on the way and one for
    products, see `imsim.kernels.common.window_sums`; and, for uniform windows, running sums of
    the planes and of counted pixels.
    """
    sums = aligned(2 * planes, tile, dtype)
    return (
        aligned(4, tile + size - 1, dtype),
        aligned(size + 1, planes * tile, dtype),
        sums.reshape(2, planes, tile),
        sums.reshape(2, -1),
        aligned(1, tile, dtype)[0],
        np.empty(tile, np.uint8),
        aligned(size + 1, tile, dtype),
        aligned(2, tile, dtype),
        aligned(3, tile + size - 1, dtype),
        aligned(1, planes * tile, dtype)[0],
        aligned(1, tile, dtype)[0],
    )


def columns_of(dtype: Any, width: int) -> int:
    """Return the number of columns of the tiles that cover a row of `width` positions."""
    itemsize = int(np.dtype(dtype).itemsize)
    tiles = -(-width * itemsize // TILE)
    vectors = VECTORS // itemsize
    return -(-width // (tiles * vectors)) * vectors


def aligned(rows: int, length: int, dtype: Any) -> Array:
    """Return zeros; rows of whole cache lines are aligned with these."""
    line = 64 // np.dtype(dtype).itemsize
    buffer = np.zeros(rows * length + line, dtype)
    skipped = -(buffer.ctypes.data // buffer.itemsize) % line
    return buffer[skipped : skipped + rows * length].reshape(rows, length)


@inline
def span_of(left, last, tile, size):  # type: ignore[no-untyped-def]
    """Number of the positions of a tile that begins at a column; one past its last pixel."""
    count = min(tile, last - left)
    return count, left + count + size - 1


@inline
def digits_of(sums):  # type: ignore[no-untyped-def]
    """Binary digits of an offset for sums in the dtype of an array.

    With 16 digits, integers minus the offset, their products and the sums of these stay exact in
    float64. With 24, the digits of float32, a constant tile minus the offset is exactly 0.
    """
    return 24 if sums.itemsize == 4 else 16


@kernel
def find_places(mask, size, tile, places):  # type: ignore[no-untyped-def]
    """Find whether the pixels of each tile of a strip lie inside the mask: all, some or none."""
    for k in range(places.size):
        left, some, gaps = k * tile, False, False
        for i in range(mask.shape[0]):
            row = mask[i, left : left + tile + size - 1]
            number = number_inside(row)
            some |= number > 0
            gaps |= number < row.size
            if some and gaps:
                break
        places[k] = (CROSSED if gaps else INSIDE) if some else OUTSIDE


@inline
def first_of(i, size, step):  # type: ignore[no-untyped-def]
    """Return the first of every `step` pixels of row i: here and there, since patterns repeat.

    It is that of a neighbouring row: the mean of a chequerboard is none of its levels.
    """
    return ((i // 2 * GOLDEN & 65535) * min(step, size)) >> 16


@part
def _level(image, mask, left, right, step, mean):  # type: ignore[no-untyped-def]
    """Return the mean of a tile, or of its pixels on one side of it if all others are equal.

    These are no data of -9999, far from the pixels that vary, which need the digits.
    """
    low, lowest, below, n_below = -np.inf, np.inf, 0.0, 0
    high, highest, above, n_above = np.inf, -np.inf, 0.0, 0
    for i in range(0, image.shape[0], SPARSE):
        pixels = image[i, left:right]
        for j in range(first_of(i, pixels.size, step), pixels.size, step):
            value = np.float64(pixels[j])
            if mask is not None and not mask[i, left + j]:
                continue
            if value < mean:
                low, lowest = max(low, value), min(lowest, value)
                below += value
                n_below += 1
            elif value >= mean:
                high, highest = min(high, value), max(highest, value)
                above += value
                n_above += 1
    if n_below == 0:  # what pulls the mean to there lies in other rows
        low, lowest = mean, mean
    elif n_above == 0:
        high, highest = mean, mean
    width_below, width_above = low - lowest, highest - high
    # Of two that vary, each would be far from the other's mean, and half as far from that of both.
    is_one = (width_below == 0) != (width_above == 0)
    if is_one and high - low > APART * (width_below + width_above):
        level = below / n_below if width_below > 0 else above / n_above
        mean = level if np.isfinite(level) else mean
    return mean


@kernel
def local_offset(image, mask, left, right, digits):  # type: ignore[no-untyped-def]
    """Return a number close to the mean of a tile, to subtract before taking moments.

    It has `digits` binary digits, and is whole for integers.
    """
    # Every 32nd pixel is enough, unless none of these is inside the mask or one is not finite. The
    # pass also loads all rows into the cache, before the filters need them.
    for careful in (False, True):
        step = 1 if careful else 32
        total, count = 0.0, 0
        for i in range(image.shape[0]):
            pixels = image[i, left:right]
            for j in range(first_of(i, pixels.size, step), pixels.size, step):
                inside = mask is None or mask[i, left + j]
                if inside and (not careful or np.isfinite(pixels[j])):
                    total += pixels[j]
                    count += 1
        if count > 0 and np.isfinite(total):
            near = total / count
            if image.itemsize > 1:  # bytes are never far from each other
                near = _level(image, mask, left, right, step, near)
            fraction, exponent = math.frexp(near)
            near = math.ldexp(np.rint(math.ldexp(fraction, digits)), exponent - digits)
            return near if image.dtype.type(0.5) > 0 else np.rint(near)
    return 0.0


@inline
def offsets_of(x, y, mask, left, right, digits):  # type: ignore[no-untyped-def]
    """Return the offsets of both images."""
    offset = local_offset(x, mask, left, right, digits)
    return offset, local_offset(y, mask, left, right, digits)
