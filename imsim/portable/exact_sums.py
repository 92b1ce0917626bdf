"""Sums of pixels that nearly cancel, without the rounding errors of the larger ones.

A pair of floats, a large and a small one, holds 32 digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from imsim.portable.arrays import array_namespace, count, ratio, total, where_valid
from imsim.portable.taps import under_tap
from imsim.portable.units import exact_parts, takes_one_pass
from imsim.typing import Array

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
