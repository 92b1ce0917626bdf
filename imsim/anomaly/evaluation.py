"""Quality of the scores and decisions of a detector."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

import imsim
from imsim.anomaly.separation import (
    Bootstrap,
    Localisation,
    Separation,
    area_under_roc,
    check_defects,
    check_labels,
    localise,
    one_each,
    separate,
    with_interval,
)
from imsim.anomaly.stacks import Booleans, Doubles, as_stack, check_kind, check_masks
from imsim.tables import table

_MOST_SIZES = 6
"""Up to this number, each size has a row; more sizes are put into `_SIZE_CLASSES` classes."""
_SIZE_CLASSES = 4
_MOST_DIGITS = 17
"""These tell any two numbers of double precision apart."""


class Confusion(NamedTuple):
    """Counts of decisions: anomalous images flagged and passed, good ones flagged and passed."""

    hits: int
    misses: int
    false_alarms: int
    correct_passes: int


@dataclass(frozen=True)
class Group:
    """The anomalous images of one kind or size, against all good images."""

    name: str
    count: int
    auroc: float  # NaN if no image of the group has a score
    detection_rate: float  # the share that the detector flagged

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, in types of JSON."""
        auroc = None if math.isnan(self.auroc) else self.auroc
        return asdict(self) | {"auroc": auroc}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The decisions of a detector on labelled images; prints as a text."""

    labels: Booleans
    """True = anomalous."""
    scores: Doubles
    """One for each image; larger = more anomalous, NaN = could not be scored."""
    flagged: Booleans
    """True for images that the detector flags at its own threshold."""
    threshold: float
    separation: Separation
    """Quality of the scores at any threshold, with the ROC curve."""
    confidence: float
    by_kind: tuple[Group, ...]
    by_size: tuple[Group, ...]
    """A group for each kind, and for each size or class of sizes, if these were given."""
    images_per_second: float
    """Measured throughput of the whole detector."""
    localisation: Localisation | None = None
    """How well the map shows where the anomalies are, if that is known."""

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

    @property
    def detection_interval(self) -> tuple[float, float]:
        """Interval of `detection_rate`, exact for independent images (Clopper and Pearson)."""
        return self._interval_of(self.flagged[self.labels])

    @property
    def false_alarm_interval(self) -> tuple[float, float]:
        """Interval of `false_alarm_rate`, exact for independent images (Clopper and Pearson)."""
        return self._interval_of(self.flagged[~self.labels])

    def _interval_of(self, flagged: Booleans) -> tuple[float, float]:
        found = binomtest(int(flagged.sum()), len(flagged)).proportion_ci(self.confidence, "exact")
        return float(found.low), float(found.high)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, without the scores and the curve, in types of JSON."""
        return {
            **with_interval("auroc", self.auroc, self.interval),
            "threshold": self.threshold,
            "accuracy": self.accuracy,
            **with_interval("detection_rate", self.detection_rate, self.detection_interval),
            **with_interval("false_alarm_rate", self.false_alarm_rate, self.false_alarm_interval),
            "best_accuracy": self.separation.accuracy,
            "detection_at_1_percent": self.separation.detection_at_1_percent,
            **self.confusion._asdict(),
            "by_kind": [group.to_dict() for group in self.by_kind],
            "by_size": [group.to_dict() for group in self.by_size],
            "images_per_second": self.images_per_second,
            "localisation": None if self.localisation is None else self.localisation.to_dict(),
            "unscored": list(self.unscored),
        }

    def __str__(self) -> str:
        """Return the numbers and the tables as text."""
        c, best, sure = self.confusion, self.separation, f"{self.confidence:.0%}"
        lines = [
            f"AUROC {self.auroc:.3f}, {sure} interval "
            f"{self.interval[0]:.3f} to {self.interval[1]:.3f}",
            f"at the detector's threshold {self.threshold:.6g}: accuracy {self.accuracy:.3f}",
            f"  {c.hits} of {c.hits + c.misses} anomalous images found "
            f"({self.detection_rate:.1%}), {c.misses} missed; {sure} interval "
            "{:.1%} to {:.1%}".format(*self.detection_interval),
            f"  {c.false_alarms} false alarms on {c.false_alarms + c.correct_passes} good images "
            f"({self.false_alarm_rate:.1%}); {sure} interval "
            "{:.1%} to {:.1%}".format(*self.false_alarm_interval),
            f"at best, with a threshold chosen on these images: accuracy {best.accuracy:.3f}; "
            f"{best.detection_at_1_percent:.1%} found at 1% false alarms",
            f"{self.images_per_second:.0f} images/s",
        ]
        if (where := self.localisation) is not None:
            lines[-1:-1] = [
                f"pixels: AUROC {where.auroc:.3f}, {sure} interval "
                f"{where.interval[0]:.3f} to {where.interval[1]:.3f}; "
                f"{where.compared:.1%} of the anomalous ones were compared",
                f"{where.regions} regions: overlap (PRO) {where.pro:.3f}, {sure} interval "
                f"{where.pro_interval[0]:.3f} to {where.pro_interval[1]:.3f}",
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
    defects: Any = None,
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
    defects : array_like of bool, shape (n, height, width), optional
        True = anomalous pixel, the ground truth, which `anomaly_map` is judged by; False in good
        images. (`masks` says which pixels to use; what lies outside counts for neither.)
    n_bootstrap, confidence, random_state : int, float, and int or None
        Number of draws with replacement, among the good and among the anomalous images, confidence
        of all intervals (percentiles of the draws; of rates, Clopper and Pearson's), and seed of
        the draws.

    Returns
    -------
    Evaluation
        It prints as text. An image whose score is NaN counts as flagged, is left out of the AUROC,
        and is named in ``unscored``.

    Raises
    ------
    ShapeError, MaskError, OptionError
        If there is not one label, kind, size, mask or array of defects for each image, a label is
        neither 0 nor 1, only one of them occurs or has scores, `defects` marks a good image or
        nothing in an anomalous one, the detector has no map to judge by `defects`, or an option
        makes no sense.

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
    is_detector = hasattr(detector, "anomaly_score")
    check_kind(is_detector, "detector", detector, "a fitted AnomalyDetector")
    bootstrap = Bootstrap.of(n_bootstrap, confidence, random_state)
    frames = as_stack("images", images)
    anomalous = check_labels(labels, len(frames))
    of_kind = {}
    if kinds is not None:
        kinds = one_each("kinds", kinds, len(anomalous))
        if kinds.dtype.kind in "Of":  # None and NaN, as of a table with gaps, are kinds too
            kinds = np.array([str(kind) for kind in kinds.tolist()])
        of_kind = {str(kind): kinds == kind for kind in np.unique(kinds[anomalous])}
    of_size = {} if sizes is None else _members_by_size(sizes, anomalous)
    used = {} if masks is None else {"masks": check_masks(masks, frames.shape)}
    first = {name: value[:1] for name, value in used.items()}
    marked = None if defects is None else check_defects(defects, frames.shape, anomalous)
    if marked is not None:
        if not hasattr(detector, "anomaly_map"):
            raise imsim.OptionError(
                f"defects is given, but {type(detector).__name__} has no anomaly_map: leave it out"
            )
        try:
            detector.anomaly_map(frames[:1], **first)
        except imsim.OptionError as error:
            raise imsim.OptionError(f"defects is given, but {error}, or leave it out") from error
        marked = marked & used.get("masks", True)
    with warnings.catch_warnings(action="ignore"):  # all is said again below
        detector.anomaly_score(frames[:1], **first)  # what is compiled now is not timed
    began = time.perf_counter()
    scores = np.asarray(detector.anomaly_score(frames, **used), dtype=np.float64)
    seconds = time.perf_counter() - began
    threshold = float(detector.threshold_)
    flagged = ~(scores <= threshold)  # NaN too: what could not be judged must not pass
    where = None
    if marked is not None:

        def maps(part: slice) -> Any:
            given = {name: value[part] for name, value in used.items()}
            return detector.anomaly_map(frames[part], **given)

        where = localise(maps, marked, anomalous, bootstrap)
    return Evaluation(
        labels=anomalous,
        scores=scores,
        flagged=flagged,
        threshold=threshold,
        separation=separate(scores, anomalous, bootstrap),
        confidence=confidence,
        by_kind=_groups_of(of_kind, scores, anomalous, flagged),
        by_size=_groups_of(of_size, scores, anomalous, flagged),
        images_per_second=len(frames) / seconds,
        localisation=where,
    )


def _members_by_size(sizes: Any, anomalous: Booleans) -> dict[str, Booleans]:
    """Sort images by the size of their anomaly: each size, or classes of equal width."""
    given = one_each("sizes", sizes, len(anomalous))
    if given.dtype.kind not in "buif" or not np.isfinite(given[anomalous]).all():
        raise imsim.OptionError(
            f"sizes (of dtype {given.dtype}) must be finite numbers where labels is 1"
        )
    found = np.unique(given[anomalous])
    if len(found) <= _MOST_SIZES:
        names = _distinct(found, 6)
        return {name: given == size for name, size in zip(names, found, strict=True)}
    edges = np.linspace(found[0], found[-1], _SIZE_CLASSES + 1)
    which = np.digitize(given, edges[1:-1])
    ends = _distinct(edges, 3)
    classes = {f"{ends[i]} to {ends[i + 1]}": which == i for i in range(_SIZE_CLASSES)}
    return {name: member for name, member in classes.items() if (member & anomalous).any()}


def _distinct(numbers: NDArray[Any], digits: int) -> list[str]:
    """Return numbers in words, with as many more digits as tell them apart."""
    while True:
        words = [f"{number:.{digits}g}" for number in numbers]
        if len({*words}) == len(words) or digits >= _MOST_DIGITS:
            return words
        digits += 1


def _groups_of(
    members: dict[str, Booleans], scores: Doubles, anomalous: Booleans, flagged: Booleans
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
