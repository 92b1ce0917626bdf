"""`imsim anomaly score`: a row per image, found here or by the workers of a cluster."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Generator, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

import imsim
from imsim._images import Picture, file_of
from imsim.cli.anomaly import inputs, judges
from imsim.cli.anomaly.pictures import Shown, add_pictures
from imsim.cli.fleet import FLEET_HELP, Order, add_fleet, folders_of, refuse_pipes
from imsim.cli.jobs import LOST, Answer, Opened, Part, afar, parts_of
from imsim.cli.options import add_command
from imsim.cli.outputs import check_output, output_format, progress, say, shortened, width
from imsim.cli.rows import (
    Csv,
    Json,
    Record,
    Writer,
    another_run,
    changed_since,
    same_score,
    saying_rows,
)
from imsim.errors import ImsimError, OptionError
from imsim.tables import padded


class Run(NamedTuple):
    """What a worker needs to know beside the images."""

    model: str
    model_sha256: str
    flat: str | None
    dark: str | None
    folder: str  # where relative paths begin


def scored_afar(arguments: argparse.Namespace, rows: Rows) -> Iterator[judges.Score]:
    """Score the images that are not known on a cluster, and yield the rows as they come."""
    pictures, sha256 = rows.pictures, rows.terms.model_sha256
    run = Run(arguments.model, sha256, arguments.flat, arguments.dark, os.getcwd())
    files = ((path, "", path) for path in pictures.files)
    parts = list(parts_of(files, {("", label) for label in rows.known}))
    files_read = [arguments.model, *pictures.paths, *inputs.field_files(arguments)]
    order = Order(_load, score_parts, run, folders_of(files_read), arguments.workers)

    def lost(part: Part) -> judges.Score:
        return judges.unusable(part.name(part.subject), LOST)

    with progress(len(parts), "file") as bar:
        for answer in afar(arguments.scheduler, order, parts, lost, bar):
            bar.update(answer.images)
            for note, label in answer.notes:
                pictures.notes.add(note, label)
            yield from answer.results


def _load(run: Run) -> judges.ImageJudge:
    """Load what judges the images of a run, on a worker."""
    model = os.path.join(run.folder, run.model)
    flat, dark = (path and os.path.join(run.folder, path) for path in (run.flat, run.dark))
    detector = inputs.load_any(model)
    if inputs.digest(model) != run.model_sha256:
        raise ImsimError(f"{model}: is another file there", "copy the model to all machines")
    fields = argparse.Namespace(flat=flat, dark=dark)
    return judges.judge_of(
        detector, inputs.Correction(fields, tell=lambda _: None)
    )  # the command tells it


def score_parts(judge: judges.ImageJudge, run: Run, parts: list[Part], threads: int) -> Answer:
    """Score images, on a worker."""
    opened = Opened()
    pictures = inputs.Pictures([], run.folder)
    pictures.notes = notes = inputs.KeptNotes()
    images = (pictures.each_of(part.subject, choose=opened.choice(part)) for part in parts)
    with imsim.workers(threads):
        results = [row for found in judge.found(chain.from_iterable(images)) for row in found.rows]
    return opened.answer(results, notes.found)


HELP = f"""\
Score IMAGES with a detector: the larger the score, the less an image is like
the good ones.

{inputs.IMAGES} They must
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

{judges.ABOUT_ITEMS}

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
    judges.add_strips(parser)
    add_pictures(parser)
    inputs.add_fields(parser)
    add_fleet(parser)


class Terms(NamedTuple):
    """What decides; rows of another model do not belong to a file of its rows."""

    threshold: float
    model_sha256: str


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Score images with a detector, and return the exit status."""
    output_format(arguments)
    files_read = [arguments.model, *arguments.images, *inputs.field_files(arguments)]
    check_output(arguments.output, files_read, resume=arguments.resume)
    refuse_pipes(arguments, files_read)
    for option, value in (("--scheduler", arguments.scheduler), ("--maps", arguments.maps)):
        if arguments.strips and value is not None:
            raise OptionError(f"{option}: is for images one by one; leave it or --strips out")
    judge = judges.load_judge(arguments)
    shown = Shown(arguments, judge)
    pictures = inputs.Pictures(arguments.images)
    if arguments.strips:
        judges.check_order(pictures.files)
    rows = Rows(arguments, judge, pictures)
    shown.facts |= {"model": arguments.model, "SHA-256 of the model": rows.terms.model_sha256}
    writer = rows.writer
    try:
        with saying_rows(arguments.output, lambda: rows.count):
            if writer is not None and rows.known:
                fields = inputs.field_files(arguments)
                changed = changed_since(writer.written, [*rows.known, *fields])
                is_other = not changed.isdisjoint(map(file_of, fields))
                stale = {name for name in rows.known if is_other or file_of(name) in changed}
                _check_earlier(rows, stale)
                rows.finish()
            shown.earlier(chain.from_iterable(rows.known.values()))
            for row in _each(arguments, rows, shown):
                yield from rows.add(row)
    finally:
        if writer is not None:
            writer.close()
    yield from rows.end()
    said = list(shown.end())
    yield from said if writer is None or arguments.output else ()  # else rows go there
    pictures.notes.end()
    return rows.status(arguments.fail_on_anomaly)


def _each(arguments: argparse.Namespace, rows: Rows, shown: Shown) -> Iterator[judges.Score]:
    """Score the images that have no row yet, here or on a cluster."""
    judge, pictures = rows.judge, rows.pictures
    if arguments.scheduler is not None:
        odd = (judges.unusable(*odd) for odd in pictures.odd if not rows.is_known(odd.path))
        every: list[judges.Score] = []
        for row in chain(odd, scored_afar(arguments, rows)):
            yield row
            every += [row] if shown else []
        shown.again(every, pictures)
        return
    with imsim.workers(arguments.workers or imsim.get_workers()):
        for found in chain(judge.found(pictures.each(skip=rows.is_known)), judge.end()):
            yield from found.rows
            shown.add(found)


class Rows:
    """Takes the scores one by one, writes and counts them; names what was not inspected."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        judge: judges.ImageJudge,
        pictures: inputs.Pictures,
        first: tuple[str, ...] = (),
    ) -> None:
        self.form = output_format(arguments)
        self.judge, self.pictures, self.kind = judge, pictures, judge.kind
        self.file = arguments.output
        self.terms = Terms(float(judge.detector.threshold_), inputs.digest(arguments.model))
        self.count = self.anomalies = self.rejected = self.without = 0
        self.known: dict[str, list[judges.Score]] = {}  # rows of an earlier run by their images
        self.last: str | None = None  # the image of the last one of them
        self._more = self.terms._asdict() if self.form == "csv" else {"kind": self.kind}
        self.writer = self._opened(arguments, first)
        for row in self.writer.earlier if self.writer else ():
            if row is None:
                continue
            self._count(row)
            if row.place is None or row.place.number == 0:  # of an image scored again, the last
                self.known[row.image] = []
            self.known.setdefault(row.image, []).append(row)
            self.last = row.image

    def _opened(
        self, arguments: argparse.Namespace, first: tuple[str, ...]
    ) -> Writer[judges.Score | None] | None:
        """Open what rows are written with, further columns first; refuse rows of another model."""
        judge, terms = self.judge, self.terms
        layout: Csv | Json
        if self.form == "csv":
            scores = ("anomaly_score", "verdict", "reason")
            layout = Csv((*first, "image", *judge.columns, *scores, *Terms._fields))
        elif self.form == "json":
            layout = Json(
                model=arguments.model,
                model_sha256=terms.model_sha256,
                metric=judge.detector.metric,
                threshold=terms.threshold,
                flat=arguments.flat,
                dark=arguments.dark,
            )
        else:
            return None
        found: set[Terms] = set()

        def parse(record: Record) -> judges.Score | None:
            if record.get("kind", self.kind) != self.kind:
                return None
            if self.form == "csv":
                found.add(Terms(float(record["threshold"]), record["model_sha256"]))
            value = record["anomaly_score"]
            if record["verdict"] not in (judges.GOOD, judges.ANOMALY, judges.NOT_INSPECTED):
                raise ValueError("no verdict")
            score = math.nan if value in ("", None) else float(value)
            place = judges.Place.of(record) if judge.columns else None
            return judges.Score(
                record["image"], score, record["verdict"], record["reason"] or None, place
            )

        writer = Writer(layout, arguments.output, arguments.resume, parse)
        if found - {terms}:
            writer.close()
            raise ImsimError(
                f"{arguments.output}: holds the results of another run (of another model or "
                "threshold); use another -o, or leave out --resume"
            )
        return writer

    def finish(self, **first: Any) -> None:
        """Write rows that the last image of an earlier run lacks, which was interrupted in it."""
        if self.last is None or self.known[self.last][0].place is None:
            return
        have = self.known[self.last]
        file = [p for p in self.pictures.each_of(file_of(self.last)) if p.path == self.last]
        for found in self.judge.found(file):
            for row in found.rows[len(have) :]:
                self.add(row, **first)
                have.append(row)

    def is_known(self, image: str) -> bool:
        """Tell whether the file has a row of an image."""
        return image in self.known

    def add(self, row: judges.Score, **first: Any) -> list[str]:
        """Write a row, with values of further columns, or return it for the terminal."""
        if row.verdict == judges.NOT_INSPECTED:
            self.pictures.fail(inputs.Unusable(row.name, str(row.reason)))
        lines = []
        if self.writer is not None:
            self.writer.row({**self._more, **first, **row.record()})
        else:
            names = ("x", "y", "width", "height") if self.kind == "item" else ()
            space = width() - 30 - 7 * len(names)
            if not self.count + self.without:
                heads = "".join(f"{name:>7}" for name in names)
                lines.append(f"{'':{space}}{heads}{'score':>12}  verdict")
            score = "" if math.isnan(row.anomaly_score) else f"{row.anomaly_score:.6g}"
            box = "".join(f"{getattr(row.place, name, ''):>7}" for name in names)
            name = padded(shortened(row.image, space), space)
            lines.append(f"{name}{box}{score:>12}  {row.verdict}")
        self._count(row)
        return lines

    def _count(self, row: judges.Score) -> None:
        is_without = self.kind == "item" and row.place is None
        self.without += is_without
        self.count += not is_without
        self.anomalies += row.verdict == judges.ANOMALY
        self.rejected += row.verdict == judges.NOT_INSPECTED and not is_without

    def end(self) -> Iterator[str]:
        """Yield a summary, unless rows go to standard output in a format of their own."""
        if self.writer is None or self.file:
            yield ("" if self.writer else "\n") + self.summary()
        if self.file:
            yield f"A row per {self.kind}: {self.file}"

    def summary(self) -> str:
        """Say how many images are anomalies, and how many could not be inspected."""
        missing = ""
        if self.rejected:
            missing = (
                f", {self.rejected} could not be inspected: "
                f"{self.anomalies + self.rejected} rejected"
            )
        if self.without:
            missing += f"; images without an item, or unreadable: {self.without}"
        return (
            f"{self.anomalies} of {self.count} {self.kind}s are anomalies{missing} "
            f"(threshold {self.terms.threshold:.6g})"
        )

    def status(self, fail_on_anomaly: bool) -> int:
        """Say how many images could not be inspected, and return the exit status."""
        if self.rejected:
            say(
                f"error: {self.rejected} could not be inspected, and "
                f"{'counts' if self.rejected == 1 else 'count'} as rejected"
            )
        if self.count == self.rejected:
            say(f"error: no {self.kind} was scored")
            return 2
        if self.rejected or self.without or self.pictures.failures:
            return 2
        return int(fail_on_anomaly and self.anomalies > 0)


def _check_earlier(rows: Rows, stale: set[str]) -> None:
    """Score an image of an earlier run, and those changed since, again; refuse other results."""
    pictures = rows.pictures
    inspected = {
        name
        for name, known in rows.known.items()
        if any(r.verdict != judges.NOT_INSPECTED for r in known)
    }
    first = (p for p in pictures.chosen(inspected - stale) if isinstance(p, Picture))
    for picture in chain(islice(first, 1), pictures.chosen(inspected & stale)):
        found = [row for one in rows.judge.found([picture]) for row in one.rows]
        known = rows.known.get(picture.path, [])  # none of a stack that can no longer be read
        if picture.path == rows.last:  # of which some rows may be missing
            found = found[: len(known)]
        if not known or len(found) != len(known) or not all(map(_is_same, found, known)):
            raise ImsimError(another_run(str(rows.file), picture.path))


def _is_same(one: judges.Score, other: judges.Score) -> bool:
    is_alike = (one.verdict, one.place) == (other.verdict, other.place)
    return is_alike and same_score(one.anomaly_score, other.anomaly_score)
