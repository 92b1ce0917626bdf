"""How well scores tell anomalous images from good ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

import imsim
from imsim.validation import check_between, check_integer

FALSE_ALARM_LIMIT = 0.01
"""The rate of false alarms at which detection is reported."""
MOST_DRAWS = 1_000_000
"""More draws of the bootstrap change nothing that is shown."""
RESAMPLED_AT_ONCE = 2**21
"""How many weights of resampled images are held in memory."""


class ROC(NamedTuple):
    """The receiver operating characteristic, from "nothing is flagged" to "everything is".

    An image is flagged if its score is at least the threshold.
    """

    false_alarm_rates: NDArray[np.float64]
    """The share of the good images that are flagged, ascending from 0 to 1."""
    detection_rates: NDArray[np.float64]
    """The share of the anomalous images that are flagged."""
    thresholds: NDArray[np.float64]
    """Descending; the first is infinite."""


@dataclass(frozen=True, eq=False)
class Separation:
    """How well one score tells anomalous images from good ones.

    Images without a score (NaN) are left out of every number here and named in `unscored`.
    """

    auroc: float
    """The probability that an anomalous image scores higher than a good one; ties count half."""
    interval: tuple[float, float]
    """Bootstrap interval of `auroc`."""
    accuracy: float
    """The largest accuracy that any threshold reaches on these very images, thus optimistic."""
    balanced_accuracy: float
    """The largest mean of detection rate and 1 - false-alarm rate, optimistic likewise."""
    threshold: float
    """The threshold of `accuracy`."""
    detection_at_1_percent: float
    """The largest detection rate of a threshold with a false-alarm rate of at most 1 %.

    With fewer than 100 good images that means no false alarm at all.
    """
    roc: ROC
    """All its points."""
    unscored: tuple[int, ...]
    """The indices of the images whose score is NaN."""


def check_labels(labels: Any, count: int) -> NDArray[np.bool_]:
    """Return labels as booleans, True = anomalous.

    Parameters
    ----------
    labels : array_like, shape (n,)
        1 or True = anomalous, 0 or False = good; both must occur.
    count : int
        The number of images.

    Returns
    -------
    bool array, shape (n,)

    Raises
    ------
    ShapeError
        If there is not one label for each image.
    OptionError
        If a label is neither 0 nor 1, or only one of them occurs.
    """
    given = np.asarray(labels)
    if given.shape != (count,):
        raise imsim.ShapeError(
            f"labels has shape {given.shape}; expected one for each image, ({count},)"
        )
    known = given.dtype.kind in "buif"
    if not known or not np.isin(given, (0, 1)).all():
        odd = sorted({str(v) for v in given.ravel().tolist() if not known or v not in (0, 1)})
        raise imsim.OptionError(
            f"labels holds {', '.join(odd[:5])}; expected 1 = anomalous and 0 = good: of what "
            "predict returns, -1 = anomalous and +1 = good, make labels == -1"
        )
    anomalous = given.astype(np.bool_)
    if anomalous.all() or not anomalous.any():
        only = "anomalous" if anomalous.all() else "good"
        raise imsim.OptionError(
            f"labels says that all {count} images are {only}; both kinds are needed to tell apart"
        )
    return anomalous


def check_bootstrap(n_bootstrap: Any, confidence: Any, random_state: Any) -> None:
    """Refuse settings of the bootstrap that make no sense."""
    check_integer("n_bootstrap", n_bootstrap, 1, MOST_DRAWS)
    check_between("confidence", confidence)
    if random_state is not None:
        check_integer("random_state", random_state, 0)


def area_under_roc(scores: NDArray[np.float64], anomalous: NDArray[np.bool_]) -> float:
    r"""The area under the ROC curve, from ranks (Mann and Whitney).

    .. math:: A = \frac{R - n_1 (n_1 + 1) / 2}{n_0 n_1}

    with the sum R of the ranks of the n_1 anomalous scores among all, ties at their mean rank.

    Parameters
    ----------
    scores : float64 array, shape (n,)
        Larger = more anomalous; infinite ones are ranked like any other, NaN must not occur.
    anomalous : bool array, shape (n,)
        Both values occur.

    Returns
    -------
    float
    """
    bad = int(anomalous.sum())
    ranks = float(rankdata(scores)[anomalous].sum())
    return (ranks - bad * (bad + 1) / 2) / (bad * (len(scores) - bad))


def separate(
    scores: NDArray[np.float64],
    anomalous: NDArray[np.bool_],
    *,
    n_bootstrap: int,
    confidence: float,
    random_state: int | None,
) -> Separation:
    """Measure how well scores tell anomalous images from good ones.

    Parameters
    ----------
    scores : float64 array, shape (n,)
        Larger = more anomalous; NaN = not scored.
    anomalous : bool array, shape (n,)
        From `check_labels`.
    n_bootstrap, confidence, random_state
        See `imsim.anomaly.rank_metrics`.

    Returns
    -------
    Separation

    Raises
    ------
    OptionError
        If no good image, or no anomalous one, has a score.
    """
    scored = ~np.isnan(scores)
    values, bad = scores[scored], anomalous[scored]
    if bad.all() or not bad.any():
        missing = "anomalous" if not bad.any() else "good"
        raise imsim.OptionError(
            f"no {missing} image has a score: all are NaN, as where a mask leaves nothing to "
            "score or a pixel is NaN"
        )
    roc = _curve(values, bad)
    false_alarms, detections = roc.false_alarm_rates, roc.detection_rates
    good_share = np.mean(~bad)
    accuracy = (1 - good_share) * detections + good_share * (1 - false_alarms)
    best = int(np.argmax(accuracy))
    return Separation(
        auroc=area_under_roc(values, bad),
        interval=_interval(values, bad, n_bootstrap, confidence, random_state),
        accuracy=float(accuracy[best]),
        balanced_accuracy=float(np.max(detections + 1 - false_alarms) / 2),
        threshold=float(roc.thresholds[best]),
        detection_at_1_percent=float(detections[false_alarms <= FALSE_ALARM_LIMIT].max()),
        roc=roc,
        unscored=tuple(np.flatnonzero(~scored).tolist()),
    )


def _curve(scores: NDArray[np.float64], anomalous: NDArray[np.bool_]) -> ROC:
    # Not sklearn.metrics.roc_curve, which refuses the infinite scores of perfect reconstructions.
    levels, which = np.unique(-scores, return_inverse=True)
    flagged = [
        np.concatenate(([0], np.cumsum(np.bincount(which[kind], minlength=len(levels)))))
        for kind in (~anomalous, anomalous)
    ]
    return ROC(
        false_alarm_rates=flagged[0] / flagged[0][-1],
        detection_rates=flagged[1] / flagged[1][-1],
        thresholds=np.concatenate(([math.inf], -levels)),
    )


def _interval(
    scores: NDArray[np.float64],
    anomalous: NDArray[np.bool_],
    n_bootstrap: int,
    confidence: float,
    random_state: int | None,
) -> tuple[float, float]:
    """Percentiles of the AUROC over draws with replacement, within the good and the anomalous.

    A draw is a weight for each image: how often it was drawn. The same seed makes the same draws
    for every metric.
    """
    rng = np.random.default_rng(random_state)
    order = np.argsort(scores)
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = {kind: int((anomalous == kind).sum()) for kind in (False, True)}
    areas: list[NDArray[np.float64]] = []
    step = max(1, RESAMPLED_AT_ONCE // len(scores))
    for first in range(0, n_bootstrap, step):
        draws = min(step, n_bootstrap - first)
        at_level = {}
        for kind, count in counts.items():
            weights = np.zeros((draws, len(scores)))
            weights[:, anomalous == kind] = rng.multinomial(count, np.full(count, 1 / count), draws)
            at_level[kind] = np.add.reduceat(weights[:, order], starts, axis=1)
        below = np.cumsum(at_level[False], axis=1) - at_level[False] / 2  # ties count half
        areas.append((at_level[True] * below).sum(axis=1) / (counts[False] * counts[True]))
    low, high = np.quantile(np.concatenate(areas), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
