"""SSIM and UIQ of many small regions, which lie side by side in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

from imsim.kernels.common.jit import allocating, allocating_part, part
from imsim.kernels.common.planes import Planes
from imsim.kernels.common.window_doubts import pixel_types
from imsim.kernels.common.window_strips import Strips
from imsim.kernels.common.window_tiles import TILE, workspaces
from imsim.kernels.regions import Places, pooled
from imsim.kernels.ssim import quality_strip, ssim_strips, uiq_strips
from imsim.portable.pair import Scores
from imsim.portable.structural_similarity import Options
from imsim.portable.windows import uniform
from imsim.typing import Array
from imsim.validation import Images

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
    """Return memory for a shelf, and the shelf, filled with zeros."""
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


COLUMNS = TILE // 4
"""Columns of a tile in float64: shelves are low, and each row of a tile has a price of its own."""


def ssim(images: Images, places: Places, **options: Any) -> Scores | None:
    """Mean structural similarity, in float64; None where another kernel must."""
    given = Options(**options)
    is_plain = given.border == "valid" and not given.downsample and given.window.is_square
    if given.K1 == 0 or given.K2 == 0 or not is_plain:
        return None
    images = images._replace(dtype=np.float64)
    return _scores(images, places, ssim_strips(images, given, given.min_coverage == 1))


def uiq(images: Images, places: Places, block_size: int) -> Scores:
    """Mean quality over blocks."""
    images = images._replace(dtype=np.float64)
    return _scores(images, places, uiq_strips(pixel_types(images), uniform(block_size, block_size)))


def _scores(images: Images, places: Places, strips: Strips) -> Scores:
    planes = Planes(images, None)
    # Pixels of float32 become float64: one kernel has both its pixels and its arithmetic.
    kind = planes[0].x.dtype
    pixel = np.empty(0, kind if kind.kind == "u" else np.float64)

    def score(channel: int, some: Places, out: Array) -> None:
        x, y, _ = planes[channel]
        _, memory = workspaces(strips.window.size, strips.planes, COLUMNS, strips.dtype)
        _qualities(x, y, *some, out, pixel, memory, strips.constants)

    totals, numbers = pooled(score, places, planes.count, 2).transpose(2, 0, 1)
    # A doubtful window, which is NaN, is computed again by the other kernels.
    left = ~np.isfinite(totals).all(axis=-1)
    return Scores(totals / numbers, numbers, left=left)


@allocating
def _qualities(x, y, codes, wanted, boxes, sums, pixel, memory, constants):  # type: ignore[no-untyped-def]
    """Sum and number of the qualities of each region; `pixel` has the dtype of shelves."""
    # Literals are types of their own, for each of which Numba would compile again.
    size, zero, one, keeps = constants[0], np.int64(0), np.int64(1), np.bool_(True)
    # A window of an odd size has its centre inside a region; others touch it.
    gap = size // 2 if size % 2 else size - 1
    room_p, room_q = np.empty(zero, pixel.dtype), np.empty(zero, pixel.dtype)
    room_inside, room_valid = np.empty(zero, np.bool_), np.empty(zero, np.bool_)
    room_values = np.empty(zero)
    end = zero
    while end < wanted.size:
        begin = end
        end, height, width = next_shelf(boxes, begin, gap, one)
        shape = (height + 2 * gap, max(width, size))
        room_p, p = cleared(room_p, *shape)
        room_q, q = cleared(room_q, *shape)
        room_inside, inside = cleared(room_inside, *shape)
        column = gap
        for k in range(begin, end):
            fill(x, y, codes, wanted[k], boxes[k], gap, column, p, q, inside)
            column += boxes[k, 1, 1] - boxes[k, 1, 0] + gap
        positions = (shape[0] - size + 1, shape[1] - size + 1)
        room_values, values = shelf_in(room_values, *positions)
        room_valid, valid = shelf_in(room_valid, *positions)
        tiles = -(-positions[1] // COLUMNS)
        doubtful, out = np.empty((positions[0], tiles), np.bool_), np.zeros(3)
        images, span = (read_only(p), read_only(q), read_only(inside)), (zero, positions[1], keeps)
        found = (out, values, valid, doubtful)
        quality_strip(*images, span, found, memory, *constants)
        column = zero
        for k in range(begin, end):
            _add_up(values, valid, column, boxes[k], x.shape, size, sums[k])
            column += boxes[k, 1, 1] - boxes[k, 1, 0] + gap


@part
def _add_up(values, valid, column, box, frame, size, sums):  # type: ignore[no-untyped-def]
    """Add up the values of the windows of a region that lie inside the frame."""
    lead, further = (size // 2, 0) if size % 2 else (size - 1, size - 1)
    # Windows are counted by their first row and column, within the frame and on the shelf.
    top, left = box[0, 0] - lead, box[1, 0] - lead
    first, last = max(top, 0), min(top + box[0, 1] - box[0, 0] + further, frame[0] - size + 1)
    start, stop = max(left, 0), min(left + box[1, 1] - box[1, 0] + further, frame[1] - size + 1)
    if first >= last or start >= stop:
        return
    to, at = np.uint64(first - top), np.uint64(column + start - left)
    for i in range(np.uint64(last - first)):
        total, number = 0.0, 0
        for j in range(np.uint64(stop - start)):
            total += values[to + i, at + j] if valid[to + i, at + j] else 0.0
            number += valid[to + i, at + j]
        sums[0] += total
        sums[1] += number
