"""Sums over pixels, of SE, RMSE, PSNR and SRE; and the least and the largest pixel."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from imsim.computation import subtracted
from imsim.finite import prepared, value_ends
from imsim.portable.arrays import count, mean, root, to_widest_float
from imsim.portable.differences import (
    decibels,
    mean_squared_error,
    reconstruction_decibels,
    squared_difference,
)
from imsim.portable.exact_sums import exact_mean
from imsim.portable.pair import Scores
from imsim.portable.units import PER_CHANNEL, scaling_unit
from imsim.scenes.pieces import Accurate, Block, Part, Pieces, Whole


class SquaredErrors(Pieces):
    """The sum of the squared differences, and the number of pixels; pooled over channels."""

    def __init__(
        self, whole: Whole, result: Literal["sum", "mean", "root", "share of the range", "decibels"]
    ) -> None:
        super().__init__(whole)
        self._result = result

    def part(self, block: Block) -> Part:
        """Return the sums over the pixels that the block owns."""
        images, valid = block.owned()
        images = subtracted(images)
        with np.errstate(all="ignore"):
            if self.whole.by_kernel:
                from imsim.kernels.se import pooled  # slow to import, as Numba is

                squares, n, unit = pooled(images, valid)
                finite = None if np.isfinite(squares).all() else True
            else:
                finite = True
                pair = prepared(images, valid, block.finite(images, valid))
                squares, n, unit = mean_squared_error(pair)
                n = np.asarray(n, np.float64)
                squares = np.where(n > 0, squares * n * self.whole.channels, 0.0)
        shape = (*block.batch, 1)
        squares, n = (np.broadcast_to(v, shape).astype(np.float64) for v in (squares, n))
        values = Accurate.of(squares, unit, 2), Accurate.of(n)
        return Part(values, block.finite(images, valid, finite))

    def finish(self, part: Part) -> Scores:
        """Return the sum, the mean, its root, or its decibels."""
        squares, n = part.values[0], part.values[1].value
        unit, total = squares.unit, squares.value
        with np.errstate(all="ignore"):
            mse = total / (n * self.whole.channels)
            match self._result:
                case "sum":
                    return Scores(total * unit * unit, n)
                case "mean":
                    return Scores(mse * unit * unit, n)
                case "decibels":
                    return Scores(decibels(self.whole.data_range, mse, np) - 20 * np.log10(unit), n)
            rmse = root(mse) * unit
            in_ranges = self._result == "share of the range"
            return Scores(rmse / self.whole.data_range if in_ranges else rmse, n)


class Reconstruction(Pieces):
    """Sums of the squared differences and of x, and numbers of pixels, by channel."""

    def part(self, block: Block) -> Part:
        """Return the sums over the pixels that the block owns."""
        images, valid = block.owned()
        shape = (*block.batch, self.whole.channels)
        with np.errstate(all="ignore"):
            if self.whole.by_kernel:
                from imsim.kernels.se import scaled_sums  # slow to import, as Numba is

                squares, unit, total, unit_x, n = scaled_sums(images, valid)
                finite = None if np.isfinite(squares + total).all() else True
            else:
                finite = True
                pair = prepared(images, valid, block.finite(images, valid))
                differences, unit = squared_difference(pair, PER_CHANNEL)
                x = to_widest_float(pair.x)
                unit_x = scaling_unit(x)
                n = np.asarray(count(differences, valid), np.float64)
                means = mean(differences, valid), exact_mean(x / unit_x, valid, None)
                squares, total = (np.where(n > 0, v * n, 0.0) for v in means)
                unit_x = unit_x[..., 0, 0]
        squares, unit, total, unit_x, n = (
            np.broadcast_to(v, shape).astype(np.float64) for v in (squares, unit, total, unit_x, n)
        )
        values = Accurate.of(squares, unit, 2), Accurate.of(total, unit_x, 1), Accurate.of(n)
        return Part(values, block.finite(images, valid, finite))

    def finish(self, part: Part) -> Scores:
        """Return the ratios in decibels."""
        squares, total, n = part.values
        n = n.value
        with np.errstate(all="ignore"):
            mse = squares.value / n
            ratio = reconstruction_decibels(total.value / n, mse, np)
            units = 20 * (np.log10(total.unit) - np.log10(squares.unit))
            return Scores(np.where(mse > 0, ratio + units, ratio), n)


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
        """Return least and largest value, in place of scores and numbers of positions."""
        return Scores(*part.values)
