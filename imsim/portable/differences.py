"""Pixelwise differences, and the ratios in decibels that are formed from them."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

from imsim.portable.arrays import (
    array_namespace,
    channel_sum,
    constant,
    count,
    is_of_numpy,
    to_widest_float,
    total,
    where_valid,
)
from imsim.portable.pair import Pair
from imsim.portable.units import PER_IMAGE, scaling_unit
from imsim.typing import Array


def long_integers(image: Array, dtype: Any) -> bool:
    """Whether an image holds integers with more binary digits than the floats of `dtype`."""
    xp = array_namespace(image)
    if not xp.isdtype(image.dtype, "integral"):
        return False
    return bool(xp.iinfo(image.dtype).bits > _digits(dtype, xp))


def exact_difference(x: Array, y: Array, dtype: Any) -> Array:
    """Return x - y, rounded once, also for integers that no float holds."""

    def parts(image: Array) -> tuple[Array, Array | float]:
        if not long_integers(image, dtype):
            return array_namespace(image).astype(image, dtype), 0.0
        return _parts(image, dtype)

    (high_x, low_x), (high_y, low_y) = parts(x), parts(y)
    return (high_x - high_y) + (low_x - low_y)


def rounding_error(image: Array, dtype: Any) -> Array:
    """Return what each pixel of `long_integers` loses, as a float."""
    high, low = _parts(image, dtype)
    return low - ((high + low) - high)


def _parts(image: Array, dtype: Any) -> tuple[Array, Array]:
    """Write integers that no float holds as the sum of two that floats hold."""
    xp = array_namespace(image)
    spare = xp.iinfo(image.dtype).bits - _digits(dtype, xp)
    low = xp.bitwise_and(image, constant(2**spare - 1, image))
    return xp.astype(image - low, dtype), xp.astype(low, dtype)


def _digits(dtype: Any, xp: ModuleType) -> int:
    """Binary digits of a float."""
    return 1 - round(math.log2(xp.finfo(dtype).eps))


def scaled_difference(pair: Pair, axis: tuple[int, ...] = PER_IMAGE) -> tuple[Array, Array]:
    """(x - y) / unit for every pixel and channel, whose squares stay within the floats; the unit.

    It is a power of two, 1 for ordinary images; shape (*batch, 1), or (*batch, channels).
    """
    x, y = to_widest_float(pair.x), to_widest_float(pair.y)
    difference = x - y
    xp = pair.xp
    is_beyond = xp.any(~xp.isfinite(difference), axis=axis, keepdims=True)
    difference = xp.where(is_beyond, x / 2 - y / 2, difference)
    unit = scaling_unit(difference, axis=axis)
    one = xp.ones_like(unit)
    common = xp.where(is_beyond, 2 * one, one)
    return difference / unit, (common * unit)[..., 0, 0]


def squared_difference(pair: Pair, axis: tuple[int, ...] = PER_IMAGE) -> tuple[Array, Array]:
    """(x - y)^2 / unit^2, and the unit."""
    difference, unit = scaled_difference(pair, axis)
    return difference * difference, unit


def mean_squared_error(pair: Pair) -> tuple[Array, Array, Array]:
    """Mean of (x - y)^2 over the scored pixels and channels, their number or weight, and unit."""
    squares, unit = squared_difference(pair)
    n = count(squares, pair.mask, pair.weights)
    channels = squares.shape[-3]
    return channel_sum(total(squares, pair.mask, pair.weights)) / (n * channels), n, unit


def decibels(amplitude: Array | float, mse: Array, xp: ModuleType) -> Array:
    """10 log10(amplitude^2 / MSE), by roots, since the square may leave float64.

    Where both are 0, the result means nothing.
    """
    if is_of_numpy(mse):  # what follows is for derivatives, and took a fifth of a small call
        return 20 * xp.log10(amplitude / xp.sqrt(mse))
    differ = mse != 0
    ratio = amplitude / xp.sqrt(where_valid(differ, mse, 1.0))
    return where_valid(differ, 20 * xp.log10(ratio), math.inf)


def reconstruction_decibels(mean: Array, mse: Array, xp: ModuleType) -> Array:
    """10 log10(mean^2 / MSE); +inf for identical images, also if they are black."""
    if is_of_numpy(mse):
        return where_valid(mse != 0, decibels(xp.abs(mean), mse, xp), math.inf)
    bright = mean != 0
    found = decibels(where_valid(bright, xp.abs(mean), 1.0), mse, xp)
    return where_valid(bright | (mse == 0), found, -math.inf)
