"""A threshold that good images exceed at a chosen rate."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
"""Parts of the good images of which each in turn is held out to learn the threshold."""


def threshold_at(scores: NDArray[np.float64], rate: float) -> float:
    r"""Return the threshold that a fresh good image exceeds with a probability of `rate` at most.

    Of n exchangeable scores and a fresh one, the fresh one is above the k-th smallest of the n
    with a probability of (n + 1 - k) / (n + 1) at most. The threshold is the smallest of the n
    that keeps the rate, or, where n is too small for that, the largest.

    Parameters
    ----------
    scores : float64 array, shape (n,)
        Scores of good images that the model has not learned from; at least one.
    rate : float
        Between 0 and 1.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly.threshold import threshold_at
    >>> threshold_at(np.arange(1.0, 100.0), 0.05)
    95.0
    """
    ordered = np.sort(scores)
    n = len(ordered)
    if (n + 1) * rate < 1:
        warnings.warn(
            f"{n} held-out good images cannot hold a false-alarm rate of {rate:g}: the threshold "
            f"is their largest score, with a rate of about {1 / (n + 1):.2g}",
            stacklevel=3,
        )
    rank = int(np.ceil((n + 1) * (1 - rate) - 1e-9))
    return float(ordered[min(rank, n) - 1])


def deal(n: int, count: int, generator: np.random.Generator) -> list[NDArray[np.intp]]:
    """Deal the indices below n at random into folds to hold out; of one fold, only a fifth."""
    parts = min(FOLDS if count == 1 else count, n)
    dealt = [np.sort(part) for part in np.array_split(generator.permutation(n), parts)]
    return dealt[:1] if count == 1 else dealt
