"""Powers of two that bring very large and very small images to where their squares are numbers."""

from __future__ import annotations

import functools

from imsim.portable.arrays import array_namespace
from imsim.typing import Array


def magnitude(*images: Array, axis: int | tuple[int, ...] = (-3, -2, -1)) -> Array:
    """Return a power of two near the largest magnitude in some images; 1 for ordinary ones.

    Ordinary are those whose squares, and the products of two sums of squares, are far from
    the ends of the dtype. To divide by a power of two is exact. Shape (*batch, 1, 1, 1),
    or what remains of it where other axes are reduced.
    """
    xp = array_namespace(*images)
    largest = functools.reduce(
        xp.maximum, (xp.max(xp.abs(v), axis=axis, keepdims=True) for v in images)
    )
    near = float(xp.finfo(largest.dtype).max) ** (1 / 16)
    ordinary = (largest == 0) | ((largest > 1 / near) & (largest < near))
    one = xp.ones_like(largest)
    exponent = xp.floor(xp.log2(xp.where(ordinary | ~xp.isfinite(largest), one, largest)))
    return xp.where(ordinary, one, (2 * one) ** exponent)
