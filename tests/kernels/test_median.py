"""The median by selection."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from imsim.kernels.common.phase_congruency import median


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 999, 5000])
def test_median_by_selection(rng: Any, n: int, dtype: Any) -> None:
    halves = np.r_[np.zeros(n // 2), np.full(n - n // 2, 1e30)]
    some_infinite = np.where(rng.random(n) < 0.2, math.inf, 1.5)
    for values in (
        rng.random(n),
        rng.exponential(1, n) ** 9,
        np.zeros(n),
        halves,
        rng.integers(0, 3, n),
        some_infinite,
    ):
        values = values.astype(dtype)
        ordered = np.sort(values).astype(np.float64)
        assert median(values) == (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def test_median_of_nan() -> None:
    """NaN of either sign is the largest; the median of nothing is NaN."""
    values = np.array([3.0, -math.nan, 1.0, math.nan, 2.0])
    assert median(values) == 3
    assert math.isnan(median(np.full(3, -math.nan, dtype=np.float32)))
    assert math.isnan(median(np.empty(0)))
