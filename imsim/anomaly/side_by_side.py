"""Several detectors on the same images, side by side on one page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import imsim
from imsim.anomaly import scoring
from imsim.anomaly.detector import AnomalyDetector
from imsim.anomaly.evaluation import Evaluation
from imsim.anomaly.figures import BAD, GOOD, OTHER, OUTLINE, write_above
from imsim.anomaly.pose import moved_back
from imsim.anomaly.report import FALLBACK_METRIC, grey_scale
from imsim.anomaly.stacks import Booleans, Doubles, as_stack, check_images
from imsim.anomaly.writing import Writer
from imsim.anomaly.xray.peel import VirtualPeel
from imsim.pages import Html, Scale, map_scale, page, table, tag
from imsim.validation import check_integer

__all__ = ["write_comparison"]

PAGE = "comparison.html"
COLOURS = "#2f6db3", "#c8641b", "#3a8f5c", "#7d55a5", "#9b7300", "#000000"
LINES = "-", "--", "-.", ":"
"""Lines differ in dashes too, for those who cannot tell the colours apart."""
GAP = 0.12
"""Space before each detector, in widths of a picture."""
BEYOND = 4.0
"""Where scores are cut off, in distances of the threshold from the median of good images."""


class _Seen(NamedTuple):
    """What one detector makes of the images shown; NaN where nothing was compared."""

    name: str
    inputs: tuple[str, Doubles] | None
    """What the model sees, with its heading; None: the images themselves, or seen before."""
    reconstructions: Doubles
    maps: Doubles
    scale: Scale
    masks: Booleans | None
    """Where images were compared; None: everywhere, or where the pose shows it."""
    map_heading: str
    map_scale: Scale
    flagged: Booleans


def write_comparison(
    folder: str | PathLike[str],
    detectors: Mapping[str, AnomalyDetector],
    evaluations: Mapping[str, Evaluation],
    images: Any,
    *,
    kinds: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    title: str = "Detectors side by side",
    gallery: int = 6,
) -> Path:
    """Write what several detectors make of the same images: reconstructions, maps, scores, ROC.

    Parameters
    ----------
    folder : path
        Where to; made if it does not exist. Files of the same names are replaced.
    detectors : mapping of str to AnomalyDetector
        Fitted detectors by the names that the page gives them, in its order.
    evaluations : mapping of str to Evaluation
        What `evaluate` returned for each of them, of the same images and labels.
    images : array_like, shape (n, height, width)
        The evaluated images.
    kinds, names : sequence of str, optional
        What is wrong with each image, and its name, for the captions; any text is safe.
    title : str, optional
        The title of the page.
    gallery : int, optional
        The most images to show: one good one of middling score, and bad ones from those that all
        detectors together find easiest to the hardest.

    Returns
    -------
    pathlib.Path
        The page, ``comparison.html``. Beside it lie its figures as PNG files.

    Raises
    ------
    ImsimError
        If the folder cannot be written.
    OptionError, ShapeError
        If there is no detector; if detectors, evaluations, `images`, `kinds` or `names` do not
        belong together.

    Warns
    -----
    RuntimeWarning
        If a figure could not be drawn; the page is written without it and says why.

    Notes
    -----
    Detectors have scores in units of their own. Their distributions are drawn on one axis by
    :math:`(s - m) / (t - m)`, where :math:`m` is the median score of the good images and :math:`t`
    the threshold: 0 is a usual good image, and beyond 1 an image is flagged.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from imsim.anomaly import AnomalyDetector, PCAAutoencoder, evaluate, write_comparison
    >>> rng = np.random.default_rng(0)
    >>> good, images = rng.uniform(size=(24, 16, 16)), rng.uniform(size=(12, 16, 16))
    >>> images[6:, 4:8, 4:8] += 1
    >>> common = {"preprocess": None, "metric": "se", "data_range": 1.0, "random_state": 0}
    >>> detectors = {
    ...     "one component": AnomalyDetector(PCAAutoencoder(1), **common).fit(good),
    ...     "four": AnomalyDetector(PCAAutoencoder(4), **common).fit(good),
    ... }
    >>> labels = [0] * 6 + [1] * 6
    >>> judged = {name: evaluate(one, images, labels) for name, one in detectors.items()}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_comparison(folder, detectors, judged, images).name
    'comparison.html'
    """
    check_integer("gallery", gallery, 1)
    frames = as_stack("images", images)
    _check(detectors, evaluations, frames, {"kinds": kinds, "names": names})
    chosen = shown_together(evaluations, gallery)
    captions = [_caption(evaluations, int(i), kinds, names) for i in chosen]
    writer = Writer(folder)
    seen = _all_seen(detectors, evaluations, frames, chosen)
    best = max(evaluations, key=lambda name: evaluations[name].auroc)
    scored = evaluations[best].labels[~np.isnan(evaluations[best].scores)]
    answer = (
        f"{best} tells good from bad best: AUROC {evaluations[best].auroc:.3f} on "
        f"{len(scored)} images, {int(scored.sum())} of them bad."
    )
    parts = [
        (
            "What each expects, and where the images differ",
            "What a detector expects is the reconstruction by its model. The map compares that "
            "with what the model sees, and is bright where they differ; below it the verdict. The "
            "outline is where they were compared.",
            "comparison_gallery",
            partial(images_figure, frames[chosen].astype(np.float64), captions, seen),
        ),
        (
            "How good and bad images score",
            "0 is the median of the good images and 1 the threshold of each detector, beyond which "
            "images are flagged: orange left of it is missed, blue right of it a false alarm.",
            "comparison_scores",
            partial(scores_figure, evaluations),
        ),
        (
            "Other thresholds",
            "What every threshold would find, against the false alarms it would raise. The circles "
            "are the thresholds that the detectors chose from good images.",
            "comparison_roc",
            partial(roc_figure, evaluations),
        ),
    ]
    text = [tag("h1", title), tag("p", answer, class_="answer"), _numbers(evaluations)]
    for heading, caption, name, draw in parts:
        text += [tag("h2", heading), Html(writer.figure(name, caption, draw))]
    note = "The learning saw none of these images. Those without a score are flagged, not ranked."
    text.append(tag("p", note, class_="note"))
    return writer.page(page(title, *text), PAGE)


def shown_together(evaluations: Mapping[str, Evaluation], most: int) -> NDArray[np.intp]:
    """Return the indices of a middling good image, and of bad ones from the easiest to the hardest.

    What counts is the mean over the detectors of the rank among the scores of all images.
    """
    scores = np.array([np.nan_to_num(one.scores, nan=np.inf) for one in evaluations.values()])
    ranks = scores.argsort(kind="stable").argsort().mean(axis=0)
    labels = next(iter(evaluations.values())).labels
    order = np.argsort(-ranks, kind="stable")
    good, bad = order[~labels[order]], order[labels[order]]
    spread = np.linspace(0, len(bad) - 1, min(max(most - 1, 1), len(bad))).astype(np.intp)
    return np.concatenate([good[len(good) // 2 :][: most > 1], bad[spread]])


def images_figure(images: NDArray[Any], captions: Sequence[str], seen: Sequence[_Seen]) -> Figure:
    """Draw a row for each image: itself, and of each detector what it sees, expects and maps."""
    widths = [1.0]  # a narrow column without a picture stands before each detector
    for one in seen:
        widths += [GAP, *[1.0] * (2 + (one.inputs is not None))]
    size = (1.45 * sum(widths), 1.75 * len(images) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    ratios = {"width_ratios": widths}
    all_axes = figure.subplots(len(images), len(widths), squeeze=False, gridspec_kw=ratios)
    image_scale = grey_scale(images)
    for row, line in enumerate(all_axes):
        panels: list[tuple[str, Any, Scale, Booleans | None, str] | None]
        panels = [("image", images[row], image_scale, None, "")]
        for one in seen:
            panels.append(None)
            mask = None if one.masks is None else one.masks[row]
            if one.inputs is not None:
                panels.append((one.inputs[0], one.inputs[1][row], one.scale, mask, ""))
            verdict = "flagged" if one.flagged[row] else "passed"
            heading = "\n".join(textwrap.wrap(f"{one.name}: expects", 20))
            panels.append((heading, one.reconstructions[row], one.scale, mask, ""))
            panels.append((one.map_heading, one.maps[row], one.map_scale, None, verdict))
        for axes, panel in zip(line, panels, strict=True):
            if panel is None:
                axes.set_axis_off()
                continue
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            heading, values, scale, mask, verdict = panel
            axes.imshow(scale.colours_of(values), interpolation="nearest")
            if mask is not None and mask.any() and not mask.all():
                axes.contour(mask, levels=[0.5], colors=OUTLINE, linewidths=0.6)
            if row == 0:
                axes.set_title(heading, fontsize=8, pad=16, parse_math=False)
            if verdict:
                colour = BAD if verdict == "flagged" else GOOD
                axes.set_xlabel(verdict, fontsize=8, color=colour, labelpad=1)
        write_above(line[0], textwrap.shorten(captions[row], 80, placeholder="…"), 8)
    return figure


def scores_figure(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Draw how the scores of good and bad images are distributed, a line for each detector."""
    figure = Figure(figsize=(7.5, 0.6 + 1.25 * len(evaluations)), layout="constrained")
    all_axes = figure.subplots(len(evaluations), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.linspace(-1.5, BEYOND, 56)
    for axes, (name, one) in zip(all_axes, evaluations.items(), strict=True):
        scored = ~np.isnan(one.scores)
        good = one.scores[np.isfinite(one.scores) & ~one.labels]
        middle = float(np.median(good)) if good.size else one.threshold
        unit = one.threshold - middle
        unit = unit if unit > 0 else 1.0  # most good images are flagged: the line shows it
        places = (one.scores - middle) / unit
        most = 0.0
        for label, colour, word in ((False, GOOD, "good"), (True, BAD, "bad")):
            of_class = np.clip(places[scored & (one.labels == label)], edges[0], BEYOND)
            counts, _ = np.histogram(of_class, edges)
            share = 100 * counts / max(1, len(of_class))
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.45)
            axes.stairs(share, edges, color=colour, label=word)
            most = max(most, float(share[:-1].max()))
        if share[-1] > 1.2 * most:  # of the bad images; the bar would flatten all others
            axes.set_ylim(0, 1.2 * max(most, 1.0))
            axes.annotate(
                f"{share[-1]:.0f} % of the bad ",
                (edges[-2], 0.97),
                xycoords=("data", "axes fraction"),
                color=BAD,
                fontsize=8,
                ha="right",
                va="top",
            )
        axes.axvline((one.threshold - middle) / unit, color="black", linestyle="--", linewidth=1.2)
        axes.set_title(name, fontsize=9, loc="left", parse_math=False)
        axes.set_ylabel("%", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8)
    all_axes[-1].set_xlabel(
        "score: 0 = median of the good images, 1 = threshold; the outer bars take all beyond"
    )
    return figure


def roc_figure(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Draw the ROC curve of every detector, and where its threshold lies."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for place, (name, one) in enumerate(evaluations.items()):
        colour, curve = COLOURS[place % len(COLOURS)], one.separation.roc
        axes.step(
            100 * curve.false_alarm_rates,
            100 * curve.detection_rates,
            where="post",
            color=colour,
            linestyle=LINES[place % len(LINES)],
            linewidth=2,
            label=textwrap.fill(f"{textwrap.shorten(name, 60)} {one.auroc:.3f}", 24),
        )
        axes.plot(
            100 * one.false_alarm_rate,
            100 * one.detection_rate,
            "o",
            color=colour,
            markersize=8,
            markerfacecolor="none",
            markeredgewidth=2,
            clip_on=False,
        )
    axes.plot([0, 100], [0, 100], color=OTHER, linewidth=0.8)
    axes.set(xlabel="false alarms, % of the good images", ylabel="found, % of the bad images")
    axes.set(aspect="equal", xlim=(-1, 101), ylim=(-1, 101))
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))
    legend.set_title("detector and AUROC")
    for words in legend.get_texts():
        words.set_parse_math(False)
    return figure


def _check(
    detectors: Any, evaluations: Any, frames: NDArray[Any], of_images: Mapping[str, Any]
) -> None:
    """Refuse detectors, evaluations and images that do not belong together."""
    for what, given, kind in (
        ("detectors", detectors, AnomalyDetector),
        ("evaluations", evaluations, Evaluation),
    ):
        if not isinstance(given, Mapping) or not given:
            raise imsim.OptionError(
                f"{what} is of type {type(given).__name__}, or empty; expected a dictionary of "
                f"{kind.__name__} by the names of the detectors"
            )
        for name, one in given.items():
            if not isinstance(name, str) or not isinstance(one, kind):
                raise imsim.OptionError(
                    f"{what}[{name!r}] is of type {type(one).__name__}; expected {kind.__name__} "
                    "by a name"
                )
    if list(detectors) != list(evaluations):
        raise imsim.OptionError(
            f"detectors has {list(detectors)}, evaluations {list(evaluations)}; expected the same "
            "names in the same order"
        )
    first, *others = evaluations.values()
    for one in others:
        if not np.array_equal(one.labels, first.labels):
            raise imsim.OptionError(
                "evaluations have different labels: evaluate all detectors on the same images"
            )
    for name, values in {"images": frames, **of_images}.items():
        length = len(values) if hasattr(values, "__len__") else 0
        if values is not None and length != len(first.labels):
            raise imsim.ShapeError(
                f"{name} has length {length}; expected one for each of the {len(first.labels)} "
                "evaluated images"
            )


def _caption(
    evaluations: Mapping[str, Evaluation],
    index: int,
    kinds: Sequence[str] | None,
    names: Sequence[str] | None,
) -> str:
    is_bad = next(iter(evaluations.values())).labels[index]
    words = [f"image {index}" if names is None else str(names[index]), "bad" if is_bad else "good"]
    if is_bad and kinds is not None:
        words[1] = str(kinds[index])
    # The name of a file may hold characters that cannot be drawn.
    return ", ".join(words).encode("utf-8", "backslashreplace").decode("utf-8")


def _all_seen(
    detectors: Mapping[str, AnomalyDetector],
    evaluations: Mapping[str, Evaluation],
    frames: NDArray[Any],
    chosen: NDArray[np.intp],
) -> list[_Seen]:
    """Return what the detectors make of the chosen images; equal inputs are shown once."""
    result: list[_Seen] = []
    before: list[Doubles] = []
    for name, detector in detectors.items():
        inputs, made, used = detector.reconstruct(frames[chosen])
        metric = detector.metric
        if "worst" not in scoring.aggregates(metric):
            metric = FALLBACK_METRIC
        maps = scoring.dissimilarity_map(
            metric, inputs, made, masks=used, data_range=detector.data_range_
        )
        chosen_scale = grey_scale if detector.preprocess_ is None else _contrast
        scale = chosen_scale(inputs if used is None else inputs[used])
        shown = [
            np.where(np.True_ if used is None else used, part, np.nan).astype(np.float64)
            for part in (inputs, made)
        ]
        if detector.pose_ is not None:  # everything in the place where the image has it
            placements = detector.pose_.placements(check_images(frames[chosen], leave_out=True)[0])
            shown = [moved_back(part, placements) for part in shown]
            maps = moved_back(maps.astype(np.float64), placements)
        is_new = detector.preprocess_ is not None and not any(
            np.array_equal(shown[0], other, equal_nan=True) for other in before
        )
        heading = "peeled" if isinstance(detector.preprocess_, VirtualPeel) else "preprocessed"
        before.append(shown[0])
        facts, local = imsim.METRICS[metric], map_scale(metric, detector.data_range_)
        low, high = (float(facts.map_dissimilarity(end)) for end in (local.low, local.high))
        result.append(
            _Seen(
                name=name,
                inputs=(heading, shown[0]) if is_new else None,
                reconstructions=shown[1],
                maps=maps,
                scale=scale,
                masks=used if detector.pose_ is None else None,
                map_heading=f"{metric}: bright differs",
                map_scale=Scale(low, high, root=local.root),
                flagged=evaluations[name].flagged[chosen],
            )
        )
    return result


def _contrast(texture: NDArray[Any]) -> Scale:
    """Return a scale within Tukey's far fences: a foreign body must not turn texture grey."""
    scale = grey_scale(texture)
    finite = texture[np.isfinite(texture)]
    first, third = np.quantile(finite, (0.25, 0.75)).tolist() if finite.size else (0.0, 0.0)
    low, high = max(scale.low, 4 * first - 3 * third), min(scale.high, 4 * third - 3 * first)
    return scale._replace(low=low, high=high) if first < third else scale


def _numbers(evaluations: Mapping[str, Evaluation]) -> Html:
    """Return the table of the detectors."""
    head: list[object] = ["detector", "AUROC", "interval", "found", "false alarms", "without score"]
    head.append("images/s")
    rows: list[list[object]] = [
        [
            name,
            f"{one.auroc:.3f}",
            "{:.3f} to {:.3f}".format(*one.interval),
            f"{one.detection_rate:.1%}",
            f"{one.false_alarm_rate:.1%}",
            str(len(one.unscored)),
            f"{one.images_per_second:.0f}",
        ]
        for name, one in evaluations.items()
    ]
    return table(head, rows)
