"""GMSD of many small regions."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import kernel
from imsim.kernels.gmsd import N_SUMS, near_strip, prepare
from imsim.kernels.regions import Places, pooled
from imsim.kernels.regions.shelves import fill, next_shelf, read_only
from imsim.portable.pair import Scores
from imsim.typing import Array
from imsim.validation import Images


def gmsd(images: Images, places: Places) -> Scores:
    """Standard deviation, with n - 1, of the gradient similarity."""
    planes, constant, most, _ = prepare(images, None)
    boxes = places.boxes.copy()
    boxes[..., 0] -= boxes[..., 0] % 2  # cells of 2x2 pixels

    def score(channel: int, some: Places, out: Array) -> None:
        x, y, _ = planes[channel]
        _similarities(x, y, *some, out, constant)

    found = pooled(score, places._replace(boxes=boxes), planes.count, 3)
    squares, n, size = found.transpose(2, 0, 1)
    # Pixels far from 0 are left to the other kernels.
    left = ~(size <= most).all(axis=-1)
    return Scores(np.sqrt(squares / (n - 1)), np.where(n > 1, n, 0), left=left)


@kernel
def _similarities(x, y, codes, wanted, boxes, found, constant):  # type: ignore[no-untyped-def]
    """Sum of squares about the mean, number of cells, and largest size of half a cell."""
    # Literals are types of their own, for each of which Numba would compile again.
    zero, one, two = np.int64(0), np.int64(1), np.int64(2)
    end = zero
    while end < wanted.size:
        begin = end
        end, height, width = next_shelf(boxes, begin, 2 * two, two)
        shape = (height + 4, width)
        p, q = np.zeros(shape, x.dtype), np.zeros(shape, y.dtype)
        inside = np.zeros(shape, np.bool_)
        column = two
        for k in range(begin, end):
            fill(x, y, codes, wanted[k], boxes[k], two, column, p, q, inside)
            _continue(inside, boxes[k], column, x.shape)
            column += _even(boxes[k, 1, 1] - boxes[k, 1, 0]) + 4
        cells = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
        values, scored = np.empty(cells, type(constant)), np.empty(cells, np.uint8)
        out = np.zeros(N_SUMS)
        images = (read_only(p), read_only(q), read_only(inside))
        near_strip(*images, zero, cells[0], out, constant, values, scored)
        column = one
        for k in range(begin, end):
            columns = _even(boxes[k, 1, 1] - boxes[k, 1, 0]) // 2
            rows = _even(boxes[k, 0, 1] - boxes[k, 0, 0]) // 2
            _add_squares(values, scored, column, rows, columns, found[k])
            found[k, 2] = out[4]
            column += columns + 2


@kernel
def _even(length):  # type: ignore[no-untyped-def]
    return length + length % 2


@kernel
def _continue(inside, box, column, frame):  # type: ignore[no-untyped-def]
    """Put cells beyond the frame inside: there are zeros, which count."""
    height, width = box[0, 1] - box[0, 0], box[1, 1] - box[1, 0]
    if min(box[0, 0], box[1, 0]) > 0 and box[0, 1] < frame[0] and box[1, 1] < frame[1]:
        return
    for i in range(-2, _even(height) + 2):
        row = box[0, 0] + i
        for j in range(-2, _even(width) + 2):
            place = box[1, 0] + j
            if row < 0 or place < 0 or row >= frame[0] or place >= frame[1]:
                inside[2 + i, column + j] = True


@kernel
def _add_squares(values, scored, column, rows, columns, found):  # type: ignore[no-untyped-def]
    """Sum the squares about the mean of the scored cells of a region."""
    left, total, n = np.uint64(column), 0.0, 0
    for i in range(np.uint64(1), np.uint64(1 + rows)):
        for j in range(left, left + np.uint64(columns)):
            total += np.float64(values[i, j]) if scored[i, j] else 0.0
            n += scored[i, j]
    if n == 0:
        return
    mean, squares, rest = total / n, 0.0, 0.0
    for i in range(np.uint64(1), np.uint64(1 + rows)):
        for j in range(left, left + np.uint64(columns)):
            d = np.float64(values[i, j]) - mean if scored[i, j] else 0.0
            squares += d * d
            rest += d
    squares -= rest * rest / n
    found[0], found[1] = (0.0 if squares < 0 else squares), n
