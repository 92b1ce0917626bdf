"""Means over windows, SSIM, UIQ and the windowed ZNCC: sums over the windows of each block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from imsim.portable.pair import Local, Scores, window_reach
from imsim.scenes.pieces import Block, Loader, Part, Pieces, Whole, own_positions, sums_over


class WindowMeans(Pieces):
    """A block is scored with the pixels that its windows read: these windows lie inside it."""

    def __init__(
        self,
        whole: Whole,
        formula: Callable[..., Scores | Local],
        kernel: Loader | None,
        lengths: tuple[int, ...],
        options: dict[str, Any],
    ) -> None:
        super().__init__(whole, kernel)
        self._formula, self._options, self._lengths = formula, options, lengths
        self.reach = tuple(window_reach(length) for length in lengths)

    def part(self, block: Block) -> Part:
        """Return the sums over the windows whose centres the block owns, and their numbers."""
        images, valid = block.images, block.valid
        shape = (*block.batch, self.whole.channels)
        if any(side < one for side, one in zip(images.sides, self._lengths, strict=True)):
            nothing = np.zeros(shape)
            return Part((nothing, nothing.copy()), block.finite(*block.owned()))
        found, finite = self._computed(images, valid, self._formula, self._options)
        n = np.broadcast_to(np.asarray(found.scored, np.float64), shape)
        values = np.broadcast_to(np.asarray(found.values, np.float64), shape)
        return Part(
            (np.where(n > 0, values * n, 0.0), n.copy()), block.finite(images, valid, finite)
        )

    def finish(self, part: Part) -> Scores:
        """Return the means."""
        total, n = part.values
        return Scores(total / np.where(n > 0, n, 1.0), n)


class PaddedMeans(WindowMeans):
    """Means over windows where each pixel has one: the border of the images is repeated.

    That of a block, which is repeated too, is read by windows of other blocks alone.
    """

    def part(self, block: Block) -> Part:
        """Return the sums over the windows whose centres the block owns, and their numbers."""
        images, valid = block.images, block.valid
        found, finite = self._computed(images, valid, self._formula, self._options)
        values, scored = own_positions(found, block)
        total, n = sums_over(values, scored, len(block.start))
        shape = (*block.batch, self.whole.channels)
        total, n = (np.broadcast_to(v, shape).copy() for v in (total, n))
        return Part((total, n), block.finite(images, valid, finite))
