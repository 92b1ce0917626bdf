"""What the command prints: text, tables, a progress bar, and what a run comes to."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from imsim._images import why_not_read
from imsim.cli.jobs import Result, Shared
from imsim.cli.options import beyond
from imsim.cli.pairing import Failure, Pairing
from imsim.errors import ImsimError
from imsim.pages import readable
from imsim.registry import METRICS
from imsim.tables import table

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
    if len(text) <= length:
        return text
    tail = (length - 3) * 2 // 3
    return text[: length - 3 - tail] + "..." + text[len(text) - tail :]


_NUMBER = re.compile(r"[0-9.]+(e[-+]?[0-9]+)?")
"""Notes that differ in numbers only are notes of one kind."""


class _Statistics:
    """Mean, least, largest and worst of the scores of one metric, without keeping them."""

    def __init__(self) -> None:
        self.count = self.missing = 0
        self.total = 0.0
        self.low, self.high = math.inf, -math.inf
        self.lowest = self.highest = ""

    def add(self, score: float, name: str) -> None:
        if math.isnan(score):
            self.missing += 1
            return
        self.count += 1
        self.total += score
        # The first one is taken whatever its score, infinite ones too.
        if score < self.low or not self.lowest:
            self.low, self.lowest = score, name
        if score > self.high or not self.highest:
            self.high, self.highest = score, name


class Summary:
    """Takes the results one by one and holds what the whole run comes to.

    Parameters
    ----------
    metrics : iterable of str
        The metrics that are run.
    """

    def __init__(self, metrics: Iterable[str]) -> None:
        self.pairs = 0
        self._statistics = {name: _Statistics() for name in metrics}
        self._skipped: dict[tuple[str, str], int] = {}
        """Metrics and the reason for skipping them, and of how many pairs."""

    def add(self, result: Result) -> None:
        """Take a result."""
        self.pairs += 1
        for name, score in result.scores.items():
            self._statistics[name].add(score, result.name)
        for skip in by_reason(result.skipped):
            self._skipped[skip] = self._skipped.get(skip, 0) + 1

    def table(self, width: int) -> str:
        """Return a line per metric, at most `width` wide but for the reasons for skipping."""
        rows = [["metric", "mean", "min", "max", "unit"]]
        worsts = [("worst", "")]
        for name, found in self._statistics.items():
            if not found.count and not found.missing:
                continue
            facts = METRICS[name]
            mean = found.total / found.count if found.count else math.nan
            low, high = (found.low, found.high) if found.count else (math.nan, math.nan)
            worst = found.lowest if facts.higher_is_better else found.highest
            if low == high:
                worst = "all are equal" if found.count > 1 else worst
            rows.append([name, *(f"{value:.6g}" for value in (mean, low, high)), facts.unit])
            worsts.append((worst, f"  ({found.missing} NaN)" if found.missing else ""))
        room = width - max(map(len, table(rows, "lrrr").splitlines())) - 2
        for row, (worst, end) in zip(rows, worsts, strict=True):
            row.append(shortened(worst, max(room - len(end), 9)) + end)
        lines = [table(rows, "lrrr")]
        for (names, reason), count in self._skipped.items():
            share = "" if count == self.pairs else f" for {count} of {self.pairs} pairs"
            lines.append(f"skipped{share}: {names}: {reason}")
        return "\n".join(lines)


def by_reason(skipped: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each reason once, after the metrics that were skipped for it."""
    names: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        names.setdefault(reason, []).append(name)
    return [(", ".join(those), reason) for reason, those in names.items()]


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


class Outcome:
    """Takes the results one by one, says what is wrong with them, and counts."""

    def __init__(self, metrics: list[str], limits: dict[str, float], required: set[str]) -> None:
        self.summary = Summary(metrics)
        self.limits, self.required = limits, required
        self.notes, self.skips = Notes(), Tally()
        self.failures: list[Failure] = []
        self.unmatched: list[Failure] = []
        self.beyond = self.odd = 0
        self._said: set[tuple[str, str]] = set()

    def start(self, found: Pairing, shared: list[Shared]) -> None:
        """Say what is wrong with the choice of files."""
        for failure in found.unmatched:
            say(f"note: {failure.message}")
        self.unmatched = list(found.unmatched)
        images = {path: why for path in found.left_aside if (why := why_not_read(path))}
        # A gate must not pass over images; otherwise they are left aside like other files.
        failed = images if self.limits else {}
        aside = [path for path in (*images, *found.left_aside) if path not in failed]
        if number := len(set(aside)):
            say(f"note: files of other kinds left aside: {number}, e.g. {aside[0]}")
        for path, why in failed.items():
            self.fail(Failure(f"{path}: {why}"))
        for file in shared:
            for note in file.notes:
                self._said.add((file.file.path, note))
                say(f"note: {file.file.path}: {note}")
        if found.odd:
            number = len(found.odd)
            say(f"note: no files but pipes or devices, left aside: {number}, e.g. {found.odd[0]}")
        self.odd = len(found.odd)
        for failure in found.failed:
            self.fail(failure)

    def fail(self, failure: Failure) -> None:
        """Count and name what cannot be scored."""
        self.failures.append(failure)
        say(f"error: {failure.message}")

    def add(self, result: Result) -> None:
        """Take a result."""
        self.summary.add(result)
        for name, note in result.notes:
            if (name, note) not in self._said:
                self.notes.add(note, name)
        required = {m: reason for m, reason in result.skipped.items() if m in self.required}
        for names, reason in by_reason(required):
            verb = "were" if "," in names else "was"
            self.skips.add(f"{names} {verb} skipped: {reason}", result.title)
        if not result.scores:
            self.skips.add("every metric was skipped", result.title)
        failed = beyond(result.scores, self.limits)
        if failed:
            self.beyond += 1
            say(f"fails: {result.title}: {', '.join(failed)}")

    def end(self) -> int:
        """Say how often things went wrong, and return the exit status."""
        self.notes.end()
        for message, (name, count) in self.skips.items():
            more = f" (and {count - 1} more)" if count > 1 else ""
            say(f"error: {name}: {message}{more}")
        failures, unmatched = len(self.failures), len(self.unmatched)
        total = self.summary.pairs + failures
        if failures and total > 1:
            say(f"error: {failures} of {total} could not be scored; they are named above")
        if self.beyond and total > 1:
            say(f"{self.beyond} of {self.summary.pairs} pairs fail")
        if self.limits and unmatched:
            files = "1 file has" if unmatched == 1 else f"{unmatched} files have"
            counted = "counts" if unmatched == 1 else "count"
            say(f"{files} no partner, and {counted} as failed")
        if self.limits and self.odd:
            say("error: what was left aside as a pipe or device was not compared")
        if failures or self.skips or (self.limits and self.odd):
            return 2
        return 1 if self.limits and (self.beyond or unmatched) else 0
