"""RMSE: the root of a mean squared error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, masked_pair

import imsim

sides = st.integers(16, 40)
# Two well-conditioned routes to one number: a few hundred additions in float64.
CLOSE = 1e-12


@given(SEEDS, sides, sides)
def test_x1_rmse_and_se(seed: int, height: int, width: int) -> None:
    a, b, mask = masked_pair(seed, height, width)
    for m in (None, mask):
        n = height * width if m is None else m.sum()
        se = imsim.se(a, b, mask=m)
        assert imsim.rmse(a, b, mask=m) ** 2 * n == pytest.approx(se, rel=CLOSE)
        assert imsim.se(a, b, mask=m, reduction="mean") * n == pytest.approx(se, rel=CLOSE)
