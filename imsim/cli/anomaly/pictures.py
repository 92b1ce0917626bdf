"""What `imsim anomaly score` shows beside its rows: a report, and the anomaly maps."""

from __future__ import annotations

import argparse
import copy
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imsim._images import Array, Picture, file_of, without_index
from imsim.cli.anomaly.inputs import KeptNotes, Pictures
from imsim.cli.anomaly.judges import ANOMALY, NOT_INSPECTED, Found, ImageJudge, Score
from imsim.cli.maps import replaced_map
from imsim.cli.outputs import check_folder, make_folder, say
from imsim.errors import ImsimError, OptionError

if TYPE_CHECKING:
    from imsim.anomaly import InspectionRecord


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
            place = os.path.realpath(folder)
            for path in arguments.images:  # pictures beside it would be scored as images later
                file = file_of(path)
                if not os.path.isdir(path) and place == os.path.realpath(os.path.dirname(file)):
                    raise OptionError(
                        f"{folder}: holds {file}, which is read; name a folder elsewhere"
                    )
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
            self._keep(row)

    def add(self, found: Found) -> None:
        """Take rows, and what there is to show for them; write the maps."""
        if not self:
            return
        from imsim.anomaly.inspection_report import maps_of

        wanted, frame = [self._is_wanted(row) for row in found.rows], None
        if found.frame is not None and self.maps and any(wanted):
            frame = np.full(found.frame.shape, np.nan, np.float32)
            wanted = [True] * len(wanted)  # in a frame that has a map, all items are on it
        seen = [None if r.reason else s for r, s in zip(found.rows, found.seen, strict=True)]
        mapped = [s for s, is_wanted in zip(seen, wanted, strict=True) if is_wanted]
        images = [image for image in mapped if image is not None]
        maps = maps_of(self.detector, np.stack(images)) if images else iter(())
        for row, image, is_wanted in zip(found.rows, seen, wanted, strict=True):
            has_map = is_wanted and image is not None
            values = next(maps) if has_map else None
            if frame is not None and values is not None and row.place is not None:
                # The box is in the middle of the map; boxes of items that touch overlap.
                box, there = row.place, frame[row.place.box]
                top, left = (
                    side // 2 - length // 2
                    for side, length in zip(values.shape, (box.height, box.width), strict=True)
                )
                here = values[top : top + box.height, left : left + box.width]
                np.fmax(there, here, out=there)
            elif has_map and values is None and self.maps:
                say(f"note: {row.name}: has no map, which failed")
            elif values is not None and self.maps:
                self._write(row.image, values)
            self._keep(row, image, values if row.verdict == ANOMALY else None, found.frame)
        if frame is not None:
            self._write(found.rows[0].image, frame)

    def again(self, rows: Sequence[Score], pictures: Pictures) -> None:
        """Take the rows of images that were read elsewhere, and read those that are shown."""
        if not self:
            return
        quiet = copy.copy(pictures)
        quiet.notes = KeptNotes()  # said with the rows
        places = {path: place for place, path in enumerate(pictures.files)}

        def place(row: Score) -> tuple[int, int]:
            """Return the number of the file of an image, and that of the image in it."""
            named = (row.image, 0) if row.image in places else without_index(row.image)
            return places.get(named[0], -1), named[1] or 0

        for (_, index), group in groupby(sorted(rows, key=place), place):
            ours = list(group)
            image = ours[0].image
            if any(map(self._is_wanted, ours)):
                only = range if image in places else lambda _, index=index: [index]
                file = image if image in places else without_index(image)[0]
                picture = next(quiet.each_of(file, choose=only), None)
                if isinstance(picture, Picture) and picture.path == image:
                    self.add(self.judge.again(picture, ours))
                    continue
                say(f"note: {image}: is not shown, since it cannot be read here")
            for row in ours:
                self._keep(row)

    def _is_wanted(self, row: Score) -> bool:
        """Whether there is to be a picture or a map of an image."""
        return row.verdict == ANOMALY or (self.every and row.verdict != NOT_INSPECTED)

    def end(self) -> Iterator[str]:
        """Write the report; yield where it is, and where the maps are."""
        if self.record is not None:
            yield f"Report: {self.record.write(self.report, facts=self.facts)}"
        if self.maps:
            what = "all" if self.every else "rejects"
            kept = f"; not made for rows of an earlier run: {self.kept}" if self.kept else ""
            yield f"Maps of {what}: {self.written} in {self.maps}{kept}"

    def _keep(
        self,
        row: Score,
        image: Array | None = None,
        values: Array | None = None,
        frame: Array | None = None,
    ) -> None:
        """Give the report a row, and what it is to show."""
        if self.record is not None:
            self.record.add(
                row.image,
                math.nan if row.reason is not None else row.anomaly_score,
                flagged=row.verdict == ANOMALY,
                reason=row.reason or "",
                image=image,
                values=values,
                box=None if row.place is None else row.place.box,
                frame=frame,
            )

    def _write(self, image: str, values: Array) -> None:
        """Write a map, in the place of one of the same name."""
        from imsim.anomaly.report import dissimilarity_scale
        from imsim.pages import png

        # Each image has a path of its own, with what chooses it, ``[3]``.
        file = file_of(image)
        chosen = image[len(file) :].replace("%", "%25").replace(os.sep, "%2F")
        below = os.path.relpath(os.path.abspath(file), self.base) + chosen
        stem = os.path.join(self.maps, below)
        make_folder(os.path.dirname(stem))
        with replaced_map(f"{stem}.{self.detector.metric}.{self.ending}") as new:
            if self.ending == "npy":
                with open(new, "wb") as stream:  # np.save would add an ending to a name
                    np.save(stream, values.astype(np.float32), allow_pickle=False)
            else:
                scale = dissimilarity_scale(self.detector.metric, self.detector.data_range_)
                Path(new).write_bytes(png(scale.colours_of(values)))
        self.written += 1
