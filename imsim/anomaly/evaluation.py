"""How good the decisions of a detector are."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly.groups import Group, groups_of, members_by_kind, members_by_size
from imsim.anomaly.inputs import as_stack, check_masks
from imsim.anomaly.separation import Separation, check_bootstrap, check_labels, separate


class Confusion(NamedTuple):
    """Counts of decisions."""

    hits: int
    """Anomalous images that were flagged."""
    misses: int
    """Anomalous images that passed."""
    false_alarms: int
    """Good images that were flagged."""
    correct_passes: int
    """Good images that passed."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The decisions of a detector on labelled images; prints as a text."""

    labels: NDArray[np.bool_]
    """True = anomalous."""
    scores: NDArray[np.float64]
    """One for each image; larger = more anomalous, NaN = could not be scored."""
    flagged: NDArray[np.bool_]
    """What the detector takes for anomalous at its own threshold."""
    threshold: float
    """The detector's own."""
    separation: Separation
    """What the scores could do at other thresholds, with the ROC curve."""
    confidence: float
    """The confidence of the interval."""
    by_kind: tuple[Group, ...]
    """A group for each kind of anomaly, if kinds were given."""
    by_size: tuple[Group, ...]
    """A group for each size or class of sizes, ascending, if sizes were given."""
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
        """How many decisions of each sort there are; all images take part."""
        counts = [
            int(np.count_nonzero((self.labels == label) & (self.flagged == flag)))
            for label, flag in ((True, True), (True, False), (False, True), (False, False))
        ]
        return Confusion(*counts)

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
        """Return the numbers, without the scores and the curve, as JSON can hold them."""
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
        c = self.confusion
        best = self.separation
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
            lines.append(
                f"{len(self.unscored)} images without a score, flagged and not in the AUROC: "
                f"{first}{more}"
            )
        for title, groups in (("kind", self.by_kind), ("size", self.by_size)):
            if groups:
                lines += ["", f"{title:20}{'images':>7}{'AUROC':>8}{'found':>8}"]
                lines += [f"{g.name:20}{g.count:7}{g.auroc:8.3f}{g.detection_rate:8.1%}"
                          for g in groups]  # fmt: skip
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
        Fitted: its ``anomaly_score(images)`` and ``threshold_`` are used. What it warns of, such as
        images that cannot be used, is passed on.
    images : array_like, shape (n, height, width)
        Images that took no part in the training.
    labels : array_like, shape (n,)
        1 or True = anomalous, 0 or False = good; both must occur.
    masks : array_like of bool, shape (n, height, width) or (height, width), optional
        True = use; handed to the detector.
    kinds : array_like of str, shape (n,), optional
        The kind of anomaly in each image; those of good images are not looked at.
    sizes : array_like of float, shape (n,), optional
        The size of the anomaly; those of good images are not looked at. More than six different
        ones are put into four classes of equal width.
    n_bootstrap : int, optional
        Number of draws with replacement, among the good and among the anomalous images.
    confidence : float, optional
        Confidence of the percentile interval of the AUROC.
    random_state : int or None, optional
        Seed of the draws.

    Returns
    -------
    Evaluation
        Decisions at the detector's own threshold, the AUROC with its interval, and tables of
        kinds and sizes; it prints as text. An image whose score is NaN, because nothing in it
        could be scored, counts as flagged, is left out of the AUROC, and is named in
        ``unscored``.

    Raises
    ------
    ShapeError, MaskError
        If there is not one label, kind, size or mask for each image.
    OptionError
        If a label is neither 0 nor 1, only one of them occurs, no good or no anomalous image has
        a score, an anomalous image has no finite size, or an option makes no sense.

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
        raise imsim.OptionError(
            f"detector is of type {type(detector).__name__}; expected a fitted AnomalyDetector"
        )
    check_bootstrap(n_bootstrap, confidence, random_state)
    frames = as_stack("images", images)
    anomalous = check_labels(labels, len(frames))
    of_kind = {} if kinds is None else members_by_kind(kinds, anomalous)
    of_size = {} if sizes is None else members_by_size(sizes, anomalous)
    used = {} if masks is None else {"masks": check_masks(masks, frames.shape)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is said again below
        first = {name: value[:1] for name, value in used.items()}
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
        separation=separate(
            scores,
            anomalous,
            n_bootstrap=n_bootstrap,
            confidence=confidence,
            random_state=random_state,
        ),
        confidence=confidence,
        by_kind=groups_of(of_kind, scores, anomalous, flagged),
        by_size=groups_of(of_size, scores, anomalous, flagged),
        images_per_second=len(frames) / seconds,
    )
