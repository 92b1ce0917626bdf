"""Coarser grids: means over blocks, as in the authors' MATLAB code, and values outside the mask."""

from __future__ import annotations

import math
from typing import Literal

from imsim.portable.arrays import (
    array_namespace,
    at_most,
    device,
    pad,
    ratio,
    running_sums,
    shifted,
    sum_in_order,
    to_widest_float,
    where_valid,
    without_gradient,
)
from imsim.typing import Array


def automatic_factor(height: int, width: int) -> int:
    """max(1, round(min(height, width) / 256)); halves are rounded up, as in MATLAB."""
    return max(1, math.floor(min(height, width) / 256 + 0.5))


def block_mean(
    image: Array,
    mask: Array | None,
    factor: int,
    *,
    border: Literal["zero", "symmetric"],
    min_coverage: float = 0.5,
    axes: tuple[int, ...] = (-2, -1),
    weights: Array | None = None,
) -> tuple[Array, Array | None]:
    """Mean over factor x factor pixels at every factor-th pixel, and where it is valid.

    The block of the cell at pixel i begins at i - (factor - 1) // 2, as with conv2(..., 'same').
    Beyond the frame, `border` chooses zeros, which darken the border, or the mirror image. A cell
    is the mean of its pixels inside the mask, by their weights. It is valid if these are at least
    `min_coverage` of its pixels inside the frame.
    """
    if factor == 1:
        return image, mask
    of_block = factor ** len(axes)
    sums = _block_sum(image, factor, border, axes)
    if mask is None:
        return sums / of_block, None
    xp = array_namespace(image)
    inside = xp.astype(mask, image.dtype)
    pixels = _block_sum(inside, factor, border, axes)
    of_frame = _block_sum(xp.ones_like(inside), factor, border, axes)
    has_pixels = pixels > 0
    inside = pixels
    if weights is not None:
        inside = _block_sum(weights, factor, border, axes)
        sums = _block_sum(image * weights, factor, border, axes)
    weight = where_valid(has_pixels, of_block * (inside / of_frame), 1.0)
    return sums / weight, has_pixels & (pixels >= min_coverage * of_frame)


def cell_weights(
    weights: Array, mask: Array, factor: int, *, border: Literal["zero", "symmetric"]
) -> Array:
    """Weight of each cell of `block_mean`: the mean over its pixels inside the mask."""
    if factor == 1:
        return weights
    axes = (-2, -1)
    pixels = _block_sum(array_namespace(mask).astype(mask, weights.dtype), factor, border, axes)
    return ratio(_block_sum(weights, factor, border, axes), pixels, 0.0)


def least_in_cells(weights: Array, axes: tuple[int, ...]) -> Array:
    """Least weight of the pixels inside the frame of each cell of two pixels a side."""
    xp = array_namespace(weights)
    for axis in axes:
        weights = pad(weights, 0, weights.shape[axis] % 2, axis, math.inf)
        length = weights.shape[axis] - 1
        weights = xp.minimum(*(shifted(weights, k, length, axis, 2) for k in (0, 1)))
    return weights


def _block_sum(values: Array, factor: int, border: str, axes: tuple[int, ...]) -> Array:
    before = (factor - 1) // 2
    for axis in axes:
        length = values.shape[axis]
        cells = -(-length // factor)
        after = max(0, (cells - 1) * factor - before + factor - length)
        values = _extend(values, before, after, axis, border)
        span = (cells - 1) * factor + 1
        values = sum_in_order(shifted(values, k, span, axis, factor) for k in range(factor))
    return values


def _extend(values: Array, before: int, after: int, axis: int, border: str) -> Array:
    if border == "zero":
        return pad(values, before, after, axis)
    xp = array_namespace(values)
    length = values.shape[axis]
    head = xp.flip(shifted(values, 0, before, axis), axis=axis)
    tail = xp.flip(shifted(values, length - after, after, axis), axis=axis)
    return xp.concat([head, values, tail], axis=axis)


def filled(cells: Array, valid: Array | None) -> Array:
    """Give each invalid cell the mean of the valid cells in the smallest window that has any.

    The windows around a cell reach 1, 2, 4, 8 ... cells to each side. The fill makes no edge at the
    border of the mask, whose echo the transform would carry inside. It turns and flips with the
    image.
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
