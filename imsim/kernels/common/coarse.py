"""Coarser grids: block means of pixels in any dtype, values for cells outside the mask, and back.

The way back takes gradients of cells to those of pixels.
"""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import exact, inline, kernel, part
from imsim.kernels.common.planes import NO_MASK
from imsim.typing import Array


def block_means(image: Array, mask: Array | None, factor: int) -> tuple[Array, Array | None]:
    """Mean over blocks of factor x factor pixels, in float64, and which cells are valid.

    The rules are those of `imsim.portable.coarse.block_mean` with zeros beyond the frame. A pixel
    inside the mask that is not finite makes its cell not finite; if it lies in no block, it makes
    all cells NaN.
    """
    shape = tuple(-(-length // factor) for length in image.shape)
    cells = np.empty(shape)
    valid = np.empty(shape if mask is not None else (0, 0), np.bool_)
    # Sums over the rows of the blocks, with room beyond the frame for the first and last block.
    sums = np.empty(image.shape[1] + 2 * factor)
    counts = np.empty(sums.shape, np.int64)
    _block_means(image, NO_MASK if mask is None else mask, factor, sums, counts, cells, valid)
    row, column = (length * factor - (factor - 1) // 2 for length in shape)
    for rest in (np.s_[row:], np.s_[:, column:]):
        beyond = image[rest] if mask is None else image[rest][mask[rest]]
        if not np.isfinite(beyond).all():
            cells[...] = np.nan
    return cells, None if mask is None else valid


@kernel
def _block_means(image, mask, factor, sums, counts, cells, valid):  # type: ignore[no-untyped-def]
    height, width = image.shape
    before = (factor - 1) // 2
    for r in range(cells.shape[0]):
        for k in range(sums.size):
            sums[k], counts[k] = 0, 0
        top, bottom = max(r * factor - before, 0), min((r + 1) * factor - before, height)
        inside, number = sums[before : before + width], counts[before : before + width]
        for i in range(top, bottom):  # loops over slices from 0 on are vectorised
            if mask.size == 0:
                for j in range(width):
                    inside[j] += image[i, j]
            else:
                for j in range(width):
                    inside[j] += np.float64(image[i, j]) if mask[i, j] else 0.0
                for j in range(width):
                    number[j] += mask[i, j]
        if mask.size == 0:
            _whole_cells(sums, factor, cells[r])
        else:
            _part_cells(sums, counts, factor, bottom - top, width, cells[r], valid[r])


@part
def _whole_cells(sums, factor, cells):  # type: ignore[no-untyped-def]
    for c in range(cells.size):
        total = sums[c * factor]
        for k in range(c * factor + 1, (c + 1) * factor):
            total += sums[k]
        cells[c] = total / (factor * factor)


@part
def _part_cells(sums, counts, factor, rows, width, cells, valid):  # type: ignore[no-untyped-def]
    before = (factor - 1) // 2
    for c in range(cells.size):
        first, n = c * factor, 0
        for k in range(first, first + factor):
            n += counts[k]
        cells[c], valid[c] = 0.0, False
        if n > 0:
            total = sums[first]
            for k in range(first + 1, first + factor):
                total += sums[k]
            left, right = max(first - before, 0), min(first + factor - before, width)
            inside = n / (rows * (right - left))
            cells[c] = total / (factor * factor * inside)
            valid[c] = inside >= 0.5


def fill_cells(cells: Array, valid: Array) -> None:
    """Fill the invalid cells as `imsim.portable.coarse.filled` does, except those that are NaN."""
    rows, columns = cells.shape
    shape = (rows + 1, columns + 1)
    _fill_cells(cells, valid, np.zeros(shape), np.zeros(shape, np.int64))


@exact
def _fill_cells(cells, valid, sums, counts):  # type: ignore[no-untyped-def]
    """`sums` and `counts` hold zeros."""
    rows, columns = cells.shape
    low = np.inf
    for i in range(rows):
        for j in range(columns):
            if valid[i, j] and cells[i, j] < low:
                low = cells[i, j]
    for i in range(rows):
        for j in range(columns):
            here = valid[i, j]
            sums[i + 1, j + 1] = sums[i, j + 1] + (cells[i, j] - low if here else 0.0)
            counts[i + 1, j + 1] = counts[i, j + 1] + here
    spread = 0.0
    for j in range(columns):
        spread += sums[rows, j + 1]
    if spread == 0 and low < np.inf:  # the mean around each cell is that of a constant
        for i in range(rows):
            for j in range(columns):
                if np.isfinite(cells[i, j]):
                    cells[i, j] = low
        return
    for i in range(rows):  # sums by column become sums of rectangles
        for j in range(columns):
            sums[i + 1, j + 1] += sums[i + 1, j]
            counts[i + 1, j + 1] += counts[i + 1, j]
    for i in range(rows):
        least = 1
        for j in range(columns):
            if valid[i, j] or not np.isfinite(cells[i, j]):
                least = 1
                continue
            # Half the reach of the cell before found nothing there, so a quarter finds nothing.
            reach, n = least, 0
            box = (i, i, j, j)
            while n == 0 and reach < 2 * max(rows, columns):
                box = cells_around(i, j, reach, rows, columns)
                n = total_of(counts, box)
                reach *= 2
            least = max(reach // 4, 1)
            cells[i, j] = low + total_of(sums, box) / n if n > 0 else 0.0


@inline
def cells_around(i, j, reach, rows, columns):  # type: ignore[no-untyped-def]
    """Rows and columns of the cells up to `reach` away: (top, bottom, left, right)."""
    top, bottom = max(i - reach, 0), min(i + reach + 1, rows)
    return top, bottom, max(j - reach, 0), min(j + reach + 1, columns)


@inline
def total_of(sums, box):  # type: ignore[no-untyped-def]
    """Sum over a rectangle, from sums over the rectangles that begin at the corner of the frame."""
    top, bottom, left, right = box
    return sums[bottom, right] - sums[top, right] - (sums[bottom, left] - sums[top, left])


def fill_back(slopes: Array, valid: Array) -> None:
    """Move the gradients of cells that were filled to the cells that `fill_cells` read."""
    shape = (slopes.shape[0] + 1, slopes.shape[1] + 1)
    _fill_back(slopes, valid, np.zeros(shape), np.zeros(shape, np.int64))


@kernel
def _fill_back(slopes, valid, shares, counts):  # type: ignore[no-untyped-def]
    """`shares` and `counts` hold zeros.

    A filled cell gives each valid cell of a rectangle the same share. The share is marked at the
    corners of the rectangle, and sums from the corner of the frame on bring it to the cells.
    """
    rows, columns = slopes.shape
    for i in range(rows):
        for j in range(columns):
            counts[i + 1, j + 1] = counts[i, j + 1] + valid[i, j]
    for i in range(rows):  # sums by column become sums of rectangles
        for j in range(columns):
            counts[i + 1, j + 1] += counts[i + 1, j]
    for i in range(rows):
        for j in range(columns):
            if valid[i, j]:
                continue
            reach, n = 1, 0
            while n == 0 and reach < 2 * max(rows, columns):
                box = cells_around(i, j, reach, rows, columns)
                n = total_of(counts, box)
                if n > 0:
                    share, (top, bottom, left, right) = slopes[i, j] / n, box
                    shares[top, left] += share
                    shares[top, right] -= share
                    shares[bottom, left] -= share
                    shares[bottom, right] += share
                reach *= 2
            slopes[i, j] = 0
    for i in range(rows):
        for j in range(1, columns):
            shares[i, j] += shares[i, j - 1]
        if i > 0:
            for j in range(columns):
                shares[i, j] += shares[i - 1, j]
        for j in range(columns):
            slopes[i, j] += shares[i, j] if valid[i, j] else 0.0


def add_to_pixels(
    slopes: Array, mask: Array | None, factor: int, weight: float, pixels: Array
) -> None:
    """Add the gradients of the pixels of blocks, see `block_means`, times a weight."""
    shares = np.zeros(pixels.shape[1])  # pixels beyond the last block have none
    _add_to_pixels(slopes, NO_MASK if mask is None else mask, factor, weight, shares, pixels)


@kernel
def _add_to_pixels(slopes, mask, factor, weight, shares, pixels):  # type: ignore[no-untyped-def]
    """`shares` hold 0 for each column; rows of pixels are added at once, which vectorises."""
    height, width = pixels.shape
    before = (factor - 1) // 2
    for r in range(slopes.shape[0]):
        top, bottom = max(r * factor - before, 0), min((r + 1) * factor - before, height)
        for c in range(slopes.shape[1]):
            left, right = max(c * factor - before, 0), min((c + 1) * factor - before, width)
            share = weight * slopes[r, c] / (factor * factor)
            if mask.size > 0:
                n = 0
                for i in range(top, bottom):
                    for j in range(left, right):
                        n += mask[i, j]
                share = share * ((bottom - top) * (right - left)) / n if n > 0 else 0.0
            for j in range(left, right):
                shares[j] = share
        for i in range(top, bottom):
            if mask.size == 0:
                for j in range(width):
                    pixels[i, j] += shares[j]
            else:
                for j in range(width):
                    pixels[i, j] += shares[j] if mask[i, j] else 0.0
