"""The rows of a run: CSV, and JSON as lines, each row written as soon as it is known.

First the writers, for every command; then what `imsim compare` writes of pairs and regions, and the
options that decide it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import errno
import io
import json
import math
import os
import platform
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np

import imsim
from imsim._images import Reading, file_of, without_index
from imsim.cli.fleet import FleetError
from imsim.cli.jobs import Jobs
from imsim.cli.measures import Settings, verdicts
from imsim.cli.outcome import Outcome
from imsim.cli.outputs import output_format, write_exactly
from imsim.cli.pair_scoring import Result
from imsim.differing import COUNTS
from imsim.errors import ImsimError
from imsim.whole_files import writing_to

Row = TypeVar("Row")
Record = Mapping[str, Any]
"""A row by the names of its columns."""


class Csv:
    """A line of cells per row; a cell is empty where the record has nothing, or None.

    `options` decide the values of every row. The last column, ``options``, has them as JSON; there
    is no such column if there are none.
    """

    def __init__(self, columns: Iterable[str], options: Record | None = None) -> None:
        self.columns = list(columns)
        self.options = json.dumps(_plain(options)) if options else ""
        if options:
            self.columns.append("options")

    def head(self) -> str:
        """Return the first line."""
        return self._line(self.columns)

    def row(self, record: Record) -> str:
        """Return a row, which takes several lines if a name in it does."""
        record = {**record, "options": self.options}
        cells = (record.get(column) for column in self.columns)
        return self._line("" if cell is None else str(cell) for cell in cells)

    def rows(self, lines: Iterator[str]) -> Iterator[Record]:
        """Read the rows below the first line, up to one that is not whole."""
        with contextlib.suppress(ValueError, csv.Error):
            for cells in csv.reader(lines, strict=True):
                yield dict(zip(self.columns, cells, strict=True))

    @staticmethod
    def _line(cells: Iterable[str]) -> str:
        line = io.StringIO()
        csv.writer(line).writerow(cells)  # with another end of lines, some names stay unquoted
        return line.getvalue().removesuffix("\r\n")


class Json:
    """A line per row, each an object; the first, of the kind ``run``, has what holds for all."""

    options = ""
    """Of the rows: there are none, since the first line has them."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts

    def head(self) -> str:
        """Return the first line."""
        return self.row({"kind": "run", **self.facts})

    def row(self, record: Record) -> str:
        """Return a row."""
        return json.dumps(_plain(record))

    def rows(self, lines: Iterator[str]) -> Iterator[Record]:
        """Read the rows below the first line, up to one that is no object."""
        with contextlib.suppress(ValueError):
            for record in map(json.loads, lines):
                if not isinstance(record, dict):
                    return
                yield record


def json_number(value: float) -> float | str:
    """Return a number, or its name where JSON has none for it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _plain(value: Any) -> Any:
    """Replace the numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return json_number(value) if isinstance(value, float) else value


@contextlib.contextmanager
def saying_rows(file: str | None, number: Callable[[], int]) -> Iterator[None]:
    """Say, in what ends a run before its end, how many rows its file has."""
    try:
        yield
    except (KeyboardInterrupt, FleetError) as end:
        there = f"; {number()} rows are in {file}, --resume goes on" if file else ""
        raise type(end)(f"{end}{there}") from end


def same_score(one: float, other: float) -> bool:
    """Tell whether two scores of the same images differ by no more than rounding."""
    both_nan = math.isnan(one) and math.isnan(other)
    # Models may calculate with float32, and batches of another size round differently.
    return both_nan or math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-9)


def another_run(file: str, image: str) -> str:
    """Say that the rows of a file are not those that this run would write."""
    return (
        f"{file}: holds the results of another run (the row of {image} is now another); use "
        "another -o, or leave out --resume"
    )


def changed_since(written: float, paths: Iterable[str]) -> set[str]:
    """Return the files that were changed after a time; the paths may name an image in a file."""
    return {file for file in set(map(file_of, paths)) if max(_times(file), default=0.0) >= written}


def _times(file: str) -> Iterator[float]:
    """Yield when a file was changed, or the slices of a volume, or the chunks of an array."""
    # The time of a folder is that of the last name that came or went.
    below = (os.path.join(place, n) for place, _, names in os.walk(file) for n in ("", *names))
    for path in chain([file], below):
        with contextlib.suppress(OSError):  # what is gone is not read again
            found = os.stat(path)
            # A file that is moved to the place of another keeps the time of its content.
            if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
                yield max(found.st_mtime, found.st_ctime)


def _other_options(file: str, difference: str) -> str:
    return (
        f"{file}: holds the results of another run ({difference}), so that --resume cannot go on "
        "with it; give the same options, or another file"
    )


def _lock(stream: BinaryIO, name: str) -> None:
    """Refuse a file into which another process writes rows: both would tear those of the other.

    The lock ends with the process, however it ends, and those that it starts do not have it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):  # others: nothing that has locks
            raise ImsimError(
                f"{name}: another run of imsim writes to it",
                "wait until that ends, or use another -o",
            ) from error


class Writer(Generic[Row]):
    """Writes rows to a file, or to standard output.

    With `resume` it goes on with what the file holds: `earlier` then has its rows, made of records
    by `parse`, and where that fails, the file is cut off. A file of another run, or one that
    another process writes rows to, is an error.
    """

    def __init__(
        self, layout: Csv | Json, file: str | None, resume: bool, parse: Callable[[Record], Row]
    ) -> None:
        self.layout, self._parse = layout, parse
        self.name = file or ""
        self._stream: BinaryIO | None = None
        self.earlier: list[Row] = []
        self.written = 0.0
        """When the file was written to before, in seconds since the epoch."""
        if file is None:
            self._put(layout.head())
            return
        with writing_to(self.name):
            going_on = resume and os.path.exists(file) and os.path.getsize(file) > 0
            self.written = os.path.getmtime(file) if going_on else 0.0
            self._stream = open(file, "r+b" if going_on else "ab")  # noqa: SIM115
        try:
            _lock(self._stream, self.name)
            if not going_on and os.path.isfile(file):
                with writing_to(self.name):
                    self._stream.truncate(0)
            if not (going_on and self._go_on(self._stream)):
                self._put(layout.head())
        except BaseException:
            self.close()
            raise

    def row(self, record: Record) -> None:
        """Write a row, and leave nothing of it in a buffer."""
        self._put(self.layout.row(record))

    def close(self) -> None:
        """End the file."""
        if self._stream is not None:
            with writing_to(self.name):  # what a full disk did not take is tried once more
                self._stream.close()

    def _put(self, text: str) -> None:
        if self._stream is None:
            write_exactly(text)
            return
        with writing_to(self.name):
            # A single call, so that an interruption hardly ever tears a row.
            self._stream.write(f"{text}\n".encode("utf-8", "surrogateescape"))
            self._stream.flush()

    def _go_on(self, stream: BinaryIO) -> bool:
        """Read the rows of an earlier run and cut off the rest; False if not even a head is left.

        The rest is a last line that was torn off, and from the first row on whatever `parse` does
        not take.
        """
        head = f"{self.layout.head()}\n".encode()
        first = stream.readline()
        if not head.startswith(first):
            raise ImsimError(_other_options(self.name, "its first line differs"))
        good = end = len(first) if first == head else 0

        def lines() -> Iterator[str]:
            nonlocal end
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                yield line.decode("utf-8", "surrogateescape")

        for record in self.layout.rows(lines()):
            if record.get("options", "") != self.layout.options:
                raise ImsimError(_other_options(self.name, f"the options {record['options']}"))
            try:
                self.earlier.append(self._parse(record))
            except (ValueError, KeyError, TypeError, AttributeError):
                break
            good = end
        if stream.seek(0, os.SEEK_END) > good:
            stream.seek(good)
            stream.truncate()
            # The time of the file goes on telling what was changed since its last row; only its
            # owner can set it.
            with contextlib.suppress(OSError):
                os.utime(self.name, (self.written, self.written))
        return good > 0


def columns(ndim: int) -> tuple[str, ...]:
    """Return the columns of a region in CSV, before those of the metrics."""
    return ("label", "pixels", *(f"bbox-{k}" for k in range(2 * ndim)))


def parted(result: Result) -> Iterator[Result]:
    """Yield the result of each region, the first with the notes on the images, or itself."""
    found = result.regions
    if found is None:
        yield result
        return
    reasons: dict[int, dict[str, list[str]]] = {}
    for metric, whys in found.missing.items():
        for why, labels in whys.items():
            for label in labels.tolist():
                reasons.setdefault(label, {}).setdefault(why, []).append(metric)
    for row, label in enumerate(found.labels.tolist()):
        one = result._replace(
            name=f"{result.name}, label {label}",
            scores={metric: float(scores[row]) for metric, scores in found.scores.items()},
            row=row,
        )
        own = [
            (one.title, f"{', '.join(metrics)}: {why}")
            for why, metrics in reasons.get(label, {}).items()
        ]
        yield one._replace(notes=(*(result.notes if row == 0 else ()), *own))


SCORED, FAILED, MISMATCHED, UNMATCHED = "scored", "failed", "size differs", "no partner"
"""The ``status`` of a row in CSV, and the ``kind`` of a line in JSON."""


def writer_of(
    arguments: argparse.Namespace, settings: Settings, jobs: Jobs
) -> Writer[Result] | None:
    """Return what writes rows to a file or the terminal."""
    metrics, options = settings.metrics, score_options(arguments, settings, jobs.reading)
    names = {pair.test: pair.name for pair in jobs.found.pairs}
    layout: Csv | Json
    match output_format(arguments):
        case "csv":
            spacing = ["spacing"] if arguments.volume else ["shift"] if arguments.align else []
            regions = columns(3 if arguments.volume else 2) if arguments.labels else ()
            header = ["reference", "test", *regions, *metrics, *spacing, "status", "notes"]
            layout = _PairCsv(
                header, {n: value for n, value in options.items() if value != _ALWAYS.get(n)}
            )
        case "json":
            versions = {
                "imsim": imsim.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            }
            known = {"reference": arguments.reference, **options, "metrics": metrics}
            layout = Json(**known, versions=versions)
        case _:
            return None

    def parse(record: Record) -> Result:
        if record["status" if "status" in record else "kind"] != SCORED:
            raise ValueError("a pair that was not scored: it is tried again")
        test = record["test"]
        file = test if test in names else without_index(test)[0]
        name = names.get(file, file) + test.removeprefix(file)
        scores = record["scores"] if "scores" in record else {m: record[m] for m in metrics}
        skipped = {name: "in an earlier run" for name in metrics if scores.get(name, "") == ""}
        numbers = {name: float(score) for name, score in scores.items() if score != ""}
        if "kind" in record and record.get("rules", {}) != _rules(numbers, settings.limits):
            raise ValueError("a pair that was judged by other limits: it is scored again")
        return Result(record["reference"], test, name, numbers, record.get("skipped", skipped))

    return Writer(layout, arguments.output, arguments.resume, parse)


def _rules(scores: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, bool]:
    return {verdict.rule: verdict.passed for verdict in verdicts(scores, limits)}


def record_of(result: Result, limits: Mapping[str, float]) -> Record:
    """Return the row of a pair or a region as JSON has it."""
    record: dict[str, Any] = {"kind": SCORED, "reference": result.reference, "test": result.test}
    found, row = result.regions, result.row
    if found is not None and row is not None:
        label, pixels, *box = (found[n][row].item() for n in columns(found.boxes.shape[1]))
        record |= {"label": label, "pixels": pixels, "bbox": box}
    notes = [f"{name}: {note}" for name, note in result.notes]
    record |= {"scores": result.scores, "skipped": result.skipped, "notes": notes}
    if row is None:
        record |= {"mask": result.mask, "data_range": result.data_range}
    if result.shift is not None:
        record["shift"] = list(result.shift)
    if COUNTS.keys() & result.scores.keys():
        record["boxes"] = [list(box) for box in result.boxes]
    if limits:
        record["rules"] = _rules(result.scores, limits)
    if result.spacing:
        record["spacing"] = list(result.spacing)
    return record


class _PairCsv(Csv):
    """CSV of what JSON says of a pair or a region, as far as a cell can hold it."""

    def row(self, record: Record) -> str:
        """Return a row."""
        notes = "; ".join(record["notes"]) if "notes" in record else record["reason"]
        cells = {"status": record["kind"], "notes": notes}
        cells |= {f"bbox-{k}": end for k, end in enumerate(record.get("bbox", ()))}
        cells["spacing"] = ",".join(f"{length:g}" for length in record.get("spacing", ()))
        cells["shift"] = ",".join(f"{length:.15g}" for length in record.get("shift", ()))
        return super().row({**record, **record.get("scores", {}), **cells})


def finish(writer: Writer[Result], outcome: Outcome, *, is_whole: bool) -> None:
    """Write the rows of what has no scores, and end the file; a run may be interrupted."""
    kinds = {
        FAILED: outcome.failures,
        MISMATCHED: outcome.mismatched,
        UNMATCHED: outcome.unmatched,
    }
    try:
        for status, failures in kinds.items():
            for failure in failures:
                names = {"reference": failure.reference, "test": failure.test}
                said = f"{failure.sizes}: {failure.message}" if failure.sizes else failure.message
                writer.row({"kind": status} | names | {"reason": said})
        if is_whole and isinstance(writer.layout, Json):
            counts = {kind: len(failures) for kind, failures in kinds.items()}
            counts = {SCORED: outcome.pairs, **counts}
            last = {"counts": counts, "rules": outcome.rules, "status": outcome.status}
            writer.row({"kind": "end"} | last)
    finally:
        writer.close()


_ALWAYS: dict[str, Any] = {
    "mask": None,
    "data_range": None,
    "ignore_value": [],
    "ignore_nan": False,
    "background": "#ffffff",
    "orientation": "obey",
    "channel_axis": None,
}
"""The options that JSON always names, and what they are by default, where CSV does not."""


def score_options(
    arguments: argparse.Namespace, settings: Settings, reading: Reading
) -> dict[str, Any]:
    """Return the options that decide scores, as in JSON: two runs mix only if they agree."""
    given = vars(arguments) | {
        "data_range": settings.data_ranges.plain,
        "ignore_value": sorted(set(arguments.ignore_value), key=str),
        "background": "#{:02x}{:02x}{:02x}".format(*reading.rgb),
        "tolerance": settings.tolerance,
        "options": settings.options,
        "max_shift": settings.max_shift,
    }
    names = (
        *("mask", "labels", "data_range", "ignore_value", "ignore_nan", "background"),
        *("orientation", "channel_axis", "level", "ignore_georeference", "ignore", "ignore_from"),
        *("ignore_colour", "ignore_transparent", "tolerance", "options", "max_shift"),
        *("on_size_mismatch", "mask_missing", "volume"),
        *(["spacing"] if arguments.volume else []),
    )
    told = {*_ALWAYS, "spacing"}
    return {n: given[n] for n in names if n in told or (given[n] and given[n] != "fail")}
