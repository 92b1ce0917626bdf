"""Rows of cells of 2x2 pixels, the similarity of their gradients, and moments of it, for GMSD."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.caches import kept_by_thread
from imsim.kernels.common.jit import exact, exact_part, inline, kernel, part
from imsim.kernels.common.rescaling import is_unusual
from imsim.kernels.common.window_tiles import aligned
from imsim.portable.coarse import similarity
from imsim.typing import Array

POSITIVE = np.iinfo(np.int32).max
"""Bits of a float32 without its sign."""
PADDING = 24
"""Numbers after each row of cells, so that rows do not compete for the same lines of the cache."""

cell_similarity = inline(similarity)


@kept_by_thread
def cell_memory(columns: int, dtype: Any) -> tuple[Array, ...]:
    """Return memory for rows of cells.

    Three rows of cells of each image; a row of similarities; a row of pixels and its bits; and
    rows of what is inside a mask: three of cells, one of half cells, one of what is scored.
    """
    room = aligned(6, columns + 2 + PADDING, dtype)
    found, line = (aligned(1, length, dtype)[0] for length in (columns, 2 * columns + 1))
    return room, found, line, line.view(np.int32), np.empty((5, 2 * columns + 2), np.uint8)


@part
def fill_rows(x, y, mask, r, line, bits, room, out):  # type: ignore[no-untyped-def]
    """Sum the cells of a row of both images, and find the largest size of half cells so far."""
    line[line.size - 2], line[line.size - 1] = 0, 0  # another image may have been wider
    size_x = _fill_row(x, mask, r, line, bits, room, r % 3)
    size_y = _fill_row(y, mask, r, line, bits, room, 3 + r % 3)
    size = size_x if size_x > size_y or np.isnan(size_x) else size_y
    out[4] = size if size > out[4] or np.isnan(size) else out[4]


@part
def _fill_row(image, mask, r, line, bits, room, k):  # type: ignore[no-untyped-def]
    """Sum the 2x2 pixels of each cell of a row, 0 beyond the frame and outside the mask.

    Return twice the size of half cells, see `_size`; 0 for integers, whose sums are exact.
    """
    height, width = image.shape
    columns, real = (width + 1) // 2, line.dtype.type
    room[k, 0], room[k, columns + 1] = 0, 0
    i, i_below = 2 * r, min(2 * r + 1, height - 1)
    if not 0 <= i < height:
        for j in range(columns):
            room[k, j + 1] = 0
        return 0.0
    weight = real(1) if i_below > i else real(0.5)  # a last row alone counts once
    if mask.size == 0:
        for j in range(width):
            line[j] = weight * (real(image[i, j]) + real(image[i_below, j]))
    else:
        for j in range(width):
            p, q = real(image[i, j]), real(image[i_below, j])
            p, q = (p if mask[i, j] else real(0)), (q if mask[i_below, j] else real(0))
            line[j] = weight * (p + q)
    for j in range(columns):
        room[k, j + 1] = line[2 * j] + line[2 * j + 1]
    return 0.0 if image.dtype.type(0.5) == 0 else 2 * _size(line, bits)


@part
def _size(line, bits):  # type: ignore[no-untyped-def]
    """Largest magnitude in a row of float32 that ends with a 0; mean magnitude of a row of float64.

    The mean is precise enough in float64, where a size ten times as large does no harm. Read as
    integers, the bits of floats without sign have the order of the floats, and the CPU compares
    many integers at a time; NaN forbids that for floats.
    """
    if bits.size > line.size:
        total = 0.0
        for j in range(line.size):
            total += abs(line[j])
        return total / (line.size - 1)
    positive, most = np.int32(POSITIVE), np.int32(0)
    for j in range(bits.size):
        size = np.int32(bits[j] & positive)
        most = size if size > most else most
    bits[-1] = most
    largest = np.float64(line[-1])
    bits[-1] = 0
    return largest


@exact_part  # fused multiplications would break symmetry, and the 1 of equal gradients
def near_row(room, r, constant, found):  # type: ignore[no-untyped-def]
    """Similarity of the gradients in the middle of three rows of cells, of which r is the last."""
    up, here, down = (r - 2) % 3, (r - 1) % 3, r % 3
    one = found.dtype.type(1)
    for j in range(found.size):
        p = _gradient(room, up, here, down, j)
        q = _gradient(room, 3 + up, 3 + here, 3 + down, j)
        s = cell_similarity(p, q, constant)
        found[j] = one if s > one else s


@inline
def _gradient(room, up, here, down, j):  # type: ignore[no-untyped-def]
    k, m = j + 1, j + 2
    gx = (room[up, m] - room[up, j]) + (room[here, m] - room[here, j])
    gx += room[down, m] - room[down, j]
    gy = (room[down, j] - room[up, j]) + (room[down, k] - room[up, k])
    gy += room[down, m] - room[up, m]
    return math.sqrt(gx * gx + gy * gy)


@exact
def merge_cells(out, n, mean, squares):  # type: ignore[no-untyped-def]
    """Add the moments of further cells; the deviation of equal cells is exactly 0."""
    if n == 0:
        return
    weight = n / (out[0] + n)
    d = mean - out[1]
    out[2] += squares + d * d * out[0] * weight
    out[1] = out[1] + d * weight if out[0] > 0 else mean
    out[0] += n


N_WEIGHTED_SUMS = 9
"""Numbers of a strip: the first five of `imsim.kernels.gmsd.N_SUMS`, with weights for the number
of cells; the sum of the squared weights; the number of cells with a weight; the number of rows of
pixels with an unusual weight; and the sum of the weights of all pixels."""


def weighted_moments(
    x: Array,
    y: Array,
    mask: Array,
    start: int,
    stop: int,
    out: Array,
    weights: Array,
    constant: np.floating,
) -> None:
    """Moments of the similarity in rows of cells, by weights of reliability."""
    columns = (x.shape[1] + 1) // 2
    memory = cell_memory(columns, type(constant)), _memory_of_weights(columns)
    _weighted_moments(x, y, mask, start, stop, out, weights, constant, *memory)


@kept_by_thread
def _memory_of_weights(columns: int) -> tuple[Array, ...]:
    """Return memory for four rows of cells, a row of pixels, and one of cells."""
    return np.empty((4, columns + 2)), np.empty(2 * columns), np.empty(columns)


@kernel
def _weighted_moments(  # type: ignore[no-untyped-def]
    x, y, mask, start, stop, out, weights, constant, memory, memory_of_weights
):
    room, found, line, bits, _ = memory
    own, lowest, around = memory_of_weights
    for r in range(start - 1, stop + 1):
        fill_rows(x, y, mask, r, line, bits, room, out)
        _least_of_cells(weights, r, lowest, own[r % 3])
        if start <= r < stop:
            for i in range(2 * r, min(2 * r + 2, weights.shape[0])):
                _survey_row(weights[i], out)
        if r <= start:
            continue
        near_row(room, r, constant, found)
        _least_around(own[0], own[1], own[2], own[3], around)
        _add_row(found, around, out)


@part
def _least_of_cells(weights, r, line, least):  # type: ignore[no-untyped-def]
    """Least weight of the pixels of each cell of a row; infinity beyond the frame."""
    height, width = weights.shape
    columns = least.size - 2
    least[0], least[columns + 1] = np.inf, np.inf
    if not 0 <= 2 * r < height:
        for j in range(columns):
            least[j + 1] = np.inf
        return
    above, below = weights[2 * r], weights[min(2 * r + 1, height - 1)]
    line[2 * columns - 1] = np.inf
    for j in range(width):
        line[j] = below[j] if below[j] < above[j] else above[j]
    for j in range(columns):
        p, q = line[2 * j], line[2 * j + 1]
        least[j + 1] = q if q < p else p


@part
def _least_around(up, here, down, line, least):  # type: ignore[no-untyped-def]
    """Least of three rows and columns of cells."""
    for j in range(line.size):
        v = up[j] if up[j] < here[j] else here[j]
        line[j] = down[j] if down[j] < v else v
    for j in range(least.size):
        v = line[j] if line[j] < line[j + 1] else line[j + 1]
        least[j] = line[j + 2] if line[j + 2] < v else v


@part
def _add_row(row, weights, out):  # type: ignore[no-untyped-def]
    """Add the moments of a row, taken about its own mean, which is exactly 1 for equal images."""
    whole, total, squared, n = 0.0, 0.0, 0.0, 0.0
    for j in range(row.size):
        w = weights[j]
        n += 1.0 if w > 0 else 0.0
        whole += w
        squared += w * w
        # A selection, since the similarity may be NaN where the weight is 0.
        total += w * (np.float64(row[j]) - 1 if w > 0 else 0.0)
    if n == 0:
        return
    mean, squares, rest = 1 + total / whole, 0.0, 0.0
    for j in range(row.size):
        w = weights[j]
        d = np.float64(row[j]) - mean if w > 0 else 0.0
        squares += w * (d * d)
        rest += w * d
    squares -= rest * rest / whole
    merge_cells(out, whole, mean + rest / whole, 0.0 if squares < 0 else squares)
    out[5] += squared
    out[6] += n


@part
def _survey_row(weights, out):  # type: ignore[no-untyped-def]
    """Look for unusual weights, and add up all."""
    unusual, whole = False, 0.0
    for j in range(weights.size):
        unusual |= is_unusual(weights[j])
        whole += weights[j]
    out[7] += unusual
    out[8] += whole
