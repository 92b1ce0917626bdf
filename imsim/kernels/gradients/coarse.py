"""Gradients of pixels from those of cells: through the fill outside the mask and block means."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.coarse import cells_around, total_of
from imsim.kernels.common.jit import kernel
from imsim.kernels.common.pixel_blocks import NO_MASK
from imsim.typing import Array


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
