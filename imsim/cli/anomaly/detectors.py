"""What the commands do with a detector and the pixels it takes."""

from __future__ import annotations

import argparse
import hashlib
from typing import TYPE_CHECKING

from imsim._images import ImageFileError, read_picture
from imsim.cli.anomaly.pictures import Array, Pictures
from imsim.cli.terminal import say
from imsim.errors import OptionError

if TYPE_CHECKING:
    from imsim.anomaly import AnomalyDetector


def load(kind: type[AnomalyDetector], path: str) -> AnomalyDetector:
    """Load a detector, or say why that cannot be."""
    try:
        return kind.load(path)
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read: {error.strerror or error}") from error


def digest(path: str) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def field_files(arguments: argparse.Namespace) -> list[str]:
    """Return the files of the flat field and the dark image, as far as they are given."""
    return [path for path in (arguments.flat, arguments.dark) if path]


class Correction:
    """Makes transmission of raw counts, with a flat field; other pixels stay as they are."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        if arguments.dark and not arguments.flat:
            raise OptionError("--dark: is of use with --flat only; give both")
        self._fields = []
        for path in field_files(arguments):
            field = read_picture(path)
            self._fields.append(field.pixels)
            for note in field.notes:
                say(f"note: {path}: {note}")

    def __call__(self, images: Array) -> Array:
        """Return images for a detector."""
        from imsim.anomaly import xray

        return xray.correct(images, *self._fields) if self._fields else images


def status(pictures: Pictures) -> int:
    """Say how many files or images could not be used, and return the exit status."""
    pictures.notes.end()
    if pictures.failures:
        say(f"error: {pictures.failures} could not be used; they are named above")
    return 2 if pictures.failures else 0
