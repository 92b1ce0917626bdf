"""What the command prints: text, tables and a progress bar."""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from imsim.errors import ImsimError
from imsim.pages import readable
from imsim.validation import CHANNEL_HINT

WAIT = 2.0
"""Seconds without a result after which a reason is given."""
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
    """Print rows for another program: UTF-8 whatever the terminal, and names as they are."""
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
    """Write what the parser of arguments has left in the buffer, and return the status.

    Raises
    ------
    ImsimError
        If it cannot be written.
    BrokenPipeError
        If its reader went away.
    """
    if sys.stdout is not None:
        _print("", end="")
    return status


def say(message: str) -> None:
    """Print a message to standard error, above the progress bar if there is one.

    If nobody can read it, that changes nothing: the exit status says what happened.
    """
    if sys.stderr is None:
        return
    line = f"imsim: {readable(message)}"
    try:
        if _bars:
            _bars[0].write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)
    except OSError:
        _abandon(sys.stderr)


def _abandon(stream: Any) -> None:
    """Give a stream somewhere to go: Python flushes it once more at the end of the process."""
    with suppress(OSError):  # it has no number where a caller put another in its place
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def in_options(message: str) -> str:
    """Name options of the command where the library names arguments of its functions."""
    return message.replace(CHANNEL_HINT, "if an axis holds channels, name it: --channel-axis -1")


def unforeseen(error: BaseException) -> str:
    """Describe an error that imsim does not foresee, and where it arose."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({os.path.basename(frame.filename)}:{frame.lineno})" for frame in place)
    return f"{type(error).__name__}: {error}{where}"


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


@contextmanager
def patience() -> Iterator[Callable[[], None]]:
    """Say on a terminal what takes so long, unless the yielded function is called in time."""
    if not on_terminal(sys.stderr):
        yield lambda: None
        return
    text = "note: a metric is compiled when it is first used; all of them take half a minute, once"
    timer = threading.Timer(WAIT, say, [text])
    timer.daemon = True  # an interrupted command does not wait for it
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


def width() -> int:
    """Return the width of the terminal, or 80."""
    return shutil.get_terminal_size().columns if on_terminal(sys.stdout) else 80


def table(rows: Sequence[Sequence[str]]) -> str:
    """Set rows in columns; the first row holds their heads."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ([c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def shortened(text: str, length: int) -> str:
    """Take out the middle of a name that is too long to be shown; its ends tell more."""
    text = readable(text)
    if len(text) <= length:
        return text
    tail = (length - 3) * 2 // 3
    return text[: length - 3 - tail] + "..." + text[len(text) - tail :]


def json_number(value: float) -> float | str:
    """Return a number, or its name where JSON has none for it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
