"""What the command prints: text, messages and a progress bar."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from imsim.errors import DataRangeWarning, EmptyMaskWarning, ImsimError
from imsim.pages import readable
from imsim.tables import breadth

NOTED = (EmptyMaskWarning, DataRangeWarning)
"""Warnings of the library that the command replaces by notes, which name the images."""
_bars: list[Any] = []  # the progress bar on display, if there is one


def write(text: str) -> None:
    """Print to standard output; raise BrokenPipeError if its reader went away."""
    if sys.stdout is None:  # it was closed before the command began
        raise ImsimError("standard output cannot be written: it is closed")
    _print(text)


def _print(text: str, end: str = "\n") -> None:
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        raise _abandoned(error) from error


def _abandoned(error: OSError) -> Exception:
    """Let go of the standard output, and return what is to be raised."""
    _abandon(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return BrokenPipeError()
    return ImsimError(f"standard output cannot be written: {error.strerror}")


def write_exactly(text: str) -> None:
    """Print for another program: UTF-8 whatever the terminal, and names as they are."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        write(text)
        return
    try:
        sys.stdout.flush()
        buffer.write(f"{text}\n".encode("utf-8", "surrogateescape"))
        buffer.flush()
    except OSError as error:
        raise _abandoned(error) from error


def flush(status: int) -> int:
    """Write what the parser of arguments has left in the buffer, and return the status."""
    if sys.stdout is not None:
        _print("", end="")
    return status


def say(message: str) -> None:
    """Print a message to standard error, above the progress bar if there is one.

    If nobody can read it, that changes nothing: the exit status says what happened.
    """
    say_line(f"imsim: {readable(message)}")


def say_line(line: str) -> None:
    """Print a line to standard error, likewise."""
    if sys.stderr is None:
        return
    try:
        if _bars:
            _bars[0].write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)
    except OSError:
        _abandon(sys.stderr)


def say_on_terminal(message: str) -> None:
    """Print a message that is for somebody who waits."""
    if on_terminal(sys.stderr):
        say(f"note: {message}")


def _abandon(stream: Any) -> None:
    """Give a stream somewhere to go: Python flushes it once more at the end of the process."""
    with suppress(OSError):  # it has no number where a caller put another in its place
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def on_terminal(stream: Any) -> bool:
    """Tell whether somebody looks at a stream, which may be closed."""
    return stream is not None and stream.isatty()


@contextmanager
def progress(total: int, unit: str, *, rows: bool = False) -> Iterator[Any]:
    """Show a progress bar on a terminal, unless `rows` are printed there, and yield it or None."""
    if total < 2 or not on_terminal(sys.stderr) or (rows and on_terminal(sys.stdout)):
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, file=sys.stderr, dynamic_ncols=True, leave=False) as bar:
        _bars.append(bar)
        try:
            yield bar
        finally:
            _bars.remove(bar)


def width() -> int:
    """Return the width of the terminal, or 80."""
    return shutil.get_terminal_size().columns if on_terminal(sys.stdout) else 80


def shortened(text: str, length: int) -> str:
    """Take out the middle of a name that is too long to be shown; its ends tell more."""
    text = readable(text)
    if breadth(text) <= length:
        return text
    tail = (length - 3) * 2 // 3
    start, end = _cut(text, length - 3 - tail), _cut(text[::-1], tail)[::-1]
    return f"{start}...{end}"


def _cut(text: str, length: int) -> str:
    """Return as many of the first letters as take so many columns."""
    sizes = itertools.accumulate(map(breadth, text))
    return text[: sum(size <= length for size in sizes)]


_NUMBER = re.compile(r"[0-9.]+(e[-+]?[0-9]+)?")
"""Notes that differ in numbers only are notes of one kind."""


class Tally(dict[str, tuple[str, int]]):
    """From a message to the first image it is about, and the number of images."""

    def add(self, message: str, name: str) -> int:
        """Count a message, and return how often it has come."""
        first, count = self.get(message, (name, 0))
        self[message] = first, count + 1
        return count + 1


class Notes:
    """Says notes on images; of one that comes often, only the number after the first few."""

    NAMED = 3

    def __init__(self) -> None:
        self._tally = Tally()
        self._kinds: dict[str, set[str]] = {}

    def add(self, note: str, name: str) -> None:
        """Take a note on an image, and say it of the first few."""
        kind = _NUMBER.sub("0", note)
        if self._tally.get(kind, ("", 0))[0] == name:
            return  # on a file that takes part in many pairs
        if self._tally.add(kind, name) <= self.NAMED:
            say(f"note: {name}: {note}")
        elif len(texts := self._kinds.setdefault(kind, set())) < 2:
            texts.add(note)

    def end(self) -> None:
        """Say of how many more images each note holds."""
        for kind, texts in self._kinds.items():
            more = self._tally[kind][1] - self.NAMED
            like = "" if len(texts) == 1 else "likewise, such as: "
            say(f"note: {more} more images: {like}{min(texts)}")
