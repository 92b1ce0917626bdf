"""The report of the workflow: figures as PNG and one page that needs nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import imsim
from imsim.anomaly import figures
from imsim.anomaly.evaluation import Evaluation
from imsim.anomaly.gallery import Gallery, choose
from imsim.anomaly.ranking import Ranking
from imsim.pages import Html, page, picture, table, tag

PAGE = "report.html"
DPI = 140


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
    kinds : sequence of str, optional
        What is wrong with each image, for the captions.
    names : sequence of str, optional
        The name of each image, for the captions; any text is safe.
    title : str, optional
        The title of the page.
    gallery : int, optional
        The most hits, misses and false alarms to show, of each.

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
    if not isinstance(gallery, int) or isinstance(gallery, bool) or gallery < 1:
        raise imsim.OptionError(f"gallery={gallery!r}; expected an integer of at least 1")
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
    writer = _Writer(Path(folder))
    parts: list[object] = [tag("h1", title), *_answer(evaluation, ranking)]
    parts += [
        tag("h2", "How good and bad images score"),
        writer.figure("scores", _SCORES, figures.scores_figure, evaluation),
    ]
    if shown is not None:
        parts += _galleries(writer, evaluation, shown, gallery)
    if evaluation.by_kind or evaluation.by_size:
        parts += [
            tag("h2", "What is found, and what is not"),
            writer.figure("groups", _GROUPS, figures.groups_figure, evaluation),
        ]
    parts += [
        tag("h2", "Other thresholds" if ranking is None else "Other thresholds and measures"),
        writer.figure("roc", _ROC, figures.roc_figure, evaluation, ranking),
    ]
    if ranking is not None:
        parts += [
            writer.figure("ranking", _RANKING, figures.ranking_figure, ranking),
            tag("h2", "All measures"),
            *_ranking_table(ranking),
        ]
    parts += [tag("h2", "Details"), *_details(evaluation)]
    return writer.page(page(title, *parts))


_SCORES = (
    "Each image has one score. What lies right of the dashed threshold is flagged: bad images "
    "left of it are missed, good images right of it are false alarms."
)
_GROUPS = "The share of the bad images that the detector flagged, by what is wrong with them."
_ROC = (
    "What every threshold would find, against the false alarms it would raise; of each measure "
    "the better way to take one number from its map. The further up and left, the better."
)
_RANKING = (
    "AUROC: how often a bad image scores higher than a good one. 1 is perfect, 0.5 is chance. "
    "Where intervals overlap much, these images do not tell which measure is better."
)
_GALLERIES = (
    ("hits", "Found", "Bad images that were flagged, from the clearest to the closest call."),
    ("misses", "Missed", "Bad images that passed, the closest call first."),
    ("false_alarms", "False alarms", "Good images that were flagged, the worst first."),
)


class _Writer:
    """Writes the files of one report; a figure that fails does not take the page with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error

    def figure(
        self, name: str, caption: str, draw: Callable[..., Figure], *arguments: object
    ) -> Html:
        path = self.folder / f"{name}.png"
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # in names
                draw(*arguments).savefig(path, dpi=DPI, format="png")
            content = path.read_bytes()
        except OSError as error:
            raise _unwritable(path, error) from error
        except Exception as error:  # hours of computing lie behind: write what there is
            reason = f"{path.name} could not be drawn: {error}"
            warnings.warn(reason, RuntimeWarning, stacklevel=3)
            return tag("p", reason, class_="note")
        image = picture(content, caption)
        return tag("figure", image, tag("figcaption", caption), class_="plot", id=name)

    def page(self, text: str) -> Path:
        path = self.folder / PAGE
        try:
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise _unwritable(path, error) from error
        return path


def _unwritable(path: Path, error: OSError) -> imsim.ImsimError:
    return imsim.ImsimError(
        f"{path}: cannot be written ({error.strerror}); choose another folder for the report"
    )


def _answer(evaluation: Evaluation, ranking: Ranking | None) -> list[Html]:
    hits, misses, alarms, passes = evaluation.confusion
    found = (
        f"The detector found {hits} of {hits + misses} bad items "
        f"({evaluation.detection_rate:.1%}), with {_count(alarms, 'false alarm')} on "
        f"{alarms + passes} good ones ({evaluation.false_alarm_rate:.1%})."
    )
    if ranking is None:
        best = (
            f"A bad item scores higher than a good one in {evaluation.auroc:.1%} of all pairs "
            f"(AUROC {_interval(evaluation.auroc, evaluation.interval)})."
        )
    else:
        top = ranking.best
        best = (
            f"Of {len({record.metric for record in ranking})} similarity measures, "
            f"{imsim.METRICS[top.metric].title} ({top.metric}, {_way(top.aggregate)}) tells good "
            f"from bad best: AUROC {_interval(top.auroc, top.interval)}; the detector as a whole "
            f"reaches {evaluation.auroc:.3f}."
        )
    answer = [tag("p", f"{found} {best}", class_="answer")]
    if evaluation.unscored:
        answer.append(
            tag(
                "p",
                f"{_count(len(evaluation.unscored), 'image')} could not be scored; what has no "
                "score is flagged, for somebody to look at.",
            )
        )
    return answer


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _interval(auroc: float, interval: tuple[float, float]) -> str:
    return f"{auroc:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _way(aggregate: str) -> str:
    return {"mean": "over the whole item", "worst": "at the worst place"}[aggregate]


def _galleries(writer: _Writer, evaluation: Evaluation, gallery: Gallery, most: int) -> list[Html]:
    parts: list[Html] = []
    for (name, heading, caption), chosen in zip(_GALLERIES, choose(evaluation, most), strict=True):
        parts.append(tag("h2", heading))
        if not len(chosen):
            parts.append(tag("p", "None."))
            continue
        caption += " The outline is where images and reconstructions were compared."
        parts.append(writer.figure(f"gallery_{name}", caption, gallery.figure, chosen))
    return parts


def _ranking_table(ranking: Ranking) -> list[Html]:
    rows: list[list[object]] = []
    for record in ranking:
        name = Html(
            tag("span", record.name) + tag("span", imsim.METRICS[record.metric].sees, class_="note")
        )
        rows.append(
            [
                name,
                f"{record.auroc:.3f}",
                "{:.3f}\u00a0to\u00a0{:.3f}".format(*record.interval),  # on one line
                f"{record.accuracy:.1%}",
                f"{record.detection_at_1_percent:.1%}",
                f"{record.images_per_second:.0f}",
            ]
        )
    head: list[object] = [
        "measure",
        "AUROC",
        "interval",
        "accuracy",
        "found at 1% false alarms",
        "images/s",
    ]
    note = (
        "Mean: the score of the whole compared area; worst: the most different window of the map. "
        "Accuracy is that of the threshold that is best for these very images, so a little too "
        "high, as is the AUROC of the best of many measures. Images per second: the comparison "
        "alone. The intervals hold with a confidence of "
        f"{ranking.confidence:.0%}."
    )
    skipped = [
        tag("p", f"{name} was left out: {reason}", class_="note")
        for name, reason in ranking.skipped.items()
    ]
    return [table(head, rows), tag("p", note, class_="note"), *skipped]


def _details(evaluation: Evaluation) -> list[Html]:
    best = evaluation.separation
    rows: list[list[object]] = [
        ["threshold of the detector", f"{evaluation.threshold:.6g}"],
        ["accuracy at this threshold", f"{evaluation.accuracy:.1%}"],
        ["accuracy at the best threshold for these images", f"{best.accuracy:.1%}"],
        ["found at 1% false alarms", f"{best.detection_at_1_percent:.1%}"],
        ["AUROC", _interval(evaluation.auroc, evaluation.interval)],
        ["images per second, preprocessing included", f"{evaluation.images_per_second:.0f}"],
    ]
    parts = [table(["the detector", ""], rows)]
    for title, groups in (("kind", evaluation.by_kind), ("size", evaluation.by_size)):
        if groups:
            lines: list[list[object]] = [
                [g.name, g.count, f"{g.detection_rate:.1%}", f"{g.auroc:.3f}"] for g in groups
            ]
            parts.append(table([f"{title} of defect", "images", "found", "AUROC"], lines))
    note = (
        "All numbers are those of the evaluated images; the learning saw none of these. The AUROC "
        "of a kind or size is that against all good images."
    )
    return [*parts, tag("p", note, class_="note")]
