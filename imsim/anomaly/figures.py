"""Figures of the report, drawn without any global state of matplotlib."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imsim.anomaly.evaluation import Evaluation
from imsim.anomaly.ranking import Ranked, Ranking
from imsim.pages import Scale

GOOD, BAD, OTHER = "#2f6db3", "#c8641b", "#9aa4ae"
"""Blue and orange, which most colour-blind readers can tell apart, and grey."""


class GalleryRow(NamedTuple):
    """One image of a gallery."""

    caption: str
    panels: tuple[tuple[str, NDArray[Any], Scale], ...]
    """Title, values of shape (height, width) and their fixed scale."""
    mask: NDArray[np.bool_] | None
    """Where the images were compared."""


def scores_figure(evaluation: Evaluation) -> Figure:
    """Draw how the scores of good and bad images are distributed, with the threshold."""
    figure, axes = _figure(7.5, 3.6)
    scored = np.isfinite(evaluation.scores)
    scores, labels = evaluation.scores[scored], evaluation.labels[scored]
    # The last bar takes all larger scores: one outlier must not squeeze the others into one bar.
    high = float(np.quantile(scores, 0.98))
    high = max(high, evaluation.threshold) + 0.05 * (high - float(scores.min()))
    low = min(float(scores.min()), evaluation.threshold)
    high = high if high > low else low + 1
    edges = np.linspace(low, high, 41)
    beyond = bool((scores > high).any())
    for label, colour, name in ((False, GOOD, "good"), (True, BAD, "bad")):
        of_class = np.minimum(scores[labels == label], high)
        counts, _ = np.histogram(of_class, edges)
        share = 100 * counts / max(1, len(of_class))
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.45)
        axes.stairs(share, edges, color=colour, label=f"{name} ({len(of_class)} images)")
    axes.axvline(evaluation.threshold, color="black", linestyle="--", linewidth=1.2)
    axes.annotate(
        " threshold", (evaluation.threshold, 0.97), xycoords=("data", "axes fraction"), va="top"
    )
    end = "; the last bar takes all beyond" if beyond else ""
    axes.set_xlabel(f"anomaly score (larger = more anomalous{end})")
    axes.set_ylabel("share of the images, %")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure


def roc_figure(evaluation: Evaluation, ranking: Ranking | None) -> Figure:
    """Draw the ROC curves of the detector and, in its better aggregate, of every metric."""
    figure, axes = _figure(7.5, 4.6)
    first: dict[str, Ranked] = {}
    for record in ranking or ():
        first.setdefault(record.metric, record)  # best first
    for place, record in enumerate(first.values()):
        curve = record.roc
        axes.step(
            100 * curve.false_alarm_rates,
            100 * curve.detection_rates,
            where="post",
            color=_colour(place),
            linestyle=("-", "--", ":")[place // 5 % 3],
            linewidth=2 if place == 0 else 1,
            label=f"{record.name} {record.auroc:.3f}",
        )
    # The detector may combine scores, so that its curve differs from that of its metric.
    curve = evaluation.separation.roc
    x, y = 100 * curve.false_alarm_rates, 100 * curve.detection_rates
    axes.step(
        x, y, where="post", color="black", linewidth=2, label=f"detector {evaluation.auroc:.3f}"
    )
    axes.plot([0, 100], [0, 100], color=OTHER, linewidth=0.8)
    axes.plot(
        100 * evaluation.false_alarm_rate,
        100 * evaluation.detection_rate,
        "o",
        color="black",
        markersize=8,
        markerfacecolor="none",
        markeredgewidth=2,
        label="its threshold",
    )
    axes.set_xlabel("false alarms, % of the good images")
    axes.set_ylabel("found, % of the bad images")
    axes.set_aspect("equal")
    axes.set_xlim(-1, 101)
    axes.set_ylim(-1, 101)
    axes.legend(
        frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5), title="measure and AUROC"
    )
    return figure


def ranking_figure(ranking: Ranking) -> Figure:
    """Draw the AUROC of every measure with its interval, best on top."""
    figure, axes = _figure(7.5, 1.0 + 0.26 * len(ranking))
    places = np.arange(len(ranking))
    auroc = np.array([record.auroc for record in ranking])
    ends = np.array([record.interval for record in ranking])
    colours = [BAD if place == 0 else GOOD for place in places]
    axes.hlines(places, ends[:, 0], ends[:, 1], color=colours, linewidth=3, alpha=0.5)
    axes.scatter(auroc, places, color=colours, zorder=3)
    axes.axvline(0.5, color=OTHER, linewidth=0.8)
    axes.annotate(" chance", (0.5, 0.01), xycoords=("data", "axes fraction"), color="#59636e")
    axes.set_yticks(places, [record.name for record in ranking])
    axes.invert_yaxis()
    axes.set_xlim(min(0.45, float(ends.min()) - 0.02), 1.01)
    axes.set_xlabel(f"AUROC with {ranking.confidence:.0%} interval")
    axes.grid(axis="x", linewidth=0.4)
    return figure


def groups_figure(evaluation: Evaluation) -> Figure:
    """Draw the detection rate of each kind and each size of anomaly."""
    parts = [("kind", evaluation.by_kind), ("size", evaluation.by_size)]
    parts = [(title, groups) for title, groups in parts if groups]
    most = max(len(groups) for _, groups in parts)
    figure = Figure(figsize=(7.5, 1.1 + 0.34 * most), layout="constrained")
    all_axes = figure.subplots(1, len(parts), squeeze=False)[0]
    for axes, (title, groups) in zip(all_axes, parts, strict=True):
        rates = [100 * group.detection_rate for group in groups]
        axes.barh(range(len(groups)), rates, color=GOOD)
        for place, group in enumerate(groups):
            text = f" {round(group.detection_rate * group.count)} of {group.count}"
            right = rates[place] > 60
            axes.text(
                rates[place] - 1 if right else rates[place] + 1,
                place,
                text,
                va="center",
                ha="right" if right else "left",
                color="white" if right else "black",
                fontsize=9,
            )
        axes.set_yticks(range(len(groups)), [group.name for group in groups], parse_math=False)
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("found, %")
        axes.set_title(f"by {title} of defect", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def gallery_figure(rows: Sequence[GalleryRow]) -> Figure:
    """Draw a row for each image: input, reconstruction and similarity map."""
    columns = len(rows[0].panels)
    size = (2.1 * columns, 2.35 * len(rows) + 0.2)
    figure = Figure(figsize=size, layout="constrained")
    all_axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(all_axes, rows, strict=True):
        outlined = row.mask is not None and row.mask.any() and not row.mask.all()
        for place, (title, values, scale) in enumerate(row.panels):
            axes = line[place]
            axes.imshow(scale.colours_of(values), interpolation="nearest")
            axes.set_axis_off()
            if row is rows[0]:
                axes.set_title(title, fontsize=9, pad=18)
            if outlined and place < columns - 1:
                axes.contour(row.mask, levels=[0.5], colors="#35c4e8", linewidths=0.8)
        caption = line[0].annotate(
            textwrap.shorten(row.caption, 34 * columns, placeholder="…"),
            (0, 1),
            (0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9,
            fontweight="bold",
            annotation_clip=False,
            parse_math=False,  # the name of a file is no formula
        )
        caption.set_in_layout(False)  # else it would widen the first column
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colour(place: int) -> str:
    return (BAD, GOOD, "#3a8f5c", "#7d55a5", "#b8860b")[place % 5]
