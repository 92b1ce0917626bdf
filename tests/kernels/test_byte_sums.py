"""Sums of bytes: exact in integers, whatever the block, the mask and the levels."""

from __future__ import annotations

from fractions import Fraction
from math import isclose, isqrt
from typing import Any

import numpy as np
import pytest

import imsim
from imsim.kernels.common.planes import BYTE_BLOCK

SHAPES = ((3, 5), (181, 181), (182, 181), (400, 413), (1300, 1301))
"""Less than a block, one but for some pixels, one and a row, five blocks, and several runs."""


def pairs(rng: Any, shape: tuple[int, int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Levels at which sums are largest, smallest, or cancel most."""
    noise = rng.integers(0, 256, (2, *shape), np.uint8)
    bright = np.full(shape, 255, np.uint8)
    spot, other = bright.copy(), bright.copy()
    spot[0, 0], other[-1, -1] = 254, 254
    steps = (200 + rng.integers(0, 2, (2, *shape))).astype(np.uint8)
    return {
        "noise": (noise[0], noise[1]),
        "nearly equal": (noise[0], noise[0] ^ (noise[1] == 0)),
        "brightest": (bright, bright),
        "one pixel": (spot, other),
        "two levels": (steps[0], steps[1]),
        "three times": (noise[0] // 3, noise[0] // 3 * 3),
        "black": (np.zeros(shape, np.uint8), noise[1]),
    }


def root(value: Fraction) -> Fraction:
    """Square root to 40 digits."""
    scale = 10**40
    return Fraction(isqrt(value.numerator * scale**2 // value.denominator), scale)


def exact(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Correlation, and the square of the sine of the angle, of some pixels."""
    n = x.size
    p, q = x.astype(np.int64), y.astype(np.int64)
    sums = (p.sum(), q.sum(), (p * p).sum(), (q * q).sum(), (p * q).sum())
    sum_x, sum_y, xx, yy, xy = map(int, sums)
    var_x, var_y = n * xx - sum_x**2, n * yy - sum_y**2
    correlation = Fraction(1 if var_x == var_y else 0)
    if var_x and var_y:
        correlation = (n * xy - sum_x * sum_y) / root(Fraction(var_x * var_y))
    sine = Fraction(xx * yy - xy**2, xx * yy) if xx and yy else Fraction(int(xx != yy))
    return float(correlation), float(sine)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scores_of_bytes_are_those_of_exact_sums(
    rng: Any, shape: tuple[int, int], masked: bool
) -> None:
    mask = rng.random(shape) < 0.4 if masked else None
    for name, (x, y) in pairs(rng, shape).items():
        inside = np.ones(shape, np.bool_) if mask is None else mask
        correlation, sine = exact(x[inside], y[inside])
        found = imsim.zncc(x, y, mask=mask)
        # Merging blocks of 2^15 pixels rounds a few times.
        assert isclose(found, correlation, abs_tol=1e-14), name
        angle = imsim.sam(x, y, mask=mask, mode="image")
        assert isclose(np.sin(angle) ** 2, sine, rel_tol=1e-12, abs_tol=1e-30), name


def test_a_block_of_the_brightest_bytes_does_not_overflow() -> None:
    assert BYTE_BLOCK * 255**2 < 2**31
    x = np.full((2, 2 * BYTE_BLOCK), 255, np.uint8)
    assert imsim.sam(x, x, mode="image") == 0
    assert imsim.zncc(x, x) == 1


def test_pixels_outside_the_mask_change_no_bit(rng: Any) -> None:
    x, y = rng.integers(0, 256, (2, 300, 250), np.uint8)
    mask = rng.random(x.shape) < 0.5
    others = [np.where(mask, v, 255 - v) for v in (x, y)]
    for metric, options in (("zncc", {}), ("sam", {"mode": "image"})):
        call = getattr(imsim, metric)
        assert call(x, y, mask=mask, **options) == call(*others, mask=mask, **options)


def test_a_mask_of_true_is_no_mask(rng: Any) -> None:
    x, y = rng.integers(0, 256, (2, 200, 300), np.uint8)
    for metric, options in (("zncc", {}), ("sam", {"mode": "image"})):
        call = getattr(imsim, metric)
        whole = np.ones(x.shape, np.bool_)
        assert call(x, y, mask=whole, **options) == call(x, y, **options)
