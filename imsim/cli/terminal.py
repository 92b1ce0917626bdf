"""What the command prints: text, tables and a progress bar."""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from imsim.errors import ImsimError

WAIT = 2.0
"""Seconds without a result after which a reason is given."""
_bars: list[Any] = []  # the progress bar on display, if there is one


def write(text: str) -> None:
    """Print to standard output; raise BrokenPipeError if its reader went away."""
    try:
        print(text, flush=True)
    except OSError as error:
        # Python flushes standard output once more at exit; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise ImsimError(f"standard output cannot be written: {error.strerror}") from error


def say(message: str) -> None:
    """Print a message to standard error, above the progress bar if there is one."""
    if _bars:
        _bars[0].write(f"imsim: {message}", file=sys.stderr)
    else:
        print(f"imsim: {message}", file=sys.stderr)


@contextmanager
def progress(total: int, unit: str, *, rows: bool = False) -> Iterator[Any]:
    """Show a progress bar on a terminal, unless `rows` are printed there, and yield it or None."""
    if total < 2 or not sys.stderr.isatty() or (rows and sys.stdout.isatty()):
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, file=sys.stderr, dynamic_ncols=True, leave=False) as bar:
        _bars.append(bar)
        try:
            yield bar
        finally:
            _bars.remove(bar)


@contextmanager
def patience() -> Iterator[Callable[[], None]]:
    """Say on a terminal what takes so long, unless the yielded function is called in time."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    text = "note: a metric is compiled when it is first used; all thirteen take half a minute, once"
    timer = threading.Timer(WAIT, say, [text])
    timer.daemon = True  # an interrupted command does not wait for it
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


def width() -> int:
    """Return the width of the terminal, or 80."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 80


def table(rows: Sequence[Sequence[str]]) -> str:
    """Set rows in columns; the first row holds their heads."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ([c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def shortened(text: str, length: int) -> str:
    """Take out the middle of a text that is too long; its ends tell more."""
    if len(text) <= length:
        return text
    tail = (length - 3) * 2 // 3
    return text[: length - 3 - tail] + "..." + text[len(text) - tail :]


def json_number(value: float) -> float | str:
    """Return a number, or its name where JSON has none for it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
