"""The detector's one score of each image, out of the mean and the worst window of a metric."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly import scoring

BOTH = "both"
"""The aggregate that takes the more anomalous of mean and worst window."""
QUARTILES = 1.349
"""Distance of the quartiles of a normal distribution, in standard deviations."""


def choose(aggregate: Any, metric: str, has_preprocess: bool) -> str:
    """Return the given aggregate if the metric has it; by default what suits most images.

    After a preprocess a body is small and its surroundings say nothing. Images as they are may
    be anomalous in one place or all over.
    """
    has = scoring.aggregates(metric)
    has = (*has, BOTH) if len(has) > 1 else has
    if aggregate is None:
        return "worst" if has_preprocess and "worst" in has else has[-1]
    if not isinstance(aggregate, str) or aggregate not in has:
        raise imsim.OptionError(
            f"aggregate={aggregate!r}; {metric} has {', '.join(map(repr, has))}"
        )
    return aggregate


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
    """Return median and standard deviation of each column, shape (2, columns).

    The deviation is that of a normal distribution with the same quartiles, so that an odd image
    among the good ones counts little. A single column, with nothing to be compared with, stays
    what it is: 0 and 1.
    """
    found = np.repeat([[0.0], [1.0]], scores.shape[1], axis=1)
    if scores.shape[1] > 1:
        for k, column in enumerate(scores.T):
            valid = column[~np.isnan(column)]
            if valid.size:
                low, found[0, k], high = np.quantile(valid, (0.25, 0.5, 0.75))
                found[1, k] = (high - low) / QUARTILES or 1
    return found


def largest(scores: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest column of each image, each in its own scale; NaN if all are NaN."""
    result: NDArray[np.float64] = np.fmax.reduce((scores - scale[0]) / scale[1], axis=1)
    return result
