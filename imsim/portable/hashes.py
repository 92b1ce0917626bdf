"""Bits of an image's signature from the means of its cells, for SH; on NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from imsim.caches import kept
from imsim.typing import Array

Bits = NDArray[np.bool_]
OVERSAMPLING = 4
"""Cells per side of the finer grid of the wavelet and perceptual hashes, by bit of the hash."""
TIE = 1e-6
"""Differences below this part of the image's spread count as none: float32 may round so much."""


def means(sums: Array, covered: Array | None, area: float) -> tuple[Array, Bits]:
    """Divide the sum over each cell by the area that is covered, None if all of it is."""
    if covered is None:
        return sums / area, np.ones(sums.shape, dtype=bool)
    covered = np.where(np.isclose(covered, area, rtol=1e-9, atol=0), area, covered)
    some = covered > 1e-9 * area
    return np.where(some, sums / np.where(some, covered, 1.0), 0.0), some


def without_gaps(cells: Array, some: Bits) -> Array:
    """Give empty cells the mean of the others."""
    if some.all():
        return cells
    return np.where(some, cells, cells[some].mean() if some.any() else 0.0)


def above_median(values: Array, some: Bits, tie: float) -> tuple[Bits, Bits]:
    """One bit per value; all of them count unless the image is empty."""
    return values > np.median(values) + tie, np.full(values.shape, some.any())


def wavelet_bits(cells: Array, some: Bits, tie: float) -> tuple[Bits, Bits]:
    """Haar approximation coefficients above their median."""
    import pywt  # slow to import

    level = int(math.log2(OVERSAMPLING))
    return above_median(pywt.wavedec2(without_gaps(cells, some), "haar", level=level)[0], some, tie)


@kept
def cosines(count: int, cells: int) -> NDArray[np.float64]:
    """Rows of the cosine transform (type II) of a line of cells, from frequency 0 on."""
    waves: NDArray[np.float64] = np.cos(
        math.pi / cells * np.arange(count)[:, None] * (np.arange(cells) + 0.5)
    )
    return waves


def perceptual_bits(cells: Array, some: Bits, tie: float) -> tuple[Bits, Bits]:
    """Coefficients of the lowest frequencies of the cosine transform above their median."""
    waves = cosines(len(cells) // OVERSAMPLING, len(cells))
    # Scaled so that rounding of cells shows in a coefficient as large as in a cell.
    coefficients = waves @ without_gaps(cells, some) @ waves.T / len(cells)
    return above_median(coefficients, some, tie)


def difference_bits(cells: Array, some: Bits, tie: float) -> tuple[Bits, Bits]:
    """Cells brighter than their left neighbour."""
    return cells[:, 1:] > cells[:, :-1] + tie, some[:, 1:] & some[:, :-1]


def average_bits(cells: Array, some: Bits, tie: float) -> tuple[Bits, Bits]:
    """Cells brighter than the mean cell."""
    return cells > (cells[some].mean() if some.any() else 0.0) + tie, some


SIGNATURES: dict[str, Callable[[Array, Bits, float], tuple[Bits, Bits]]] = {
    "wavelet": wavelet_bits,
    "perceptual": perceptual_bits,
    "difference": difference_bits,
    "average": average_bits,
}


def grid(hash: str, hash_size: int) -> tuple[int, int]:
    """Rows and columns of the cells that a signature compares."""
    if hash in ("wavelet", "perceptual"):
        return OVERSAMPLING * hash_size, OVERSAMPLING * hash_size
    return hash_size, hash_size + (hash == "difference")
