"""Ranks metrics by how well they tell good images from anomalous ones."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

import imsim
from imsim.anomaly import scoring
from imsim.anomaly.separation import Bootstrap, Separation, check_labels, separate, with_interval
from imsim.anomaly.stacks import Booleans, Doubles, as_stack, check_masks, masks_at
from imsim.tables import table
from imsim.validation import check_integer, check_names


@dataclass(frozen=True, eq=False)
class Ranked(Separation):
    """One metric and aggregate, and how well it tells anomalous images from good ones."""

    metric: str
    """Name of the metric, see `imsim.METRICS`."""
    aggregate: str
    """How the image is scored, see `imsim.anomaly.scoring.AGGREGATES`."""
    images_per_second: float
    """Measured throughput of the comparison alone."""
    scores: Doubles
    """One for each image; larger = more anomalous, NaN = could not be scored."""

    @property
    def name(self) -> str:
        """Metric and aggregate, such as "fsim worst"."""
        return f"{self.metric} {self.aggregate}"

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, without the scores and the curve, in types of JSON."""
        return {
            "metric": self.metric,
            "aggregate": self.aggregate,
            **with_interval("auroc", self.auroc, self.interval),
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
            "detection_at_1_percent": self.detection_at_1_percent,
            "images_per_second": self.images_per_second,
            "unscored": list(self.unscored),
        }


class Ranking(list[Ranked]):
    """Metrics and aggregates in the order of their AUROC, best first; prints as a table.

    Attributes
    ----------
    labels : bool array, shape (n,)
        True = anomalous.
    skipped : dict of str
        The metrics and aggregates that could not run on this input, with the reason.
    confidence : float
        The confidence of the intervals.
    """

    labels: Booleans
    skipped: dict[str, str]
    confidence: float

    @property
    def best(self) -> Ranked:
        """The record with the largest AUROC."""
        return self[0]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return `Ranked.to_dict` of each record, best first."""
        return [record.to_dict() for record in self]

    def __repr__(self) -> str:
        entries = ", ".join(f"{record.name} {record.auroc:.3f}" for record in self)
        return f"Ranking([{entries}], skipped={self.skipped!r})"

    def __str__(self) -> str:
        """Return a table, a line per metric and aggregate."""
        bad = int(self.labels.sum())
        lines = [
            f"{len(self.labels) - bad} good and {bad} anomalous images; {self.confidence:.0%} "
            "intervals; accuracy at the best threshold;",
            "found: the share of the anomalous images at 1% false alarms",
        ]
        heads = ["metric", "score", "AUROC", "interval", "accuracy", "balanced", "found",
                 "images/s"]  # fmt: skip
        rows = [
            [
                r.metric,
                r.aggregate,
                f"{r.auroc:.3f}",
                f"{r.interval[0]:.3f}-{r.interval[1]:.3f}",
                *(f"{x:.3f}" for x in (r.accuracy, r.balanced_accuracy, r.detection_at_1_percent)),
                f"{r.images_per_second:.0f}",
                f"({len(r.unscored)} NaN)" if r.unscored else "",
            ]
            for r in self
        ]
        lines.append(table([heads, *rows], "llrlrrrr"))
        for name, reason in self.skipped.items():
            lines += textwrap.wrap(
                f"{name:16}skipped: {reason}", width=100, subsequent_indent=" " * 16
            )
        return "\n".join(lines)


def rank_metrics(
    inputs: Any,
    reconstructions: Any,
    labels: Any,
    *,
    masks: Any = None,
    data_range: float | None = None,
    metrics: Iterable[str] | None = None,
    aggregates: Iterable[str] | None = None,
    window: int = scoring.WINDOW,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | None = 0,
) -> Ranking:
    """Find the similarity measure that tells good images from anomalous ones best.

    Each measure compares every image with its reconstruction. How well the scores tell the two
    kinds apart is said by the area under the ROC curve (AUROC) and its bootstrap interval.

    Parameters
    ----------
    inputs : array_like, shape (n, height, width)
        Images, as the model saw them, e.g. the ``inputs`` of `AnomalyDetector.reconstruct`.
    reconstructions : array_like, shape (n, height, width)
        What the model made of them.
    labels, masks, n_bootstrap, confidence, random_state
        As for `evaluate`; the same draws serve every metric.
    data_range : float, optional
        Largest possible minus smallest possible pixel value, ``detector.data_range_`` for what a
        detector compares; metrics that need it are skipped without, except for uint8 and bool.
    metrics : iterable of str, optional
        Names of metrics, see `imsim.METRICS`; by default all of them.
    aggregates : iterable of str, optional
        Among `imsim.anomaly.scoring.AGGREGATES`; by default every one that the metric has.
    window : int, optional
        Side of the window of the aggregate "worst", in pixels.

    Returns
    -------
    Ranking
        A sequence of `Ranked`, best first, that prints as a table. What cannot run on this input
        is left out, and named with the reason in its ``skipped``. An image whose score is NaN,
        because its mask leaves nothing to score or a pixel in it is NaN, is left out of the
        numbers of that measure, counted in the table, and named in ``unscored`` of the record.

    Raises
    ------
    ShapeError, DTypeError, MaskError
        If images, reconstructions, masks and labels do not fit together.
    OptionError
        If a label is neither 0 nor 1, an option makes no sense, or no metric can run.

    Notes
    -----
    Accuracy and balanced accuracy are those of the threshold that is best for these very images:
    a threshold chosen beforehand reaches less. `evaluate` reports a detector's own. For the same
    reason the AUROC of the best of many measures is a little too high: confirm the choice on
    images that took no part in it. The interval says how much the AUROC varies with the images
    drawn, not with the training of the model, and shrinks to one point where the two kinds are
    perfectly apart.

    References
    ----------
    Fawcett, T. (2006). An introduction to ROC analysis. Pattern Recognition Letters 27, 861-874.
    https://doi.org/10.1016/j.patrec.2005.10.010

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import rank_metrics
    >>> images = np.random.default_rng(0).uniform(size=(40, 16, 16))
    >>> labels = np.arange(40) >= 20
    >>> images[labels, 4:8, 4:8] += 1
    >>> ranking = rank_metrics(images, np.full_like(images, 0.5), labels, metrics=["se", "sh"])
    >>> ranking.best.metric, ranking.best.auroc
    ('se', 1.0)
    """
    bootstrap = Bootstrap.of(n_bootstrap, confidence, random_state)
    x, y = (
        as_stack(name, value)
        for name, value in (("inputs", inputs), ("reconstructions", reconstructions))
    )
    if x.shape != y.shape:
        raise imsim.ShapeError(
            f"inputs has shape {x.shape}, reconstructions has shape {y.shape}; expected the same"
        )
    used = None if masks is None else check_masks(masks, x.shape)
    anomalous = check_labels(labels, len(x))
    names = check_names("metrics", metrics, tuple(imsim.METRICS))
    if not names:
        raise imsim.OptionError("metrics is empty; expected at least one name, or None for all")
    wanted = check_names("aggregates", aggregates, scoring.AGGREGATES)
    check_integer("window", window, 1)
    records, skipped = [], {}
    for metric in names:
        for aggregate in scoring.aggregates(metric):
            if aggregate not in wanted:
                continue
            how: Any = {"data_range": data_range, "aggregate": aggregate, "window": window}
            first = masks_at(used, slice(1))
            try:
                scoring.anomaly_scores(metric, x[:1], y[:1], masks=first, **how)  # compiles
                began = time.perf_counter()
                scores = scoring.anomaly_scores(metric, x, y, masks=used, **how)
                speed = len(x) / (time.perf_counter() - began)
                separation = separate(scores, anomalous, bootstrap)
            except imsim.ImsimError as error:
                skipped[f"{metric} {aggregate}"] = str(error)
                continue
            if len(np.unique(scores[~np.isnan(scores)])) == 1:
                contrast = [m.name for m in imsim.METRICS.values() if m.needs_contrast]
                skipped[f"{metric} {aggregate}"] = (
                    f"every image has the same score; with {' and '.join(contrast)}, because the "
                    "reconstructions have no contrast"
                )
                continue
            records.append(Ranked(**vars(separation), metric=metric, aggregate=aggregate,
                                  images_per_second=speed, scores=scores))  # fmt: skip
    if not records:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise imsim.OptionError(
            f"no metric could run on this input: {reasons or 'none has such an aggregate'}"
        )
    # Ties are ordered by name.
    ranking = Ranking(sorted(records, key=lambda r: (-r.auroc, -r.accuracy, r.name)))
    ranking.labels, ranking.skipped, ranking.confidence = anomalous, skipped, confidence
    return ranking
