"""The similarity of FSIM and GMSD, for arrays and scalars of kernels, and of colours for FSIM."""

from __future__ import annotations

import math

from imsim.portable.arrays import array_namespace, where_valid
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
