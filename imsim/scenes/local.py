"""Local values: their means for SSIM, UIQ and ZNCC, deviation for GMSD, and sum for IMED."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from imsim.computation import subtracted
from imsim.finite import prepared
from imsim.portable.arrays import root
from imsim.portable.differences import scaled_difference
from imsim.portable.pair import Local, Scores, window_reach
from imsim.scenes.pieces import (
    Accurate,
    Block,
    Loader,
    Part,
    Pieces,
    Reach,
    Whole,
    own_positions,
    sums_over,
)


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


LEAST_SUM, LARGEST_SUM = 1e-180, 1e200
"""Sums of squares beyond these may have lost some of them."""


class Deviation(Pieces):
    """Number, mean and sum of squares about the mean of the similarities of cells."""

    def __init__(
        self, whole: Whole, formula: Callable[..., Local], kernel: Loader | None, step: int
    ) -> None:
        super().__init__(whole, kernel)
        self._formula, self.step = formula, step
        # A cell, and those beside it.
        self.reach = ((step, 2 * step - 1),) * len(whole.sides)

    def part(self, block: Block) -> Part:
        """Return the moments of the cells whose first pixel the block owns."""
        images, valid, axes = block.images, block.valid, len(block.start)
        local, finite = self._computed(images, valid, self._formula, {})
        values, scored = own_positions(local, block)
        total, n = sums_over(values, scored, axes)
        mean = total / np.where(n > 0, n, 1.0)
        away = values - mean[(..., *[None] * axes)]
        squares, _ = sums_over(away * away, scored, axes)
        rest, _ = sums_over(away, scored, axes)
        squares = np.maximum(squares - rest * rest / np.where(n > 0, n, 1.0), 0.0)
        shape = (*block.batch, self.whole.channels)
        moments = tuple(np.broadcast_to(v, shape).copy() for v in (n, mean, squares))
        return Part(moments, block.finite(images, valid, finite))

    def _merge(self, p: tuple[Any, ...], q: tuple[Any, ...]) -> tuple[Any, ...]:
        (n_p, mean_p, squares_p), (n_q, mean_q, squares_q) = p, q
        n = n_p + n_q
        weight = n_q / np.where(n > 0, n, 1.0)
        apart = np.where(n_p > 0, mean_q - mean_p, 0.0)
        mean = np.where(n_p > 0, mean_p, mean_q) + np.where(n_q > 0, apart * weight, 0.0)
        return n, mean, squares_p + squares_q + apart * apart * n_p * weight

    def finish(self, part: Part) -> Scores:
        """Return the deviations, with n - 1; one cell has none."""
        n, _, squares = part.values
        several = n > 1
        return Scores(np.sqrt(squares / np.where(several, n - 1, 1.0)), np.where(several, n, 0.0))


class QuadraticForm(Pieces):
    """The sum of the contributions of pixels to the squared distance, and the number of pixels."""

    def __init__(
        self,
        whole: Whole,
        formula: Callable[..., Local],
        kernel: Loader | None,
        reach: Reach,
        normalize: str | None,
        options: dict[str, Any],
    ) -> None:
        super().__init__(whole, kernel)
        self._formula, self._options = formula, options
        self.reach, self._normalize = reach, normalize

    def part(self, block: Block) -> Part:
        """Return the sum over the pixels that the block owns."""
        images, valid = subtracted(block.images), block.valid
        local, finite = self._computed(images, valid, self._formula, self._options)
        with np.errstate(all="ignore"):  # infinities of both signs, which are computed again
            total, n = sums_over(*own_positions(local, block), len(block.start))
        unit: Any = np.ones_like(total)
        beyond = ~((abs(total) > LEAST_SUM) & (abs(total) < LARGEST_SUM))
        if beyond.any() and (images.x.dtype.kind == "f" or images.y.dtype.kind == "f"):
            with np.errstate(all="ignore"):
                difference, unit = scaled_difference(prepared(images, valid, finite))
            images = images._replace(x=difference, y=np.zeros_like(difference), dtype=np.float64)
            local, _ = self._computed(images, valid, self._formula, self._options)
            total, n = sums_over(*own_positions(local, block), len(block.start))
        shape = (*block.batch, 1)
        total, n, unit = (np.broadcast_to(v, shape).astype(np.float64) for v in (total, n, unit))
        values = Accurate.of(total, unit, 2), Accurate.of(n)
        return Part(values, block.finite(block.images, valid, finite))

    def finish(self, part: Part) -> Scores:
        """Return the distances."""
        form, n = part.values[0], part.values[1].value
        # G is positive definite, yet for a large sigma its smallest eigenvalues are below rounding.
        squared = np.maximum(form.value, 0.0)
        if self._normalize == "rms":
            with np.errstate(all="ignore"):
                squared = squared / (n * self.whole.channels)
        return Scores(root(squared) * form.unit, n)
