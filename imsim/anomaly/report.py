"""The report of the workflow: figures as PNG files and one self-contained page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import imsim
from imsim.anomaly import figures, scoring
from imsim.anomaly.evaluation import Evaluation
from imsim.anomaly.ranking import Ranking
from imsim.anomaly.stacks import Booleans, check_masks
from imsim.anomaly.writing import Writer, check_facts, template
from imsim.errors import silent
from imsim.pages import Html, Scale, map_scale, page
from imsim.validation import check_integer, usual_data_range

FALLBACK_METRIC = "fsim"
"""Metric whose maps are shown if that of the detector has none."""


def write_report(
    folder: str | PathLike[str],
    evaluation: Evaluation,
    ranking: Ranking | None = None,
    reconstruction: tuple[Any, Any, Any] | None = None,
    *,
    images: Any = None,
    metric: str = "fsim",
    data_range: float | None = None,
    kinds: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    title: str = "Anomaly report",
    gallery: int = 6,
    facts: Mapping[str, object] | None = None,
) -> Path:
    """Write what a detector found, for a reader who decides whether to use it.

    Parameters
    ----------
    folder : path
        Where to; made if it does not exist. Files of the same names are replaced.
    evaluation : Evaluation
        The decisions, from `evaluate`.
    ranking : Ranking, optional
        The comparison of the similarity measures, from `rank_metrics`.
    reconstruction : tuple, optional
        Inputs, reconstructions and masks (or None) of the evaluated images in their order, from
        ``AnomalyDetector.reconstruct``: draws the gallery.
    images : array_like, shape (n, height, width), optional
        The images before any preprocessing, to stand first in the gallery.
    metric : str, optional
        The measure of the similarity maps; one without a map gives way to "fsim".
    data_range : float, optional
        That of the inputs, ``detector.data_range_``, for the maps; by default 255 for uint8.
    kinds, names : sequence of str, optional
        What is wrong with each image, and its name, for the captions; any text is safe.
    title : str, optional
        The title of the page.
    gallery : int, optional
        The most hits, misses and false alarms to show, of each.
    facts : mapping of str, optional
        What else to say about the detector, such as ``detector.describe()``.

    Returns
    -------
    pathlib.Path
        The page, ``report.html``. Beside it lie its figures as PNG files.

    Raises
    ------
    ImsimError
        If the folder cannot be written.
    ShapeError, OptionError
        If `reconstruction`, `images`, `kinds` or `names` are not one for each evaluated image.

    Warns
    -----
    RuntimeWarning
        If a figure could not be drawn; the page is written without it and says why.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from imsim.anomaly import rank_metrics, write_report
    >>> from imsim.anomaly.evaluation import Evaluation
    >>> labels = np.arange(20) >= 10
    >>> images = np.random.default_rng(0).uniform(size=(20, 16, 16))
    >>> images[labels, 4:8, 4:8] += 1
    >>> ranking = rank_metrics(images, np.full_like(images, 0.5), labels, metrics=["se"])
    >>> best = ranking.best
    >>> flagged = best.scores >= best.threshold
    >>> evaluation = Evaluation(
    ...     labels, best.scores, flagged, best.threshold, best, 0.95, (), (), 9.0
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(folder, evaluation, ranking).name
    'report.html'
    """
    check_integer("gallery", gallery, 1)
    check_facts(facts)
    if not isinstance(evaluation, Evaluation):
        raise imsim.OptionError(
            f"evaluation is of type {type(evaluation).__name__}; expected what evaluate returned"
        )
    if ranking is not None and not isinstance(ranking, Ranking):
        raise imsim.OptionError(
            f"ranking is of type {type(ranking).__name__}; expected what rank_metrics returned"
        )
    shown = None
    if reconstruction is not None:
        shown = Gallery(
            evaluation, reconstruction, images, metric, data_range, kinds=kinds, names=names
        )
    writer = Writer(folder)
    draws: dict[str, Callable[..., Figure]] = {
        "scores": partial(figures.scores_figure, evaluation),
        "groups": partial(figures.groups_figure, evaluation),
        "roc": partial(figures.roc_figure, evaluation, ranking),
    }
    if ranking is not None:
        draws["ranking"] = partial(figures.ranking_figure, ranking)
    if shown is not None:
        draws |= {f"gallery_{name}": shown.figure for name in ("hits", "misses", "false_alarms")}
    text = template("report.html").render(
        title=title,
        evaluation=evaluation,
        ranking=ranking,
        shown=shown_images(evaluation, gallery) if shown else {},
        figure=lambda name, caption, *which: writer.figure(name, caption, draws[name], *which),
        metrics=imsim.METRICS,
        facts=facts or {},
    )
    return writer.page(page(title, Html(text)))


def shown_images(evaluation: Evaluation, most: int) -> dict[str, NDArray[np.intp]]:
    """Return the indices of the hits, misses and false alarms to show.

    Hits are spread from the clearest to the closest call; of the others, those that score highest.
    """
    labels, flagged = evaluation.labels, evaluation.flagged
    order = np.argsort(-np.nan_to_num(evaluation.scores, nan=np.inf), kind="stable")
    hits, misses, alarms = (
        order[wanted[order]] for wanted in (labels & flagged, labels & ~flagged, ~labels & flagged)
    )
    spread = np.linspace(0, len(hits) - 1, min(most, len(hits))).astype(np.intp)
    return {"hits": hits[spread], "misses": misses[:most], "false_alarms": alarms[:most]}


class Gallery:
    """The evaluated images and their results; arguments as for `write_report`."""

    def __init__(
        self,
        evaluation: Evaluation,
        reconstruction: tuple[Any, Any, Any],
        images: Any,
        metric: str,
        data_range: float | None,
        *,
        kinds: Sequence[str] | None,
        names: Sequence[str] | None,
    ) -> None:
        if not isinstance(reconstruction, tuple | list) or len(reconstruction) != 3:
            raise imsim.OptionError(
                f"reconstruction is of type {type(reconstruction).__name__}; expected three parts: "
                "inputs, reconstructions and masks, which may be None"
            )
        inputs, reconstructions, masks = reconstruction
        count = len(evaluation.labels)
        given = {
            "inputs": inputs,
            "reconstructions": reconstructions,
            "images": images,
            "kinds": kinds,
            "names": names,
        }
        for name, values in given.items():
            length = len(values) if hasattr(values, "__len__") else 0
            if values is not None and length != count:
                raise imsim.ShapeError(
                    f"{name} has length {length}; expected one for each of the {count} "
                    "evaluated images"
                )
        self.evaluation = evaluation
        self.inputs, self.reconstructions = np.asarray(inputs), np.asarray(reconstructions)
        self.masks = None if masks is None else check_masks(masks, self.inputs.shape)
        self.images = None if images is None else np.asarray(images)
        self.metric = metric if "worst" in scoring.aggregates(metric) else FALLBACK_METRIC
        default = usual_data_range([self.inputs.dtype])
        self.data_range = default if data_range is None else data_range
        scale = map_scale(self.metric, self.data_range or 1)
        if self.data_range is None and (scale.root or imsim.METRICS[self.metric].needs_data_range):
            raise imsim.DataRangeError(
                f"data_range=None, but {self.metric} maps of {self.inputs.dtype} need it: "
                "pass data_range=detector.data_range_"
            )
        self.map_scale = scale
        self.kinds, self.names = kinds, names
        used = self.inputs if self.masks is None else self.inputs[self.masks]
        self.scale = grey_scale(used)
        self.image_scale = None if self.images is None else grey_scale(self.images)

    def figure(self, chosen: Sequence[int] | NDArray[np.intp]) -> Figure:
        """Draw the images of these indices, a row each."""
        return figures.gallery_figure([self.row(int(index)) for index in chosen])

    def row(self, index: int) -> figures.GalleryRow:
        """Return input, reconstruction and similarity map of one image, with its caption."""
        mask = None if self.masks is None else self.masks[index]
        map_function: Any = imsim.METRICS[self.metric].map_function
        image, made = self.inputs[index], self.reconstructions[index]
        with silent(imsim.EmptyMaskWarning):  # the caption says NaN
            local = map_function(image, made, mask=mask, data_range=self.data_range)
        panels = [
            ("what the model sees", _inside(image, mask), self.scale),
            ("what it expects", _inside(made, mask), self.scale),
            (f"{self.metric}: bright differs", local, self.map_scale),
        ]
        if self.images is not None and self.image_scale is not None:
            panels.insert(0, ("image", self.images[index], self.image_scale))
        evaluation = self.evaluation
        words = [f"image {index}" if self.names is None else str(self.names[index])]
        if self.kinds is not None and evaluation.labels[index]:
            words.append(str(self.kinds[index]))
        words.append(f"score {evaluation.scores[index]:.4g}")
        # The name of a file may hold characters that cannot be drawn.
        caption = ", ".join(words).encode("utf-8", "backslashreplace").decode("utf-8")
        return figures.GalleryRow(caption, tuple(panels), mask)


def _inside(image: NDArray[Any], mask: Booleans | None) -> NDArray[Any]:
    return image if mask is None else np.where(mask, image, np.nan)


def grey_scale(values: NDArray[Any]) -> Scale:
    """One scale for all images together: from the least to the largest value, less 0.1 % a side."""
    values = values[np.isfinite(values)]
    low, high = (
        (float(end) for end in np.quantile(values, (0.001, 0.999))) if values.size else (0.0, 1.0)
    )
    return Scale(low, high if high > low else low + 1, colours="grey")
