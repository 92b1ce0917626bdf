"""Units in which squares of pixels stay finite and nonzero, and sums of pixels that nearly cancel.

The units are powers of two. A pair of floats, a large and a small one, holds 32 digits of a sum.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from imsim.portable.arrays import (
    array_namespace,
    count,
    has_values,
    is_of_jax,
    is_tensor,
    ratio,
    total,
    where_valid,
    without_gradient,
)
from imsim.portable.windows import under_tap
from imsim.typing import Array

PER_IMAGE, PER_CHANNEL = (-3, -2, -1), (-2, -1)
"""Axes of the pixels that share a unit: of metrics that pool over channels, and of all others."""
PRODUCTS, SQUARES = 16, 3
"""Ordinary pixels reach up to this root of the largest float: the 16th root for products of sums of
squares, the third root for squares only."""
ALL = 1000
"""The root for a unit of nearly all pixels; the ordinary ones are those between 0.5 and 2."""
BETWEEN = 0.55
"""Exponent of a unit between 1 and the largest pixel; sums of squares need more than a half."""
CANCELLING = 2.0**-28
"""Where the squared mean is below this share of the mean square, a sum has lost too many digits.
Above it, UIQ is off by 2e-12 at most in blocks of up to 33 x 33 pixels."""


def scaling_unit(
    *images: Array, axis: int | tuple[int, ...] = PER_CHANNEL, root: int = PRODUCTS
) -> Array:
    """Return a power of two near the largest magnitude in some images; 1 for ordinary images.

    Ordinary magnitudes lie between the given root of the largest float and its inverse. Division
    by a power of two is exact. The axes of `axis` are kept with length 1.
    """
    xp = array_namespace(*images)
    images = tuple(without_gradient(v) for v in images)
    largest = functools.reduce(
        xp.maximum, (xp.max(xp.abs(v), axis=axis, keepdims=True) for v in images)
    )
    near = float(xp.finfo(largest.dtype).max) ** (1 / root)
    ordinary = (largest == 0) | ((largest > 1 / near) & (largest < near))
    one = xp.ones_like(largest)
    exponent = xp.floor(xp.log2(xp.where(ordinary | ~xp.isfinite(largest), one, largest)))
    # The logarithm of the largest float may be rounded up, and twice the unit must be finite.
    exponent = xp.clip(exponent, max=math.frexp(float(xp.finfo(one.dtype).max))[1] - 2)
    return xp.where(ordinary, one, (2 * one) ** exponent)


def exact_parts(values: Array, axes: tuple[int, ...], count: int) -> tuple[Array, Array]:
    """Split float64 into multiples of a unit, `count` of which add up without rounding, and rests.

    The rests are so small that rounding of their sum does not matter. The largest value along the
    axes decides the unit.
    """
    xp = array_namespace(values)
    sizes = xp.abs(values)
    sizes = xp.where(xp.isfinite(sizes), sizes, xp.zeros_like(sizes))
    largest = xp.max(sizes, axis=axes, keepdims=True)
    exponent = xp.floor(xp.log2(xp.where(largest > 0, largest, xp.ones_like(largest))))
    # 53 digits hold the sum. The logarithm may be rounded down, and the values are below twice it.
    spare = 53 - 2 - math.ceil(math.log2(count))
    unit = (2 * xp.ones_like(largest)) ** xp.clip(exponent - spare, min=-1000.0)
    multiples = xp.round(values / unit) * unit
    return multiples, values - multiples


def always_ordinary(narrow: Array, wide: Array) -> bool:
    """Whether images need no unit for squares: float64 holds those of all numbers of float32."""
    xp = array_namespace(wide)
    return bool(narrow.dtype != wide.dtype and wide.dtype == xp.float64)


def in_unit(values: Array, unit: Any) -> Array:
    """Divide by a unit, a power of two; the number 1 leaves the array as it is."""
    return values if isinstance(unit, float) else values / unit


LEAST_SQUARE = 2.0**-800
"""Smaller sums of squares have lost digits, where pixels are `are_tiny`."""
LEAST_UNIT = 2.0**-700
"""The unit of windows with such sums: in it, squares of even the least floats are normal."""


def are_tiny(*images: Array) -> bool:
    """Whether some pixels but 0 are so small that squares of their differences may lose digits."""
    xp = array_namespace(*images)
    found = (xp.any((v != 0) & (xp.abs(v) < 2.0**-400)) for v in images)
    return any(map(bool, found))


def takes_one_pass(like: Array) -> bool:
    """Whether `in_units` computes once, in one unit for the whole image, and asks for no value.

    Libraries that differentiate and compile do: a branch that is not taken would cost as much as
    the other one, and might spoil its gradient.
    """
    return is_tensor(like) or is_of_jax(like) or not has_values(like)


def unless_infinite(found: Array, *denominators: Array) -> Array:
    """Return quotients, NaN where a denominator is infinite: there they would be 0, and no doubt.

    In one pass none is, see `in_units`.
    """
    if not takes_one_pass(found):
        xp = array_namespace(found)
        for sums in denominators:
            found = where_valid(xp.isfinite(sums), found, math.nan)
    return found


def in_units(values: Callable[[Any, Any], Array], unit_x: Array, unit_y: Array) -> Array:
    """Compute local values in units in which squares of the pixels stay finite and nonzero.

    ``values(unit_x, unit_y)`` divides the images by powers of two. It is called with units of 1
    and, if some result is not finite (see `unless_infinite`), with the given units. Most positions
    keep the unit 1, since squares of ordinary pixels would vanish in the unit of a huge pixel.

    In one pass the unit is about the root of the given one. Squares of huge pixels are finite in
    it. Those of ordinary pixels in the same image do not vanish, unless the largest pixel is beyond
    1e270 (of float64) or 1e31 (of float32).
    """
    if takes_one_pass(unit_x):
        return values(unit_x**BETWEEN, unit_y**BETWEEN)
    found = values(1.0, 1.0)
    xp = array_namespace(unit_x)
    odd = (unit_x != 1) | (unit_y != 1)
    if not bool(xp.any(odd)):
        return found
    is_small = (unit_x < 1) | (unit_y < 1)  # squares that underflow are 0, which is finite
    return xp.where(odd & (is_small | ~xp.isfinite(found)), values(unit_x, unit_y), found)


LEAST_SHARE = 2.0**-14
"""A sum below this share of the sum of the sizes has lost too many digits."""
HALVING = 2.0**27 + 1
"""The factor of Veltkamp: it splits the 53 digits of a float64 in two."""


def exact_mean(values: Array, valid: Array | None, weights: Array | None) -> Array:
    """Mean over the valid positions of the last two axes, as `imsim.portable.arrays.mean`.

    It keeps its digits where the pixels nearly cancel, but not in libraries that differentiate and
    compile. The pixels and the weights have ordinary magnitudes.
    """
    xp = array_namespace(values)
    n = count(values, valid, weights)
    found = total(values, valid, weights)
    if not takes_one_pass(values) and found.dtype == xp.float64:
        lost = xp.abs(found) < LEAST_SHARE * total(xp.abs(values), valid, weights)
        if bool(xp.any(lost)):
            found = xp.where(lost, exact_total(values, valid, weights), found)
    return ratio(found, n, math.nan)


def exact_total(values: Array, valid: Array | None, weights: Array | None) -> Array:
    """Sum over the last two axes, of the values times their weights; float64 of finite pixels."""
    xp = array_namespace(values)
    values = where_valid(valid, values)
    rest = xp.zeros_like(values)
    if weights is not None:
        values, rest = exact_product(*xp.broadcast_arrays(values, xp.astype(weights, values.dtype)))
    pixels = math.prod(values.shape[-2:])
    multiples, rests = exact_parts(values, (-2, -1), pixels)
    return total(multiples) + (total(rests) + total(rest))


def exact_product(a: Array, b: Array | float) -> tuple[Array, Array]:
    """Multiply, and return what rounding takes from the products, as Dekker does."""
    high_a, high_b = a * HALVING - (a * HALVING - a), b * HALVING - (b * HALVING - b)
    low_a, low_b = a - high_a, b - high_b
    found = a * b
    lost = high_a * high_b - found + high_a * low_b + low_a * high_b + low_a * low_b
    return found, lost


def exact_pair(a: Array, b: Array) -> tuple[Array, Array]:
    """Add, and return what rounding takes from the sums, as Knuth does."""
    found = a + b
    part = found - a
    return found, (a - (found - part)) + (b - part)


def exact_correlate(
    values: Array, low: Array, taps: Sequence[float], rests: Sequence[float], axis: int
) -> tuple[Array, Array]:
    """Correlate pairs with taps that are pairs along an axis, where these fit into the frame."""
    found, lost = (0.0 * under_tap(v, 0, tuple(taps), axis) for v in (values, low))
    for k, (tap, rest) in enumerate(zip(taps, rests, strict=True)):
        value, further = (under_tap(v, k, tuple(taps), axis) for v in (values, low))
        if tap != 1:
            product, rounding = exact_product(value, tap)
            value, further = product, rounding + (tap * further + rest * value)
        found, rounding = exact_pair(found, value)
        lost = lost + (rounding + further)
    return found, lost
