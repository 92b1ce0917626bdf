"""Who makes rows of pictures: a detector of whole images, of items in frames, or in strips."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imsim._images import Array, Picture
from imsim.cli.anomaly.inputs import Correction, Unusable, batches, load_any, reason_of
from imsim.cli.rows import Record
from imsim.errors import OptionError, ShapeError

if TYPE_CHECKING:
    from imsim.anomaly import AnomalyDetector, Item, ItemDetector, ItemInspection, LineScan

BATCH_IMAGES = 64
"""Images that are scored at a time."""
GOOD, ANOMALY, NOT_INSPECTED = "good", "anomaly", "not inspected"
"""The verdicts; what is not inspected is rejected, like an anomaly."""
NO_ITEM = "shows no item: nothing stands out from the background"
ONE_WIDTH = "the image ends before it: give the strips of another camera in a run of their own"
ABOUT_ITEMS = """\
With a model of `imsim anomaly train --items`, images have any size, and each
item in them has its row, in JSON of the kind "item": "image", "number" in the
image, "object", which is "item", "debris", smaller than any item, "cut" by the
border, "large", beyond an item and not to be parted, or "damaged", "x", "y",
"width" and "height" of its box and "centre_x" and "centre_y" in pixels; then
the columns as above. Debris is an anomaly without a score. An image without
items has one row, which is not inspected.

With --strips, the images in their order are strips of one image without an end,
of a line-scan camera. An item has its row when all of it is there. "image" is
the first strip of that image, "y" counts from its first row. A strip that
cannot be read, or has another width or type, has a row, which is not inspected:
the image ends before it, items there are "cut", and another image begins with
the next strip. The end of the run ends the image. There is no --resume then."""


class Place(NamedTuple):
    """Which item of an image it is, and where; see `ItemInspection`."""

    number: int
    object: str
    x: int
    y: int
    width: int
    height: int
    centre_x: float
    centre_y: float

    @property
    def box(self) -> tuple[slice, slice]:
        """Return its rows and columns."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    @classmethod
    def of(cls, record: Record) -> Place | None:
        """Return the place that a row names, as numbers or as text."""
        if record["number"] in ("", None):
            return None
        kinds: dict[str, Any] = {"object": str, "centre_x": float, "centre_y": float}
        return cls(**{name: kinds.get(name, int)(record[name]) for name in cls._fields})


class Score(NamedTuple):
    """What is said about an image, or an item of it."""

    image: str
    anomaly_score: float  # NaN if it was not inspected, or is debris
    verdict: str
    reason: str | None = None  # why it has no score
    place: Place | None = None

    @property
    def name(self) -> str:
        """Return the image and where in it the item is."""
        place = self.place
        return self.image if place is None else f"{self.image}, at x={place.x}, y={place.y}"

    def record(self) -> dict[str, Any]:
        """Return the columns of the row."""
        found = self._asdict()
        place = found.pop("place")
        if math.isnan(self.anomaly_score):
            found["anomaly_score"] = None
        return {"image": self.image, **(place._asdict() if place else {}), **found}


class Found(NamedTuple):
    """The rows of images that were judged together, and what there is to show."""

    rows: Sequence[Score]
    seen: Sequence[Array | None]
    """For each row what the detector compared, the image or the crop; None if nothing."""
    frame: Array | None = None  # the image that the items of all rows lie in


def unusable(image: str, reason: str) -> Score:
    """Return the row of an image that is not inspected."""
    return Score(image, math.nan, NOT_INSPECTED, reason)


def nothing(image: str, reason: str | Exception) -> Found:
    """Return the row of an image that is not inspected, and that there is nothing to show."""
    why = reason if isinstance(reason, str) else reason_of(reason, "scored")
    return Found([unusable(image, why)], [None])


class ImageJudge:
    """A row for each image."""

    kind = "image"
    """What each row is about."""
    columns: tuple[str, ...] = ()  # further ones, behind the name of the image

    def __init__(self, detector: AnomalyDetector, correction: Correction) -> None:
        self.detector, self.correction = detector, correction
        self.model: AnomalyDetector | ItemDetector = detector

    def found(self, pictures: Iterable[Picture | Unusable]) -> Iterator[Found]:
        """Judge pictures in their order."""
        for batch in batches(pictures, BATCH_IMAGES):
            if isinstance(batch, Unusable):
                yield nothing(*batch)
            else:
                yield from self._judged(batch)

    def end(self) -> Iterator[Found]:
        """Judge what waited for further pictures."""
        yield from ()

    def again(self, picture: Picture, rows: Sequence[Score]) -> Found:
        """Return what there is to show for the rows of a picture."""
        return Found(rows, list(self.correction(picture.pixels[None])))

    def _judged(self, batch: list[Picture]) -> Iterator[Found]:
        """Judge a batch; if that fails, one by one, so that only the culprits have no score."""
        try:
            images = self.correction(np.stack([picture.pixels for picture in batch]))
            scores, why = self.detector.inspect(images)
        except Exception as error:  # of whatever kind: it does not end the run
            if len(batch) > 1:
                for picture in batch:
                    yield from self._judged([picture])
            else:
                yield nothing(batch[0].path, error)
            return
        rows = []
        for i, (picture, score) in enumerate(zip(batch, scores.tolist(), strict=True)):
            verdict = ANOMALY if score > self.detector.threshold_ else GOOD
            verdict = NOT_INSPECTED if i in why else verdict
            rows.append(Score(picture.path, score, verdict, why.get(i)))
        yield Found(rows, list(images))


class ItemJudge(ImageJudge):
    """A row for each item of each image."""

    kind = "item"
    columns = Place._fields

    def __init__(self, items: ItemDetector, correction: Correction) -> None:
        super().__init__(items.detector_, correction)
        self.model = self.items = items

    def found(self, pictures: Iterable[Picture | Unusable]) -> Iterator[Found]:
        """Judge pictures in their order."""
        for picture in pictures:
            if isinstance(picture, Unusable):
                yield nothing(*picture)
                continue
            try:
                frame = self.correction(picture.pixels[None])[0]
                cut = self.items.finder_.cut(frame)
                rows = self._rows(picture.path, cut, self.items.verdicts(cut))
            except Exception as error:  # of whatever kind: it does not end the run
                yield nothing(picture.path, error)
                continue
            if rows:
                yield Found(rows, [item.crop for item in cut], frame)
            else:
                yield nothing(picture.path, NO_ITEM)

    def again(self, picture: Picture, rows: Sequence[Score]) -> Found:
        """Return what there is to show for the rows of a picture."""
        frame = self.correction(picture.pixels[None])[0]
        return Found(rows, [item.crop for item in self.items.finder_.cut(frame)], frame)

    @staticmethod
    def _rows(
        image: str, cut: Sequence[Item], verdicts: Sequence[ItemInspection], first: int = 0
    ) -> list[Score]:
        rows = []
        for number, (item, row) in enumerate(zip(cut, verdicts, strict=True), first):
            place = Place(number, item.kind, *(getattr(item, name) for name in Place._fields[2:]))
            rows.append(Score(image, row.anomaly_score, row.verdict, row.reason, place))
        return rows


class StripJudge(ItemJudge):
    """A row for each item of an image that comes in strips, as soon as all of it is there."""

    def __init__(self, items: ItemDetector, correction: Correction) -> None:
        super().__init__(items, correction)
        self._scan: LineScan | None = None
        self._image, self._count = "", 0

    def found(self, pictures: Iterable[Picture | Unusable]) -> Iterator[Found]:
        """Judge what the next strips complete; one that does not fit ends the image."""
        from imsim.anomaly import LineScan

        for picture in pictures:
            if isinstance(picture, Unusable):
                yield from self.end()
                yield nothing(*picture)
                continue
            if is_first := self._scan is None:
                self._scan = LineScan(self.items.finder_)
                self._image, self._count = picture.path, 0
            try:
                cut = self._scan.feed(self.correction(picture.pixels[None])[0])
                found = self._complete(cut)
            except Exception as error:  # of whatever kind: it does not end the run
                if is_first:  # there is nothing to end
                    self._scan = None
                yield from self.end()
                if isinstance(error, ShapeError) and not is_first:
                    yield nothing(picture.path, f"{error.message}; {ONE_WIDTH}")
                else:
                    yield nothing(picture.path, error)
                continue
            yield from found

    def end(self) -> Iterator[Found]:
        """Judge what is left: the image ends."""
        scan, self._scan = self._scan, None
        if scan is None:
            return
        try:
            found = self._complete(scan.end())
        except Exception as error:  # of whatever kind: it does not end the run
            yield nothing(self._image, error)
            return
        yield from found
        if not self._count:
            yield nothing(self._image, NO_ITEM)

    def _complete(self, cut: list[Item]) -> list[Found]:
        rows = self._rows(self._image, cut, self.items.verdicts(cut), self._count)
        self._count += len(rows)
        return [Found(rows, [item.crop for item in cut])] if rows else []


def judge_of(
    model: AnomalyDetector | ItemDetector, correction: Correction, *, strips: bool = False
) -> ImageJudge:
    """Return what makes rows with a model."""
    from imsim.anomaly import AnomalyDetector

    if isinstance(model, AnomalyDetector):
        return ImageJudge(model, correction)
    return (StripJudge if strips else ItemJudge)(model, correction)


def add_strips(parser: argparse.ArgumentParser) -> None:
    """Add the option for a line-scan camera."""
    parser.add_argument(
        "--strips",
        action="store_true",
        help="images are strips of one endless image, in their order; for a model of items",
    )


def by_number(path: str) -> tuple[tuple[bool, int, str], ...]:
    """Return the key of an order in which numbers in names count by their value, 9 before 10."""
    return tuple(
        (part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in re.split(r"([0-9]+)", path)
    )


def check_order(files: Sequence[str]) -> None:
    """Refuse strips in the order of their names as text if their numbers have another order."""
    folders = [list(group) for _, group in groupby(files, os.path.dirname)]
    for group in (list(files), *folders):
        if group != sorted(group):  # named in an order of their own
            continue
        # In the order of text, names that differ in one number first follow each other.
        for one, other in pairwise(group):
            parts = zip(by_number(one), by_number(other), strict=False)
            a, b = next(((a, b) for a, b in parts if a != b), ((False, 0, ""),) * 2)
            if a[0] and b[0] and a[1] > b[1]:
                raise OptionError(
                    f"--strips: {one} would come before {other}: fill up the numbers in the names "
                    "with zeros, or name the files in their order"
                )


def load_judge(arguments: argparse.Namespace) -> ImageJudge:
    """Load the model and the fields, and refuse what does not go with strips."""
    if arguments.strips and arguments.resume:
        raise OptionError(
            "--resume: does not go with --strips, where an image begins with the run; leave it "
            "out, and give another -o"
        )
    model = load_any(arguments.model)
    judge = judge_of(model, Correction(arguments), strips=arguments.strips)
    if arguments.strips and not isinstance(judge, StripJudge):
        raise OptionError(
            f"--strips: {arguments.model} is a model of whole images; cut strips into items with "
            "a model of `imsim anomaly train --items`"
        )
    return judge
