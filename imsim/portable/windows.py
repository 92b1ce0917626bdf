"""Separable windows, the part of them inside a mask, and what quality indices share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from imsim.portable.arrays import (
    array_namespace,
    ratio,
    remembered,
    shifted,
    where_valid,
    without_gradient,
)
from imsim.portable.correlation import convolved, is_convolved
from imsim.portable.taps import compiled, sum_over_taps, under_tap, weighted
from imsim.typing import Array


@dataclass(frozen=True, slots=True)
class Window:
    """A separable window, given by the taps of one axis."""

    taps: tuple[float, ...]

    @property
    def size(self) -> int:
        """Length of a side."""
        return len(self.taps)

    @property
    def weight(self) -> float:
        """Sum of the weights of the square window."""
        return math.fsum(self.taps) ** 2

    @property
    def is_uniform(self) -> bool:
        """Whether all weights are 1."""
        return all(tap == 1 for tap in self.taps)


@remembered
def uniform(size: int) -> Window:
    """Return the window whose weights are all 1, so that sums of integers are exact."""
    return Window((1.0,) * size)


@remembered
def gaussian(size: int, sigma: float) -> Window:
    """Return the square Gaussian window whose weights sum to 1."""
    centre = (size - 1) / 2
    taps = [math.exp(-((k - centre) ** 2) / (2 * sigma**2)) for k in range(size)]
    norm = math.fsum(taps)
    return Window(tuple(t / norm for t in taps))


@remembered
def representable(window: Window, epsilon: float) -> Window:
    """Round taps to multiples of half the epsilon of a dtype, with a sum of 1; ones stay ones.

    Weights of pixels inside a mask then add up without rounding in that dtype. A full window
    weighs exactly 1, and half of a window of even size exactly 1/2.
    """
    if window.is_uniform:
        return window
    unit = epsilon / 2
    taps = [round(tap / unit) for tap in window.taps]
    # The rest goes to the tap in the middle, or to the two there: the window stays symmetric.
    middle = sorted({(window.size - 1) // 2, window.size // 2})
    rest = round(1 / unit) - sum(taps)
    for k in middle:
        taps[k] += rest // len(middle)
    return Window(tuple(tap * unit for tap in taps))


GAUSSIAN_REACH = 9
"""Standard deviations at which a Gaussian ends: exp(-9^2 / 2) is below float64's resolution."""


def gaussian_reach(sigma: float, image: Array) -> int:
    """Pixels from the middle of the Gaussian to its end."""
    height, width = image.shape[-2:]
    return min(math.ceil(GAUSSIAN_REACH * sigma), max(int(height), int(width)) - 1)


def correlate(values: Array, taps: tuple[float, ...], axis: int) -> Array:
    """Correlate with `taps` along axis -1 or -2, at the positions where they fit into the frame."""
    if is_convolved(values):
        return convolved(values, taps, axis)
    return _sum_of_shifted(values, taps=taps, axis=axis)


@compiled
def _sum_of_shifted(values: Array, *, taps: tuple[float, ...], axis: int) -> Array:
    def term(k: Any, tap: Any) -> Array:
        return weighted(tap, under_tap(values, k, taps, axis))

    return sum_over_taps(taps, term, values)


def by_weight(taps: tuple[float, ...]) -> list[int]:
    """Order taps from the lightest to the heaviest; of equal taps, the middle one is last."""
    half = len(taps) // 2
    return sorted(range(len(taps)), key=lambda k: (taps[k], -abs(k - half)))


def least_weight(window: Window, min_coverage: float, epsilon: float) -> float:
    """Return the least weight inside the mask of a scored window; see `support_of`.

    It allows for the rounding error of the sum of the weights.
    """
    least = min_coverage if window.size % 2 else max(min_coverage, 0.5)
    return least * window.weight * (1 - 2 * window.size * epsilon)


class Support(NamedTuple):
    """The part of each window inside the mask."""

    mask: Array | None
    """The mask itself."""
    pixels: Array | float
    """Number of pixels of the window inside the mask."""
    row_weight: Array | float
    """Sum of their weights in each window of one row."""
    weight: Array | float
    """Sum of their weights; 1 where it is 0."""
    scored: Array | None
    """Whether the position is scored; None: everywhere."""


def support_of(mask: Array | None, window: Window, like: Array, min_coverage: float) -> Support:
    """Weigh each position of a window, whose taps are representable in the dtype of `like`.

    A position is scored if at least `min_coverage` of the weights lie inside the mask, and the
    centre does. A window of even size has no centre pixel: there, half of the weights must lie
    inside, a rule that flips and transposes preserve. For a coverage of 1 all pixels must lie
    inside, even those whose weight is rounded to 0.
    """
    size, taps = window.size, window.taps
    if mask is None:
        side = math.fsum(taps)
        return Support(None, float(size**2), side, side**2, None)
    xp = array_namespace(mask)
    inside = xp.astype(mask, like.dtype)
    ones = uniform(size).taps
    pixels = correlate(correlate(inside, ones, -1), ones, -2)
    row_weight = correlate(inside, taps, -1)
    weight = correlate(row_weight, taps, -2)
    scored = weight >= least_weight(window, min_coverage, float(xp.finfo(like.dtype).eps))
    if size % 2:
        height, width = pixels.shape[-2:]
        scored = scored & shifted(shifted(mask, size // 2, height, -2), size // 2, width, -1)
    if min_coverage == 1:
        scored = scored & (pixels == size**2)
    return Support(mask, pixels, row_weight, where_valid(weight > 0, weight, 1.0), scored)


class Fraction(NamedTuple):
    """A term of a quality index."""

    top: Array
    bottom: Array

    @property
    def value(self) -> Array:
        """The quotient; without a gradient where it is none."""
        return ratio(self.top, self.bottom, without_gradient(self.top / self.bottom))


def zero_rules(luminance: Fraction, structure: Fraction, flat: Array, dark: Array) -> Array:
    """Multiply the terms of a quality index, and replace 0 / 0 as its authors do.

    The result is the luminance term where both windows are flat, and 1 where both means are 0.
    """
    xp = array_namespace(luminance.top)
    # A product with NaN has a gradient of NaN, even where it is not chosen.
    product = ratio(*luminance, 1.0) * ratio(*structure, 1.0)
    usable = (luminance.bottom != 0) & (structure.bottom != 0)
    as_is = luminance.top / luminance.bottom * (structure.top / structure.bottom)
    quality = xp.where(usable, product, without_gradient(as_is))
    return xp.where(dark, xp.ones_like(quality), xp.where(flat, luminance.value, quality))
