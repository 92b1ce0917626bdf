"""The detector's one score of each image, out of the mean and the worst window of a metric."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly import scoring

BOTH = "both"
"""The aggregate that takes the more anomalous of mean and worst window."""


def choose(aggregate: Any, metric: str, has_preprocess: bool) -> str:
    """Return the given aggregate if the metric has it; by default what suits most images.

    After a preprocess a body is small and its surroundings say nothing. Images as they are may
    be anomalous in one place or all over.
    """
    has = scoring.aggregates(metric)
    has = (*has, BOTH) if len(has) > 1 else has
    if aggregate is None:
        return "worst" if has_preprocess and "worst" in has else has[-1]
    if aggregate not in has:
        raise imsim.OptionError(
            f"aggregate={aggregate!r}; {metric} has {', '.join(map(repr, has))}"
        )
    return str(aggregate)


def every_score(
    metric: str, aggregate: str, inputs: Any, reconstructions: Any, **how: Any
) -> NDArray[np.float64]:
    """Return a column of `scoring.anomaly_scores` for each aggregate that is taken together."""
    names = scoring.AGGREGATES if aggregate == BOTH else (aggregate,)
    columns = [
        scoring.anomaly_scores(metric, inputs, reconstructions, aggregate=name, **how)
        for name in names
    ]
    return np.stack(columns, axis=1)


def scales(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mean and standard deviation of the columns, shape (2, columns); 0 and 1 of a single.

    The columns of good images are thus made alike; a single one stays what it is.
    """
    valid = scores[~np.isnan(scores).any(axis=1)]
    if scores.shape[1] == 1 or not len(valid):
        return np.stack([np.zeros(scores.shape[1]), np.ones(scores.shape[1])])
    spread = valid.std(axis=0)
    return np.stack([valid.mean(axis=0), np.where(spread > 0, spread, 1)])


def largest(scores: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest column of each image, each in its own scale; NaN if one is NaN."""
    result: NDArray[np.float64] = ((scores - scale[0]) / scale[1]).max(axis=1)
    return result
