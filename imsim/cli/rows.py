"""CSV, and JSON as lines, with one row per image or pair, each written as soon as it is known."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import math
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, BinaryIO, Generic, TypeVar

from imsim._images import file_of
from imsim.cli.outputs import write_exactly
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
        # The writer of the standard library leaves a carriage return in a name unquoted.
        return ",".join(
            '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\r\n') else cell
            for cell in cells
        )


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
        self._layout, self._parse = layout, parse
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
        self._put(self._layout.row(record))

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
        head = f"{self._layout.head()}\n".encode()
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

        for record in self._layout.rows(lines()):
            if record.get("options", "") != self._layout.options:
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
