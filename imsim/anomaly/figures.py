"""Figures and small pictures of the reports, drawn without any global state of matplotlib."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy import ndimage

from imsim.anomaly.evaluation import Evaluation
from imsim.anomaly.ranking import Ranked, Ranking
from imsim.anomaly.separation import ROC
from imsim.anomaly.stacks import Booleans, Doubles, Floats, masks_at
from imsim.pages import Scale, blocks, picture
from imsim.pages.colour import small_png

GOOD, BAD, OTHER = "#2f6db3", "#c8641b", "#9aa4ae"
"""Blue and orange, which most colour-blind readers can tell apart, and grey."""
OUTLINE = "#35c4e8"
"""Around what was compared: seen on grey images."""
WIDTH = 6.0
"""Inches: on a phone 390 pixels wide, the numbers at the axes are still 9 pixels high."""
PANEL = 1.5
"""Width of a picture of a gallery in inches: four fit into `WIDTH`."""
RUNNING = 25
"""Scores of which the running median is taken: one reject in a dozen does not move it."""
THUMBNAIL = 256
"""Longest side of a small picture in pixels; a page shows two beside each other on a phone."""
_LEAST_HALF = 14
"""Least distance in pixels from the middle of a box to its line: around it, not on it."""
_RINGS = ((0, 0), (1, 255), (2, 255), (3, 0))
"""Distance outwards and grey of the lines of a box: white in black is seen on any colours."""


Panel = tuple[str, NDArray[Any], Scale]
"""Title, values of images (n, height, width) and their fixed scale: a column of a gallery."""


def scores_figure(
    groups: tuple[tuple[str, str, Doubles], ...], threshold: float, noun: str = "image"
) -> Figure:
    """Draw how scores are distributed, and the threshold; each group has a name and a colour."""
    figure, axes = _figure(3.6)
    finite = [scores[np.isfinite(scores)] for _, _, scores in groups]
    scores = np.concatenate(finite)
    # The last bar takes all larger scores: one outlier must not squeeze the others into one bar.
    high = float(np.quantile(scores, 0.98)) if scores.size else threshold
    low = min(float(scores.min(initial=threshold)), threshold)
    high = max(high, threshold) + 0.05 * (high - low)
    high = high if high > low else low + 1
    edges = np.linspace(low, high, 41)
    beyond = bool((scores > high).any())
    for (name, colour, _), of_group in zip(groups, finite, strict=True):
        draw_shares(axes, of_group, edges, colour, f"{name} ({len(of_group)} {noun}s)")
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2)
    axes.annotate(" threshold", (threshold, 0.97), xycoords=("data", "axes fraction"), va="top")
    end = "; the last bar takes all beyond" if beyond else ""
    axes.set_xlabel(f"anomaly score (larger = more anomalous{end})")
    axes.set_ylabel(f"share of the {noun}s, %")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure


def draw_shares(axes: Any, scores: Doubles, edges: Doubles, colour: str, label: str) -> Doubles:
    """Draw the shares of scores in bars, in percent; the outer bars take all beyond."""
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    shares: Doubles = 100 * counts / max(1, len(scores))
    axes.stairs(shares, edges, fill=True, color=colour, alpha=0.45)
    axes.stairs(shares, edges, color=colour, label=label)
    return shares


def order_figure(scores: Doubles, threshold: float, noun: str = "image") -> Figure:
    """Draw scores in the order of inspection, with the threshold; NaN was not inspected."""
    figure, axes = _figure(3.6)
    number, place = len(scores), np.arange(1, len(scores) + 1)
    missed = np.isnan(scores)
    known = np.append(scores[np.isfinite(scores)], threshold)
    low, usual = float(known.min()), float(np.quantile(known, 0.98))
    # Few scores far above all others must not squeeze these: they stand at the upper edge.
    usual = max(usual, threshold) - low or 1.0
    top = min(float(known.max()), low + 3 * usual) + 0.05 * usual
    beyond = scores > top
    size = float(np.clip(2000 / number, 4, 30))
    upper, lower = np.full(number, top), np.full(number, low - 0.06 * (top - low))
    for which, heights, marker, area, colour, name in (
        (scores <= threshold, scores, "o", size, GOOD, "good"),
        ((scores > threshold) & ~beyond, scores, "o", size, BAD, "anomaly"),
        (beyond, upper, "^", 36, BAD, "anomaly, beyond"),
        (missed, lower, "x", 25, "black", "not inspected"),
    ):
        if which.any():
            edge = 0 if marker == "o" else 1
            how = {"s": area, "marker": marker, "linewidths": edge}
            axes.scatter(place[which], heights[which], color=colour, label=name, **how)
    scored = np.flatnonzero(~missed)
    if len(scored) >= 2 * RUNNING:
        median = ndimage.median_filter(np.minimum(scores[scored], top), RUNNING)
        whole = slice(RUNNING // 2, -(RUNNING // 2))
        axes.plot(
            place[scored][whole], median[whole], "black", alpha=0.6, label=f"median of {RUNNING}"
        )
    axes.axhline(threshold, color="black", linestyle="--", linewidth=1.2)
    axes.annotate(
        "threshold", (1, threshold), (0, 3), xycoords=("axes fraction", "data"), ha="right",
        textcoords="offset points", bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 1},
    )  # fmt: skip
    axes.set_xlim(0.5 - 0.02 * number, number + 0.5 + 0.02 * number)
    axes.set_ylim(low - 0.12 * (top - low), top + 0.06 * (top - low))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"{noun}, in the order of inspection")
    axes.set_ylabel("anomaly score")
    axes.legend(
        frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1
    )
    return figure


class Curve(NamedTuple):
    """An ROC curve."""

    title: str
    roc: ROC
    chosen: tuple[float, float] | None = None
    """Shares of false alarms and of what is found at the threshold that was chosen before."""


def roc_figure(evaluation: Evaluation, ranking: Ranking | None) -> Figure:
    """Draw the ROC curves of the detector and, in its better aggregate, of every metric."""
    first: dict[str, Ranked] = {}
    for record in ranking or ():
        first.setdefault(record.metric, record)  # best first
    # The detector may combine scores, so that its curve differs from that of its metric.
    curves = [curve_of("detector", evaluation)]
    curves += [Curve(f"{one.name} {one.auroc:.3f}", one.roc) for one in first.values()]
    return roc_panels(curves)


def curve_of(name: str, evaluation: Evaluation) -> Curve:
    """Return the curve of a detector with its threshold."""
    chosen = evaluation.false_alarm_rate, evaluation.detection_rate
    return Curve(f"{name} {evaluation.auroc:.3f}", evaluation.separation.roc, chosen)


def roc_panels(curves: Sequence[Curve]) -> Figure:
    """Draw each curve in a panel, before all others in grey: in one, good curves hide others."""
    columns = {1: 1, 2: 2, 4: 2}.get(len(curves), 3)
    rows = -(-len(curves) // columns)
    side = WIDTH / max(columns, 1.5)
    figure = Figure(figsize=(WIDTH, (side + 0.1) * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, axes in enumerate(panels.flat):
        if place >= len(curves):
            axes.set_axis_off()
            continue
        axes.tick_params(labelbottom=place + columns >= len(curves))  # nothing stands below
        own = curves[place]
        for curve in [*(other for other in curves if other is not own), own]:
            axes.step(
                100 * curve.roc.false_alarm_rates,
                100 * curve.roc.detection_rates,
                where="post",
                color=GOOD if curve is own else OTHER,
                linewidth=2 if curve is own else 0.6,
            )
        axes.plot([0, 100], [0, 100], color=OTHER, linewidth=0.6, linestyle=":")
        if own.chosen is not None:
            x, y = own.chosen
            axes.plot(100 * x, 100 * y, "o", color=BAD, markersize=7, zorder=3)
        title = "\n".join(textwrap.wrap(textwrap.shorten(own.title, 60, placeholder="…"), 24))
        axes.set_title(title, fontsize=9, parse_math=False)
        axes.set_aspect("equal")
        axes.set(xlim=(-4, 104), ylim=(-4, 104), xticks=(0, 50, 100), yticks=(0, 50, 100))
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("false alarms, % of the good images", fontsize=10)
    figure.supylabel("found, % of the bad images", fontsize=10)
    return figure


def ranking_figure(ranking: Ranking) -> Figure:
    """Draw the AUROC of every measure with its interval, best on top."""
    figure, axes = _figure(1.0 + 0.26 * len(ranking))
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
    figure = Figure(figsize=(WIDTH, 1.1 + 0.34 * most), layout="constrained")
    all_axes = figure.subplots(1, len(parts), squeeze=False)[0]
    for axes, (title, groups) in zip(all_axes, parts, strict=True):
        rates = [100 * group.detection_rate for group in groups]
        bars = axes.barh(range(len(groups)), rates, color=GOOD)
        found = [
            f"{round(group.detection_rate * group.count)} of {group.count}" for group in groups
        ]
        axes.bar_label(bars, found, padding=3, fontsize=9)
        axes.set_yticks(range(len(groups)), [group.name for group in groups], parse_math=False)
        axes.invert_yaxis()
        axes.set_xlim(0, 165)
        axes.set_xticks((0, 50, 100))
        axes.set_xlabel("found, %")
        axes.set_title(f"by {title} of defect", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def gallery_figure(
    captions: Sequence[str], panels: Sequence[Panel], masks: Booleans | None
) -> Figure:
    """Draw a row for each image, such as input, reconstruction and similarity map."""
    size = (PANEL * len(panels), (PANEL + 0.25) * len(captions) + 0.2)
    figure = Figure(figsize=size, layout="constrained")
    all_axes = figure.subplots(len(captions), len(panels), squeeze=False)
    for row, words in enumerate(captions):
        mask = masks_at(masks, row)
        outlined = mask is not None and mask.any() and not mask.all()
        for axes, (title, values, scale) in zip(all_axes[row], panels, strict=True):
            axes.imshow(scale.colours_of(values[row]), interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(title, fontsize=9, pad=18)
            if outlined and axes is not all_axes[row][-1]:
                axes.contour(mask, levels=[0.5], colors=OUTLINE, linewidths=0.8)
        caption = all_axes[row][0].annotate(
            textwrap.shorten(words, 20 * len(panels), placeholder="…"),
            (0, 1),
            (0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9,
            fontweight="bold",
            annotation_clip=False,
            parse_math=False,  # the name of a file is no formula
        )
        caption.set_in_layout(False)  # else it would widen the column
    return figure


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


class Thumbnail(NamedTuple):
    """Values in small, and a box around a place in them."""

    values: Floats
    """(height, width), at most `THUMBNAIL` each unless it is a single row or column of blocks."""
    box: tuple[int, int, int, int] | None  # first and last row, and column, of the innermost line

    def drawn(self, scale: Scale, words: str) -> Markup:
        """Return the picture for a page."""
        colours = scale.colours_of(self.values)
        if self.box is not None:
            _draw(colours, self.box)
        return Markup(picture(small_png(colours), words))


def thumbnail(
    values: NDArray[Any], place: tuple[slice, slice] | None, *, largest: bool = False
) -> Thumbnail:
    """Reduce an image to the means of blocks, or to the largest values; enlarge a small one.

    A box is drawn around a place. A small defect must not vanish from a map: take the `largest`.
    """
    step = math.ceil(max(values.shape) / THUMBNAIL)
    if largest:
        small = values[blocks.worst(values, (step, step))]
    else:
        everywhere = (
            np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
        )
        small = blocks.mean(values[..., None], everywhere, (step, step))[..., 0]
    factor = max(1, THUMBNAIL // max(small.shape))
    with np.errstate(over="ignore"):  # the colour is that of the end of the scale
        small = small.astype(np.float32).repeat(factor, axis=0).repeat(factor, axis=1)
    box = None
    if place is not None:
        (top, bottom), (left, right) = (
            _ends(part, factor / step, side) for part, side in zip(place, small.shape, strict=True)
        )
        box = (top, bottom, left, right)
    return Thumbnail(small, box)


def _ends(part: slice, factor: float, side: int) -> tuple[int, int]:
    """Return the first and the last row or column of the line around a part, within a picture."""
    middle = (part.start + part.stop) / 2 * factor
    half = max((part.stop - part.start) / 2 * factor + 2, _LEAST_HALF)
    return max(0, math.floor(middle - half)), min(side - 1, math.ceil(middle + half))


def _draw(colours: NDArray[np.uint8], box: tuple[int, int, int, int]) -> None:
    """Draw the lines of a box; those that would lie outside the picture run along its border."""
    last = colours.shape[0] - 1, colours.shape[1] - 1
    for out, grey in _RINGS[::-1]:
        top, left = max(0, box[0] - out), max(0, box[2] - out)
        bottom, right = min(last[0], box[1] + out), min(last[1], box[3] + out)
        colours[[top, bottom], left : right + 1] = grey
        colours[top : bottom + 1, [left, right]] = grey


def place_words(place: tuple[slice, slice]) -> str:
    """Say where a place is, in pixels from the upper left corner, counted from 0."""
    rows, columns = (
        f"{part.start}" if part.stop - part.start == 1 else f"{part.start} to {part.stop - 1}"
        for part in place
    )
    return f"x {columns}, y {rows}"
