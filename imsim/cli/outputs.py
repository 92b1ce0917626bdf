"""What the command puts out: text, messages, a progress bar, and files that are checked before."""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import stat
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

from imsim._images import EXTENSIONS, VOLUME_EXTENSIONS, file_of, same_file
from imsim.cli.pairing import Folder
from imsim.errors import DataRangeWarning, EmptyMaskWarning, ImsimError, OptionError
from imsim.pages import readable
from imsim.registry import METRICS
from imsim.tables import breadth

NOTED = (EmptyMaskWarning, DataRangeWarning)
"""Warnings of the library that the command replaces by notes, which name the images."""
NO_BAR: Any = SimpleNamespace(total=0, update=lambda images=1: None)
"""A progress bar that nobody sees."""
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


def say_of(files: Collection[str], what: str) -> None:
    """Say of how many files something holds, and name the first; of none, nothing."""
    if files:
        say(f"note: {what}: {len(files)}, e.g. {next(iter(files))}")


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
    """Show a progress bar on a terminal, unless `rows` are printed there, and yield it."""
    if total < 2 or not on_terminal(sys.stderr) or (rows and on_terminal(sys.stdout)):
        yield NO_BAR
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


def is_standard_output(path: str | None) -> bool:
    """Tell whether a name is ``-``, or that of the file or pipe to which the command prints.

    If that were opened once more, the rows and what is printed would be written over each other.
    """
    if path is None or path == "-":
        return path is not None
    try:
        found, printed = os.stat(path), os.fstat(sys.stdout.fileno())
        return os.path.samestat(found, printed) and not stat.S_ISCHR(found.st_mode)
    except (OSError, ValueError, AttributeError):  # one of them is not there
        return False


def output_format(arguments: argparse.Namespace) -> str | None:
    """Return "csv" or "json", or None for tables; `-`, the standard output, gets CSV by default."""
    if is_standard_output(arguments.output):
        arguments.output = None
        arguments.csv = not arguments.json
    asked = "csv" if arguments.csv else "json" if arguments.json else None
    if arguments.output is None:
        return asked
    ending = os.path.splitext(arguments.output)[1].lower()
    ended = {".csv": "csv", ".json": "json", ".jsonl": "json"}.get(ending)
    if asked and ended and asked != ended:
        raise OptionError(
            f"--output {arguments.output}: contradicts --{asked}; leave that out, or end the file "
            f"in .{asked}"
        )
    if asked or ended:
        return asked or ended
    raise OptionError(
        f"--output {arguments.output}: add --csv or --json, or end it in .csv or .json"
    )


def check_output(
    file: str | None,
    inputs: Iterable[str],
    *,
    resume: bool = False,
    option: str = "--output",
) -> None:
    """Refuse a file that cannot be written, or that is to be read, in a folder too."""
    inputs = list(inputs)
    if file is None:
        if resume:
            raise OptionError("--resume: goes on with a file of results; name it with -o FILE")
        return
    if not file:
        raise OptionError(f"{option} '': is empty; name a file")
    _check_place(file, f"{option} ")
    if os.path.isdir(file):
        raise OptionError(f"{option} {file}: is a folder; name a file")
    for path in inputs:
        if same_file(file, path):
            raise OptionError(f"{option} {file}: is a file to be read; name another one")
    if file.lower().endswith(EXTENSIONS):
        raise OptionError(
            f"{option} {file}: is called like an image, for which other runs would take it; name a "
            f"file that does not end in {os.path.splitext(file)[1]}"
        )
    if os.path.isfile(file) and (found := _in_a_folder(file, inputs)) is not None:
        raise OptionError(
            f"{option} {file}: is {found}, in a folder that is read; name another file"
        )


def _in_a_folder(file: str, inputs: Iterable[str]) -> str | None:
    """Return the file in a folder to be read that a file of results is, by a link of either kind.

    Results of an earlier run may lie there themselves; they are no images.
    """
    for path in filter(os.path.isdir, inputs):
        folder = Folder(path)
        for found in (*map(folder.path, folder.names), *folder.left_aside):
            if not same_file(file, found):
                continue
            if found.lower().endswith(VOLUME_EXTENSIONS) or _place(found) != _place(file):
                return found
    return None


def _place(file: str) -> str:
    """Return where a file lies, which may be a link itself."""
    folder, name = os.path.split(file)
    return os.path.join(os.path.realpath(folder), name)


def check_new_folder(folder: str) -> None:
    """Refuse a folder that holds something, or cannot be made."""
    _check_place(folder)
    if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise OptionError(f"{folder}: is there and not empty; name a new folder")


def check_folder(folder: str, inputs: Iterable[str]) -> None:
    """Make a folder for pictures, elsewhere than where pictures are read."""
    _check_place(folder)
    for path in inputs:
        if os.path.isdir(path) and _lies_in(folder, path):
            raise OptionError(f"{folder}: lies in {path}, which is read; name a folder elsewhere")
    make_folder(folder)


def make_folder(path: str) -> None:
    """Make a folder, unless it is there."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise ImsimError(f"{path}: cannot be made: {error.strerror}") from error


def check_maps(
    folder: str | None,
    inputs: Iterable[str],
    stems: Iterable[str],
    metrics: Iterable[str],
    images: Iterable[str],
) -> None:
    """Make the folder of maps; refuse to write two to one file, one over an image, or none."""
    if folder is None:
        return
    mapped = [name for name in metrics if METRICS[name].map_function is not None]
    if not mapped:
        known = ", ".join(name for name, metric in METRICS.items() if metric.map_function)
        raise OptionError(
            f"--maps {folder}: no metric of --metrics has a map; add one of {known}, or leave out "
            "--maps"
        )
    stems = list(stems)
    _check_stems(stems, str)
    check_folder(folder, inputs)
    place = os.path.realpath(folder)
    maps = {os.path.join(place, f"{stem}.{name}") for stem in stems for name in mapped}
    for path in dict.fromkeys(images):
        if os.path.splitext(os.path.realpath(file_of(path)))[0] in maps:
            raise OptionError(
                f"--maps {folder}: the map of another image would be written over {path}; name "
                "another folder"
            )
    if _takes_names_for_one(folder):
        _check_stems(stems, lambda stem: unicodedata.normalize("NFC", stem).casefold())


def _check_stems(stems: Iterable[str], way: Callable[[str], str]) -> None:
    (stem, count), *_ = Counter(map(way, stems)).most_common(1) or [("", 1)]
    if count > 1:
        raise OptionError(
            f"--maps: {count} images are called {stem}, and their maps would replace each other; "
            "compare them one after the other"
        )


def _takes_names_for_one(folder: str) -> bool:
    """Tell whether small and capital letters make one name in a folder."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".imsim-a", dir=folder) as file:
            place, name = os.path.split(file.name)
            return os.path.exists(os.path.join(place, name.replace("-a", "-A")))
    except OSError as error:
        raise ImsimError(f"{folder}: cannot be written: {error.strerror}") from error


def _lies_in(path: str, folder: str) -> bool:
    """Tell whether a place, which need not exist, is in a folder, by whatever names."""
    place, above = os.path.realpath(path), ""
    while place != above:
        if os.path.exists(place) and os.path.samefile(place, folder):
            return True
        place, above = os.path.dirname(place), place
    return False


def _check_place(path: str, option: str = "") -> None:
    if not path:
        raise OptionError("'': is empty; name a folder")
    if is_standard_output(path):
        raise OptionError(
            f"{option}{path}: this does not go to standard output; name a file or a folder"
        )
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(parent):
        raise OptionError(f"{path}: there is no folder {parent}; make it first")
