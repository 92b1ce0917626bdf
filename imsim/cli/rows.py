"""CSV and JSON with one row per image or pair, each written as soon as it is known."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Generic, Protocol, TypeVar

from imsim.errors import ImsimError

Row = TypeVar("Row")
Record = Mapping[str, Any]
"""A row by the names of its columns."""
SCORED = "scored"
_STATUSES = {"failed": "failed", "unmatched": "no partner"}
"""What CSV says of a row, by the name of the list in JSON."""


class Other(Protocol):
    """What was to be scored and was not."""

    @property
    def message(self) -> str:
        """Why."""

    @property
    def reference(self) -> str | None:
        """Its image, if that is certain."""

    @property
    def test(self) -> str | None:
        """Its image, if that is certain."""


class Csv:
    """A line of cells per row; a cell is empty where the record has nothing, or None.

    Parameters
    ----------
    columns : iterable of str
        Their names.
    options : mapping, optional
        What decides the values of every row. The last column, ``options``, has it as JSON; there
        is no such column if there are none.
    """

    def __init__(self, columns: Iterable[str], options: Record | None = None) -> None:
        self.columns = list(columns)
        self.options = json.dumps(_plain(options)) if options else ""
        if options:
            self.columns.append("options")

    def head(self) -> str:
        """Return what precedes the rows."""
        return self._line(self.columns)

    def row(self, record: Record, first: bool) -> str:
        """Return a row."""
        record = {**record, "options": self.options}
        cells = (record.get(column) for column in self.columns)
        return self._line("" if cell is None else str(cell) for cell in cells)

    def tail(self, empty: bool, other: Mapping[str, Iterable[Other]]) -> str:
        """Return what follows the rows: those of what has no scores."""
        return "".join(
            self.row(
                {"reference": item.reference, "test": item.test}
                | {"status": _STATUSES[kind], "notes": item.message},
                False,
            )
            for kind, items in other.items()
            for item in items
        )

    def rows(self, lines: Iterator[str]) -> Iterator[Record]:
        """Read the rows below the head, up to one that was torn off."""
        last = ""

        def remembered() -> Iterator[str]:
            nonlocal last
            for line in lines:
                last = line
                yield line

        reader = csv.reader(remembered())
        while True:
            try:
                record = dict(zip(self.columns, next(reader), strict=True))
            except (StopIteration, ValueError, csv.Error):
                return
            if not last.endswith("\n"):
                return
            yield record

    @staticmethod
    def _line(cells: Iterable[str]) -> str:
        # The writer of the standard library leaves a carriage return in a name unquoted.
        quoted = (
            '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\r\n') else cell
            for cell in cells
        )
        return ",".join(quoted) + "\n"


class Json:
    """One object; its ``results`` hold a line per row, so that a torn file can be mended."""

    options = ""
    """Of the rows: there are none, since the first line of the file has them."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts

    def head(self) -> str:
        """Return what precedes the rows."""
        return json.dumps(_plain(self.facts))[:-1] + ', "results": [\n'

    def row(self, record: Record, first: bool) -> str:
        """Return a row."""
        return ("" if first else ",\n") + json.dumps(_plain(record))

    def tail(self, empty: bool, other: Mapping[str, Iterable[Other]]) -> str:
        """Return what follows the rows: lists of what has no scores."""
        lists = {
            kind: [
                {"reference": item.reference, "test": item.test, "reason": item.message}
                for item in items
            ]
            for kind, items in other.items()
        }
        after = f", {json.dumps(lists)[1:-1]}" if lists else ""
        return ("]" if empty else "\n]") + after + "}\n"

    def rows(self, lines: Iterator[str]) -> Iterator[Record]:
        """Read the rows below the head, up to one that was torn off."""
        for line in lines:
            try:
                yield json.loads(line.rstrip("\n").removesuffix(","))
            except ValueError:
                return  # the end, or a row that was torn off


def _plain(value: Any) -> Any:
    """Replace the numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return json_number(value) if isinstance(value, float) else value


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


def _other_options(file: str, difference: str) -> str:
    return (
        f"{file}: holds the results of another run ({difference}), so that --resume cannot go on "
        "with it; give the same options, or another file"
    )


class Writer(Generic[Row]):
    """Writes rows to a file, or to standard output by a function that is given.

    Parameters
    ----------
    layout : Csv or Json
        How the rows look.
    file : str, optional
        Where they go; by default, `write` gets them.
    write : callable
        Prints text and a line break.
    resume : bool
        Go on with what the file holds; `earlier` then has its rows.
    parse : callable
        Makes a row of `earlier` from a record.

    Raises
    ------
    ImsimError
        If the file cannot be written, or, with `resume`, is of another run.
    """

    def __init__(
        self,
        layout: Csv | Json,
        file: str | None,
        write: Callable[[str], None],
        resume: bool,
        parse: Callable[[Record], Row],
    ) -> None:
        self._layout, self._write, self._parse = layout, write, parse
        self._name = file or ""
        self._stream: BinaryIO | None = None
        self._kept = ""
        self.earlier: list[Row] = []
        self._empty = True
        if file is None:
            self._put(layout.head())
            return
        with self._naming():
            going_on = resume and os.path.exists(file) and os.path.getsize(file) > 0
            self._stream = open(file, "r+b" if going_on else "wb")  # noqa: SIM115
        try:
            if not (going_on and self._mended()):
                self._put(layout.head())
        except BaseException:
            self._shut()
            raise
        self._empty = not self.earlier

    def row(self, record: Record) -> None:
        """Write a row, and leave nothing of it in a buffer."""
        self._put(self._layout.row(record, self._empty))
        self._empty = False

    def close(self, **other: Iterable[Other]) -> None:
        """Write what follows the rows: what has no scores, by its kind."""
        try:
            self._put(self._layout.tail(self._empty, other))
        finally:
            self._shut()

    def _shut(self) -> None:
        if self._stream is not None:
            with self._naming():  # what a full disk did not take is tried once more
                self._stream.close()

    def _put(self, text: str) -> None:
        if self._stream is None:
            self._print(text)
            return
        with self._naming():
            # A single call, so that an interruption hardly ever tears a row.
            self._stream.write(text.encode("utf-8", "surrogateescape"))
            self._stream.flush()

    def _print(self, text: str) -> None:
        """Hand over whole lines only: the function adds the last line break itself."""
        whole, line_break, self._kept = (self._kept + text).rpartition("\n")
        if line_break:
            self._write(whole)

    def _mended(self) -> bool:
        """Read the rows of an earlier run and cut off what follows them; False if none are."""
        stream, end = self._stream, 0
        if stream is None:
            return False

        def lines() -> Iterator[str]:
            nonlocal end
            for line in stream:
                end += len(line)
                yield line.decode("utf-8", "surrogateescape")

        text = lines()
        head = next(text)
        if head != self._layout.head():
            if self._layout.head().startswith(head):  # torn itself
                stream.seek(0)
                stream.truncate()
                return False
            raise ImsimError(_other_options(self._name, "its first line differs"))
        good = end
        for record in self._layout.rows(text):
            if record.get("options", "") != self._layout.options:
                raise ImsimError(_other_options(self._name, f"the options {record['options']}"))
            try:
                self.earlier.append(self._parse(record))
            except (ValueError, KeyError, TypeError, AttributeError):
                break  # torn, but by chance of the right form
            good = end
        stream.seek(good)
        stream.truncate()
        self._trim(stream, good)
        return True

    def _trim(self, stream: BinaryIO, end: int) -> None:
        """Leave the file as it is after a row was written, for both layouts."""
        if not self.earlier or isinstance(self._layout, Csv):
            return
        while end:
            stream.seek(end - 1)
            if stream.read(1) not in b",\n":
                break
            end -= 1
        stream.seek(end)
        stream.truncate()

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ImsimError(f"{self._name}: cannot be written: {error.strerror}") from error


def json_number(value: float) -> float | str:
    """Return a number, or its name where JSON has none for it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
