"""How well scores tell anomalous images from good ones, at any threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

import imsim
from imsim.anomaly.stacks import Booleans, Doubles
from imsim.validation import check_between, check_integer

FALSE_ALARM_LIMIT = 0.01
"""False-alarm rate at which the detection rate is reported."""
MOST_DRAWS = 1_000_000
"""More draws of the bootstrap change nothing that is shown."""
RESAMPLED_AT_ONCE = 2**21
"""Most weights of resampled images in memory."""


class ROC(NamedTuple):
    """The receiver operating characteristic, from "nothing is flagged" to "everything is".

    An image is flagged if its score is at least the threshold.
    """

    false_alarm_rates: Doubles
    """The share of the good images that are flagged, ascending from 0 to 1."""
    detection_rates: Doubles
    thresholds: Doubles  # descending; the first is infinite


@dataclass(frozen=True, eq=False)
class Separation:
    """Measures of how well a score tells anomalous images from good ones.

    Images without a score (NaN) are left out of every number here and named in `unscored`.
    """

    auroc: float
    """The probability that an anomalous image scores higher than a good one; ties count half."""
    interval: tuple[float, float]  # bootstrap interval of `auroc`
    accuracy: float  # the largest accuracy of any threshold on these images: an optimistic estimate
    balanced_accuracy: float
    """The largest mean of detection rate and 1 - false-alarm rate: optimistic too."""
    threshold: float  # the threshold of `accuracy`
    detection_at_1_percent: float
    """The largest detection rate of a threshold with a false-alarm rate of at most 1 %.

    With fewer than 100 good images that means no false alarm at all.
    """
    roc: ROC
    unscored: tuple[int, ...]  # the indices of the images whose score is NaN


def one_each(name: str, values: Any, count: int) -> NDArray[Any]:
    """Return what is given once for each image."""
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise imsim.ShapeError(f"{name} does not become an array: {error}") from error
    if given.shape != (count,):
        raise imsim.ShapeError(
            f"{name} has shape {given.shape}; expected one for each image, ({count},)"
        )
    return given


def check_labels(labels: Any, count: int) -> Booleans:
    """Return the labels of the images as booleans; both must occur."""
    given = one_each("labels", labels, count)
    if not (known := given.dtype.kind in "buif") or not np.isin(given, (0, 1)).all():
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


def area_under_roc(scores: Doubles, anomalous: Booleans) -> float:
    r"""The area under the ROC curve, from ranks (Mann and Whitney).

    .. math:: A = \frac{R - n_1 (n_1 + 1) / 2}{n_0 n_1}

    with the sum R of the ranks of the n_1 anomalous scores among all, ties at their mean rank;
    infinite scores are ranked like any other.
    """
    bad, ranks = int(anomalous.sum()), float(rankdata(scores)[anomalous].sum())
    return (ranks - bad * (bad + 1) / 2) / (bad * (len(scores) - bad))


def separate(
    scores: Doubles,
    anomalous: Booleans,
    n_bootstrap: int,
    confidence: float,
    random_state: int | None,
) -> Separation:
    """Measure how well scores tell anomalous images from good ones, leaving out NaN."""
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


def _curve(scores: Doubles, anomalous: Booleans) -> ROC:
    # sklearn.metrics.roc_curve refuses infinite scores, which perfect reconstructions have.
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
    scores: Doubles,
    anomalous: Booleans,
    n_bootstrap: int,
    confidence: float,
    random_state: int | None,
) -> tuple[float, float]:
    """Percentiles of the AUROC over draws with replacement, within the good and the anomalous."""
    rng = np.random.default_rng(random_state)
    order = np.argsort(scores)
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = {kind: int((anomalous == kind).sum()) for kind in (False, True)}
    areas: list[Doubles] = []
    step = max(1, RESAMPLED_AT_ONCE // len(scores))
    for first in range(0, n_bootstrap, step):
        draws = min(step, n_bootstrap - first)
        weights = resampled(rng, anomalous, draws)[:, order]
        at_level = {
            kind: np.add.reduceat(weights * (anomalous == kind)[order], starts, axis=1)
            for kind in counts
        }
        below = np.cumsum(at_level[False], axis=1) - at_level[False] / 2  # ties count half
        areas.append((at_level[True] * below).sum(axis=1) / (counts[False] * counts[True]))
    low, high = np.quantile(np.concatenate(areas), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def resampled(rng: np.random.Generator, anomalous: Booleans, draws: int) -> Doubles:
    """Draw images with replacement, within the good and the anomalous; (draws, images).

    A draw is a weight for each image: how often it was drawn.
    """
    weights = np.zeros((draws, len(anomalous)))
    for kind in (False, True):
        count = int((anomalous == kind).sum())
        weights[:, anomalous == kind] = rng.multinomial(count, np.full(count, 1 / count), draws)
    return weights
