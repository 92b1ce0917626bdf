"""Gradient magnitudes by 3x3 operators, and the similarity of these, for FSIM and GMSD."""

from __future__ import annotations

import math

from imsim.portable.arrays import array_namespace, pad, root, shifted, sum_in_order, where_valid
from imsim.portable.coarse import block_mean
from imsim.portable.pair import window_reach
from imsim.portable.units import exact_correlate, exact_pair
from imsim.portable.windows import correlate
from imsim.typing import Array

T1 = 0.85
"""FSIM's constant of the phase congruency similarity."""
T2 = 160.0
"""FSIM's constant of the gradient similarity, for pixel values from 0 to 255."""
C = 170 / 255**2
"""GMSD's constant of the gradient similarity, relative to the square of the data range."""

LOST = 2.0**-17
"""A gradient below this share of the differences that it sums has lost too many digits."""


def similarity(p: Array, q: Array, c: Array | float) -> Array:
    """(2 p q + c) / (p^2 + q^2 + c): 1 where p = q, and less the more p and q differ."""
    pq = p * q  # added twice: in Numba, 2 times a float32 would be a float64
    return (pq + pq + c) / (p * p + q * q + c)


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


def chromatic_similarity(p: tuple[Array, ...], q: tuple[Array, ...]) -> Array:
    """(S_I S_Q)^lambda; a negative product gives the real part of its complex power."""
    product = math.prod(similarity(*planes) for planes in zip(p, q, (T3, T4), strict=True))
    xp = array_namespace(product)
    some = product != 0  # at 0 the power has no finite derivative
    power = where_valid(some, xp.abs(where_valid(some, product, 1.0)) ** LAMBDA)
    return xp.where(product < 0, math.cos(LAMBDA * math.pi) * power, power)


PREWITT = (1 / 3, 1 / 3, 1 / 3)
CELL_REACH = window_reach(3, step=2)
"""Pixels that a gradient of cells of 2x2 pixels reads before and after its own."""
SCHARR = (3 / 16, 10 / 16, 3 / 16)


def gradient_magnitude(image: Array, smoothing: tuple[float, ...]) -> Array:
    """sqrt(gx^2 + gy^2); each component is a difference across, smoothed along the edge."""
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
