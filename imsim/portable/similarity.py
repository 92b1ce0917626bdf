"""Arithmetic on scalars, written so that it serves arrays and compiled kernels alike."""

from __future__ import annotations

from imsim.typing import Array

T1 = 0.85
"""FSIM's constant of the phase congruency similarity."""
T2 = 160.0
"""FSIM's constant of the gradient similarity, for pixel values from 0 to 255."""
C = 170 / 255**2
"""GMSD's constant of the gradient similarity, relative to the square of the data range."""


def similarity(p: Array, q: Array, c: Array | float) -> Array:
    """(2 p q + c) / (p^2 + q^2 + c): 1 where p = q, smaller the more they differ."""
    pq = p * q  # twice it by addition: to Numba, an integer times a float32 is a float64
    return (pq + pq + c) / (p * p + q * q + c)
