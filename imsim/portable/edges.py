"""Canny edges of NumPy arrays and their correlation, for ISSM."""

from __future__ import annotations

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
    return feature.canny(scaled, mask=mask, **canny)  # type: ignore[no-any-return,no-untyped-call]


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
