"""Joint histograms of NumPy arrays, with bins beyond the data range, and their entropy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imsim.typing import Array

BINS = 256
"""Bins from 0 to L, the data range."""
LARGEST_EXACT = 2.0**53
"""All whole numbers up to this one are exact in float64."""


def bins(values: Array, data_range: float) -> NDArray[np.float64]:
    """Number of the bin of each value: 0 to 255 from 0 to L; other numbers below 0 and above L.

    L itself belongs to bin 255.
    """
    found: NDArray[np.float64] = np.floor(values.astype(np.float64) * (BINS / data_range))
    found[(found == BINS) & (values <= upper_end(values.dtype, data_range))] = BINS - 1
    return found


def upper_end(dtype: Any, data_range: float) -> float:
    """Return the larger of L and L rounded to a dtype: 0.1 in float32 is larger than 0.1."""
    return max(data_range, float(np.dtype(dtype).type(data_range)))


def pair_counts(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count each pair of bins that occurs; memory grows with the pixels, not with the bins."""
    if x.size == 0 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.zeros(0, dtype=np.int64)
    low, across = y.min(), y.max() - y.min() + 1
    if across < LARGEST_EXACT and x.max() - x.min() + 1 < LARGEST_EXACT / across:
        pairs = (x - x.min()) * across + (y - low)
        pairs.sort()
    else:  # one number does not hold both bins
        pairs = np.sort(x + 1j * y)
    ends = np.append(np.flatnonzero(pairs[1:] != pairs[:-1]), pairs.size - 1)
    return np.diff(ends, prepend=-1)


def shannon_entropy(counts: NDArray[np.int64]) -> float:
    """-sum h log2 h of a histogram, in bits; sorted, so that swapped images give the same bits."""
    if counts.size == 0:
        return math.nan
    h = np.sort(counts[counts > 0]) / counts.sum()
    return float(-np.sum(h * np.log2(h)))
