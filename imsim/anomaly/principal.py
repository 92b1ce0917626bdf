"""Principal components of vectors, and projection of vectors seen in part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from imsim.anomaly.products import Floats, product

Doubles = NDArray[np.float64]

STEPS = 4
"""Steps towards the least squares fit of what is seen of a vector."""


class Principal(NamedTuple):
    """All principal components of some vectors."""

    mean: Doubles
    """Shape (length,)."""
    variances: Doubles
    """Falling, none negative."""
    axes: Doubles
    """Unit vectors as rows, shape (len(variances), length)."""


def of_few(vectors: Floats, seen: NDArray[np.bool_] | None) -> Principal:
    """Principal components of fewer vectors than, or about as many as, their length.

    Each entry's mean is that of the vectors in which it is seen; unseen entries, which must
    be 0, count as this mean.
    """
    if seen is None:
        mean = vectors.mean(axis=0, dtype=np.float64)
        centred = vectors - mean
    else:
        mean = vectors.sum(axis=0, dtype=np.float64) / np.maximum(seen.sum(axis=0), 1)
        centred = np.where(seen, vectors - mean, 0.0)
    n, length = centred.shape
    if n >= length:
        return _principal(mean, centred.T @ centred / (n - 1))
    # The matrix of inner products has the same eigenvalues, and is the smaller one.
    _, variances, combinations = _principal(mean, centred @ centred.T / (n - 1))
    lengths = np.sqrt((n - 1) * variances)
    with np.errstate(divide="ignore", invalid="ignore"):
        axes = np.where(lengths[:, None] > 0, combinations @ centred / lengths[:, None], 0)
    return Principal(mean, variances, axes)


def of_many(batches: Iterable[Floats], length: int) -> tuple[Principal, int]:
    """Principal components of many short vectors, and how many there were."""
    count, shift = 0, np.zeros(length)
    total, products = np.zeros(length), np.zeros((length, length))
    for batch in batches:
        if not count and len(batch):
            shift = batch.mean(axis=0, dtype=np.float64)  # a large offset would cost precision
        moved = batch - shift
        count += len(batch)
        total += moved.sum(axis=0)
        products += moved.T @ moved
    mean = total / max(count, 1)
    covariance = (products - count * np.outer(mean, mean)) / max(count - 1, 1)
    return _principal(shift + mean, covariance), count


def project(vectors: Floats, seen: NDArray[np.bool_] | None, mean: Floats, axes: Floats) -> Floats:
    """Reconstruct vectors (rows) from what is seen of them."""
    centred = vectors - mean
    if seen is not None:
        centred[~seen] = 0
    coefficients = product(centred, axes.T)
    if seen is not None and (some := np.flatnonzero(~seen.all(axis=1))).size:
        wanted, visible, found = centred[some], seen[some], coefficients[some]
        for _ in range(STEPS):
            missing = np.where(visible, wanted - product(found, axes), np.float32(0))
            found += product(missing, axes.T)
        coefficients[some] = found
    return product(coefficients, axes) + mean


def _principal(mean: Doubles, symmetric: Doubles) -> Principal:
    values, vectors = scipy.linalg.eigh(symmetric)
    return Principal(mean, np.maximum(values[::-1], 0), vectors.T[::-1])
