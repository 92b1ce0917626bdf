"""PSNR: the logarithm of a mean squared error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engines import by_engine
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, masked_pair, textured_pairs

import imsim

sides = st.integers(16, 40)


@given(textured_pairs())
def test_psnr_in_decibels(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    psnr = imsim.psnr(x, y, data_range=255)
    assert imsim.psnr(x, x + (y - x) / 2, data_range=255) == pytest.approx(
        psnr + 20 * math.log10(2), abs=1e-9
    )
    assert imsim.psnr(x, y, data_range=2550) == pytest.approx(psnr + 20, abs=1e-9)


@given(SEEDS, sides, st.floats(1e-3, 1e6))
def test_x2_psnr_and_rmse(seed: int, side: int, L: float) -> None:
    a, b, mask = masked_pair(seed, side, side)
    for m in (None, mask):
        want = 20 * np.log10(L / imsim.rmse(a, b, mask=m))
        assert imsim.psnr(a, b, mask=m, data_range=L) == pytest.approx(want, abs=1e-10)


@pytest.mark.parametrize("engine", ["auto", "portable"])
def test_a_ratio_whose_square_leaves_float64(engine: str) -> None:
    y = np.full((8, 8), 1e-70)
    got = by_engine(engine, imsim.psnr, np.zeros((8, 8)), y, data_range=1e100)
    assert got == pytest.approx(3400, rel=1e-12)
