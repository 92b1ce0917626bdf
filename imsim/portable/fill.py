"""Values for cells outside the mask, before a transform of the whole frame."""

from __future__ import annotations

import math

from imsim.portable.arrays import (
    array_namespace,
    at_most,
    device,
    running_sums,
    to_widest_float,
    where_valid,
    without_gradient,
)
from imsim.typing import Array


def filled(cells: Array, valid: Array | None) -> Array:
    """Give each invalid cell the mean of the valid cells in the smallest window that has any.

    The windows around a cell reach 1, 2, 4, 8 ... cells to each side. The fill makes no edge at the
    border of the mask, whose echo the transform would carry inside. It turns with the image.
    """
    if valid is None:
        return cells
    xp = array_namespace(cells)
    # Cells far from 0 would lose the digits in which they differ, so the minimum is subtracted.
    values = to_widest_float(where_valid(valid, cells))
    known = where_valid(valid, without_gradient(values), math.inf)
    low = xp.min(known, axis=(-2, -1), keepdims=True)
    low = where_valid(xp.isfinite(low), low)
    inside = where_valid(valid, values - low)
    sums = _integral(inside)
    counts = _integral(xp.astype(valid, inside.dtype))
    fill = xp.zeros_like(inside)
    missing = ~valid
    reach = 1
    while True:
        n = _window(counts, reach)
        found = missing & (n > 0)
        fill = xp.where(found, low + _window(sums, reach) / where_valid(n > 0, n, 1.0), fill)
        missing = missing & ~found
        if reach >= max(cells.shape[-2:]):
            return xp.where(valid, cells, xp.astype(fill, cells.dtype))
        reach *= 2


def _integral(values: Array) -> Array:
    """Sums of the values above and to the left, after a row and a column of zeros."""
    for axis in (-2, -1):
        values = running_sums(values, axis)
    return values


def _window(integral: Array, reach: int) -> Array:
    """Sum of the square window around each cell, as far as it lies inside the frame."""
    xp = array_namespace(integral)
    for axis in (-2, -1):
        n = integral.shape[axis] - 1
        here = xp.arange(n, device=device(integral))
        last = at_most(here + (reach + 1), n)  # a side may be a symbol, which clip cannot take
        first = xp.clip(here - reach, min=0)
        integral = xp.take(integral, last, axis=axis) - xp.take(integral, first, axis=axis)
    return integral
