"""What the commands do with a detector and the pixels it takes."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

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


class Correction:
    """Makes of the pixels of a file what a detector takes.

    With a flat field, counts become transmission. Without, integers become fractions of their
    largest possible value, so that files of 8 and 16 bits compare.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        if arguments.dark and not arguments.flat:
            raise OptionError("--dark: is of use with --flat only; give both")
        self._fields = [read_picture(p).pixels for p in (arguments.flat, arguments.dark) if p]

    def __call__(self, images: Array) -> Array:
        """Return images for a detector."""
        from imsim.anomaly import xray

        if self._fields:
            return xray.correct(images, *self._fields)
        if images.dtype.kind not in "ui":
            return images
        return (images / np.iinfo(images.dtype).max).astype(np.float32)


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out the warnings that number unusable images; the commands name them."""
    from imsim.anomaly.detector import UnscorableImageWarning
    from imsim.anomaly.xray import UnusableImageWarning

    with warnings.catch_warnings():
        for kind in (UnscorableImageWarning, UnusableImageWarning):
            warnings.simplefilter("ignore", kind)
        yield


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
    if pictures.failures:
        say(f"error: {pictures.failures} could not be used; they are named above")
    return 2 if pictures.failures else 0
