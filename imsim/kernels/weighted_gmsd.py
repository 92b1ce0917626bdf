"""GMSD by weights of reliability, in one pass over rows of cells."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.cell_rows import cell_memory, fill_rows, merge_cells, near_row
from imsim.kernels.common.jit import allocating, part
from imsim.kernels.common.pixel_blocks import NO_MASK
from imsim.kernels.common.weight_survey import is_unusual
from imsim.typing import Array

N_SUMS = 9
"""Numbers of a strip: the first five of `imsim.kernels.gmsd.N_SUMS`, with weights for the number
of cells; the sum of the squared weights; the number of cells with a weight; the number of rows of
pixels with an unusual weight; and the sum of the weights of all pixels."""


def moments_of_strip(
    x: Array,
    y: Array,
    mask: Array | None,
    start: int,
    stop: int,
    out: Array,
    weights: Array,
    constant: np.floating,
) -> None:
    """Moments of the similarity in rows of cells."""
    _moments(x, y, NO_MASK if mask is None else mask, weights, start, stop, out, constant)


@allocating
def _moments(x, y, mask, weights, start, stop, out, constant):  # type: ignore[no-untyped-def]
    columns = (x.shape[1] + 1) // 2
    room, found, line, bits = cell_memory(columns, constant)
    own, lowest, around = np.empty((4, columns + 2)), np.empty(2 * columns), np.empty(columns)
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
    """Add the moments of a row, taken about its own mean."""
    whole, total, squared, n = 0.0, 0.0, 0.0, 0.0
    for j in range(row.size):
        w = weights[j]
        n += 1.0 if w > 0 else 0.0
        whole += w
        squared += w * w
        # A selection, since the similarity may be NaN where the weight is 0.
        total += w * (np.float64(row[j]) if w > 0 else 0.0)
    if n == 0:
        return
    mean, squares, rest = total / whole, 0.0, 0.0
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
