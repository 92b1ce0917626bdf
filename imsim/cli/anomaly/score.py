"""`imsim anomaly score`: a row per image."""

from __future__ import annotations

import argparse
import math
from collections.abc import Generator, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import imsim
from imsim._images import Picture, file_of
from imsim.cli.anomaly.fleet_images import LOST, check_fleet, scored_afar
from imsim.cli.anomaly.inputs import (
    IMAGES,
    Correction,
    Pictures,
    Unusable,
    add_fields,
    batches,
    digest,
    field_files,
    load,
    reason_of,
)
from imsim.cli.anomaly.items import ABOUT_ITEMS, score_items
from imsim.cli.anomaly.pictures import Shown, add_pictures
from imsim.cli.fleet import FLEET_HELP, FleetError, add_fleet
from imsim.cli.messages import say, shortened, width
from imsim.cli.options import add_command, check_output, output_format
from imsim.cli.rows import Csv, Json, Record, Writer, another_run, changed_since, same_score
from imsim.errors import ImsimError

if TYPE_CHECKING:
    from imsim.anomaly import AnomalyDetector

BATCH_IMAGES = 64
"""Images that are scored at a time."""
GOOD, ANOMALY, NOT_INSPECTED = "good", "anomaly", "not inspected"
"""The verdicts; what is not inspected is rejected, like an anomaly."""
IMAGE = "image"
"""The kind of a row."""
HELP = f"""\
Score IMAGES with a detector: the larger the score, the less an image is like
the good ones.

{IMAGES} They must
have the size and the type of those learned from. An image of which this is not
so, or that cannot be read, or shows nothing to compare, is named and has its
row: it is not inspected, and so rejected like an anomaly.

--csv: columns "image", "anomaly_score", "verdict", which is "good", "anomaly"
or "not inspected", "reason", why it was not, and the "threshold" and the
"model_sha256" of the detector. --json: an object per line. The first is of the
"kind" "run" and has "model", "model_sha256", "metric", "threshold", "flat" and
"dark"; then one of the kind "image" has the first four of each image. Rows are
written as soon as they are known. --resume keeps them, those not inspected too,
and refuses a file of another model or threshold, one that does not name them,
and one with the row of an image that was changed since, if its score is another.

--report and --maps show what was found: a page, and where each reject differs.

{ABOUT_ITEMS}

{FLEET_HELP}With it, what --report and --maps show is read once more, here.

Exit status: 0 if every image was inspected; 2 if one was not, and after any
error, also if the reader of the output went away; else 1 if there is an anomaly
and --fail-on-anomaly is given; 130 if interrupted. With --fail-on-anomaly, 0
alone passes.
"""


def add_score(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(commands, "score", run, "score images with a detector", HELP)
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `imsim anomaly train` wrote")
    add("images", metavar="IMAGES", nargs="+", help="files or folders to score")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="write JSON lines instead of a table")
    form.add_argument("--csv", action="store_true", help="write CSV instead of a table")
    add("-o", "--output", metavar="FILE", help="write the rows to FILE (.csv, .json, .jsonl)")
    add("--resume", action="store_true", help="keep the rows that FILE has, and add the others")
    add("--fail-on-anomaly", action="store_true", help="end with status 1 if there is an anomaly")
    add_pictures(parser)
    add_fields(parser)
    add_fleet(parser, "threads to use; by default one per CPU")


class Score(NamedTuple):
    """What is said about an image."""

    image: str
    anomaly_score: float
    """NaN if it was not inspected."""
    verdict: str
    reason: str | None = None
    """Why it was not inspected."""


class Judge(NamedTuple):
    """Which detector decides; rows of another one do not belong to a file of its rows."""

    threshold: float
    model_sha256: str


def opened(
    arguments: argparse.Namespace,
    detector: AnomalyDetector,
    judge: Judge,
    form: str | None,
    first: tuple[str, ...] = (),
) -> Rows:
    """Return what takes the rows, with further columns before the others of CSV.

    With ``--resume``, a file of another model or threshold is refused.
    """
    layout: Csv | Json | None = None
    if form == "csv":
        layout = Csv(first + Score._fields + Judge._fields)
    elif form == "json":
        layout = Json(
            model=arguments.model,
            model_sha256=judge.model_sha256,
            metric=detector.metric,
            threshold=judge.threshold,
            flat=arguments.flat,
            dark=arguments.dark,
        )
    judges: set[Judge] = set()

    def parse(record: Record) -> Score | None:
        if record.get("kind", IMAGE) != IMAGE:
            return None
        if form == "csv":
            judges.add(Judge(float(record["threshold"]), record["model_sha256"]))
        value = record["anomaly_score"]
        if record["verdict"] not in (GOOD, ANOMALY, NOT_INSPECTED):
            raise ValueError("no verdict")
        score = math.nan if value in ("", None) else float(value)
        return Score(record["image"], score, record["verdict"], record["reason"] or None)

    writer = None
    if layout is not None:
        writer = Writer(layout, arguments.output, arguments.resume, parse)
    if writer is not None and judges - {judge}:
        writer.close()
        raise ImsimError(
            f"{arguments.output}: holds the results of another run (of another model or "
            "threshold); use another -o, or leave out --resume"
        )
    more = judge._asdict() if form == "csv" else {"kind": IMAGE}
    return Rows(judge, writer, arguments.output, more)


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Score images with a detector, and return the exit status."""
    from imsim.anomaly import AnomalyDetector, storage

    if storage.kind_of(arguments.model) == "ItemDetector":  # of `imsim anomaly train --items`
        return (yield from score_items(arguments))
    form = output_format(arguments)
    inputs = [arguments.model, *arguments.images, *field_files(arguments)]
    check_output(arguments.output, inputs, resume=arguments.resume)
    check_fleet(arguments, inputs)
    detector = load(AnomalyDetector, arguments.model)
    judge = Judge(float(detector.threshold_), digest(arguments.model))
    correction = Correction(arguments)
    facts = {"model": arguments.model, "SHA-256 of the model": judge.model_sha256}
    shown = Shown(arguments, detector, correction, facts)
    pictures = Pictures(arguments.images)
    rows = opened(arguments, detector, judge, form)
    writer = rows.writer
    try:
        if writer is not None and rows.known:
            changed = changed_since(writer.written, [*rows.known, *field_files(arguments)])
            is_other = not changed.isdisjoint(map(file_of, field_files(arguments)))
            stale = {name for name in rows.known if is_other or file_of(name) in changed}
            _check_earlier(rows, stale, detector, correction, pictures)
        shown.earlier(rows.known.values())
        for row in _each(arguments, detector, correction, pictures, rows, shown):
            if row.reason is not None:
                pictures.fail(Unusable(row.image, row.reason))
            yield from rows.add(row)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(rows.there()) from None
    except FleetError as error:
        raise FleetError(f"{error}{rows.there()}") from error
    finally:
        if writer is not None:
            writer.close()
    yield from rows.end()
    said = list(shown.end())
    yield from said if writer is None or arguments.output else ()  # else rows go there
    pictures.notes.end()
    return rows.status(pictures, arguments.fail_on_anomaly)


def _each(
    arguments: argparse.Namespace,
    detector: AnomalyDetector,
    correction: Correction,
    pictures: Pictures,
    rows: Rows,
    shown: Shown,
) -> Iterator[Score]:
    """Score the images that have no row yet, here or on a cluster."""
    if arguments.scheduler is not None:
        odd = (_unusable(odd) for odd in pictures.odd if not rows.is_known(odd.path))
        sha256 = rows.judge.model_sha256
        afar = scored_afar(arguments, pictures, sha256, scored_all, _lost, rows.known)
        every: list[Score] = []
        for row in chain(odd, afar):
            yield row
            every += [row] if shown else []
        shown.again(every, pictures)
        return
    with imsim.workers(arguments.workers or imsim.get_workers()):
        for batch in batches(pictures.each(skip=rows.is_known), BATCH_IMAGES):
            found = list(scored(detector, correction, batch))
            yield from found
            shown.add(batch, found)


def _unusable(failure: Unusable) -> Score:
    return Score(failure.path, math.nan, NOT_INSPECTED, failure.reason)


def _lost(image: str) -> Score:
    return _unusable(Unusable(image, LOST))


class Rows:
    """Takes the scores one by one, writes and counts them."""

    def __init__(
        self, judge: Judge, writer: Writer[Score | None] | None, file: str | None, more: Record
    ) -> None:
        self.judge, self.writer, self.file, self.more = judge, writer, file, more
        self.count = self.anomalies = self.rejected = 0
        earlier = [row for row in writer.earlier if row] if writer else []
        for row in earlier:
            self._count(row)
        self.known = {row.image: row for row in earlier}

    def there(self) -> str:
        """Say where the rows are after an interruption."""
        text = f"; {self.count} rows are in {self.file}, --resume goes on"
        return text if self.file else ""

    def is_known(self, image: str) -> bool:
        """Tell whether the file has a row of an image."""
        return image in self.known

    def add(self, row: Score, **first: Any) -> Iterator[str]:
        """Write a row, with values of further columns, or yield it for the terminal."""
        if self.writer is not None:
            empty = {"anomaly_score": None} if math.isnan(row.anomaly_score) else {}
            self.writer.row({**self.more, **first, **row._asdict(), **empty})
        else:
            space = width() - 30
            if not self.count:
                yield f"{'':{space}}{'score':>12}  verdict"
            score = "" if math.isnan(row.anomaly_score) else f"{row.anomaly_score:.6g}"
            yield f"{shortened(row.image, space):{space}}{score:>12}  {row.verdict}"
        self._count(row)

    def _count(self, row: Score) -> None:
        self.count += 1
        self.anomalies += row.verdict == ANOMALY
        self.rejected += row.verdict == NOT_INSPECTED

    def end(self) -> Iterator[str]:
        """Yield a summary, unless rows go to standard output in a format of their own."""
        if self.writer is None or self.file:
            yield ("" if self.writer else "\n") + self.summary()
        if self.file:
            yield f"A row per image: {self.file}"

    def summary(self) -> str:
        """Say how many images are anomalies, and how many could not be inspected."""
        missing = ""
        if self.rejected:
            missing = (
                f", {self.rejected} could not be inspected: "
                f"{self.anomalies + self.rejected} rejected"
            )
        return (
            f"{self.anomalies} of {self.count} images are anomalies{missing} "
            f"(threshold {self.judge.threshold:.6g})"
        )

    def status(self, pictures: Pictures, fail_on_anomaly: bool) -> int:
        """Say how many images could not be inspected, and return the exit status."""
        if self.rejected:
            say(
                f"error: {self.rejected} could not be inspected, and "
                f"{'counts' if self.rejected == 1 else 'count'} as rejected"
            )
        if self.count == self.rejected:
            say("error: no image was scored")
            return 2
        if self.rejected or pictures.failures:
            return 2
        return int(fail_on_anomaly and self.anomalies > 0)


def _check_earlier(
    rows: Rows,
    stale: set[str],
    detector: AnomalyDetector,
    correction: Correction,
    pictures: Pictures,
) -> None:
    """Score images of an earlier run again, and refuse to go on if a result is another.

    These are one image, and those that were changed since.
    """
    inspected = {name for name, row in rows.known.items() if row.verdict != NOT_INSPECTED}
    first = (p for p in pictures.chosen(inspected - stale) if isinstance(p, Picture))
    for picture in chain(islice(first, 1), pictures.chosen(inspected & stale)):
        batch = picture if isinstance(picture, Unusable) else [picture]
        (found,) = scored(detector, correction, batch)
        row = rows.known.get(picture.path)  # None for a stack that can no longer be read
        if (
            row is None
            or found.verdict != row.verdict
            or not same_score(found.anomaly_score, row.anomaly_score)
        ):
            raise ImsimError(another_run(str(rows.file), picture.path))


def scored_all(
    detector: AnomalyDetector, correction: Correction, pictures: Iterable[Picture | Unusable]
) -> Iterator[Score]:
    """Score images batch by batch."""
    for batch in batches(pictures, BATCH_IMAGES):
        yield from scored(detector, correction, batch)


def scored(
    detector: AnomalyDetector, correction: Correction, batch: list[Picture] | Unusable
) -> Iterator[Score]:
    """Score a batch; if that fails, one by one, so that only the culprits have no score."""
    if isinstance(batch, Unusable):
        yield _unusable(batch)
        return
    try:
        images = correction(np.stack([picture.pixels for picture in batch]))
        scores, why = detector.inspect(images)
    except Exception as error:  # of whatever kind: it does not end the run
        if len(batch) > 1:
            for picture in batch:
                yield from scored(detector, correction, [picture])
            return
        yield Score(batch[0].path, math.nan, NOT_INSPECTED, reason_of(error, "scored"))
        return
    for i, (picture, score) in enumerate(zip(batch, scores.tolist(), strict=True)):
        verdict = ANOMALY if score > detector.threshold_ else GOOD
        yield Score(picture.path, score, NOT_INSPECTED if i in why else verdict, why.get(i))
