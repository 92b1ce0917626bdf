"""Arithmetic on scalars, written so that it serves arrays and compiled kernels alike."""

from __future__ import annotations

from array_api_compat import array_namespace

from imsim.typing import Array


def similarity(p: Array, q: Array, c: Array | float) -> Array:
    """(2 p q + c) / (p^2 + q^2 + c): 1 where p = q, smaller the more they differ."""
    return (2 * p * q + c) / (p * p + q * q + c)


def zero_rules(quality: Array, luminance: Array, flat: Array, dark: Array) -> Array:
    """Replace 0 / 0 in a quality index as its authors do.

    Where both windows are flat only the luminance term is left; where both means are 0, 1.
    """
    xp = array_namespace(quality)
    return xp.where(dark, xp.ones_like(quality), xp.where(flat, luminance, quality))
