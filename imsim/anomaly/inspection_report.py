"""The report on images without labels: verdicts, their course, and where the rejects are odd."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

import imsim
from imsim.anomaly import figures, report, scoring
from imsim.anomaly.detector import AnomalyDetector, Inspection
from imsim.anomaly.figures import Thumbnail, place_words, thumbnail
from imsim.anomaly.item_detector import ItemDetector
from imsim.anomaly.stacks import as_stack, batch_images, check_kind, check_masks, masks_at
from imsim.pages import asset
from imsim.validation import check_integer
from imsim.workers import divided

GALLERY = 12
"""Rejects that are pictured by default: with two pictures of 256 pixels each, 2 MB at most."""
MOST_ROWS = 20_000
"""Rows of the table: 2 MB of short names. Of more images, good ones are left out."""
SAMPLED = 4096
"""Pixels of an image, evenly spread, of which its darkest and brightest are taken."""


Box = tuple[slice, slice]
"""Rows and columns."""


class Row(NamedTuple):
    """What is said about one image, or one item of it."""

    name: str
    score: float  # NaN if it was not inspected
    flagged: bool
    reason: str  # why it was not inspected
    place: Box | None
    """Rows and columns of the strongest window of the map of a reject; of an item, its box."""

    @property
    def verdict(self) -> str:
        """Return the verdict in words."""
        if self.flagged:  # debris is, without a score
            return "anomaly"
        return "not inspected" if math.isnan(self.score) else "good"


class _Pictured(NamedTuple):
    """A reject with its pictures; the order decides among equal scores."""

    score: float
    order: int
    image: Thumbnail | None
    local: Thumbnail | None
    frame: Thumbnail | None


class InspectionRecord:
    """Takes images in their order, keeps what is said about them, and writes the report.

    Memory grows by a row per image only: of the worst rejects alone small pictures are kept.

    Parameters
    ----------
    detector : AnomalyDetector or ItemDetector
        Fitted. If its metric has a map, each reject gets its place, the window of the map where it
        differs most. With one of items, `add` takes items one by one.
    gallery : int, optional
        The most rejects to picture.

    Attributes
    ----------
    rows : list of Row
        One for each image, or item.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from imsim.anomaly import AnomalyDetector, InspectionRecord
    >>> good = np.random.default_rng(0).uniform(0.4, 0.6, (40, 24, 24))
    >>> record = InspectionRecord(AnomalyDetector(preprocess=None, data_range=1.0).fit(good))
    >>> for number, image in enumerate(good[:3]):  # as they come
    ...     image[8:12, 4:8] = 1
    ...     scores, problems = record.inspect(image[None], [f"{number}.png"])
    >>> [row.verdict for row in record.rows]
    ['anomaly', 'anomaly', 'anomaly']
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record.write(folder).name
    'inspection.html'
    """

    def __init__(self, detector: AnomalyDetector | ItemDetector, *, gallery: int = GALLERY) -> None:
        check_integer("gallery", gallery, 0)
        self.noun, own = "image", detector
        if isinstance(detector, ItemDetector) and hasattr(detector, "detector_"):
            self.noun, own = "item", detector.detector_
        check_kind(isinstance(own, AnomalyDetector), "detector", own, "a fitted AnomalyDetector")
        self.detector: Any = own
        self.gallery = gallery
        self.rows: list[Row] = []
        self._worst: list[_Pictured] = []
        self._ends: list[tuple[float, float]] = []
        self._without = 0

    def inspect(self, images: Any, names: Sequence[str], masks: Any = None) -> Inspection:
        """Inspect images with the detector, and keep what it says.

        `images` and `masks` are as for `AnomalyDetector.inspect`; each image has a name.
        """
        frames = as_stack("images", images)
        used = None if masks is None else check_masks(masks, frames.shape)
        names = report.texts("names", names, len(frames))
        scores = np.empty(len(frames))
        problems: dict[int, str] = {}
        for part in divided(len(frames), 4 * batch_images(frames)):  # bounds the memory
            some, inside = frames[part], masks_at(used, part)
            scores[part], found = self.detector.inspect(some, inside)
            flagged = scores[part] > self.detector.threshold_
            maps = maps_of(self.detector, some[flagged], masks_at(inside, flagged))
            for i, image in enumerate(some):
                self.add(
                    names[part.start + i],
                    scores[part.start + i],
                    flagged=flagged[i],
                    reason=found.get(i, ""),
                    image=image,
                    values=next(maps) if flagged[i] else None,
                )
            problems |= {part.start + i: reason for i, reason in found.items()}
        return Inspection(scores, problems)

    def add(
        self,
        name: str,
        score: float,
        *,
        flagged: bool = False,
        reason: str = "",
        image: NDArray[Any] | None = None,
        values: NDArray[Any] | None = None,
        box: Box | None = None,
        frame: NDArray[Any] | None = None,
    ) -> None:
        """Keep what is known of an image or an item; debris is flagged without a score.

        `image` is what the detector was given, if it is at hand, and `values` its map. An item lies
        in the `box` of its `frame`.
        """
        place = None if values is None else scoring.worst_place(values, self.detector.window)
        self.rows.append(Row(name, float(score), bool(flagged), reason, box or place))
        shown = image if image is not None or not flagged else frame
        if shown is not None and (flagged or not reason):
            values_shown = shown.ravel()[:: -(-shown.size // SAMPLED)].astype(np.float64)
            self._ends.append(report.ends_of(values_shown))
        if not flagged:
            return
        if shown is None:
            self._without += not reason
            return
        score = math.inf if math.isnan(score) else score
        order = -len(self.rows)  # of equal scores, the first ones stay
        full = len(self._worst) >= self.gallery
        if full and (not self._worst or (score, order) <= self._worst[0][:2]):
            return
        pictured = _Pictured(
            score,
            order,
            None if image is None else thumbnail(image, place),
            None if values is None else thumbnail(values, place, largest=True),
            None if frame is None else thumbnail(frame, box),
        )
        (heapq.heapreplace if full else heapq.heappush)(self._worst, pictured)

    def write(
        self,
        folder: str | PathLike[str],
        *,
        title: str = "Inspection report",
        facts: Mapping[str, object] | None = None,
    ) -> Path:
        """Write the page and its figures; arguments as for `write_inspection_report`."""
        report.check_facts(facts)
        writer = report.Writer(folder)
        if not self.rows:
            raise imsim.ImsimError("there is no image to report on: inspect some first")
        rows, detector = self.rows, self.detector
        counts = Counter(row.verdict for row in rows)
        scores = np.array([row.score for row in rows])
        scored = int(np.count_nonzero(~np.isnan(scores)))
        drawn = np.where(np.isnan(scores) & [row.flagged for row in rows], np.inf, scores)
        threshold = float(detector.threshold_)
        groups = (
            ("good, learned from", figures.GOOD, detector.held_out_scores_),
            ("inspected", figures.BAD, scores),
        )
        # Of too many, rejects come into the table first.
        order = sorted(range(len(rows)), key=lambda i: rows[i].verdict == "good")
        shown = sorted(order[:MOST_ROWS])
        return writer.write(
            "inspection.html",
            title,
            {
                "inspection_order": partial(figures.order_figure, drawn, threshold, self.noun),
                "inspection_scores": partial(figures.scores_figure, groups, threshold, self.noun),
            },
            script=asset("sort.js"),
            rows=[(i + 1, rows[i]) for i in shown],
            number=len(rows),
            scored=scored,
            noun=self.noun,
            empty=sum(r.place is None and r.verdict == "not inspected" for r in rows)
            if self.noun == "item"
            else 0,
            counts=counts,
            threshold=threshold,
            expected=detector.false_alarms_.alarms(scored),
            reasons=Counter(
                row.reason for row in rows if row.verdict == "not inspected"
            ).most_common(),
            rejects=self._rejects(),
            without=self._without,
            has_map=detector.metric in scoring.with_map(),
            with_map=scoring.with_map(),
            detector=detector,
            facts={**detector.describe(), **(facts or {})},
            place_words=place_words,
        )

    def _rejects(self) -> list[tuple[Row, list[Markup]]]:
        """Return the pictured rejects, worst first, with their pictures."""
        if not self._worst:
            return []
        lows, highs = np.array(self._ends).T
        # A few odd images, all black or white, do not set the scale of the others.
        grey = report.grey_between(float(np.quantile(lows, 0.05)), float(np.quantile(highs, 0.95)))
        bright = None
        if any(one.local is not None for one in self._worst):
            bright = report.dissimilarity_scale(self.detector.metric, self.detector.data_range_)
        rejects = []
        for one in sorted(self._worst, reverse=True):
            row = self.rows[-one.order - 1]
            pictures = []
            if one.frame is not None:
                pictures.append(one.frame.drawn(grey, f"{row.name}, the {self.noun} marked"))
            if one.image is not None:
                pictures.append(one.image.drawn(grey, f"{row.name}, as it was inspected"))
            if one.local is not None and bright is not None:
                words = f"its map of {self.detector.metric}: bright differs"
                pictures.append(one.local.drawn(bright, words))
            rejects.append((row, pictures))
        return rejects


def write_inspection_report(
    folder: str | PathLike[str],
    detector: AnomalyDetector,
    images: Any,
    *,
    names: Sequence[str] | None = None,
    masks: Any = None,
    title: str = "Inspection report",
    gallery: int = GALLERY,
    facts: Mapping[str, object] | None = None,
) -> Path:
    """Inspect images of which nobody knows whether they are good, and report on them.

    The page has the counts of the verdicts, the false alarms to expect, the scores in their order
    and beside those of held-out good images, the worst rejects with their place marked, and a row
    for each image. It is one file that needs no network.

    Parameters
    ----------
    detector : AnomalyDetector
        Fitted. Rejects get a map and a place if its metric has a map.
    images : array_like, shape (n, height, width)
        In the order in which they came. Worked on in batches, so that a memory-mapped array stays
        on disk; for images that come one by one, see `InspectionRecord`.
    masks : array_like of bool, shape (n, height, width) or (height, width), optional
        True = use; handed to the detector.
    gallery : int, optional
        The most rejects to picture; the page says how many it leaves out.
    folder, names, title, facts
        As for `write_report`.

    Returns
    -------
    pathlib.Path
        The page, ``inspection.html``. Beside it lie its figures as PNG files.

    Raises
    ------
    ImsimError
        If the folder cannot be written.
    ShapeError, DTypeError, MaskError, OptionError
        If the images are not like those learned from, or `names` or `masks` not one for each.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from imsim.anomaly import AnomalyDetector, write_inspection_report
    >>> good = np.random.default_rng(0).uniform(0.4, 0.6, (60, 24, 24))
    >>> detector = AnomalyDetector(preprocess=None, data_range=1.0).fit(good[:40])
    >>> good[50, 8:12, 4:8] = 1
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_inspection_report(folder, detector, good[40:]).name
    'inspection.html'
    """
    frames = as_stack("images", images)
    used = None if masks is None else check_masks(masks, frames.shape)
    names = [f"image {i}" for i in range(len(frames))] if names is None else names
    names = report.texts("names", names, len(frames))
    report.check_facts(facts)
    record = InspectionRecord(detector, gallery=gallery)
    report.Writer(folder)  # a folder that cannot be written is refused before hours of computing
    record.inspect(frames, names, used)
    return record.write(folder, title=title, facts=facts)


def maps_of(
    detector: AnomalyDetector, images: NDArray[Any], masks: Any = None, most: int | None = None
) -> Iterator[NDArray[Any] | None]:
    """Yield the map of each image, a few at a time; None where there is none or it fails."""
    if detector.metric not in scoring.with_map():
        yield from [None] * len(images)
        return
    for part in divided(len(images), most or 4 * batch_images(images)):
        try:
            yield from detector.anomaly_map(images[part], masks_at(masks, part))
        except Exception:  # of whatever kind: pictures do not end a run whose scores are known
            if part.stop - part.start == 1:
                yield None
            else:
                yield from maps_of(detector, images[part], masks_at(masks, part), 1)
