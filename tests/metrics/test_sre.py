"""SRE: the mean of the reference against the error, in decibels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engines import by_engine
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, image, masked_pair, textured_pairs

import imsim

sides = st.integers(16, 40)
gains = st.floats(0.01, 100)


def test_psnr_and_sre_of_identical_images() -> None:
    x = image("texture", 0, 16, 16)
    assert imsim.psnr(x, x, data_range=255) == math.inf
    assert imsim.sre(x, x) == math.inf
    assert imsim.sre(np.zeros((4, 4)), np.zeros((4, 4))) == math.inf
    assert imsim.sre(np.zeros((4, 4)), np.ones((4, 4))) == -math.inf
    stack = np.stack([x, x])
    stack[1] += 1
    np.testing.assert_array_equal(np.isinf(imsim.psnr(x, stack, data_range=255)), [True, False])


@given(textured_pairs(), gains, SEEDS)
def test_sre(pair: tuple[np.ndarray, np.ndarray], gain: float, seed: int) -> None:
    x, y = pair
    sre = imsim.sre(x, y)
    assert imsim.sre(gain * x, gain * y) == pytest.approx(sre, abs=1e-9)
    tiled = [np.tile(image, (2, 2)) for image in pair]
    assert imsim.sre(*tiled) == pytest.approx(sre, abs=1e-9)
    # Swapping replaces the mean of the reference by the other mean.
    swapped = sre + 20 * math.log10(y.mean() / x.mean())
    assert imsim.sre(y, x) == pytest.approx(swapped, abs=1e-9)
    assert imsim.sre(x, y + 50) != imsim.sre(y + 50, x)


@given(SEEDS, sides)
def test_x3_sre_and_psnr(seed: int, side: int) -> None:
    a, b, mask = masked_pair(seed, side, side)
    for m in (np.ones_like(mask), mask):
        psnr = imsim.psnr(a, b, mask=m, data_range=255)
        want = psnr + 20 * np.log10(abs(a[m].mean()) / 255)
        assert imsim.sre(a, b, mask=m) == pytest.approx(want, abs=1e-10)


@pytest.mark.parametrize("engine", ["auto", "portable"])
@pytest.mark.parametrize(("x", "y"), [(1e-90, 1e90), (1e90, 1e90 * (1 + 1e-15)), (1e-40, 1e60)])
def test_ratios_whose_square_leaves_float64(engine: str, x: float, y: float) -> None:
    got = by_engine(engine, imsim.sre, np.full((8, 8), x), np.full((8, 8), y))
    assert got == pytest.approx(20 * math.log10(x / abs(x - y)), rel=1e-12)
