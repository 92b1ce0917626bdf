"""Separable windows: local weighted sums and moments, whole or restricted to a mask."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from imsim.portable.arrays import array_namespace, keep, shifted, weighted_sum
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


@functools.lru_cache(maxsize=64)
def uniform(size: int) -> Window:
    """Return the window of equal weights; they are 1, so that sums of integers are exact."""
    return Window((1.0,) * size)


@functools.lru_cache(maxsize=64)
def gaussian(size: int, sigma: float) -> Window:
    """Return the square Gaussian window whose weights sum to 1."""
    centre = (size - 1) / 2
    taps = [math.exp(-((k - centre) ** 2) / (2 * sigma**2)) for k in range(size)]
    norm = math.fsum(taps)
    return Window(tuple(t / norm for t in taps))


@functools.lru_cache(maxsize=64)
def representable(window: Window, epsilon: float) -> Window:
    """Round taps to multiples of half the epsilon of a dtype that add up to 1; ones stay ones.

    The weights of the pixels inside a mask are then added up without rounding in that dtype, so
    that a full window weighs exactly 1, and half of a window of even size 1/2.
    """
    if window.is_uniform:
        return window
    unit = epsilon / 2
    taps = [round(tap / unit) for tap in window.taps]
    # What is missing goes to the tap, or to the two, in the middle: the window stays symmetric.
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
    """Correlate with `taps` along axis -1 or -2, where they fit ('valid')."""
    return weighted_sum(
        part if tap == 1 else tap * part for tap, part in _parts(values, taps, axis)
    )


def _parts(values: Array, taps: tuple[float, ...], axis: int) -> Iterator[tuple[float, Array]]:
    """Yield each tap, and what it meets in all windows along an axis."""
    length = values.shape[axis] - len(taps) + 1
    for k, tap in enumerate(taps):
        yield tap, shifted(values, k, length, axis)


def least_weight(window: Window, min_coverage: float, epsilon: float) -> float:
    """Return the weight inside the mask from which on a window may be scored; see `support`.

    It leaves room for what rounding takes from the sum of the weights.
    """
    least = min_coverage if window.size % 2 else max(min_coverage, 0.5)
    return least * window.weight * (1 - 2 * window.size * epsilon)


class Support(NamedTuple):
    """What a mask leaves of each window."""

    mask: Array | None
    """The mask itself."""
    pixels: Array | float
    """Number of pixels of the window inside the mask."""
    row_weight: Array | float
    """Sum of their weights along each row of the image, of a window of one row."""
    weight: Array | float
    """Sum of their weights; 1 where it is 0."""
    scored: Array | None
    """Whether the position is scored; None: everywhere."""


def support(mask: Array | None, window: Window, like: Array, min_coverage: float) -> Support:
    """Weigh each position of a window, whose taps are representable in the dtype of `like`.

    A position is scored when its weights inside the mask make up at least `min_coverage`
    of the window, and its centre lies inside the mask. A window of even size has no centre
    pixel; there, half of the weights must lie inside, which flips and transposes preserve.
    For a coverage of 1 all pixels must, those as well whose weight is rounded to 0.
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
    return Support(mask, pixels, row_weight, keep(weight > 0, weight, 1.0), scored)


class Moments(NamedTuple):
    """Local moments of one image, each window's about a pixel of its own.

    Sums about a number that is common to many windows lose those digits of a window in which
    this number differs from its pixels. And about one of its own pixels a window that does not
    vary has sums of 0, exactly.
    """

    image: Array
    """The image; 0 outside the mask."""
    row_pixels: Array
    """The pixel that the sums of each row are about, of windows of one row."""
    row_sums: Array
    """Their weighted sums of the image minus this pixel."""
    pixels: Array
    """The pixel that the sums of each window are about."""
    centred_mean: Array
    """Local mean of the image minus this pixel."""
    power: Array
    """Local mean square of the image minus this pixel; 0 only where the window does not vary."""

    @property
    def mean(self) -> Array:
        """Local mean."""
        return self.pixels + self.centred_mean

    @property
    def variance(self) -> Array:
        """Local population variance."""
        return self.power - self.centred_mean * self.centred_mean


def local_moments(image: Array, window: Window, seen: Support) -> Moments:
    """Local moments of an image at every window position."""
    taps = window.taps
    rows_in_use = None if seen.mask is None else seen.row_weight > 0
    row_pixels = _heaviest(image, seen.mask, taps, -1)
    pixels = _heaviest(row_pixels, rows_in_use, taps, -2)
    row_sums = weighted_sum(
        tap * difference for tap, difference in _differences(image, row_pixels, seen, taps)
    )
    moments = Moments(image, row_pixels, row_sums, pixels, pixels, pixels)
    total = weighted_sum(
        tap * (sums + weight * shift) for tap, weight, sums, shift in _rows(moments, seen, taps)
    )
    moments = moments._replace(centred_mean=total / seen.weight)
    return moments._replace(power=_mean_product(moments, moments, window, seen))


def local_covariance(p: Moments, q: Moments, window: Window, seen: Support) -> Array:
    """Local population covariance of two images."""
    return _mean_product(p, q, window, seen) - p.centred_mean * q.centred_mean


def _mean_product(p: Moments, q: Moments, window: Window, seen: Support) -> Array:
    """Local mean of the product of two images, each minus the window's own pixel.

    Each row is summed about a pixel of its own, and the sums are then moved to that of the window.
    """
    taps = window.taps
    row_products = weighted_sum(
        tap * (a * b)
        for (tap, a), (_, b) in zip(
            _differences(p.image, p.row_pixels, seen, taps),
            _differences(q.image, q.row_pixels, seen, taps),
            strict=True,
        )
    )
    moved = weighted_sum(
        tap * (products + (a * sums_b + b * sums_a) + weight * (a * b))
        for (tap, products), (_, weight, sums_a, a), (_, _, sums_b, b) in zip(
            _parts(row_products, taps, -2),
            _rows(p, seen, taps),
            _rows(q, seen, taps),
            strict=True,
        )
    )
    return moved / seen.weight


def by_weight(taps: tuple[float, ...]) -> list[int]:
    """Order taps from the lightest to the heaviest, among equals to the one in the middle."""
    half = len(taps) // 2
    return sorted(range(len(taps)), key=lambda k: (taps[k], -abs(k - half)))


def _heaviest(values: Array, valid: Array | None, taps: tuple[float, ...], axis: int) -> Array:
    """Return the valid value of each window along an axis that weighs most.

    An outlier that weighs next to nothing would spoil the sums about it.
    """
    if valid is None:
        return shifted(values, len(taps) // 2, values.shape[axis] - len(taps) + 1, axis)
    xp = array_namespace(values)
    length = values.shape[axis] - len(taps) + 1
    lightest, *others = by_weight(taps)
    found = shifted(values, lightest, length, axis)
    for k in others:
        found = xp.where(shifted(valid, k, length, axis), shifted(values, k, length, axis), found)
    return found


def _differences(
    image: Array, row_pixels: Array, seen: Support, taps: tuple[float, ...]
) -> Iterator[tuple[float, Array]]:
    """Yield each tap, and the pixels that it meets in all rows minus the row's own pixel."""
    if seen.mask is None:
        for tap, part in _parts(image, taps, -1):
            yield tap, part - row_pixels
    else:
        masks = _parts(seen.mask, taps, -1)
        for (tap, part), (_, inside) in zip(_parts(image, taps, -1), masks, strict=True):
            yield tap, keep(inside, part - row_pixels)


def _rows(
    moments: Moments, seen: Support, taps: tuple[float, ...]
) -> Iterator[tuple[float, Array | float, Array, Array]]:
    """Yield tap, weight, sums, and their shift, of each row of all windows."""
    weight = seen.row_weight
    for k, (tap, sums) in enumerate(_parts(moments.row_sums, taps, -2)):
        height = sums.shape[-2]
        shift = shifted(moments.row_pixels, k, height, -2) - moments.pixels
        yield tap, weight if seen.mask is None else shifted(weight, k, height, -2), sums, shift


def is_flat(moments: Moments) -> Array:
    """Whether the window does not vary."""
    return moments.power == 0


def is_dark(moments: Moments, window: Window) -> Array:
    """Whether the mean is zero, beyond what rounding leaves of a sum of 2 size - 1 additions."""
    xp = array_namespace(moments.mean)
    rounding = 2 * window.size * float(xp.finfo(moments.mean.dtype).eps)
    return xp.abs(moments.mean) <= rounding * xp.abs(moments.centred_mean)


def zero_rules(quality: Array, luminance: Array, flat: Array, dark: Array) -> Array:
    """Replace 0 / 0 in a quality index as its authors do.

    Where both windows are flat only the luminance term is left; where both means are 0, 1.
    """
    xp = array_namespace(quality)
    return xp.where(dark, xp.ones_like(quality), xp.where(flat, luminance, quality))
