"""SSIM and UIQ of many small regions."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import allocating, part
from imsim.kernels.common.planes import Planes
from imsim.kernels.common.window_limits import pixel_types
from imsim.kernels.common.window_strips import Strips
from imsim.kernels.common.window_sums import TILE, workspaces
from imsim.kernels.regions import Places, pooled
from imsim.kernels.regions.shelves import cleared, fill, next_shelf, read_only, shelf_in
from imsim.kernels.ssim import quality_strip, ssim_strips
from imsim.kernels.uiq import uiq_strips
from imsim.portable.pair import Scores
from imsim.portable.windows import Window, uniform
from imsim.typing import Array
from imsim.validation import Images

COLUMNS = TILE // 4
"""Columns of a tile in float64: shelves are low, and each row of a tile has a price of its own."""


def ssim(
    images: Images,
    places: Places,
    window: Window,
    K1: float,
    K2: float,
    sample_covariance: bool,
    downsample: bool,
    min_coverage: float,
    border: str,
) -> Scores | None:
    """Mean structural similarity, in float64; None where another kernel must."""
    if K1 == 0 or K2 == 0 or downsample or border != "valid" or not window.is_square:
        return None
    images = images._replace(dtype=np.float64)
    options = (window, K1, K2, sample_covariance, min_coverage, min_coverage == 1)
    return _scores(images, places, ssim_strips(images, *options))


def uiq(images: Images, places: Places, block_size: int) -> Scores:
    """Mean quality over blocks."""
    images = images._replace(dtype=np.float64)
    return _scores(images, places, uiq_strips(pixel_types(images), uniform(block_size, block_size)))


def _scores(images: Images, places: Places, strips: Strips) -> Scores:
    planes = Planes(images, None)
    # Pixels of float32 become those of float64, of which there is a kernel with its arithmetic.
    kind = planes[0].x.dtype
    pixel = np.empty(0, kind if kind.kind == "u" else np.float64)

    def score(channel: int, some: Places, out: Array) -> None:
        x, y, _ = planes[channel]
        _, memory = workspaces(strips.window.size, strips.planes, COLUMNS, strips.dtype)
        _qualities(x, y, *some, out, pixel, memory, *strips.constants)

    totals, numbers = pooled(score, places, planes.count, 2).transpose(2, 0, 1)
    # A doubtful window, which is NaN, is computed again by the other kernels.
    left = ~np.isfinite(totals).all(axis=-1)
    return Scores(totals / numbers, numbers, left=left)


@allocating
def _qualities(  # type: ignore[no-untyped-def]
    x,
    y,
    codes,
    wanted,
    boxes,
    sums,
    pixel,
    memory,
    taps,
    unrolled,
    ones,
    limits,
    is_sample,
    constants,
    rounding,
):
    """Sum and number of the qualities of each region; `pixel` has the dtype of shelves."""
    # Literals are types of their own, for each of which Numba would compile again.
    size, zero, one, keeps = taps.size, np.int64(0), np.int64(1), np.bool_(True)
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
        quality_strip(
            read_only(p),
            read_only(q),
            read_only(inside),
            zero,
            positions[1],
            keeps,
            out,
            values,
            valid,
            doubtful,
            memory,
            taps,
            unrolled,
            ones,
            limits,
            is_sample,
            constants,
            rounding,
        )
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
