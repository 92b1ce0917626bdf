"""Checks of options before a long run, so that it does not fail at its end."""

from __future__ import annotations

import argparse
import math
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from imsim._images import EXTENSIONS, same_file
from imsim.cli.pairing import FilePair
from imsim.errors import DataRangeError, ImsimError, OptionError
from imsim.registry import METRICS


def check_data_range(value: float | None, text: str | None = None) -> None:
    """Refuse once what the library would refuse for every pair."""
    if value is not None and not (math.isfinite(value) and value > 0):
        text = f"{value:g}" if text is None else text
        raise DataRangeError(
            f"--data-range {text}: data_range must be a positive number, e.g. 65535"
        )


def output_format(arguments: argparse.Namespace) -> str | None:
    """Return "csv" or "json", or None for tables.

    The standard output, ``-``, is what gets the rows if no file is named; it is CSV by default.
    """
    if arguments.output == "-":
        arguments.output = None
        arguments.csv = not arguments.json
    asked = "csv" if arguments.csv else "json" if arguments.json else None
    if arguments.output is None:
        return asked
    ending = os.path.splitext(arguments.output)[1].lower()
    ended = {".csv": "csv", ".json": "json"}.get(ending)
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
    file: str | None, inputs: Iterable[str], *, images: Iterable[str] = (), resume: bool = False
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
    """
    if file is None:
        if resume:
            raise OptionError("--resume: goes on with a file of results; name it with -o FILE")
        return
    _check_place(file)
    if os.path.isdir(file):
        raise OptionError(f"--output {file}: is a folder; name a file")
    for path in inputs:
        if same_file(file, path):
            raise OptionError(f"--output {file}: is an image to be read; name another file")
        if file.lower().endswith(EXTENSIONS) and os.path.isdir(path) and _lies_in(file, path):
            raise OptionError(
                f"--output {file}: lies in {path}, whose images are read, and is called like one "
                f"({os.path.splitext(file)[1]}); name a file elsewhere"
            )
    for path in images if os.path.exists(file) else ():
        if same_file(file, path):  # by a link of either kind
            raise OptionError(f"--output {file}: is the image {path}; name another file")


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
    folder: str | None, inputs: Iterable[str], pairs: Iterable[FilePair], metrics: Iterable[str]
) -> None:
    """Make the folder of maps; refuse to write two maps to one file, or none at all."""
    if folder is None:
        return
    if all(METRICS[name].map_function is None for name in metrics):
        known = ", ".join(name for name, metric in METRICS.items() if metric.map_function)
        raise OptionError(
            f"--maps {folder}: no metric of --metrics has a map; add one of {known}, or leave out "
            "--maps"
        )
    for stem, count in Counter(pair.stem for pair in pairs).most_common(1):
        if count == 1:
            break
        raise OptionError(
            f"--maps: {count} images are called {stem}, and their maps would replace each other; "
            "compare them one after the other"
        )
    check_folder(folder, inputs)


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """Yield the name of a new file, which takes the place of `path` once it is written.

    So no link, whoever made it, leads to another file that is written over, and what a full disk
    did not take leaves no half of a file.
    """
    new = f"{path}.{secrets.token_hex(4)}.part"
    try:
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield new
        os.replace(new, path)
    except OSError as error:
        raise ImsimError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            os.remove(new)


def _lies_in(path: str, folder: str) -> bool:
    """Tell whether a place, which need not exist, is in a folder, by whatever names."""
    place, above = os.path.realpath(path), ""
    while place != above:
        if os.path.exists(place) and os.path.samefile(place, folder):
            return True
        place, above = os.path.dirname(place), place
    return False


def _check_place(path: str) -> None:
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(parent):
        raise OptionError(f"{path}: there is no folder {parent}; make it first")
