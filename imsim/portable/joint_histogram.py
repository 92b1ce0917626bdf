"""Joint histograms of NumPy arrays, whose bins go on beyond the data range, and their entropy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imsim.typing import Array

BINS = 256
"""From 0 to L."""
EXACT = 2.0**53
"""All whole numbers up to it are float64 numbers."""


def bins(values: Array, data_range: float) -> NDArray[np.float64]:
    """Number of the bin of each value: 0 to 255 from 0 to L, and on below 0 and above L.

    L itself belongs to bin 255.
    """
    found: NDArray[np.float64] = np.floor(values.astype(np.float64) * (BINS / data_range))
    found[(found == BINS) & (values <= upper_end(values.dtype, data_range))] = BINS - 1
    return found


def upper_end(dtype: Any, data_range: float) -> float:
    """L as values of a dtype can have it: 0.1 in float32 is larger than 0.1."""
    return max(data_range, float(np.dtype(dtype).type(data_range)))


def pair_counts(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """How often each pair of bins occurs; memory grows with the pixels, not with the bins."""
    if x.size == 0 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.zeros(0, dtype=np.int64)
    low, across = y.min(), y.max() - y.min() + 1
    if across < EXACT and x.max() - x.min() + 1 < EXACT / across:
        pairs = (x - x.min()) * across + (y - low)
        pairs.sort()
    else:  # no number has room for both
        pairs = np.sort(x + 1j * y)
    ends = np.append(np.flatnonzero(pairs[1:] != pairs[:-1]), pairs.size - 1)
    return np.diff(ends, prepend=-1)


def shannon_entropy(counts: NDArray[np.int64]) -> float:
    """-sum h log2 h of a histogram, in bits; added in an order that knows no first image."""
    if counts.size == 0:
        return math.nan
    h = np.sort(counts[counts > 0]) / counts.sum()
    return float(-np.sum(h * np.log2(h)))
