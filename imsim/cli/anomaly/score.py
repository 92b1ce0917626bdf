"""`imsim anomaly score`: a row per image."""

from __future__ import annotations

import argparse
import math
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, NamedTuple

from imsim.cli.anomaly.detectors import Correction, digest, field_files, load, quiet, reason, status
from imsim.cli.anomaly.pictures import Array, Pictures, batches
from imsim.cli.outputs import check_output, output_format
from imsim.cli.terminal import say, shortened, width, write
from imsim.cli.writers import Csv, Json, Record, Writer, another_run, same_score
from imsim.errors import ImsimError

if TYPE_CHECKING:
    from imsim.anomaly import AnomalyDetector

TOGETHER = 64
"""Images that are scored at a time."""


class Score(NamedTuple):
    """What is said about an image."""

    image: str
    anomaly_score: float
    verdict: str


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Score images with a detector, and return the exit status."""
    from imsim.anomaly import AnomalyDetector

    form = output_format(arguments)
    inputs = [arguments.model, *arguments.images, *field_files(arguments)]
    check_output(arguments.output, inputs, resume=arguments.resume)
    detector = load(AnomalyDetector, arguments.model)
    correction = Correction(arguments)
    pictures = Pictures(arguments.images)
    layout: Csv | Json | None = None
    if form == "csv":
        layout = Csv(Score._fields)
    elif form == "json":
        layout = Json(
            model=arguments.model,
            model_sha256=digest(arguments.model),
            metric=detector.metric,
            threshold=float(detector.threshold_),
            flat=arguments.flat,
            dark=arguments.dark,
        )
    writer = None
    if layout is not None:
        writer = Writer(layout, arguments.output, write, arguments.resume, _parse)
    rows = _Rows(detector.threshold_, writer, arguments.output)
    try:
        _check_earlier(rows, detector, correction, pictures)
        images = pictures.each(skip=rows.is_known)
        for labels, batch in batches(images, TOGETHER):
            for row in _scored(detector, correction, labels, batch, pictures):
                yield from rows.add(row)
    except KeyboardInterrupt:
        text = f"; {rows.count} rows are in {arguments.output}, --resume goes on"
        raise KeyboardInterrupt(text if arguments.output else "") from None
    finally:
        if writer is not None:
            writer.close()
    yield from rows.end()
    if not rows.count:
        say("error: no image was scored")
        return 2
    return status(pictures) or int(arguments.fail_on_anomaly and rows.anomalies > 0)


class _Rows:
    """Takes the scores one by one, writes and counts them."""

    def __init__(self, threshold: float, writer: Writer[Score] | None, file: str | None) -> None:
        self.threshold, self.writer, self.file = threshold, writer, file
        self.count = self.anomalies = 0
        earlier = writer.earlier if writer else []
        for row in earlier:
            self._count(row)
        self.known = {row.image: row for row in earlier}

    def is_known(self, image: str) -> bool:
        return image in self.known

    def add(self, row: Score) -> Iterator[str]:
        """Write a row, or yield it for the terminal."""
        if self.writer is not None:
            self.writer.row(row._asdict())
        else:
            space = width() - 26
            if not self.count:
                yield f"{'':{space}}{'score':>12}  verdict"
            yield f"{shortened(row.image, space):{space}}{row.anomaly_score:12.6g}  {row.verdict}"
        self._count(row)

    def _count(self, row: Score) -> None:
        self.count += 1
        self.anomalies += row.verdict == "anomaly"

    def end(self) -> Iterator[str]:
        """Yield a summary, unless rows go to standard output in a format of their own."""
        if self.writer is None or self.file:
            gap = "" if self.writer else "\n"
            yield (
                f"{gap}{self.anomalies} of {self.count} images are anomalies "
                f"(threshold {self.threshold:.6g})"
            )
        if self.file:
            yield f"A row per image: {self.file}"


def _parse(record: Record) -> Score:
    return Score(record["image"], float(record["anomaly_score"]), record["verdict"])


def _check_earlier(
    rows: _Rows, detector: AnomalyDetector, correction: Correction, pictures: Pictures
) -> None:
    """Score an image of an earlier run again, and refuse to go on if the result is another."""
    picture = pictures.first(rows.known)
    if picture is None:
        return
    try:
        with quiet():
            score = float(detector.anomaly_score(correction(picture.pixels[None]))[0])
    except ImsimError:
        score = math.nan
    row = rows.known[picture.path]
    same = (score > detector.threshold_) == (row.verdict == "anomaly")
    if not (same and same_score(score, row.anomaly_score)):
        raise ImsimError(another_run(str(rows.file), picture.path))


def _scored(
    detector: AnomalyDetector,
    correction: Correction,
    labels: list[str],
    images: Array,
    pictures: Pictures,
) -> Iterator[Score]:
    """Score a batch; if it is refused, one by one, so that only the culprits are left out."""
    try:
        with quiet():
            found = detector.anomaly_score(correction(images))
    except ImsimError as error:
        if len(labels) == 1:
            pictures.fail(f"{labels[0]}: {error}")
            return
        for i, label in enumerate(labels):
            yield from _scored(detector, correction, [label], images[i : i + 1], pictures)
        return
    for i, (label, value) in enumerate(zip(labels, found.tolist(), strict=True)):
        if math.isnan(value):
            pictures.fail(f"{label}: {reason(detector, correction(images[i : i + 1]))}")
        else:
            yield Score(label, value, "anomaly" if value > detector.threshold_ else "good")
