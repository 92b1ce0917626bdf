"""The report of the workflow, and what all reports are made with: pages, figures, scales."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

import imsim
from imsim.anomaly import figures, scoring
from imsim.anomaly.evaluation import Evaluation
from imsim.anomaly.ranking import Ranking
from imsim.anomaly.stacks import check_kind, check_masks, masks_at, spread
from imsim.errors import silent
from imsim.pages import Html, Scale, map_scale, page, picture, readable, tag
from imsim.validation import check_integer, usual_data_range
from imsim.whole_files import replacing

FALLBACK_METRIC = "fsim"
"""Metric whose maps are shown if that of the detector has none."""
DPI = 160


def write_report(
    folder: str | os.PathLike[str],
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
    evaluation, ranking : Evaluation, and Ranking, optional
        From `evaluate` and `rank_metrics`.
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
        Of the page.
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
    is_one = isinstance(evaluation, Evaluation)
    check_kind(is_one, "evaluation", evaluation, "what evaluate returned")
    is_one = isinstance(ranking, Ranking | None)
    check_kind(is_one, "ranking", ranking, "what rank_metrics returned")
    shown = None
    if reconstruction is not None:
        shown = gallery_of(evaluation, reconstruction, images, metric, data_range, kinds, names)
    scores, labels = evaluation.scores, evaluation.labels
    groups = ("good", figures.GOOD, scores[~labels]), ("bad", figures.BAD, scores[labels])
    draws: dict[str, Callable[..., Figure]] = {
        "scores": partial(figures.scores_figure, groups, evaluation.threshold),
        "groups": partial(figures.groups_figure, evaluation),
        "roc": partial(figures.roc_figure, evaluation, ranking),
    }
    if ranking is not None:
        draws["ranking"] = partial(figures.ranking_figure, ranking)
    if shown is not None:
        for name, chosen in shown_images(evaluation, gallery).items():
            if len(chosen):
                draws[f"gallery_{name}"] = partial(shown, chosen)
    return Writer(folder).write(
        "report.html",
        title,
        draws,
        evaluation=evaluation,
        ranking=ranking,
        has_gallery=shown is not None,
        metrics=imsim.METRICS,
        facts=facts or {},
    )


def shown_images(evaluation: Evaluation, most: int) -> dict[str, NDArray[np.intp]]:
    """Return the indices of hits, spread over their scores, misses and false alarms to show."""
    labels, flagged = evaluation.labels, evaluation.flagged
    order = np.argsort(-np.nan_to_num(evaluation.scores, nan=np.inf), kind="stable")
    hits, misses, alarms = (
        order[wanted[order]] for wanted in (labels & flagged, labels & ~flagged, ~labels & flagged)
    )
    return {
        "hits": hits[spread(len(hits), most)],
        "misses": misses[:most],
        "false_alarms": alarms[:most],
    }


def gallery_of(
    evaluation: Evaluation,
    reconstruction: Any,
    images: Any,
    metric: str,
    data_range: float | None,
    kinds: Sequence[str] | None,
    names: Sequence[str] | None,
) -> Callable[[NDArray[np.intp]], Figure]:
    """Return what draws evaluated images and their results; arguments as for `write_report`."""
    check_kind(
        isinstance(reconstruction, tuple | list) and len(reconstruction) == 3,
        "reconstruction",
        reconstruction,
        "three parts: inputs, reconstructions and masks, which may be None",
    )
    inputs, made, masks = reconstruction
    count = len(evaluation.labels)
    check_lengths(count, inputs=inputs, reconstructions=made, images=images)
    about = None if kinds is None else texts("kinds", kinds, count)
    called = [f"image {i}" for i in range(count)] if names is None else texts("names", names, count)
    inputs, made = np.asarray(inputs), np.asarray(made)
    used = None if masks is None else check_masks(masks, inputs.shape)
    raw = None if images is None else np.asarray(images)
    metric = metric_with_map(metric)
    data_range = usual_data_range([inputs.dtype]) if data_range is None else data_range
    local = map_scale(metric, data_range or 1)
    facts = imsim.METRICS[metric]
    if data_range is None and (local.root or facts.needs_data_range):
        raise imsim.DataRangeError(
            f"data_range=None, but {metric} maps of {inputs.dtype} need it: "
            "pass data_range=detector.data_range_"
        )
    scale = grey_scale(inputs if used is None else inputs[used])
    raw_scale = None if raw is None else grey_scale(raw)
    map_function: Any = facts.map_function

    def draw(chosen: NDArray[np.intp]) -> Figure:
        """Draw the images of these indices, a row each."""
        seen, expected, inside = inputs[chosen], made[chosen], masks_at(used, chosen)
        with silent(imsim.EmptyMaskWarning):  # the caption says NaN
            maps = map_function(seen, expected, mask=inside, data_range=data_range)
        if inside is not None:
            seen, expected = np.where(inside, seen, np.nan), np.where(inside, expected, np.nan)
        panels = [
            ("what the model sees", seen, scale),
            ("what it expects", expected, scale),
            (f"{metric}: bright differs", maps, local),
        ]
        if raw is not None and raw_scale is not None:
            panels.insert(0, ("image", raw[chosen], raw_scale))
        captions = []
        for i in chosen:
            kind = [] if about is None or not evaluation.labels[i] else [about[i]]
            captions.append(caption(called[i], *kind, f"score {evaluation.scores[i]:.4g}"))
        return figures.gallery_figure(captions, panels, inside)

    return draw


class Writer:
    """Writes the files of one report; the page is written even if a figure fails."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        is_path = isinstance(folder, str | os.PathLike)
        check_kind(is_path, "folder", folder, "the path of a folder")
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):  # known before hours of computing
                raise PermissionError(None, "no permission to write")
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def write(
        self,
        name: str,
        title: str,
        draws: Mapping[str, Callable[[], Figure]],
        *,
        script: str = "",
        **about: Any,
    ) -> Path:
        """Fill in the template of a page with what it is about, and return the path of the page.

        The template asks for figures by their names in `draws`, with a caption each.
        """
        environment = Environment(
            autoescape=True,
            finalize=lambda value: value if hasattr(value, "__html__") else readable(str(value)),
            loader=PackageLoader("imsim", "anomaly"),
            lstrip_blocks=True,
            trim_blocks=True,
            undefined=StrictUndefined,
        )
        text = environment.get_template(name).render(
            title=title,
            draws=draws,
            figure=lambda figure, caption: self.figure(figure, caption, draws[figure]),
            **about,
        )
        path = self.folder / name
        try:
            whole = page(title, Html(text), script=script)
            with replacing(path) as new:
                Path(new).write_text(whole, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise _unwritable(path, error) from error
        return path

    def figure(self, name: str, caption: str, draw: Callable[[], Figure]) -> Markup:
        """Draw a figure into a file, and return it for the page."""
        path = self.folder / f"{name}.png"
        try:
            with warnings.catch_warnings(), replacing(path) as new:
                warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # in names
                draw().savefig(new, dpi=DPI, format="png")
            content = path.read_bytes()
        except OSError as error:
            raise _unwritable(path, error) from error
        except Exception as error:  # hours of computing lie behind: write what there is
            reason = f"{path.name} could not be drawn: {error}"
            warnings.warn(reason, RuntimeWarning, stacklevel=3)
            return Markup(tag("p", reason, class_="note"))
        image = picture(content, caption)
        return Markup(tag("figure", image, tag("figcaption", caption), class_="plot", id=name))


def _unwritable(path: Path, error: OSError) -> imsim.ImsimError:
    return imsim.ImsimError(
        f"{path}: cannot be written ({error.strerror}); choose another folder for the report"
    )


def check_facts(facts: Any) -> None:
    """Refuse what is no mapping before images are inspected."""
    is_mapping = isinstance(facts, Mapping | None)
    check_kind(is_mapping, "facts", facts, "a dictionary of what else to say")


def check_lengths(count: int, **given: Any) -> None:
    """Refuse what is not given once for each image; None is."""
    for name, values in given.items():
        length = len(values) if hasattr(values, "__len__") else 0
        if values is not None and length != count:
            raise imsim.ShapeError(
                f"{name} has length {length}; expected one for each of the {count} images"
            )


def texts(name: str, values: Any, count: int) -> list[str]:
    """Return what is given once for each image, such as its name, as texts."""
    is_list = isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping)
    check_kind(is_list, name, values, "a list with one for each image")
    given = [str(value) for value in values]
    check_lengths(count, **{name: given})
    return given


def caption(*words: object) -> str:
    """Join words; the name of a file among them may hold characters that cannot be drawn."""
    return ", ".join(map(str, words)).encode("utf-8", "backslashreplace").decode("utf-8")


def metric_with_map(metric: str) -> str:
    """Return a metric, or the one that stands in for it if it has no map."""
    return metric if metric in scoring.with_map() else FALLBACK_METRIC


def dissimilarity_scale(metric: str, data_range: float) -> Scale:
    """Return the fixed scale of the dissimilarity map of a metric, in the colours of its map."""
    scale = map_scale(metric, data_range)
    turned = imsim.METRICS[metric].map_dissimilarity
    return scale._replace(low=float(turned(scale.low)), high=float(turned(scale.high)))


def ends_of(values: NDArray[Any]) -> tuple[float, float]:
    """Return the least and the largest finite value, but for 0.1 % at either end."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.quantile(values, (0.001, 0.999))
    return float(low), float(high)


def grey_between(low: float, high: float) -> Scale:
    """Return a scale from black to white."""
    return Scale(low, high if high > low else low + 1, colours="grey")


def grey_scale(values: NDArray[Any]) -> Scale:
    """Return one scale for all images together."""
    return grey_between(*ends_of(values))
