"""Principal components of vectors, and vectors from their known numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.linalg

from imsim.anomaly.stacks import Booleans, Doubles, Floats, product

STEPS = 4
"""Steps towards the least-squares fit to the known numbers of a vector."""


class Principal(NamedTuple):
    """All principal components of some vectors."""

    mean: Doubles
    """Shape (length,)."""
    variances: Doubles
    """In descending order, none negative."""
    axes: Doubles
    """Unit vectors as rows, shape (len(variances), length)."""


def of_few(vectors: Floats, seen: Booleans | None) -> Principal:
    """Principal components of vectors that are not many more than their length.

    Each entry's mean is that of the vectors in which it is seen; unseen ones, which are 0, count
    as this mean.
    """
    if seen is None:
        mean = vectors.mean(axis=0, dtype=np.float64)
        centred = vectors - mean
    else:
        mean = vectors.sum(axis=0, dtype=np.float64) / np.maximum(seen.sum(axis=0), 1)
        centred = np.where(seen, vectors - mean, 0.0)
    return _of_centred(mean, centred, max(len(centred) - 1, 1))


def merged(one: Principal, n: int, other: Principal, m: int) -> Principal:
    """Principal components of n and m vectors together, from those of each."""
    mean = (n * one.mean + m * other.mean) / (n + m)
    rows = [
        np.sqrt((n - 1) * one.variances)[:, None] * one.axes,
        np.sqrt((m - 1) * other.variances)[:, None] * other.axes,
        np.sqrt(n * m / (n + m)) * (one.mean - other.mean)[None],
    ]
    return _of_centred(mean, np.concatenate(rows), n + m - 1)


def _of_centred(mean: Doubles, centred: Doubles, divisor: int) -> Principal:
    """Principal components of vectors less their mean."""
    n, length = centred.shape
    if n >= length:
        return _of_symmetric(mean, centred.T @ centred / divisor)
    # The matrix of inner products is smaller, and has the same eigenvalues.
    _, variances, combinations = _of_symmetric(mean, centred @ centred.T / divisor)
    lengths = np.sqrt(divisor * variances)
    with np.errstate(divide="ignore", invalid="ignore"):
        axes = np.where(lengths[:, None] > 0, combinations @ centred / lengths[:, None], 0)
    return Principal(mean, variances, axes)


def of_many(batches: Iterable[Floats], length: int) -> tuple[Principal, int]:
    """Principal components of many short vectors, and their number."""
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
    return _of_symmetric(shift + mean, covariance), count


def project(vectors: Floats, seen: Booleans | None, mean: Floats, axes: Floats) -> Floats:
    """Reconstruct vectors (rows) from their known numbers."""
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


def _of_symmetric(mean: Doubles, symmetric: Doubles) -> Principal:
    values, vectors = scipy.linalg.eigh(symmetric)
    return Principal(mean, np.maximum(values[::-1], 0), vectors.T[::-1])
