"""Powers of two that bring very large and very small images to where their squares are numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from imsim.portable.arrays import array_namespace
from imsim.typing import Array

PRODUCTS, SQUARES = 16, 3
"""Pixels count as ordinary up to the 16th root of the largest float where products of sums of
squares are formed, and up to its third root where only squares are."""


def magnitude(
    *images: Array, axis: int | tuple[int, ...] = (-3, -2, -1), root: int = PRODUCTS
) -> Array:
    """Return a power of two near the largest magnitude in some images; 1 for ordinary ones.

    Ordinary is what lies between the given root of the largest float and its inverse. To divide
    by a power of two is exact. Shape (*batch, 1, 1, 1), or what remains of it where other axes
    are reduced.
    """
    xp = array_namespace(*images)
    largest = functools.reduce(
        xp.maximum, (xp.max(xp.abs(v), axis=axis, keepdims=True) for v in images)
    )
    near = float(xp.finfo(largest.dtype).max) ** (1 / root)
    ordinary = (largest == 0) | ((largest > 1 / near) & (largest < near))
    one = xp.ones_like(largest)
    exponent = xp.floor(xp.log2(xp.where(ordinary | ~xp.isfinite(largest), one, largest)))
    # The logarithm of the largest float is rounded up; and the double of a unit is a number.
    exponent = xp.clip(exponent, max=math.frexp(float(xp.finfo(one.dtype).max))[1] - 2)
    return xp.where(ordinary, one, (2 * one) ** exponent)


def in_units(values: Callable[[Any, Any], Array], unit_x: Array, unit_y: Array) -> Array:
    """Compute local values in units in which the squares of what they read are numbers.

    ``values(unit_x, unit_y)`` divides the images by powers of two. It is called with 1, and where
    the result is not finite with the given units. Most positions keep 1, since in the unit of a
    huge pixel the squares of ordinary pixels would vanish. Arrays that are only traced tell no
    units; there 1 serves everywhere.
    """
    found = values(1.0, 1.0)
    xp = array_namespace(unit_x)
    odd = (unit_x != 1) | (unit_y != 1)
    try:
        if not bool(xp.any(odd)):
            return found
    except (TypeError, RuntimeError):
        return found
    is_small = (unit_x < 1) | (unit_y < 1)  # too small squares are 0, which is finite
    return xp.where(odd & (is_small | ~xp.isfinite(found)), values(unit_x, unit_y), found)
