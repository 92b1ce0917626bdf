"""Local moments of images: means, variances and covariances within the windows.

The formulas take sums about a pixel of each window, which differ from window to window. Their
derivatives are filters of the whole image all the same:

    d mean = E[dx],    d cov(x, y) = E[dx (y - mean_y)] + E[dy (x - mean_x)],

where E is the weighted mean of a window. If the weights w move as well, E[(x - mean) dw / w] adds
to the first, and E[((x - mean_x) (y - mean_y) - cov) dw / w] to the second. JAX gets these few
linear filters: it would differentiate each of some hundred shifted images instead.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from imsim.portable.arrays import array_namespace, is_of_jax, where_valid, without_gradient
from imsim.portable.correlation import centre_of
from imsim.portable.units import (
    CANCELLING,
    exact_correlate,
    exact_parts,
    exact_product,
    takes_one_pass,
)
from imsim.portable.windows import (
    Support,
    Window,
    by_weight,
    compiled,
    correlate,
    replace_by_taps,
    rests_of,
    sum_over_taps,
    under_tap,
    weighted,
)
from imsim.typing import Array

BLOCK = 64
"""Positions that one product with a band matrix computes."""


def with_derivative_of_mean(mean: Array, image: Array, window: Window, support: Support) -> Any:
    """Return a local mean with its derivative with respect to the image and the weights."""

    def tangent(primals: Any, tangents: Any, mean: Any) -> Any:
        image, mask, own, weight = primals
        moved, _, own_moved, _ = tangents
        found = 0.0
        if not _is_zero(moved):
            found += local_mean(moved * own, window, weight)
        if not _is_zero(own_moved):
            centre = centre_of(image, mask, len(window.sides))
            found += local_mean(own_moved * (image - centre), window, weight)
            found -= (mean - centre) * local_mean(own_moved, window, weight)
        return found

    own = _own_weights(support)
    return _with_tangent(mean, tangent, image, support.mask, own, support.weight)


def _is_zero(tangent: Any) -> bool:
    """Whether nothing is differentiated with respect to an argument."""
    return isinstance(tangent, sys.modules["jax"].custom_derivatives.SymbolicZero)


def _own_weights(support: Support) -> Any:
    """Weights of the pixels, 1 if they have none; the derivative outside a mask is 0 anyway."""
    return 1.0 if support.positions is None else support.weights[0]


def with_derivative_of_covariance(
    covariance: Array,
    images: tuple[Array, Array],
    means: tuple[Array, Array],
    window: Window,
    support: Support,
) -> Any:
    """Return a local covariance with its derivative with respect to images and weights."""

    def tangent(primals: Any, tangents: Any, covariance: Any) -> Any:
        x, y, mean_x, mean_y, mask, own, weight = primals
        own_moved = tangents[-2]
        # About one number for all windows, so that products of distant pixels do not cancel.
        centre_x, centre_y = (centre_of(v, mask, len(window.sides)) for v in (x, y))
        x, mean_x, y, mean_y = x - centre_x, mean_x - centre_x, y - centre_y, mean_y - centre_y
        found = 0.0
        for moved, other, mean in ((tangents[0], y, mean_y), (tangents[1], x, mean_x)):
            if _is_zero(moved):
                continue
            weighted = moved * own
            found += local_mean(weighted * other, window, weight)
            found -= mean * local_mean(weighted, window, weight)
        if not _is_zero(own_moved):
            found += local_mean(own_moved * x * y, window, weight)
            found -= mean_x * local_mean(own_moved * y, window, weight)
            found -= mean_y * local_mean(own_moved * x, window, weight)
            found += (mean_x * mean_y - covariance) * local_mean(own_moved, window, weight)
        return found

    own = _own_weights(support)
    return _with_tangent(covariance, tangent, *images, *means, support.mask, own, support.weight)


def _with_tangent(value: Array, tangent: Callable[[Any, Any, Any], Any], *arguments: Any) -> Any:
    """Return a value whose tangent is ``tangent(arguments, their tangents, value)``."""
    jax = sys.modules["jax"]
    known = jax.custom_jvp(lambda value, *_: value)

    def rule(primals: Any, tangents: Any) -> Any:
        # Through `known` once more, which has this derivative for whoever differentiates twice.
        value = known(*primals)
        found = tangent(primals[1:], tangents[1:], value)
        return value, jax.numpy.broadcast_to(found, value.shape).astype(value.dtype)

    known.defjvp(rule, symbolic_zeros=True)
    return known(without_gradient(value), *arguments)


def local_mean(values: Array, window: Window, weight: Any) -> Array:
    """Weighted mean of each window."""
    for axis in window.axes:
        values = _filtered(values.swapaxes(axis, -1), window.sides[axis]).swapaxes(axis, -1)
    return values / weight


def _filtered(values: Array, taps: tuple[float, ...]) -> Array:
    """Correlate along the last axis where the taps fit, by products with a band matrix.

    Each block of positions is one row of a product. Its derivative is such a product again,
    unlike that of a sum of slices, which JAX pads one by one.
    """
    jnp = sys.modules["jax"].numpy
    length, reach = values.shape[-1], len(taps) - 1
    positions = length - reach
    side = max(min(BLOCK, positions), reach)
    blocks = -(-positions // side)
    rest = (blocks + 1) * side - length
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, rest)])
    cut = padded.reshape(*values.shape[:-1], blocks + 1, side)
    windows = jnp.concatenate([cut[..., :-1, :], cut[..., 1:, :reach]], axis=-1)
    shape = (side + reach, side)
    band = sum(tap * jnp.eye(*shape, k=-k, dtype=values.dtype) for k, tap in enumerate(taps))
    # The highest precision, since TF32 keeps 11 bits only.
    found = jnp.matmul(windows, band, precision="highest")
    return found.reshape(*values.shape[:-1], blocks * side)[..., :positions]


class Moments(NamedTuple):
    """Local moments of one image; those of each window are taken about one of its pixels.

    Sums about one number for many windows lose digits where the pixels are far from it. About one
    of its own pixels, the sums of a constant window are exactly 0. Sums along the last axis are
    those of windows of one row, each about a pixel of its own. Along each further axis they are
    moved to one of these pixels, and added up.
    """

    pixels: tuple[Array, ...]
    """The image, 0 outside the mask; then the pixel about which the sums of each window are taken,
    of windows along the last axis, the last two, ..."""
    sums: tuple[Array, ...]
    """Weighted sums of the image minus this pixel, likewise, but for all axes."""
    centred_mean: Array
    """Local mean of the image minus this pixel."""
    power: Array
    """Local mean square of the image minus this pixel; 0 only where the window does not vary."""
    mean: Array
    """Local mean."""
    variance: Array
    """Local population variance."""

    @property
    def image(self) -> Array:
        """The image; 0 outside the mask."""
        return self.pixels[0]


def local_moments(image: Array, window: Window, support: Support) -> Moments:
    """Local moments of an image at every window position.

    For JAX, the mean and the variance have derivatives of their own, and the rest has none.
    """
    found = _moments(_constant(image), support, window=window)
    if not is_of_jax(image):
        return found
    mean = with_derivative_of_mean(found.mean, image, window, support)
    found = found._replace(pixels=(image, *found.pixels[1:]), mean=mean)
    return found._replace(variance=_differentiable(found.variance, found, found, window, support))


def local_covariance(p: Moments, q: Moments, window: Window, support: Support) -> Array:
    """Local population covariance of two images."""
    x, y = (v._replace(pixels=(_constant(v.image), *v.pixels[1:])) for v in (p, q))
    found = _mean_product(x.image, x, y, support, window=window)
    found = found - p.centred_mean * q.centred_mean
    return _differentiable(found, p, q, window, support) if is_of_jax(found) else found


def _constant(image: Array) -> Array:
    return without_gradient(image) if is_of_jax(image) else image


def _differentiable(
    covariance: Array, p: Moments, q: Moments, window: Window, support: Support
) -> Array:
    images, means = (p.image, q.image), (p.mean, q.mean)
    return with_derivative_of_covariance(covariance, images, means, window, support)


@compiled
def _moments(image: Array, support: Support, *, window: Window) -> Moments:
    pixels: list[Array] = [image]
    sums: list[Array] = []
    is_masked = support.mask is not None
    own = None if support.positions is None else support.weights[0]
    for level, axis in enumerate(window.axes):
        taps = window.sides[axis]
        if own is None:
            in_use = support.weights[level] > 0 if is_masked else None
            pixels.append(_heaviest(pixels[-1], in_use, taps, axis))
        else:
            pixel, own = _heaviest_by_weight(pixels[-1], own, taps, axis)
            pixels.append(pixel)
        moved = functools.partial(_moved_sums, pixels, sums, support, taps, axis)
        sums.append(sum_over_taps(taps, moved, image))
    mean = sums.pop() / support.weight
    unknown = mean
    moments = Moments(tuple(pixels), tuple(sums), mean, unknown, pixels[-1] + mean, unknown)
    power = _mean_product(image, moments, moments, support, window=window)
    return moments._replace(power=power, variance=power - mean * mean)


def _moved_sums(
    pixels: list[Array],
    sums: list[Array],
    support: Support,
    taps: tuple[float, ...],
    axis: int,
    k: Any,
    tap: Any,
) -> Array:
    """Return what tap k adds to the sums about the last of the pixels."""
    if not sums:
        found = _difference(pixels[0], pixels[1], support, taps, axis, k)
        return weighted(tap, _by_own_weight(found, support, taps, axis, k))
    weight, sum_k, shift = _under(pixels[-2:], sums[-1], support, len(sums), taps, axis, k)
    return tap * (sum_k + weight * shift)


@compiled
def _mean_product(
    like: Array, p: Moments, q: Moments, support: Support, *, window: Window
) -> Array:
    """Local mean of the product of two images, each minus the window's own pixel.

    Each row is summed about a pixel of its own; the sums are then moved to the window's pixel.
    """
    products = like
    for level, axis in enumerate(window.axes):
        taps = window.sides[axis]
        term = functools.partial(_moved_products, products, p, q, support, level, taps, axis)
        products = sum_over_taps(taps, term, like)
    return products / support.weight


def _moved_products(
    products: Array,
    p: Moments,
    q: Moments,
    support: Support,
    level: int,
    taps: tuple[float, ...],
    axis: int,
    k: Any,
    tap: Any,
) -> Array:
    """Return what tap k adds to the sums of products about the pixels of the longer window."""
    if level == 0:
        a, b = (_difference(v.image, v.pixels[1], support, taps, axis, k) for v in (p, q))
        return tap * _by_own_weight(a * b, support, taps, axis, k)
    (weight, sums_a, a), (_, sums_b, b) = (
        _under(v.pixels[level : level + 2], v.sums[level - 1], support, level, taps, axis, k)
        for v in (p, q)
    )
    found = under_tap(products, k, taps, axis)
    return tap * (found + (a * sums_b + b * sums_a) + weight * (a * b))


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

    return replace_by_taps(others, prefer, under_tap(values, lightest, taps, axis), values)


def _heaviest_by_weight(
    values: Array, weights: Array, taps: tuple[float, ...], axis: int
) -> tuple[Array, Array]:
    """Return the value whose tap times its own weight is the largest, and this own weight.

    For weights of 1 and 0, the value is that of `_heaviest`.
    """
    xp = array_namespace(values)
    factors = xp.asarray(taps, dtype=weights.dtype) if is_of_jax(values) else taps
    lightest, *others = by_weight(taps)

    def prefer(k: Any, found: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        value, own = (under_tap(v, k, taps, axis) for v in (values, weights))
        weight = factors[k] * own
        is_heavier = weight >= found[2]
        here = value, own, weight
        return tuple(xp.where(is_heavier, *pair) for pair in zip(here, found, strict=True))

    value, own = (under_tap(v, lightest, taps, axis) for v in (values, weights))
    start = xp.broadcast_arrays(value, own, taps[lightest] * own)
    value, own, _ = replace_by_taps(others, prefer, tuple(start), values)
    return value, own


def _by_own_weight(
    values: Array, support: Support, taps: tuple[float, ...], axis: int, k: Any
) -> Array:
    """Multiply what tap k weighs by the weights of its pixels, if they have any."""
    if support.positions is None:
        return values
    return under_tap(support.weights[0], k, taps, axis) * values


def _difference(
    image: Array, row_pixels: Array, support: Support, taps: tuple[float, ...], axis: int, k: Any
) -> Array:
    """Return the pixels that tap k weighs minus the pixel of their window of one row."""
    found = under_tap(image, k, taps, axis) - row_pixels
    if support.mask is None:
        return found
    return where_valid(under_tap(support.mask, k, taps, axis), found)


def _under(
    pixels: Sequence[Array],
    sums: Array,
    support: Support,
    level: int,
    taps: tuple[float, ...],
    axis: int,
    k: Any,
) -> tuple[Array | float, Array, Array]:
    """Return weight, sums and shift to the pixel of the longer window, of part k of all windows."""
    shorter, longer = pixels
    weight = support.weights[level]
    shift = under_tap(shorter, k, taps, axis) - longer
    weight = weight if support.mask is None else under_tap(weight, k, taps, axis)
    return weight, under_tap(sums, k, taps, axis), shift


def mean_of_opposites(
    moments: Moments, window: Window, support: Support, constant: float = 0.0
) -> Array:
    """Local mean, also where pixels cancel.

    Among pixels such as 3000 and -1000, a mean of 0.01 has lost 5 digits to rounding, of the sum
    and of the taps of a Gaussian. The mean stays as it is in libraries that differentiate and
    compile, and where its square is small beside the constant that is added to it.
    """
    mean = moments.mean
    xp = array_namespace(mean)
    if takes_one_pass(mean) or mean.dtype != xp.float64:
        return mean
    cancels = mean * mean + constant < CANCELLING * moments.power
    if not bool(xp.any(cancels)):
        return mean
    found, lost = _exact_sums(moments.image, window, support)
    precise = (found + lost) / support.weight
    return xp.where(cancels & xp.isfinite(precise), precise, mean)


def _exact_sums(image: Array, window: Window, support: Support) -> tuple[Array, Array]:
    """Weighted sums of pixels in every window, as pairs of a large and a small float."""
    xp = array_namespace(image)
    if window.is_uniform and support.positions is None:
        found, lost = exact_parts(image, window.axes, window.pixels)
        for axis in window.axes:
            found, lost = (correlate(v, window.sides[axis], axis) for v in (found, lost))
        return found, lost
    found, lost = image, xp.zeros_like(image)
    if support.positions is not None:
        found, lost = exact_product(*xp.broadcast_arrays(image, support.weights[0]))
    for axis in window.axes:
        taps = window.sides[axis], rests_of(window)[axis]
        found, lost = exact_correlate(found, lost, *taps, axis)
    return found, lost


def is_flat(moments: Moments) -> Array:
    """Whether the window does not vary."""
    return moments.power == 0


def is_dark(moments: Moments, window: Window) -> Array:
    """Whether the mean is 0 within the rounding error of the additions along all axes."""
    xp = array_namespace(moments.mean)
    additions = 2 * max(window.lengths)
    rounding = additions * float(xp.finfo(moments.mean.dtype).eps)
    return xp.abs(moments.mean) <= rounding * xp.abs(moments.centred_mean)
