"""What every reader returns: pixels with notes, or an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from imsim.errors import ImsimError

_KINDS = {"b": "1-bit", "u": "{}-bit", "i": "signed {}-bit", "f": "{}-bit float"}

Contents = tuple[np.ndarray[Any, Any], tuple[str, ...]]
"""Pixels and notes."""


class ImageFileError(ImsimError):
    """An image file that cannot be read, or holds something that imsim does not score."""


class Pages(NamedTuple):
    """The images of an open file."""

    number: int
    read: Callable[[int], Contents]
    close: Callable[[], None]


class Picture(NamedTuple):
    """The pixels of one image."""

    path: str
    """The file as the caller named it, with the index of the image if there are several."""
    pixels: np.ndarray[Any, Any]
    """Shape (height, width) or (height, width, channels), in the file's own type."""
    notes: tuple[str, ...]
    """What was left aside or converted while reading."""

    @property
    def channel_axis(self) -> int | None:
        """The `channel_axis` to pass to a metric."""
        return None if self.pixels.ndim == 2 else -1

    def __str__(self) -> str:
        """Describe the picture: ``512 x 512 pixels, 8-bit, 3 channels``."""
        height, width, *channels = self.pixels.shape
        kind = _KINDS.get(self.pixels.dtype.kind, str(self.pixels.dtype))
        kind = kind.format(8 * self.pixels.dtype.itemsize)
        return f"{width} x {height} pixels, {kind}, " + (
            f"{channels[0]} channels" if channels else "grey"
        )


def as_mask(picture: Picture) -> np.ndarray[Any, Any]:
    """Take a picture as a mask: grey, with 0 and one other value, which means "use".

    Parameters
    ----------
    picture : Picture
        What `ImageFile.read` returned.

    Returns
    -------
    numpy.ndarray of bool
        True where the pixel is not 0.

    Raises
    ------
    ImageFileError
        If the picture has channels, or holds more than 0 and one of 1, 255, 65535.
    """
    path, pixels, _ = picture
    if pixels.ndim != 2:
        raise ImageFileError(
            f"{path}: a mask must be grey; this one has {pixels.shape[-1]} channels"
        )
    values = np.unique(pixels)
    used = values[values != 0]
    if used.size > 1 or (used.size == 1 and used[0] not in (1, 255, 65535)):
        raise ImageFileError(
            f"{path}: a mask must hold 0 (leave out) and 255, 65535 or 1 (use) and no other value; "
            f"this one has values from {values[0]} to {values[-1]}. Threshold it first"
        )
    mask: np.ndarray[Any, Any] = pixels != 0
    return mask


def orientation_note(orientation: int) -> tuple[str, ...]:
    """Say that an orientation tag is not obeyed."""
    if orientation == 1:
        return ()
    return (
        f"its orientation tag ({orientation}: to be turned or mirrored) is ignored; "
        "the pixels are taken as they are stored",
    )
