"""Outputs of commands, checked before a long run can fail at its end."""

from __future__ import annotations

import argparse
import os
import stat
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

from imsim._images import EXTENSIONS, file_of, same_file
from imsim.errors import ImsimError, OptionError
from imsim.registry import METRICS


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
    """Return "csv" or "json", or None for tables.

    The standard output, ``-``, is what gets the rows if no file is named; it is CSV by default.
    """
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
    images: Iterable[str] = (),
    resume: bool = False,
    option: str = "--output",
) -> None:
    """Refuse a file that cannot be written, or that is to be read.

    Parameters
    ----------
    file : str, optional
        The file; none is the standard output.
    inputs : iterable of str
        The files and folders that are read.
    images : iterable of str
        The images in these folders.
    resume : bool
        Whether the file is to be gone on with.
    option : str
        That names it.
    """
    if file is None:
        if resume:
            raise OptionError("--resume: goes on with a file of results; name it with -o FILE")
        return
    if not file:
        raise OptionError(f"{option} '': is empty; name a file")
    _check_place(file)
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
    for path in images if os.path.exists(file) else ():
        if same_file(file, path):  # by a link of either kind
            raise OptionError(f"{option} {file}: is the image {path}; name another file")


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
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ImsimError(f"{folder}: cannot be made: {error.strerror}") from error


def check_maps(
    folder: str | None,
    inputs: Iterable[str],
    stems: Iterable[str],
    metrics: Iterable[str],
    images: Iterable[str],
) -> None:
    """Make the folder of maps; refuse to write two to one file, one over an image, or none.

    Parameters
    ----------
    folder : str, optional
        The folder; none if there are to be no maps.
    inputs : iterable of str
        The files and folders that are read.
    stems : iterable of str
        What the maps of each pair are called.
    metrics : iterable of str
        Those that are run.
    images : iterable of str
        The files that are read.
    """
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


def _check_place(path: str) -> None:
    if not path:
        raise OptionError("'': is empty; name a folder")
    if is_standard_output(path):
        raise OptionError(f"{path}: this does not go to standard output; name a file or a folder")
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(parent):
        raise OptionError(f"{path}: there is no folder {parent}; make it first")
