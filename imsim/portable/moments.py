"""Local moments of images: means, variances and covariances within the windows."""

from __future__ import annotations

from typing import Any, NamedTuple

from imsim.portable.arrays import array_namespace, is_of_jax, where_valid, without_gradient
from imsim.portable.moment_derivatives import (
    with_derivative_of_covariance,
    with_derivative_of_mean,
)
from imsim.portable.taps import compiled, replace_by_taps, sum_over_taps, under_tap, weighted
from imsim.portable.windows import Support, Window, by_weight
from imsim.typing import Array


class Moments(NamedTuple):
    """Local moments of one image; those of each window are taken about one of its pixels.

    Sums about one number for many windows lose digits where the pixels are far from it. About one
    of its own pixels, the sums of a constant window are exactly 0.
    """

    image: Array
    """The image; 0 outside the mask."""
    row_pixels: Array
    """The pixel about which the sums of each window of one row are taken."""
    row_sums: Array
    """Weighted sums of the image minus this pixel, of windows of one row."""
    pixels: Array
    """The pixel about which the sums of each window are taken."""
    centred_mean: Array
    """Local mean of the image minus this pixel."""
    power: Array
    """Local mean square of the image minus this pixel; 0 only where the window does not vary."""
    mean: Array
    """Local mean."""
    variance: Array
    """Local population variance."""


def local_moments(image: Array, window: Window, support: Support) -> Moments:
    """Local moments of an image at every window position.

    For JAX, the mean and the variance have derivatives of their own, and the rest has none.
    """
    found = _moments(_constant(image), support, window=window)
    if not is_of_jax(image):
        return found
    mean = with_derivative_of_mean(found.mean, image, window.taps, support.weight)
    found = found._replace(image=image, mean=mean)
    return found._replace(variance=_differentiable(found.variance, found, found, window, support))


def local_covariance(p: Moments, q: Moments, window: Window, support: Support) -> Array:
    """Local population covariance of two images."""
    x, y = (v._replace(image=_constant(v.image)) for v in (p, q))
    found = _mean_product(x, y, support, window) - p.centred_mean * q.centred_mean
    return _differentiable(found, p, q, window, support) if is_of_jax(found) else found


def _constant(image: Array) -> Array:
    return without_gradient(image) if is_of_jax(image) else image


def _differentiable(
    covariance: Array, p: Moments, q: Moments, window: Window, support: Support
) -> Array:
    images, means = (p.image, q.image), (p.mean, q.mean)
    return with_derivative_of_covariance(covariance, images, means, window.taps, support)


@compiled
def _moments(image: Array, support: Support, *, window: Window) -> Moments:
    taps = window.taps
    rows_in_use = None if support.mask is None else support.row_weight > 0
    row_pixels = _heaviest(image, support.mask, taps, -1)
    pixels = _heaviest(row_pixels, rows_in_use, taps, -2)

    def difference(k: Any, tap: Any) -> Array:
        return weighted(tap, _difference(image, row_pixels, support, taps, k))

    row_sums = sum_over_taps(taps, difference, image)
    unknown = pixels
    moments = Moments(image, row_pixels, row_sums, pixels, *[unknown] * 4)

    def row(k: Any, tap: Any) -> Array:
        weight, sums, shift = _row(moments, support, taps, k)
        return tap * (sums + weight * shift)

    mean = sum_over_taps(taps, row, image) / support.weight
    moments = moments._replace(centred_mean=mean, mean=pixels + mean)
    power = _mean_product(moments, moments, support, window)
    return moments._replace(power=power, variance=power - mean * mean)


def _mean_product(p: Moments, q: Moments, support: Support, window: Window) -> Array:
    return _mean_product_of(p.image, p, q, support, window=window)


@compiled
def _mean_product_of(
    like: Array, p: Moments, q: Moments, support: Support, *, window: Window
) -> Array:
    """Local mean of the product of two images, each minus the window's own pixel.

    Each row is summed about a pixel of its own; the sums are then moved to the window's pixel.
    """
    taps = window.taps

    def product(k: Any, tap: Any) -> Array:
        a, b = (_difference(v.image, v.row_pixels, support, taps, k) for v in (p, q))
        return tap * (a * b)

    row_products = sum_over_taps(taps, product, like)

    def moved(k: Any, tap: Any) -> Array:
        weight, sums_a, a = _row(p, support, taps, k)
        _, sums_b, b = _row(q, support, taps, k)
        products = under_tap(row_products, k, taps, -2)
        return tap * (products + (a * sums_b + b * sums_a) + weight * (a * b))

    return sum_over_taps(taps, moved, like) / support.weight


def _heaviest(values: Array, valid: Array | None, taps: tuple[float, ...], axis: int) -> Array:
    """Return the valid value with the largest weight of each window along an axis.

    Sums about an outlier with a small weight would lose digits.
    """
    if valid is None:
        return under_tap(values, len(taps) // 2, taps, axis)
    xp = array_namespace(values)
    lightest, *others = by_weight(taps)

    def prefer(k: Any, found: Array) -> Array:
        is_valid = under_tap(valid, k, taps, axis)
        return xp.where(is_valid, under_tap(values, k, taps, axis), found)

    return replace_by_taps(others, prefer, under_tap(values, lightest, taps, axis))


def _difference(
    image: Array, row_pixels: Array, support: Support, taps: tuple[float, ...], k: Any
) -> Array:
    """Return the pixels that tap k weighs minus the pixel of their window of one row."""
    found = under_tap(image, k, taps, -1) - row_pixels
    if support.mask is None:
        return found
    return where_valid(under_tap(support.mask, k, taps, -1), found)


def _row(
    moments: Moments, support: Support, taps: tuple[float, ...], k: Any
) -> tuple[Array | float, Array, Array]:
    """Return weight, sums and shift to the window's pixel, of row k of all windows."""
    sums = under_tap(moments.row_sums, k, taps, -2)
    shift = under_tap(moments.row_pixels, k, taps, -2) - moments.pixels
    weight = support.row_weight
    return weight if support.mask is None else under_tap(weight, k, taps, -2), sums, shift


def is_flat(moments: Moments) -> Array:
    """Whether the window does not vary."""
    return moments.power == 0


def is_dark(moments: Moments, window: Window) -> Array:
    """Whether the mean is 0 within the rounding error of 2 size - 1 additions."""
    xp = array_namespace(moments.mean)
    rounding = 2 * window.size * float(xp.finfo(moments.mean.dtype).eps)
    return xp.abs(moments.mean) <= rounding * xp.abs(moments.centred_mean)
