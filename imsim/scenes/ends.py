"""The least and the largest value of images, found in the pass of their scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from imsim.finite import value_ends
from imsim.portable.pair import Scores
from imsim.scenes.pieces import Block, Part, Pieces


def _inward(end: float, way: int) -> float:
    """Round a whole number that no float holds up (1) or down (-1): a span is not made wider."""
    rounded = float(end)
    is_outside = rounded < end if way > 0 else rounded > end
    return float(np.nextafter(rounded, way * np.inf)) if is_outside else rounded


class ValueEnds(Pieces):
    """Least and largest value inside the mask; infinities where there is none."""

    def part(self, block: Block) -> Part:
        """Return the ends of the values of all images of a block."""
        images, valid = block.owned()
        with np.errstate(all="ignore"):
            ends = value_ends(images.x, images.y, valid)
        shape = (*block.batch, 1)
        low, high = (
            np.full(shape, _inward(end, way)) for end, way in zip(ends, (1, -1), strict=True)
        )
        return Part((low, high), np.ones(block.batch, np.bool_))

    def _merge(self, p: tuple[Any, ...], q: tuple[Any, ...]) -> tuple[Any, ...]:
        return np.minimum(p[0], q[0]), np.maximum(p[1], q[1])

    def finish(self, part: Part) -> Scores:
        """Return them in place of scores and numbers of positions."""
        return Scores(*part.values)
