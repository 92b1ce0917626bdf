"""Frames that show a part of an image, laid one over the other as viewers do."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import numpy as np

from imsim._images.alpha import composite
from imsim._images.pictures import Array, Contents
from imsim._images.reading import Reading

COMPOSED = "its frame is laid over those before it, as viewers show it"


class After(Enum):
    """What becomes of the place of a frame before the next one is shown."""

    KEEP = 0
    CLEAR = 1
    """It becomes transparent."""
    RESTORE = 2
    """It is what it was before."""


class Frame(NamedTuple):
    """A part of the image."""

    colours: Array
    """Shape (height, width) or (height, width, 3)."""
    alpha: Array
    """Shape (height, width), of integers, of which the largest is opaque."""
    left: int
    top: int
    over: bool
    """Whether it is laid over what is there, or takes its place."""
    after: After
    notes: tuple[str, ...] = ()


class Frames:
    """The frames of a file as images of some height and width, made one after the other."""

    def __init__(
        self, read: Callable[[int], Frame], sides: tuple[int, int], reading: Reading
    ) -> None:
        self._read, self._sides, self._reading = read, sides, reading
        self._next = 0
        self._colours = self._alpha = np.empty(0)
        self._seen: tuple[Array, Array, tuple[str, ...]] = self._colours, self._alpha, ()

    def image(self, index: int) -> Contents:
        """Return an image; going backwards, all of them are made again."""
        if index < self._next - 1:
            self._next = 0
        while self._next <= index:
            frame = self._read(self._next)
            if not self._next:
                self._colours = np.zeros(
                    (*self._sides, *frame.colours.shape[2:]), frame.colours.dtype
                )
                self._alpha = np.zeros(self._sides, frame.alpha.dtype)
            self._seen = self._shown(frame)
            self._next += 1
        colours, alpha, notes = self._seen
        image = composite(colours, alpha, self._reading)
        return image._replace(notes=(*notes, *image.notes))

    def _shown(self, frame: Frame) -> tuple[Array, Array, tuple[str, ...]]:
        """Lay a frame over the image, return what is seen, and do what the frame asks for after."""
        height, width = frame.alpha.shape
        place = slice(frame.top, frame.top + height), slice(frame.left, frame.left + width)
        before = self._colours[place].copy(), self._alpha[place].copy()
        is_part = frame.alpha.shape != self._sides or (frame.over and not _is_opaque(frame.alpha))
        # On an empty image, nothing shines through.
        notes = (*frame.notes, COMPOSED) if is_part and self._alpha.any() else frame.notes
        colours, alpha = frame.colours, frame.alpha
        if frame.over:
            colours, alpha = _over(colours, alpha, *before)
        self._colours[place], self._alpha[place] = colours, alpha
        shown = self._colours.copy(), self._alpha.copy(), notes
        if frame.after is After.CLEAR:
            self._colours[place] = self._alpha[place] = 0
        elif frame.after is After.RESTORE:
            self._colours[place], self._alpha[place] = before
        return shown


def _is_opaque(alpha: Array) -> bool:
    return bool((alpha == np.iinfo(alpha.dtype).max).all())


def _over(colours: Array, alpha: Array, below: Array, below_alpha: Array) -> tuple[Array, Array]:
    """Lay colours over others, both with alpha; the result has alpha too."""
    full = np.iinfo(alpha.dtype).max
    if _is_opaque(alpha):
        return colours, alpha
    is_hard = not ((alpha > 0) & (alpha < full)).any()
    if is_hard:  # as in every GIF
        shown = alpha > 0 if colours.ndim == 2 else alpha[..., None] > 0
        return np.where(shown, colours, below), np.maximum(alpha, below_alpha)
    upper = alpha.astype(np.float64) / full
    lower = below_alpha / full * (1 - upper)
    total = upper + lower
    with np.errstate(invalid="ignore"):
        share = np.where(total > 0, upper / total, 0)
    share = share[..., None] if colours.ndim == 3 else share
    mixed = np.rint(colours * share + below * (1 - share))
    return mixed.astype(colours.dtype), np.rint(total * full).astype(alpha.dtype)
