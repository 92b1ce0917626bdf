"""Quality of the scores and decisions of a detector."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

import imsim
from imsim.anomaly.stacks import Booleans, Doubles, as_stack, check_masks
from imsim.tables import table
from imsim.validation import check_between, check_integer

FALSE_ALARM_LIMIT = 0.01
"""False-alarm rate at which the detection rate is reported."""
MOST_DRAWS = 1_000_000
"""More draws of the bootstrap change nothing that is shown."""
RESAMPLED_AT_ONCE = 2**21
"""Most weights of resampled images in memory."""
MOST_SIZES = 6
"""Up to this number, each size has a row; more sizes are put into `SIZE_CLASSES` classes."""
SIZE_CLASSES = 4


class ROC(NamedTuple):
    """The receiver operating characteristic, from "nothing is flagged" to "everything is".

    An image is flagged if its score is at least the threshold.
    """

    false_alarm_rates: Doubles
    """The share of the good images that are flagged, ascending from 0 to 1."""
    detection_rates: Doubles
    thresholds: Doubles
    """Descending; the first is infinite."""


@dataclass(frozen=True, eq=False)
class Separation:
    """Measures of how well a score tells anomalous images from good ones.

    Images without a score (NaN) are left out of every number here and named in `unscored`.
    """

    auroc: float
    """The probability that an anomalous image scores higher than a good one; ties count half."""
    interval: tuple[float, float]
    """Bootstrap interval of `auroc`."""
    accuracy: float
    """The largest accuracy of any threshold on these images: an optimistic estimate."""
    balanced_accuracy: float
    """The largest mean of detection rate and 1 - false-alarm rate: optimistic too."""
    threshold: float
    """The threshold of `accuracy`."""
    detection_at_1_percent: float
    """The largest detection rate of a threshold with a false-alarm rate of at most 1 %.

    With fewer than 100 good images that means no false alarm at all.
    """
    roc: ROC
    unscored: tuple[int, ...]
    """The indices of the images whose score is NaN."""


@dataclass(frozen=True)
class Group:
    """The anomalous images of one kind or size, against all good images."""

    name: str
    count: int
    auroc: float
    """NaN if no image of the group has a score."""
    detection_rate: float
    """The share that the detector flagged."""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, in types of JSON."""
        auroc = None if math.isnan(self.auroc) else self.auroc
        return asdict(self) | {"auroc": auroc}


class Confusion(NamedTuple):
    """Counts of decisions: anomalous images flagged and passed, good ones flagged and passed."""

    hits: int
    misses: int
    false_alarms: int
    correct_passes: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The decisions of a detector on labelled images; prints as a text."""

    labels: Booleans
    """True = anomalous."""
    scores: Doubles
    """One for each image; larger = more anomalous, NaN = could not be scored."""
    flagged: Booleans
    """True for images that the detector flags at its own `threshold`."""
    threshold: float
    separation: Separation
    """Quality of the scores at any threshold, with the ROC curve."""
    confidence: float
    by_kind: tuple[Group, ...]
    by_size: tuple[Group, ...]
    """A group for each kind, and for each size or class of sizes, if these were given."""
    images_per_second: float
    """Measured throughput of the whole detector."""

    @property
    def auroc(self) -> float:
        """The area under the ROC curve."""
        return self.separation.auroc

    @property
    def interval(self) -> tuple[float, float]:
        """Bootstrap interval of `auroc`."""
        return self.separation.interval

    @property
    def unscored(self) -> tuple[int, ...]:
        """The indices of the images whose score is NaN; these are flagged."""
        return self.separation.unscored

    @property
    def confusion(self) -> Confusion:
        """Number of decisions of each sort, over all images."""
        pairs = ((True, True), (True, False), (False, True), (False, False))
        return Confusion(*(int(((self.labels == a) & (self.flagged == b)).sum()) for a, b in pairs))

    @property
    def accuracy(self) -> float:
        """The share of right decisions at the detector's own threshold."""
        return float(np.mean(self.labels == self.flagged))

    @property
    def detection_rate(self) -> float:
        """The share of the anomalous images that were flagged."""
        return float(np.mean(self.flagged[self.labels]))

    @property
    def false_alarm_rate(self) -> float:
        """The share of the good images that were flagged."""
        return float(np.mean(self.flagged[~self.labels]))

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, without the scores and the curve, in types of JSON."""
        return {
            "auroc": self.auroc,
            "auroc_low": self.interval[0],
            "auroc_high": self.interval[1],
            "threshold": self.threshold,
            "accuracy": self.accuracy,
            "detection_rate": self.detection_rate,
            "false_alarm_rate": self.false_alarm_rate,
            "best_accuracy": self.separation.accuracy,
            "detection_at_1_percent": self.separation.detection_at_1_percent,
            **self.confusion._asdict(),
            "by_kind": [group.to_dict() for group in self.by_kind],
            "by_size": [group.to_dict() for group in self.by_size],
            "images_per_second": self.images_per_second,
            "unscored": list(self.unscored),
        }

    def __str__(self) -> str:
        """Return the numbers and the tables as text."""
        c, best = self.confusion, self.separation
        lines = [
            f"AUROC {self.auroc:.3f}, {self.confidence:.0%} interval "
            f"{self.interval[0]:.3f} to {self.interval[1]:.3f}",
            f"at the detector's threshold {self.threshold:.6g}: accuracy {self.accuracy:.3f}",
            f"  {c.hits} of {c.hits + c.misses} anomalous images found "
            f"({self.detection_rate:.1%}), {c.misses} missed",
            f"  {c.false_alarms} false alarms on {c.false_alarms + c.correct_passes} good images "
            f"({self.false_alarm_rate:.1%})",
            f"at best, with a threshold chosen on these images: accuracy {best.accuracy:.3f}; "
            f"{best.detection_at_1_percent:.1%} found at 1% false alarms",
            f"{self.images_per_second:.0f} images/s",
        ]
        if self.unscored:
            first = ", ".join(map(str, self.unscored[:10]))
            more = ", ..." if len(self.unscored) > 10 else ""
            lines.append(f"{len(self.unscored)} images without a score, flagged and not in the "
                         f"AUROC: {first}{more}")  # fmt: skip
        for title, groups in (("kind", self.by_kind), ("size", self.by_size)):
            if groups:
                rows = [[g.name, str(g.count), f"{g.auroc:.3f}", f"{g.detection_rate:.1%}"]
                        for g in groups]  # fmt: skip
                lines += ["", table([[title, "images", "AUROC", "found"], *rows], "lrrr")]
        return "\n".join(lines)


def evaluate(
    detector: Any,
    images: Any,
    labels: Any,
    *,
    masks: Any = None,
    kinds: Any = None,
    sizes: Any = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | None = 0,
) -> Evaluation:
    """Judge the scores and the decisions of a fitted detector on labelled images.

    Parameters
    ----------
    detector : AnomalyDetector
        Fitted: its ``anomaly_score(images)`` and ``threshold_`` are used.
    images : array_like, shape (n, height, width)
        Images that took no part in the training.
    labels : array_like, shape (n,)
        1 or True = anomalous, 0 or False = good; both must occur.
    masks : array_like of bool, shape (n, height, width) or (height, width), optional
        True = use; handed to the detector.
    kinds, sizes : array_like of str and of float, shape (n,), optional
        Kind and size of the anomaly in each image; those of good images are not looked at. More
        than six different sizes are put into four classes of equal width.
    n_bootstrap, confidence, random_state : int, float, and int or None
        Number of draws with replacement, among the good and among the anomalous images,
        confidence of the percentile interval of the AUROC, and seed of the draws.

    Returns
    -------
    Evaluation
        It prints as text. An image whose score is NaN counts as flagged, is left out of the AUROC,
        and is named in ``unscored``.

    Raises
    ------
    ShapeError, MaskError, OptionError
        If there is not one label, kind, size or mask for each image, a label is neither 0 nor 1,
        only one of them occurs or has scores, or an option makes no sense.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import AnomalyDetector, evaluate
    >>> rng = np.random.default_rng(0)
    >>> good = rng.uniform(0.4, 0.6, (60, 24, 24))
    >>> bad = rng.uniform(0.4, 0.6, (20, 24, 24))
    >>> bad[:, 8:12, 8:12] = 1
    >>> detector = AnomalyDetector(preprocess=None, data_range=1.0).fit(good[:40])
    >>> evaluation = evaluate(detector, np.concatenate([good[40:], bad]), np.arange(40) >= 20)
    >>> evaluation.auroc, evaluation.confusion.misses
    (1.0, 0)
    """
    if not hasattr(detector, "anomaly_score"):
        kind = type(detector).__name__
        raise imsim.OptionError(f"detector is of type {kind}; expected a fitted AnomalyDetector")
    check_bootstrap(n_bootstrap, confidence, random_state)
    frames = as_stack("images", images)
    anomalous = check_labels(labels, len(frames))
    of_kind = {} if kinds is None else members_by_kind(kinds, anomalous)
    of_size = {} if sizes is None else members_by_size(sizes, anomalous)
    used = {} if masks is None else {"masks": check_masks(masks, frames.shape)}
    first = {name: value[:1] for name, value in used.items()}
    with warnings.catch_warnings(action="ignore"):  # all is said again below
        detector.anomaly_score(frames[:1], **first)  # what is compiled now is not timed
    began = time.perf_counter()
    scores = np.asarray(detector.anomaly_score(frames, **used), dtype=np.float64)
    seconds = time.perf_counter() - began
    threshold = float(detector.threshold_)
    flagged = ~(scores <= threshold)  # NaN too: what could not be judged must not pass
    return Evaluation(
        labels=anomalous,
        scores=scores,
        flagged=flagged,
        threshold=threshold,
        separation=separate(scores, anomalous, n_bootstrap, confidence, random_state),
        confidence=confidence,
        by_kind=groups_of(of_kind, scores, anomalous, flagged),
        by_size=groups_of(of_size, scores, anomalous, flagged),
        images_per_second=len(frames) / seconds,
    )


def check_labels(labels: Any, count: int) -> Booleans:
    """Return the labels of the images as booleans; both must occur."""
    given = _one_each("labels", labels, count)
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
    """Percentiles of the AUROC over draws with replacement, within the good and the anomalous.

    A draw is a weight for each image: how often it was drawn.
    """
    rng = np.random.default_rng(random_state)
    order = np.argsort(scores)
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = {kind: int((anomalous == kind).sum()) for kind in (False, True)}
    areas: list[Doubles] = []
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


Members = dict[str, Booleans]
"""From the name of a group to a mask of its images; good images do not count."""


def members_by_kind(kinds: Any, anomalous: Booleans) -> Members:
    """Sort images by the kind of their anomaly."""
    given = _one_each("kinds", kinds, len(anomalous))
    return {str(kind): given == kind for kind in np.unique(given[anomalous])}


def members_by_size(sizes: Any, anomalous: Booleans) -> Members:
    """Sort images by the size of their anomaly: each size, or classes of equal width."""
    given = _one_each("sizes", sizes, len(anomalous))
    if given.dtype.kind not in "buif" or not np.isfinite(given[anomalous]).all():
        raise imsim.OptionError(
            f"sizes (of dtype {given.dtype}) must be finite numbers where labels is 1"
        )
    found = np.unique(given[anomalous])
    if len(found) <= MOST_SIZES:
        return {f"{size:g}": given == size for size in found}
    edges = np.linspace(found[0], found[-1], SIZE_CLASSES + 1)
    which = np.digitize(given, edges[1:-1])
    classes = {f"{edges[i]:.3g} to {edges[i + 1]:.3g}": which == i for i in range(SIZE_CLASSES)}
    return {name: member for name, member in classes.items() if (member & anomalous).any()}


def _one_each(name: str, values: Any, count: int) -> NDArray[Any]:
    given = np.asarray(values)
    if given.shape != (count,):
        raise imsim.ShapeError(
            f"{name} has shape {given.shape}; expected one for each image, ({count},)"
        )
    return given


def groups_of(
    members: Members, scores: Doubles, anomalous: Booleans, flagged: Booleans
) -> tuple[Group, ...]:
    """Judge each group of anomalous images against all good images."""
    groups = []
    for name, member in members.items():
        of_group = anomalous & member
        scored = (of_group | ~anomalous) & ~np.isnan(scores)
        bad = anomalous[scored]
        both = bad.any() and not bad.all()
        auroc = area_under_roc(scores[scored], bad) if both else math.nan
        count, rate = int(of_group.sum()), float(np.mean(flagged[of_group]))
        groups.append(Group(name, count, auroc, rate))
    return tuple(groups)
