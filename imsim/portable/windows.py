"""Separable windows: local weighted sums and moments, whole or restricted to a mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from imsim.portable.arrays import array_namespace, keep, offset, shifted, weighted_sum
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


def uniform(size: int) -> Window:
    """Return the window of equal weights; they are 1, so that sums of integers are exact."""
    return Window((1.0,) * size)


def gaussian(size: int, sigma: float) -> Window:
    """Return the square Gaussian window whose weights sum to 1."""
    centre = (size - 1) / 2
    taps = [math.exp(-((k - centre) ** 2) / (2 * sigma**2)) for k in range(size)]
    norm = math.fsum(taps)
    return Window(tuple(t / norm for t in taps))


def correlate(values: Array, taps: tuple[float, ...], axis: int) -> Array:
    """Correlate with `taps` along axis -1 or -2, where they fit ('valid')."""
    length = values.shape[axis] - len(taps) + 1
    parts = (shifted(values, k, length, axis) for k in range(len(taps)))
    return weighted_sum(p if t == 1 else t * p for t, p in zip(taps, parts, strict=True))


def window_sum(values: Array, window: Window) -> Array:
    """Weighted sum at every position where the window fits into the frame."""
    return correlate(correlate(values, window.taps, -2), window.taps, -1)


class Support(NamedTuple):
    """What a mask leaves of each window."""

    pixels: Array | float
    """Number of pixels of the window inside the mask."""
    weight: Array | float
    """Sum of their weights."""
    scored: Array | None
    """Whether the position is scored; None: everywhere."""


def support(mask: Array | None, window: Window, like: Array, min_coverage: float) -> Support:
    """Weigh each window position of a mask.

    A position is scored when its weights inside the mask make up at least `min_coverage`
    of the window, and its centre lies inside the mask. A window of even size has no centre
    pixel; there, half of the weights must lie inside, which flips and transposes preserve.
    """
    size = window.size
    if mask is None:
        return Support(float(size**2), window.weight, None)
    xp = array_namespace(mask)
    inside = xp.astype(mask, like.dtype)
    pixels = window_sum(inside, uniform(size))
    # A full window weighs exactly what it weighs without a mask, to the last bit.
    weight = keep(pixels < size**2, window_sum(inside, window), window.weight)
    least = min_coverage
    scored = pixels > 0
    if size % 2:
        height, width = pixels.shape[-2:]
        scored = scored & shifted(shifted(mask, size // 2, height, -2), size // 2, width, -1)
    else:
        least = max(least, 0.5)
    return Support(
        pixels, keep(pixels > 0, weight, 1.0), scored & (weight >= least * window.weight)
    )


class Moments(NamedTuple):
    """Local moments of one image, taken about an offset."""

    centred: Array
    """The image minus its offset; 0 outside the mask."""
    mean: Array
    """Local mean of the image itself."""
    centred_mean: Array
    """Local mean of `centred`."""
    power: Array
    """Local mean square of `centred`."""
    variance: Array
    """Local population variance."""


def local_moments(
    image: Array, mask: Array | None, window: Window, weight: Array | float
) -> Moments:
    """Local mean and population variance of an image at every window position."""
    shift = offset(image, mask)
    centred = keep(mask, image - shift)
    mean = window_sum(centred, window) / weight
    power = window_sum(centred * centred, window) / weight
    return Moments(centred, mean + shift, mean, power, power - mean * mean)


def local_covariance(p: Moments, q: Moments, window: Window, weight: Array | float) -> Array:
    """Local population covariance of two images."""
    product = window_sum(p.centred * q.centred, window) / weight
    return product - p.centred_mean * q.centred_mean


def is_flat(moments: Moments, window: Window) -> Array:
    """Whether the window does not vary, beyond what rounding leaves of a zero variance."""
    return moments.variance <= _rounding(moments, window) * moments.power


def is_dark(moments: Moments, window: Window) -> Array:
    """Whether the mean is zero, beyond what rounding leaves of it when the offset comes back."""
    xp = array_namespace(moments.mean)
    return xp.abs(moments.mean) <= _rounding(moments, window) * xp.abs(moments.centred_mean)


def _rounding(moments: Moments, window: Window) -> float:
    """Bound the relative error of a window sum, of 2 size - 1 additions."""
    dtype = moments.variance.dtype
    return 2 * window.size * float(array_namespace(moments.variance).finfo(dtype).eps)


def zero_rules(quality: Array, luminance: Array, flat: Array, dark: Array) -> Array:
    """Replace 0 / 0 in a quality index as its authors do.

    Where both windows are flat only the luminance term is left; where both means are 0, 1.
    """
    xp = array_namespace(quality)
    return xp.where(dark, xp.ones_like(quality), xp.where(flat, luminance, quality))
