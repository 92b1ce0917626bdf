"""Coarser grids: block means of pixels in any dtype, and values for cells outside the mask."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import exact, kernel
from imsim.typing import Array


def block_means(
    image: Array, mask: Array | None, factor: int, scale: np.floating
) -> tuple[Array, Array | None]:
    """Mean of ``scale * image`` over blocks of factor x factor pixels, and which cells are valid.

    The rules are those of `imsim.portable.coarse.block_mean` with zeros beyond the frame. The
    means have the dtype of `scale`. A pixel inside the mask that is not finite makes its cell not
    finite; if it lies in no block, it makes all cells NaN.
    """
    shape = tuple(-(-length // factor) for length in image.shape)
    cells = np.empty(shape, dtype=scale.dtype)
    valid = None if mask is None else np.empty(shape, dtype=np.bool_)
    _block_means(image, mask, factor, scale, cells, valid)
    row, column = (length * factor - (factor - 1) // 2 for length in shape)
    for rest in (np.s_[row:], np.s_[:, column:]):
        beyond = image[rest] if mask is None else image[rest][mask[rest]]
        if not np.isfinite(beyond).all():
            cells[...] = np.nan
    return cells, valid


@kernel
def _block_means(image, mask, factor, scale, cells, valid):  # type: ignore[no-untyped-def]
    height, width = image.shape
    rows, columns = cells.shape
    before = (factor - 1) // 2
    # Sums over the rows of the blocks, with room beyond the frame for the first and last block.
    sums = np.zeros(before + width + factor, dtype=cells.dtype)
    counts = np.zeros(sums.size, dtype=np.int64)
    for r in range(rows):
        top = max(r * factor - before, 0)
        bottom = min(r * factor - before + factor, height)
        sums[:] = 0
        counts[:] = 0
        for i in range(top, bottom):
            for j in range(width):
                if mask is None:
                    sums[before + j] += image[i, j] * scale
                elif mask[i, j]:
                    sums[before + j] += image[i, j] * scale
                    counts[before + j] += 1
        for c in range(columns):
            total = sums[c * factor]
            for k in range(c * factor + 1, (c + 1) * factor):
                total += sums[k]
            if mask is None:
                cells[r, c] = total / factor**2
            else:
                n = 0
                for k in range(c * factor, (c + 1) * factor):
                    n += counts[k]
                left = max(c * factor - before, 0)
                right = min(c * factor - before + factor, width)
                inside = n / ((bottom - top) * (right - left))
                cells[r, c] = total / (factor**2 * inside) if n > 0 else 0.0
                valid[r, c] = n > 0 and inside >= 0.5


@exact
def fill_cells(cells, valid):  # type: ignore[no-untyped-def]
    """Fill the invalid cells as `imsim.portable.fill.filled` does, except those that are NaN."""
    rows, columns = cells.shape
    low = np.inf
    for i in range(rows):
        for j in range(columns):
            if valid[i, j] and cells[i, j] < low:
                low = cells[i, j]
    sums = np.zeros((rows + 1, columns + 1))
    counts = np.zeros((rows + 1, columns + 1), dtype=np.int64)
    column_sums, column_counts = np.zeros(columns), np.zeros(columns, dtype=np.int64)
    for i in range(rows):
        for j in range(columns):
            if valid[i, j]:
                column_sums[j] += cells[i, j] - low
                column_counts[j] += 1
            sums[i + 1, j + 1] = sums[i + 1, j] + column_sums[j]
            counts[i + 1, j + 1] = counts[i + 1, j] + column_counts[j]
    for i in range(rows):
        for j in range(columns):
            if valid[i, j] or not np.isfinite(cells[i, j]):
                continue
            reach, n, total = 1, 0, 0.0
            while n == 0 and reach < 2 * max(rows, columns):
                top, bottom = max(i - reach, 0), min(i + reach + 1, rows)
                left, right = max(j - reach, 0), min(j + reach + 1, columns)
                n = counts[bottom, right] - counts[top, right]
                n -= counts[bottom, left] - counts[top, left]
                total = sums[bottom, right] - sums[top, right]
                total -= sums[bottom, left] - sums[top, left]
                reach *= 2
            cells[i, j] = low + total / n if n > 0 else 0.0
