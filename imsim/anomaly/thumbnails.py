"""Small pictures of images and maps, with a box around a place."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from imsim.anomaly.stacks import Floats
from imsim.pages import Scale, blocks, picture
from imsim.pages.colour import small_png

SIDE = 256
"""Longest side of a picture in pixels; a page shows two beside each other on a phone."""
LEAST_HALF = 14
"""Least distance in pixels from the middle of a box to its line: around it, not on it."""
_RINGS = ((0, 0), (1, 255), (2, 255), (3, 0))
"""Distance outwards and grey of the lines of a box: white in black is seen on any colours."""


class Thumbnail(NamedTuple):
    """Values in small, and a box around a place in them."""

    values: Floats
    """(height, width), at most `SIDE` each unless it is a single row or column of blocks."""
    box: tuple[int, int, int, int] | None
    """First and last row, and column, of the innermost line."""

    def drawn(self, scale: Scale, words: str) -> Markup:
        """Return the picture for a page."""
        colours = scale.colours_of(self.values)
        if self.box is not None:
            _draw(colours, self.box)
        return Markup(picture(small_png(colours), words))


def thumbnail(
    values: NDArray[Any], place: tuple[slice, slice] | None, *, largest: bool = False
) -> Thumbnail:
    """Reduce an image to the means of blocks, or a map to the largest values; enlarge a small one.

    Parameters
    ----------
    values : numpy.ndarray, shape (height, width)
        Pixels of any real type, or a map.
    place : tuple of slice, optional
        Rows and columns to draw a box around.
    largest : bool
        Of each block take the largest value: a small defect must not vanish from a map.
    """
    step = math.ceil(max(values.shape) / SIDE)
    if largest:
        small = values[blocks.worst(values, (step, step))]
    else:
        everywhere = (
            np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
        )
        small = blocks.mean(values[..., None], everywhere, (step, step))[..., 0]
    factor = max(1, SIDE // max(small.shape))
    with np.errstate(over="ignore"):  # the colour is that of the end of the scale
        small = small.astype(np.float32).repeat(factor, axis=0).repeat(factor, axis=1)
    box = None
    if place is not None:
        (top, bottom), (left, right) = (
            _ends(part, factor / step, side) for part, side in zip(place, small.shape, strict=True)
        )
        box = (top, bottom, left, right)
    return Thumbnail(small, box)


def _ends(part: slice, factor: float, side: int) -> tuple[int, int]:
    """Return the first and the last row or column of the line around a part, within a picture."""
    middle = (part.start + part.stop) / 2 * factor
    half = max((part.stop - part.start) / 2 * factor + 2, LEAST_HALF)
    return max(0, math.floor(middle - half)), min(side - 1, math.ceil(middle + half))


def _draw(colours: NDArray[np.uint8], box: tuple[int, int, int, int]) -> None:
    """Draw the lines of a box; those that would lie outside the picture run along its border."""
    last = colours.shape[0] - 1, colours.shape[1] - 1
    for out, grey in _RINGS[::-1]:
        top, left = max(0, box[0] - out), max(0, box[2] - out)
        bottom, right = min(last[0], box[1] + out), min(last[1], box[3] + out)
        colours[[top, bottom], left : right + 1] = grey
        colours[top : bottom + 1, [left, right]] = grey


def place_words(place: tuple[slice, slice]) -> str:
    """Say where a place is, in pixels from the upper left corner, counted from 0."""
    rows, columns = (
        f"{part.start}" if part.stop - part.start == 1 else f"{part.start} to {part.stop - 1}"
        for part in place
    )
    return f"x {columns}, y {rows}"
