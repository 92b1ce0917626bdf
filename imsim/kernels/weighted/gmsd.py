"""GMSD by weights of reliability, in one pass over rows of cells."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import kernel
from imsim.kernels.gmsd import PADDING, fill_row, merge, near_row
from imsim.typing import Array

N_SUMS = 7
"""Numbers of a strip: the first five of `imsim.kernels.gmsd.N_SUMS`, with weights for the number
of cells; the sum of the squared weights; and the number of cells with a weight."""


def moments_of_strip(
    x: Array,
    y: Array,
    mask: Array,
    start: int,
    stop: int,
    out: Array,
    weights: Array,
    constant: np.floating,
) -> None:
    """Moments of the similarity in rows of cells."""
    _moments(x, y, mask, weights, start, stop, out, constant)


@kernel
def _moments(x, y, mask, weights, start, stop, out, constant):  # type: ignore[no-untyped-def]
    columns, real = (x.shape[1] + 1) // 2, type(constant)
    room = np.empty((6, columns + 2 + PADDING), real)
    found, line = np.empty(columns, real), np.empty(2 * columns + 1, real)
    bits, own = line.view(np.int32), np.empty((5, columns + 2))
    line[2 * columns - 1], line[2 * columns] = 0, 0
    for r in range(start - 1, stop + 1):
        up, here, down = (r - 2) % 3, (r - 1) % 3, r % 3
        size_x = fill_row(x, mask, r, line, bits, room, down)
        size_y = fill_row(y, mask, r, line, bits, room, 3 + down)
        size = size_x if size_x > size_y or np.isnan(size_x) else size_y
        out[4] = size if size > out[4] or np.isnan(size) else out[4]
        _least_of_cells(weights, mask, r, own[r % 3])
        if r <= start:
            continue
        near_row(room, up, here, down, constant, found)
        _least_around(own[0], own[1], own[2], own[3], own[4])
        _add_row(found, own[4], out)


@kernel
def _least_of_cells(weights, mask, r, least):  # type: ignore[no-untyped-def]
    """Least weight of the pixels of each cell of a row, 0 outside the mask, infinity beyond."""
    height, width = mask.shape
    for j in range(least.size):
        least[j] = np.inf
    if not 0 <= 2 * r < height:
        return
    for i in range(2 * r, min(2 * r + 2, height)):
        row, inside = weights[i], mask[i]
        for c in range(least.size - 2):
            j = 2 * c
            k = j + 1 if j + 1 < width else j
            p = np.float64(row[j]) if inside[j] else 0.0
            q = np.float64(row[k]) if inside[k] else 0.0
            p = q if q < p else p
            least[c + 1] = p if p < least[c + 1] else least[c + 1]


@kernel
def _least_around(up, here, down, line, least):  # type: ignore[no-untyped-def]
    """Least of three rows and columns of cells, for all but the first and the last column."""
    for j in range(line.size):
        v = up[j] if up[j] < here[j] else here[j]
        line[j] = down[j] if down[j] < v else v
    for j in range(line.size - 2):
        v = line[j] if line[j] < line[j + 1] else line[j + 1]
        least[j] = line[j + 2] if line[j + 2] < v else v


@kernel
def _add_row(row, weights, out):  # type: ignore[no-untyped-def]
    """Add the moments of a row, taken about its own mean."""
    whole, total, squared, n = 0.0, 0.0, 0.0, 0
    for j in range(row.size):
        w = weights[j]
        n += w > 0
        whole += w
        squared += w * w
        total += w * np.float64(row[j]) if w > 0 else 0.0
    if n == 0:
        return
    mean, squares, rest = total / whole, 0.0, 0.0
    for j in range(row.size):
        w = weights[j]
        d = np.float64(row[j]) - mean if w > 0 else 0.0
        squares += w * (d * d)
        rest += w * d
    squares -= rest * rest / whole
    merge(out, whole, mean + rest / whole, 0.0 if squares < 0 else squares)
    out[5] += squared
    out[6] += n
