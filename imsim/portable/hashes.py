"""Bits of an image's signature from the means of its cells, for SH; NumPy arrays only."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from imsim.caches import kept
from imsim.typing import Array

Bits = NDArray[np.bool_]
OVERSAMPLING = 4
"""Cells per bit, along each side of the grid, for the wavelet and perceptual hashes."""
TIE = 1e-6
"""Differences up to this part of the image's peak-to-peak value are ties: float32 may round so."""


def overlaps(
    cells: int, pixels: int, start: int = 0, stop: int | None = None
) -> NDArray[np.float64]:
    """Overlap of each cell with some pixels of a line, in pixels; shape (cells, stop - start)."""
    edges = np.arange(cells + 1) * (pixels / cells)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(start, pixels if stop is None else stop)
    overlap: NDArray[np.float64] = np.minimum(right, pixel + 1) - np.maximum(left, pixel)
    return overlap.clip(min=0.0)


def area_means(sums: Array, covered: Array | None, area: float) -> tuple[Array, Bits]:
    """Divide the sum over each cell by its covered area; None: all cells are covered."""
    if covered is None:
        return sums / area, np.ones(sums.shape, dtype=bool)
    covered = np.where(np.isclose(covered, area, rtol=1e-9, atol=0), area, covered)
    has_pixels = covered > 1e-9 * area
    return np.where(has_pixels, sums / np.where(has_pixels, covered, 1.0), 0.0), has_pixels


def without_gaps(cells: Array, has_pixels: Bits) -> Array:
    """Give empty cells the mean of the others."""
    if has_pixels.all():
        return cells
    return np.where(has_pixels, cells, cells[has_pixels].mean() if has_pixels.any() else 0.0)


def above_median(values: Array, has_pixels: Bits, tie: float) -> tuple[Bits, Bits]:
    """One bit per value; all bits count unless no cell has pixels."""
    return values > np.median(values) + tie, np.full(values.shape, has_pixels.any())


def wavelet_bits(cells: Array, has_pixels: Bits, tie: float) -> tuple[Bits, Bits]:
    """Haar approximation coefficients above their median."""
    import pywt  # slow to import

    level = int(math.log2(OVERSAMPLING))
    return above_median(
        pywt.wavedec2(without_gaps(cells, has_pixels), "haar", level=level)[0], has_pixels, tie
    )


@kept
def cosines(count: int, cells: int) -> NDArray[np.float64]:
    """Rows of the cosine transform (type II) of a line of cells, from frequency 0 on."""
    waves: NDArray[np.float64] = np.cos(
        math.pi / cells * np.arange(count)[:, None] * (np.arange(cells) + 0.5)
    )
    return waves


def perceptual_bits(cells: Array, has_pixels: Bits, tie: float) -> tuple[Bits, Bits]:
    """Coefficients of the lowest frequencies of the cosine transform above their median."""
    waves = cosines(len(cells) // OVERSAMPLING, len(cells))
    # The scale makes rounding errors of coefficients as large as those of cells.
    coefficients = waves @ without_gaps(cells, has_pixels) @ waves.T / len(cells)
    return above_median(coefficients, has_pixels, tie)


def difference_bits(cells: Array, has_pixels: Bits, tie: float) -> tuple[Bits, Bits]:
    """Cells brighter than their left neighbour."""
    return cells[:, 1:] > cells[:, :-1] + tie, has_pixels[:, 1:] & has_pixels[:, :-1]


def average_bits(cells: Array, has_pixels: Bits, tie: float) -> tuple[Bits, Bits]:
    """Cells brighter than the mean cell."""
    return cells > (cells[has_pixels].mean() if has_pixels.any() else 0.0) + tie, has_pixels


SIGNATURES: dict[str, Callable[[Array, Bits, float], tuple[Bits, Bits]]] = {
    "wavelet": wavelet_bits,
    "perceptual": perceptual_bits,
    "difference": difference_bits,
    "average": average_bits,
}


def grid_shape(hash: str, hash_size: int) -> tuple[int, int]:
    """Rows and columns of the cells that a signature compares."""
    if hash in ("wavelet", "perceptual"):
        return OVERSAMPLING * hash_size, OVERSAMPLING * hash_size
    return hash_size, hash_size + (hash == "difference")
