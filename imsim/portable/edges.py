"""Canny edges of NumPy arrays and their correlation, and joint histograms, for ISSM."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imsim.portable.arrays import count, total
from imsim.typing import Array


def edge_map(
    image: Array, mask: Array | None, data_range: float, canny: dict[str, float]
) -> NDArray[np.bool_]:
    """Canny edges of one image; pixels outside the mask have no influence."""
    from skimage import feature  # slow to import

    scaled = image.astype(np.float64) / data_range
    unit = edge_unit(scaled if mask is None else scaled[mask])
    scaled, canny = scaled / unit, {**canny, **{key: canny[key] / unit for key in THRESHOLDS}}
    return feature.canny(scaled, mask=mask, **canny)  # type: ignore[no-any-return,no-untyped-call]


THRESHOLDS = ("low_threshold", "high_threshold")


def edge_unit(scaled: Array) -> float:
    """Return a power of two by which gradients are divided so that their squares are numbers."""
    largest = float(max(scaled.max(initial=0.0), -scaled.min(initial=0.0)))
    return math.ldexp(1.0, max(math.frexp(largest)[1] - LARGEST_EXPONENT, 0))


def edge_maps(
    images: Array, mask: Array | None, data_range: float, canny: dict[str, float]
) -> NDArray[np.bool_]:
    """Canny edges of each image inside each mask."""
    shape = images.shape if mask is None else np.broadcast_shapes(images.shape, mask.shape)
    images = np.broadcast_to(images, shape)
    inside = None if mask is None else np.broadcast_to(mask, shape)
    edges = np.empty(shape, dtype=bool)
    for index in np.ndindex(shape[:-2]):
        here = None if inside is None else inside[index]
        edges[index] = edge_map(images[index], here, data_range, canny)
    return edges


def edge_correlation(p: Array, q: Array, valid: Array | None) -> Array:
    """Correlation of two edge maps."""
    n_p, n_q, n_both = (total(v.astype(float), valid) for v in (p, q, p & q))
    return correlation_of_counts(count(p, valid), n_p, n_q, n_both)


def correlation_of_counts(n: Array, n_p: Array, n_q: Array, n_both: Array) -> Array:
    """Correlation of two sets among n pixels; 1 if both are empty, 0 if one of them is."""
    variances = n_p * (n - n_p) * n_q * (n - n_q)
    r = (n * n_both - n_p * n_q) / np.sqrt(variances)
    same = (n_p == n_both) & (n_q == n_both)
    return np.where(variances > 0, r, same.astype(float))


LARGEST_EXPONENT = 500
"""That of two of the largest value whose gradient has a square in float64."""
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
