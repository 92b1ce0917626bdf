"""Several detectors on the same images, side by side on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import imsim
from imsim.anomaly import figures, report, scoring
from imsim.anomaly.detector import AnomalyDetector
from imsim.anomaly.evaluation import Evaluation
from imsim.anomaly.figures import BAD, GOOD, Panel, draw_shares
from imsim.anomaly.pose import moved_back
from imsim.anomaly.stacks import Booleans, as_stack, check_images, check_kind, spread
from imsim.anomaly.xray.peel import VirtualPeel
from imsim.pages import Scale
from imsim.validation import check_integer

IMAGE = "image"
"""The heading of images that a detector sees as they are."""
BEYOND = 4.0
"""Where scores are cut off, in distances of the threshold from the median of good images."""


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
    detectors : mapping of str to AnomalyDetector
        Fitted detectors by the names that the page gives them, in its order.
    evaluations : mapping of str to Evaluation
        What `evaluate` returned for each of them, of the same images and labels.
    images : array_like, shape (n, height, width)
        The evaluated images.
    gallery : int, optional
        The most images to show: one good one of middling score, and bad ones from those that all
        detectors together find easiest to the hardest.
    folder, kinds, names, title
        As for `write_report`.

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
    _check(detectors, evaluations)
    labels = next(iter(evaluations.values())).labels
    report.check_lengths(len(labels), images=frames)
    if kinds is not None:
        kinds = report.texts("kinds", kinds, len(labels))
    if names is not None:
        names = report.texts("names", names, len(labels))
    chosen = shown_together(evaluations, gallery)
    what = np.where(labels, "bad", "good") if kinds is None else np.where(labels, kinds, "good")
    captions = [
        report.caption(f"image {i}" if names is None else names[i], what[i]) for i in chosen
    ]
    writer = report.Writer(folder)
    galleries = {}
    for i, (name, one) in enumerate(detectors.items(), 1):
        panels, used = panels_of(one, frames[chosen])
        # Some detector sees the images as they are, or nobody would.
        if all(other.preprocess_ is not None for other in detectors.values()):
            raw = frames[chosen].astype(np.float64)
            panels.insert(0, (IMAGE, raw, report.grey_scale(raw)))
        verdicts = np.where(evaluations[name].flagged[chosen], "flagged", "passed")
        words = [f"{verdict}: {about}" for verdict, about in zip(verdicts, captions, strict=True)]
        draw = partial(figures.gallery_figure, words, panels, used)
        galleries[f"comparison_gallery_{i}"] = draw
    best = max(evaluations, key=lambda name: evaluations[name].auroc)
    curves = [figures.curve_of(name, one) for name, one in evaluations.items()]
    return writer.write(
        "comparison.html",
        title,
        {
            **galleries,
            "comparison_scores": partial(scores_figure, evaluations),
            "comparison_roc": partial(figures.roc_panels, curves),
        },
        galleries=dict(zip(galleries, detectors, strict=True)),
        evaluations=evaluations,
        best=best,
        scored=labels[~np.isnan(evaluations[best].scores)],
    )


def shown_together(evaluations: Mapping[str, Evaluation], most: int) -> NDArray[np.intp]:
    """Return the indices of a middling good image, and of bad ones from the easiest to the hardest.

    What counts is the mean over the detectors of the rank among the scores of all images.
    """
    scores = np.array([np.nan_to_num(one.scores, nan=np.inf) for one in evaluations.values()])
    ranks = scores.argsort(kind="stable").argsort().mean(axis=0)
    labels = next(iter(evaluations.values())).labels
    order = np.argsort(-ranks, kind="stable")
    good, bad = order[~labels[order]], order[labels[order]]
    shown = bad[spread(len(bad), max(most - 1, 1))]
    return np.concatenate([good[len(good) // 2 :][: most > 1], shown])


def scores_figure(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Draw how the scores of good and bad images are distributed, a line for each detector."""
    figure = Figure(figsize=(figures.WIDTH, 0.6 + 1.25 * len(evaluations)), layout="constrained")
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
            of_class = places[scored & (one.labels == label)]
            share = draw_shares(axes, of_class, edges, colour, word)
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
        "score: 0 = median of the good images, 1 = threshold; the outer bars take all beyond",
        fontsize=9,
    )
    return figure


def _check(detectors: Any, evaluations: Any) -> None:
    """Refuse detectors and evaluations that do not belong together."""
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
            is_right = isinstance(name, str) and isinstance(one, kind)
            check_kind(is_right, f"{what}[{name!r}]", one, f"{kind.__name__} by a name")
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


def panels_of(
    detector: AnomalyDetector, frames: NDArray[Any]
) -> tuple[list[Panel], Booleans | None]:
    """Return inputs, reconstructions and maps of images, NaN where nothing was compared, and masks.

    The masks are None where everything was compared, or where the pose shows it.
    """
    inputs, made, used = detector.reconstruct(frames)
    metric, data_range = report.metric_with_map(detector.metric), detector.data_range_
    maps = scoring.dissimilarity_map(metric, inputs, made, masks=used, data_range=data_range)
    chosen_scale = report.grey_scale if detector.preprocess_ is None else _contrast
    scale = chosen_scale(inputs if used is None else inputs[used])
    shown = [
        np.where(np.True_ if used is None else used, part, np.nan).astype(np.float64)
        for part in (inputs, made)
    ]
    shown.append(maps.astype(np.float64))
    if detector.pose_ is not None:  # everything in the place where the image has it
        placements = detector.pose_.placements(check_images(frames, leave_out=True)[0])
        shown, used = [moved_back(part, placements) for part in shown], None
    heading = IMAGE
    if detector.preprocess_ is not None:
        heading = "peeled" if isinstance(detector.preprocess_, VirtualPeel) else "preprocessed"
    titles = (heading, "what it expects", f"{metric}: bright differs")
    scales = (scale, scale, report.dissimilarity_scale(metric, data_range))
    return list(zip(titles, shown, scales, strict=True)), used


def _contrast(texture: NDArray[Any]) -> Scale:
    """Return a scale within Tukey's far fences: a foreign body must not turn texture grey."""
    scale = report.grey_scale(texture)
    finite = texture[np.isfinite(texture)]
    first, third = np.quantile(finite, (0.25, 0.75)).tolist() if finite.size else (0.0, 0.0)
    low, high = max(scale.low, 4 * first - 3 * third), min(scale.high, 4 * third - 3 * first)
    return scale._replace(low=low, high=high) if first < third else scale
