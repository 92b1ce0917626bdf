"""Regions side by side in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

from imsim.kernels.common.jit import allocating_part, part

WIDTH = 512
"""Columns of a shelf: enough for fast loops along its rows."""
STEEPNESS = 1.25
"""A region this much higher than the first one begins a shelf of its own."""


@intrinsic
def _read_only(_, values):  # type: ignore[no-untyped-def]
    view = values.copy(readonly=True)  # of the type, not of the array

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return impl_ret_borrowed(context, builder, signature.return_type, arguments[0])

    return view(values), code


read_only: Callable[[Any], Any] = _read_only
"""View an array as one that is only read, in compiled code.

Planes of images are such arrays: for others, Numba would compile the kernel of a metric again.
"""


@part
def next_shelf(boxes, begin, gap, step):  # type: ignore[no-untyped-def]
    """Choose regions, of ascending heights, that stand on a shelf.

    Return the first one beyond it, its height without gaps, and its width with one gap after each
    region, and one before. Sizes are rounded up to whole steps.
    """
    k, height, width = begin, 0, gap
    lowest = boxes[begin, 0, 1] - boxes[begin, 0, 0]
    while k < boxes.shape[0]:
        rows, columns = boxes[k, 0, 1] - boxes[k, 0, 0], boxes[k, 1, 1] - boxes[k, 1, 0]
        columns += -columns % step
        too_high = rows > STEEPNESS * lowest + 4
        if k > begin and (too_high or width + columns + gap > WIDTH):
            break
        height, width = rows + -rows % step, width + columns + gap
        k += 1
    return k, height, width


@allocating_part
def shelf_in(room, rows, columns):  # type: ignore[no-untyped-def]
    """Return memory for a shelf, the same if it suffices, and the shelf.

    New memory for each shelf would cost about as much time as to fill it.
    """
    n = rows * columns
    if room.size < n:
        room = np.empty(n + n // 4, room.dtype)
    return room, room[:n].reshape(rows, columns)


@allocating_part
def cleared(room, rows, columns):  # type: ignore[no-untyped-def]
    """The same, with a shelf of zeros."""
    room, shelf = shelf_in(room, rows, columns)
    for j in range(shelf.size):
        room[j] = 0
    return room, shelf


@part
def fill(x, y, codes, code, box, row, column, p, q, inside):  # type: ignore[no-untyped-def]
    """Copy the pixels of a region, and its mask, to a place on a shelf of zeros."""
    # Rows are too short for slices; indices without a sign need no check whether they are negative.
    top, left = np.uint64(box[0, 0]), np.uint64(box[1, 0])
    height, width = np.uint64(box[0, 1]) - top, np.uint64(box[1, 1]) - left
    to, at = np.uint64(row), np.uint64(column)
    zero_x, zero_y = x.dtype.type(0), y.dtype.type(0)
    for i in range(height):
        for j in range(width):
            inside[to + i, at + j] = codes[top + i, left + j] == code
        for j in range(width):
            p[to + i, at + j] = x[top + i, left + j] if inside[to + i, at + j] else zero_x
        for j in range(width):
            q[to + i, at + j] = y[top + i, left + j] if inside[to + i, at + j] else zero_y
