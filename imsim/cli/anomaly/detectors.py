"""What the commands do with a detector and the pixels it takes."""

from __future__ import annotations

import argparse
import hashlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from imsim._images import ImageFileError, read_picture
from imsim.cli.anomaly.pictures import Array, Pictures
from imsim.cli.terminal import say
from imsim.errors import ImsimError, OptionError

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
    """Makes of the pixels of a file what a detector takes.

    With a flat field, counts become transmission. Without, integers become fractions of their
    largest possible value, so that files of 8 and 16 bits compare.
    """

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

        if self._fields:
            return xray.correct(images, *self._fields)
        if images.dtype.kind not in "ui":
            return images
        return (images / np.iinfo(images.dtype).max).astype(np.float32)


REMEDIES = (
    (
        r"pass kind, one of .*?, and images",
        "use --preprocess none in training, or images",
    ),
    (r", or use patches, e\.g\. patch=\d+", ", or train a detector on images of this size"),
    (
        r"pass more images, larger masks, or a smaller patch",
        "use more or larger images, or another --model or --metric",
    ),
    (
        r": is width too large for the items\?",
        "; use larger images, or --preprocess none in training",
    ),
)
"""What the library advises, and what a user of the command can do instead."""


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out warnings that number unusable images, which are named, and say other remedies."""
    from imsim.anomaly.detector import UnscorableImageWarning
    from imsim.anomaly.xray import UnusableImageWarning

    with warnings.catch_warnings():
        for kind in (UnscorableImageWarning, UnusableImageWarning):
            warnings.simplefilter("ignore", kind)
        try:
            yield
        except ImsimError as error:
            message = str(error)
            for advice, remedy in REMEDIES:
                message = re.sub(advice, remedy, message)
            raise ImsimError(message) from error


def reason(detector: AnomalyDetector, image: Array) -> str:
    """Say why an image has no score."""
    from imsim.anomaly.xray import UnusableImageWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if detector.preprocess_ is not None:
            detector.preprocess_.transform(image)
    said = [str(w.message) for w in caught if issubclass(w.category, UnusableImageWarning)]
    return said[0].rpartition("images[0] ")[2] if said else "nothing in it can be compared"


def status(pictures: Pictures) -> int:
    """Say how many files or images could not be used, and return the exit status."""
    pictures.notes.end()
    if pictures.failures:
        say(f"error: {pictures.failures} could not be used; they are named above")
    return 2 if pictures.failures else 0
