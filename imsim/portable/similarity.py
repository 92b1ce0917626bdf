"""Arithmetic on scalars, written so that it serves arrays and compiled kernels alike."""

from __future__ import annotations

from imsim.typing import Array


def similarity(p: Array, q: Array, c: Array | float) -> Array:
    """(2 p q + c) / (p^2 + q^2 + c): 1 where p = q, smaller the more they differ."""
    pq = p * q  # twice it by addition: to Numba, an integer times a float32 is a float64
    return (pq + pq + c) / (p * p + q * q + c)
