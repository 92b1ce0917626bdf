"""The similarity of FSIM and GMSD, for arrays and for scalars in compiled kernels."""

from __future__ import annotations

from imsim.typing import Array

T1 = 0.85
"""FSIM's constant of the phase congruency similarity."""
T2 = 160.0
"""FSIM's constant of the gradient similarity, for pixel values from 0 to 255."""
C = 170 / 255**2
"""GMSD's constant of the gradient similarity, relative to the square of the data range."""

LOST = 2.0**-17
"""Share of a gradient in the differences that it sums below which it has lost too many digits."""


def similarity(p: Array, q: Array, c: Array | float) -> Array:
    """(2 p q + c) / (p^2 + q^2 + c): 1 where p = q, and less the more p and q differ."""
    pq = p * q  # added twice: in Numba, 2 times a float32 would be a float64
    return (pq + pq + c) / (p * p + q * q + c)
