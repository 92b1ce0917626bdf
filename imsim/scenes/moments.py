"""Sums over whole images: SE, RMSE, PSNR, SRE, the correlation of ZNCC and the angle of SAM."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from imsim.finite import prepared, subtracted, value_ends
from imsim.portable.arrays import count, mean, minimum, root, to_widest_float, total, where_valid
from imsim.portable.differences import (
    decibels,
    mean_squared_error,
    reconstruction_decibels,
    squared_difference,
)
from imsim.portable.pair import Scores
from imsim.portable.units import PER_CHANNEL, PER_IMAGE, exact_mean, scaling_unit
from imsim.scenes.pieces import Accurate, Block, Loader, Part, Pieces, Whole, repeated
from imsim.typing import Array


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
        squares, n = repeated((*block.batch, 1), squares, n)
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
        shape = (*block.batch, self.whole.channels)
        squares, unit, total, unit_x, n = repeated(shape, squares, unit, total, unit_x, n)
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
        values = repeated(shape, _inward(ends[0], 1), _inward(ends[1], -1))
        return Part(values, np.ones(block.batch, np.bool_))

    def _merge(self, p: tuple[Any, ...], q: tuple[Any, ...]) -> tuple[Any, ...]:
        return np.minimum(p[0], q[0]), np.maximum(p[1], q[1])

    def finish(self, part: Part) -> Scores:
        """Return least and largest value, in place of scores and numbers of positions."""
        return Scores(*part.values)


class Correlation(Pieces):
    """Numbers of pixels, means, and sums of squares and products about the means, by channel.

    The means are counted from a pixel, the centre, to keep their digits; all are in units of x
    and of y.
    """

    def __init__(self, whole: Whole, correlation: Callable[..., Array]) -> None:
        super().__init__(whole)
        self._correlation = correlation

    def part(self, block: Block) -> Part:
        """Return the moments of the pixels that the block owns."""
        images, valid = block.owned()
        with np.errstate(all="ignore"):
            if self.whole.by_kernel:
                from imsim.kernels.zncc import scaled_moments  # slow to import, as Numba is

                found, units = scaled_moments(images, valid)
                asked: Any = None if np.isfinite(found[..., 3:5]).all() else True
            else:
                asked = True
                pair = prepared(images, valid, block.finite(images, valid))
                found, units = _moments(pair.x, pair.y, valid)
        shape = (*block.batch, self.whole.channels)
        values = repeated((*shape, found.shape[-1]), found) + repeated((*shape, 2), units)
        return Part(values, block.finite(images, valid, asked))

    def _merge(self, p: tuple[Any, ...], q: tuple[Any, ...]) -> tuple[Any, ...]:
        n_p, n_q = p[0][..., 0], q[0][..., 0]
        (one, units), (other, _) = _in_common_units(p, q, _scaled_moments, n_p, n_q)
        n = n_p + n_q
        weight = n_q / np.where(n > 0, n, 1.0)
        dx = (other[..., 6] - one[..., 6]) + (other[..., 1] - one[..., 1])
        dy = (other[..., 7] - one[..., 7]) + (other[..., 2] - one[..., 2])
        between = n_p * weight
        merged = one.copy()
        with np.errstate(all="ignore"):
            merged[..., 0] = n
            merged[..., 1] += dx * weight
            merged[..., 2] += dy * weight
            merged[..., 3] += other[..., 3] + dx * dx * between
            merged[..., 4] += other[..., 4] + dy * dy * between
            merged[..., 5] += other[..., 5] + dx * dy * between
        # Without pixels on one side, the other one is left as it is: it has a centre of its own.
        merged = np.where((n_q == 0)[..., None], one, merged)
        merged = np.where((n_p == 0)[..., None], other, merged)
        return merged, units

    def finish(self, part: Part) -> Scores:
        """Return the correlations."""
        moments = part.values[0]
        n, xx, yy, xy = (moments[..., k] for k in (0, 3, 4, 5))
        with np.errstate(all="ignore"):
            return Scores(self._correlation(xy, xx, yy, xx == 0, yy == 0), n)


def _moments(x: Array, y: Array, valid: Array | None) -> tuple[Array, Array]:
    """Moments and units by arithmetic on arrays."""
    x, y = to_widest_float(x), to_widest_float(y)
    units = scaling_unit(x), scaling_unit(y)
    x, y = x / units[0], y / units[1]
    n = np.maximum(count(x, valid), 0.0)
    centres = [minimum(v, valid) for v in (x, y)]
    x, y = (
        where_valid(valid, v - c[..., None, None]) for v, c in zip((x, y), centres, strict=True)
    )
    number = np.where(n > 0, n, 1.0)
    means = [total(v) / number for v in (x, y)]
    x, y = (where_valid(valid, v - m[..., None, None]) for v, m in zip((x, y), means, strict=True))
    parts = n, *means, total(x * x), total(y * y), total(x * y), *centres
    shape = np.broadcast_shapes(*(part.shape for part in parts))
    found = np.stack([np.broadcast_to(part, shape) for part in parts], axis=-1)
    own = [np.broadcast_to(unit[..., 0, 0], shape) for unit in units]
    return np.where((found[..., :1] > 0), found, 0.0), np.stack(own, axis=-1)


def _scaled_moments(moments: Array, x: Array, y: Array) -> Array:
    """Multiply x and y by factors."""
    one = np.ones_like(x)
    return moments * np.stack([one, x, y, x * x, y * y, x * y, x, y], axis=-1)


def _in_common_units(
    p: tuple[Any, ...],
    q: tuple[Any, ...],
    scaled: Callable[[Array, Array, Array], Array],
    n_p: Array,
    n_q: Array,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Bring two sets of numbers to the larger unit of x and of y."""
    (values_p, units_p), (values_q, units_q) = p, q
    if (units_p == units_q).all():
        return (values_p, units_p), (values_q, units_q)
    units = np.maximum(units_p, units_q)
    # Where there is no pixel, there is no unit.
    units = np.where((n_q == 0)[..., None], units_p, units)
    units = np.where((n_p == 0)[..., None], units_q, units)
    found = []
    for values, own, n in ((values_p, units_p, n_p), (values_q, units_q, n_q)):
        factors = np.where((n == 0)[..., None], 1.0, own / units)
        found.append((scaled(values, factors[..., 0], factors[..., 1]), units))
    return found[0], found[1]


class ImageAngle(Pieces):
    """Sums of x^2, y^2 and x y over all channels, and the square of the sine of the angle."""

    def __init__(self, whole: Whole, degrees: bool) -> None:
        super().__init__(whole)
        self._unit = 180 / math.pi if degrees else 1.0

    def part(self, block: Block) -> Part:
        """Return the sums over the pixels that the block owns."""
        images, valid = block.owned()
        with np.errstate(all="ignore"):
            if self.whole.by_kernel:
                from imsim.kernels.sam import scaled_grams  # slow to import, as Numba is

                gram, n, units = scaled_grams(images, valid)
                asked: Any = None if np.isfinite(gram[..., :2]).all() else True
            else:
                asked = True
                pair = prepared(images, valid, block.finite(images, valid))
                gram, n, units = _gram(pair.x, pair.y, valid)
        parts = ((gram.shape[-1],), gram), ((2,), units), ((), n)
        values = tuple(repeated((*block.batch, *own), v)[0] for own, v in parts)
        return Part(values, block.finite(images, valid, asked))

    def _merge(self, p: tuple[Any, ...], q: tuple[Any, ...]) -> tuple[Any, ...]:
        n_p, n_q = p[2], q[2]
        (total, units), (part, _) = _in_common_units(p[:2], q[:2], _scaled_gram, n_p, n_q)
        by_y = (total[..., 1] > total[..., 0]) | (
            (total[..., 1] == total[..., 0]) & (part[..., 1] > part[..., 0])
        )
        total_a, total_b = _longer_first(total, by_y)
        part_a, part_b = _longer_first(part, by_y)
        aa, bb = total_a + part_a, total_b + part_b
        with np.errstate(all="ignore"):
            rest = (total[..., 3] * total_b + part[..., 3] * part_b) / bb
            turn = total[..., 2] / total_a - part[..., 2] / part_a
            short, long = np.minimum(total_a, part_a), np.maximum(total_a, part_a)
            # For parts or images of unlike magnitudes, other products would leave float64.
            more = (turn * (short / (1 + short / long))) * (turn / bb)
        rest = np.where(bb == 0, 1.0, rest)
        rest = rest + np.where((total_a != 0) & (part_a != 0) & (bb != 0), more, 0.0)
        xx, yy = np.where(by_y, bb, aa), np.where(by_y, aa, bb)
        return np.stack([xx, yy, total[..., 2] + part[..., 2], rest], axis=-1), units, n_p + n_q

    def finish(self, part: Part) -> Scores:
        """Return the angles; pi / 2 if only one of the images is 0."""
        gram, _, n = part.values
        xx, yy, xy, rest = (gram[..., k] for k in range(4))
        with np.errstate(all="ignore"):
            theta = np.arctan2(np.sqrt(rest), xy / (np.sqrt(xx) * np.sqrt(yy)))
        theta = np.where((xx == 0) | (yy == 0), np.where(xx == yy, 0.0, math.pi / 2), theta)
        return Scores((theta * self._unit)[..., None], n[..., None])


def _longer_first(gram: Array, by_y: Array) -> tuple[Array, Array]:
    xx, yy = gram[..., 0], gram[..., 1]
    return np.where(by_y, yy, xx), np.where(by_y, xx, yy)


def _scaled_gram(gram: Array, x: Array, y: Array) -> Array:
    """Multiply x and y by factors, which leave the angle as it is."""
    return gram * np.stack([x * x, y * y, x * y, np.ones_like(x)], axis=-1)


def _gram(x: Array, y: Array, valid: Array | None) -> tuple[Array, Array, Array]:
    """Gram matrices, numbers of pixels and units by arithmetic on arrays."""
    x, y = to_widest_float(x), to_widest_float(y)
    units = scaling_unit(x, axis=PER_IMAGE), scaling_unit(y, axis=PER_IMAGE)
    x, y = where_valid(valid, x / units[0]), where_valid(valid, y / units[1])

    def product(p: Array, q: Array) -> Array:
        return total(p * q).sum(axis=-1)

    xx, yy, xy = product(x, x), product(y, y), product(x, y)
    by_x = (xx >= yy)[..., None, None, None]
    p, q = np.where(by_x, x, y), np.where(by_x, y, x)
    pp, qq = np.maximum(xx, yy), np.minimum(xx, yy)
    e = q - (xy / pp)[..., None, None, None] * p
    pe = product(p, e)
    rest = np.maximum(product(e, e) - pe * (pe / pp), 0.0) / qq
    rest = np.where(qq == 0, 1.0, rest)
    n = np.broadcast_to(count(x, valid)[..., 0], xx.shape)
    own = [np.broadcast_to(unit[..., 0, 0, 0], xx.shape) for unit in units]
    return np.stack([xx, yy, xy, rest], axis=-1), n, np.stack(own, axis=-1)


class SpectralAngles(Pieces):
    """Sums of the angles of the pixels that are not black in both images, and their number."""

    def __init__(
        self,
        whole: Whole,
        formula: Callable[..., Scores],
        kernel: Loader | None,
        options: dict[str, Any],
    ) -> None:
        super().__init__(whole, kernel)
        self._formula, self._options = formula, options

    def part(self, block: Block) -> Part:
        """Return the sums over the pixels that the block owns."""
        images, valid = block.owned()
        found, finite = self._computed(images, valid, self._formula, self._options)
        pixels = count(images.x[..., :1, :, :], valid)
        theta, n, pixels = repeated((*block.batch, 1), found.values, found.scored, pixels)
        # Where all pixels are black, their mean is said to be that of one angle of 0.
        black = (n == 1) & (theta == 0)
        if black.any():
            colour = ((images.x != 0) | (images.y != 0)).any(axis=-3, keepdims=True)
            colour = colour if valid is None else colour & valid
            n = np.where(black & ~colour.any(axis=(-2, -1)), 0.0, n)
        values = np.where(n > 0, theta * n, 0.0), n, pixels
        return Part(values, block.finite(images, valid, finite))

    def finish(self, part: Part) -> Scores:
        """Return the mean angles; 0 where all pixels are black in both images."""
        theta, n, pixels = part.values
        n = np.where((n == 0) & (pixels > 0), 1.0, n)
        return Scores(theta / np.where(n > 0, n, 1.0), n)
