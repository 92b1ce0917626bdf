"""Coarser grids, and gradients by 3x3 operators and their similarity on them, for FSIM and GMSD.

A cell is the mean over a block, as in the authors' MATLAB code; those outside the mask are filled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from imsim.portable.arrays import (
    array_namespace,
    at_most,
    device,
    pad,
    ratio,
    root,
    running_sums,
    shifted,
    sum_in_order,
    to_widest_float,
    where_valid,
    without_gradient,
)
from imsim.portable.pair import window_reach
from imsim.portable.units import (
    exact_correlate,
    exact_pair,
    in_unit,
    in_units,
    scaling_unit,
    unless_infinite,
)
from imsim.portable.windows import correlate
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


T1 = 0.85
"""FSIM's constant of the phase congruency similarity."""
T2 = 160.0
"""FSIM's constant of the gradient similarity, for pixel values from 0 to 255."""
C = 170 / 255**2
"""GMSD's constant of the gradient similarity, relative to the square of the data range."""

LOST = 2.0**-17
"""A gradient below this share of the differences that it sums has lost too many digits."""


def similarity(p: Array, q: Array, c: Array | float) -> Array:
    """(2 p q + c) / (p^2 + q^2 + c): 1 where p = q, and less the more p and q differ.

    It takes arrays, and scalars of kernels.
    """
    pq = p * q  # added twice: in Numba, 2 times a float32 would be a float64
    return (pq + pq + c) / (p * p + q * q + c)


def similarity_in_units(x: Array, y: Array, c: float, feature: Callable[[Array], Array]) -> Array:
    """Similarity of a feature that is proportional to the images, whatever their magnitude."""

    def values(unit: Any, _: Any) -> Array:
        p, q = feature(in_unit(x, unit)), feature(in_unit(y, unit))
        return unless_infinite(similarity(p, q, c / unit / unit), p * p + q * q)

    unit = scaling_unit(x, y)
    unit = array_namespace(x).maximum(unit, array_namespace(x).ones_like(unit))
    return in_units(values, unit, unit)


YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""Luminance Y and chrominances I, Q as weights of red, green and blue."""
T3 = T4 = 200.0
"""Constants of the chromatic similarities, for pixel values from 0 to 255."""
LAMBDA = 0.03
"""Exponent of the chromatic similarity."""


def weighted(image: Array, weights: tuple[float, ...]) -> Array:
    """Weighted sum of the channels, keeping their axis."""
    terms = [w * image[..., c : c + 1, :, :] for c, w in enumerate(weights)]
    return terms[0] + terms[1] + terms[2]


def chromatic_similarity(
    p: tuple[Array, ...],
    q: tuple[Array, ...],
    alike: Callable[[Array, Array, float], Array] = similarity,
) -> Array:
    """(S_I S_Q)^lambda; a negative product gives the real part of its complex power."""
    product = math.prod(alike(*planes) for planes in zip(p, q, (T3, T4), strict=True))
    xp = array_namespace(product)
    some = product != 0  # at 0 the power has no finite derivative
    power = where_valid(some, xp.abs(where_valid(some, product, 1.0)) ** LAMBDA)
    return xp.where(product < 0, math.cos(LAMBDA * math.pi) * power, power)


PREWITT = (1 / 3, 1 / 3, 1 / 3)
CELL_REACH = window_reach(3, step=2)
"""Pixels that a gradient of cells of 2x2 pixels reads before and after its own."""
SCHARR = (3 / 16, 10 / 16, 3 / 16)


def gradient_magnitude(image: Array, smoothing: tuple[float, ...]) -> Array:
    """sqrt(gx^2 + gy^2); each component is a difference across, smoothed along the edge.

    There are zeros beyond the frame.
    """
    framed = pad(pad(image, 1, 1, -2), 1, 1, -1)
    height, width = image.shape[-2:]
    across = shifted(framed, 2, width, -1) - shifted(framed, 0, width, -1)
    down = shifted(framed, 2, height, -2) - shifted(framed, 0, height, -2)
    gx = correlate(across, smoothing, -2)
    gy = correlate(down, smoothing, -1)
    return root(gx * gx + gy * gy)


def cell_gradient(
    image: Array, smoothing: tuple[float, ...], axes: tuple[int, ...] = (-1, -2)
) -> Array:
    """Gradient magnitude of the means over 2x2 pixels, with zeros beyond the frame.

    Pixels are subtracted before they are averaged, since means of pixels far from 0 lose digits.
    Each component is smoothed along all other axes.
    """
    for axis in axes:
        image = pad(image, 0, image.shape[axis] % 2, axis)

    def component(across: int) -> Array:
        framed = pad(image, 2, 2, across)
        length = image.shape[across]
        apart = shifted(framed, 4, length, across) - shifted(framed, 0, length, across)
        cells, _ = block_mean(apart, None, 2, border="zero", axes=axes[::-1])
        for along in axes:
            if along != across:
                cells = correlate(pad(cells, 1, 1, along), smoothing, along)
        return cells

    return root(sum_in_order(g * g for g in map(component, axes)))


def exact_cell_gradient(image: Array, axes: tuple[int, ...] = (-1, -2)) -> Array:
    """Likewise, by Prewitt's operator in pairs of floats: precise even if distant pixels cancel."""
    for axis in axes:
        image = pad(image, 0, image.shape[axis] % 2, axis)

    def component(across: int) -> Array:
        framed = pad(image, 2, 2, across)
        length = image.shape[across]
        ends = shifted(framed, 4, length, across), -shifted(framed, 0, length, across)
        found, lost = exact_pair(*ends)
        for along in axes:
            whole = image.shape[along]
            (p, low_p), (q, low_q) = (
                tuple(shifted(v, k, whole, along, step=2) for v in (found, lost)) for k in (0, 1)
            )
            found, rounding = exact_pair(p, q)
            lost = low_p + low_q + rounding
            if along != across:
                found, lost = (pad(v, 1, 1, along) for v in (found, lost))
                found, lost = exact_correlate(found, lost, (1.0,) * 3, (0.0,) * 3, along)
        return (found + lost) / (2 ** len(axes) * 3 ** (len(axes) - 1))

    return root(sum_in_order(g * g for g in map(component, axes)))


def eroded(valid: Array | None, axes: tuple[int, ...] = (-2, -1)) -> Array | None:
    """Find where all neighbours, also across corners, are valid; beyond the frame, all are."""
    if valid is None:
        return None
    xp = array_namespace(valid)
    for axis in axes:
        length = valid.shape[axis]
        edge = xp.ones_like(shifted(valid, 0, 1, axis))
        framed = xp.concat([edge, valid, edge], axis=axis)
        valid = valid & shifted(framed, 0, length, axis) & shifted(framed, 2, length, axis)
    return valid


def least_around(weights: Array | None, axes: tuple[int, ...] = (-2, -1)) -> Array | None:
    """Least weight of each position and its neighbours, also across corners, within the frame.

    It is the weight of a gradient, and 0 where `eroded` is False.
    """
    if weights is None:
        return None
    xp = array_namespace(weights)
    for axis in axes:
        length = weights.shape[axis]
        framed = pad(weights, 1, 1, axis, math.inf)
        for start in (0, 2):
            weights = xp.minimum(weights, shifted(framed, start, length, axis))
    return weights
