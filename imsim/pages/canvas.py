"""Two images of different sizes on one canvas, aligned at the top left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from imsim.typing import Array

Which = Literal["reference", "test"]
ONLY: dict[Which, tuple[int, int, int]] = {"reference": (38, 138, 76), "test": (136, 84, 208)}
"""Red, green and blue of the stripes on what only one image has: no colour of any scale."""
ABSENT = (104, 152)
"""The two greys of the chequers where an image has no pixels."""


@dataclass(frozen=True)
class Canvas:
    """The heights and widths of two images, and the extent of both together."""

    reference: tuple[int, int]
    test: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the canvas."""
        (a, b), (c, d) = self.reference, self.test
        return max(a, c), max(b, d)

    @property
    def common(self) -> tuple[slice, slice]:
        """The rows and columns that both images have."""
        (a, b), (c, d) = self.reference, self.test
        return slice(min(a, c)), slice(min(b, d))

    @property
    def one_size(self) -> bool:
        """Whether there is nothing that only one image has."""
        return self.reference == self.test

    @property
    def said(self) -> str:
        """Say both sizes, width first, as in ``size 97x128 against 96x128``."""
        (a, b), (c, d) = self.reference, self.test
        return f"size {d}x{c} against {b}x{a}"

    def padded(self, values: Array, nothing: float = 0) -> Array:
        """Put an image, or what belongs to its upper left part, on the canvas."""
        if values.shape[:2] == self.size:
            return values
        canvas = np.full((*self.size, *values.shape[2:]), nothing, values.dtype)
        canvas[: values.shape[0], : values.shape[1]] = values
        return canvas

    def has(self, which: Which) -> Array:
        """Tell where an image has pixels."""
        height, width = getattr(self, which)
        found = np.zeros(self.size, dtype=bool)
        found[:height, :width] = True
        return found

    def only(self, which: Which) -> Array:
        """Tell where this image alone has pixels."""
        return self.has(which) & ~self.has("test" if which == "reference" else "reference")
