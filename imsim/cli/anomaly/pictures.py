"""What `imsim anomaly score` shows beside its rows: a report, and the anomaly maps."""

from __future__ import annotations

import argparse
import copy
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imsim._images import Array, Picture, file_of, without_index
from imsim.cli.anomaly.inputs import KeptNotes, Pictures
from imsim.cli.anomaly.judges import ANOMALY, NOT_INSPECTED, Found, ImageJudge, Score
from imsim.cli.maps import replaced_map
from imsim.cli.outputs import check_folder, make_folder, say
from imsim.errors import ImsimError, OptionError

if TYPE_CHECKING:
    from imsim.anomaly import InspectionRecord
    from imsim.anomaly.inspection_report import Where


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """Add the options on the report and the maps."""
    add = parser.add_argument
    add(
        "--report",
        metavar="DIR",
        help="write a page, DIR/inspection.html: the verdicts, the scores in their order, and the "
        "worst rejects with their place marked; rows kept by --resume are there without a picture",
    )
    add(
        "--maps",
        metavar="DIR",
        help="write the anomaly map of each reject, DIR/<image>.<metric>.png, below the folders "
        "that it lies in: dark is alike, bright differs, on the metric's fixed scale; not for rows "
        "kept by --resume. With a model of items, a frame with a reject has one map of "
        "all items that were compared, grey (NaN) where there is none",
    )
    add("--maps-of", choices=("rejects", "all"), help="of rejects (the default), or of all images")
    add(
        "--maps-as",
        choices=("png", "npy"),
        help="png (the default) to look at, or npy with the numbers, as float32; NaN was not "
        "compared",
    )


class Shown:
    """Takes the results batch by batch; without options, it does nothing."""

    def __init__(self, arguments: argparse.Namespace, judge: ImageJudge) -> None:
        self.judge, self.detector = judge, judge.detector
        self.facts: dict[str, object] = {}  # what the report says about the run
        self.report, self.maps = arguments.report, arguments.maps
        self.record: InspectionRecord | None = None
        self.written = self.kept = 0
        self.every = arguments.maps_of == "all"
        self.ending = arguments.maps_as or "png"
        folders = (
            path if os.path.isdir(path) else os.path.dirname(file_of(path))
            for path in arguments.images
        )
        # All images are in it, so that names below it cannot collide.
        self.base = os.path.commonpath([os.path.abspath(folder) for folder in folders])
        for option in ("maps_of", "maps_as"):
            if getattr(arguments, option) and not self.maps:
                raise OptionError(f"--{option.replace('_', '-')}: is of use with --maps DIR only")
        for option, folder in (("report", self.report), ("maps", self.maps)):
            if folder is None:
                continue
            if not folder:
                raise OptionError(f"--{option}: is empty; name a folder")
            check_folder(folder, arguments.images)
            _check_apart(folder, arguments.images)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise ImsimError(f"{folder}: cannot be written: no permission")
        if not self:
            return
        # Loaded here, since the packages of a report take a second.
        from imsim.anomaly import inspection_report, scoring

        if self.maps and self.detector.metric not in scoring.with_map():
            raise OptionError(
                f"--maps {self.maps}: the metric of the detector, {self.detector.metric}, has no "
                "map; leave out --maps"
            )
        if self.report:
            self.record = inspection_report.InspectionRecord(judge.model)
        fields = (("flat", arguments.flat), ("dark", arguments.dark))
        self.facts = {
            **{f"--{name}": path for name, path in fields if path},
            "images": ", ".join(arguments.images),
            "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        }

    def __bool__(self) -> bool:
        return bool(self.report or self.maps)

    def earlier(self, rows: Iterable[Score]) -> None:
        """Take the rows of an earlier run, whose images are not at hand."""
        for row in rows:
            self.kept += self._is_wanted(row)
            self._unseen(row)

    def add(self, found: Found) -> None:
        """Take rows, and what there is to show for them."""
        if not self:
            return
        maps = self._maps(found)
        for row, image in zip(found.rows, found.seen, strict=True):
            if image is None or row.reason is not None:
                self._unseen(row, found.frame)
            elif self.record is not None:
                from imsim.anomaly.detector import Inspection

                flagged = np.array([row.verdict == ANOMALY])
                one = Inspection(np.array([row.anomaly_score]), {})
                places = _where(row, found.frame)
                self.record.add([row.image], one, flagged, image[None], maps, [places])
        for _ in maps:  # those behind the last reject
            pass

    def again(self, rows: Sequence[Score], pictures: Pictures) -> None:
        """Take the rows of images that were read elsewhere, and read those that are shown."""
        if not self:
            return
        quiet = copy.copy(pictures)
        quiet.notes = KeptNotes()  # said with the rows
        places = {path: place for place, path in enumerate(pictures.files)}

        def found(image: str) -> tuple[str, int | None]:
            """Return the file of an image, and its index there."""
            return (image, None) if image in places else without_index(image)

        def place(image: str) -> tuple[int, int]:
            file, index = found(image)
            return places.get(file, -1), index or 0

        by_image: dict[str, list[Score]] = {}
        for row in rows:
            by_image.setdefault(row.image, []).append(row)
        for image in sorted(by_image, key=place):
            ours = by_image[image]
            if not any(map(self._is_wanted, ours)):
                for row in ours:
                    self._unseen(row)
                continue
            file, index = found(image)
            chosen = range if index is None else partial(_only, index)
            picture = next(quiet.each_of(file, choose=chosen), None)
            if isinstance(picture, Picture) and picture.path == image:
                self.add(self.judge.again(picture, ours))
            else:
                say(f"note: {image}: is not shown, since it cannot be read here")
                for row in ours:
                    self._unseen(row)

    def _is_wanted(self, row: Score) -> bool:
        """Whether there is to be a picture or a map of an image."""
        return row.verdict == ANOMALY or (self.every and row.verdict != NOT_INSPECTED)

    def _maps(self, found: Found) -> Iterator[Any]:
        """Write the maps, and yield those of rejects."""
        from imsim.anomaly.inspection_report import maps_of

        # In a frame that has a map, all items are on it.
        is_shown = found.frame is not None and self.maps and any(map(self._is_wanted, found.rows))
        seen = [
            (row, image)
            for row, image in zip(found.rows, found.seen, strict=True)
            if image is not None and row.reason is None and (is_shown or self._is_wanted(row))
        ]
        frame = None
        if is_shown and found.frame is not None:
            frame = np.full(found.frame.shape, np.nan, np.float32)
        values_of = maps_of(self.detector, np.stack([image for _, image in seen])) if seen else ()
        for (row, _), values in zip(seen, values_of, strict=True):
            if frame is None:
                if self.maps:
                    self._write(row.image, values)
            elif values is None:
                say(f"note: {row.name}: has no map, which failed")
            else:
                _paste(frame, values, row)
            if row.verdict == ANOMALY:
                yield values
        if frame is not None:
            self._write(found.rows[0].image, frame)

    def end(self) -> Iterator[str]:
        """Write the report; yield where it is, and where the maps are."""
        if self.record is not None:
            yield f"Report: {self.record.write(self.report, facts=self.facts)}"
        if self.maps:
            what = "all" if self.every else "rejects"
            kept = f"; not made for rows of an earlier run: {self.kept}" if self.kept else ""
            yield f"Maps of {what}: {self.written} in {self.maps}{kept}"

    def _unseen(self, row: Score, frame: Array | None = None) -> None:
        if self.record is not None:
            score = math.nan if row.reason is not None else row.anomaly_score
            self.record.add_unseen(
                row.image,
                score,
                flagged=row.verdict == ANOMALY,
                reason=row.reason or "",
                where=_where(row, frame),
            )

    def _write(self, image: str, values: Array | None) -> None:
        """Write a map, in the place of one of the same name."""
        if values is None:
            say(f"note: {image}: has no map, which failed")
            return
        from imsim.anomaly.report import dissimilarity_scale
        from imsim.pages import png

        stem = os.path.join(self.maps, _name_below(image, self.base))
        make_folder(os.path.dirname(stem))
        with replaced_map(f"{stem}.{self.detector.metric}.{self.ending}") as file:
            if self.ending == "npy":
                with open(file, "wb") as stream:  # np.save would add an ending to a name
                    np.save(stream, values.astype(np.float32), allow_pickle=False)
            else:
                scale = dissimilarity_scale(self.detector.metric, self.detector.data_range_)
                Path(file).write_bytes(png(scale.colours_of(values)))
        self.written += 1


def _where(row: Score, frame: Array | None) -> Where | None:
    """Return the box of an item, and the frame that it lies in, if it is at hand."""
    if row.place is None:
        return None
    from imsim.anomaly.inspection_report import Where

    box = row.place
    return Where((slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)), frame)


def _paste(frame: Array, values: Array, row: Score) -> None:
    """Put the map of an item, whose box is in its middle, where the item lies in the frame."""
    box = row.place
    if box is None:
        return
    top, left = values.shape[0] // 2 - box.height // 2, values.shape[1] // 2 - box.width // 2
    there = frame[box.y : box.y + box.height, box.x : box.x + box.width]
    # Boxes of items that touch overlap.
    np.fmax(there, values[top : top + box.height, left : left + box.width], out=there)


def _only(index: int, _: int) -> list[int]:
    """Choose one image of a file."""
    return [index]


def _check_apart(folder: str, images: Iterable[str]) -> None:
    """Refuse the folder that an image lies in: pictures in it would be scored as images later."""
    for path in images:
        file = file_of(path)
        if not os.path.isdir(path) and os.path.realpath(folder) == os.path.realpath(
            os.path.dirname(file)
        ):
            raise OptionError(f"{folder}: holds {file}, which is read; name a folder elsewhere")


def _name_below(image: str, folder: str) -> str:
    """Return a path below a folder for an image, of each its own: with what chooses it, ``[3]``."""
    file = file_of(image)
    chosen = image[len(file) :].replace("%", "%25").replace(os.sep, "%2F")
    return os.path.relpath(os.path.abspath(file), folder) + chosen
