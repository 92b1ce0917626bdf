"""Volumes and windows at the corners of what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engines import formulas

import imsim


def pair(shape: tuple[int, ...] = (8, 9, 10)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.uniform(50, 200, shape)
    return a, a + rng.normal(0, 20, shape)


@pytest.mark.parametrize("spacing", [(3.0, 1.0, 3.0), (1.0, 1.0, 3.0), (3.0, 3.0, 1.0)])
@pytest.mark.parametrize("sample_covariance", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gaussian_of_one_pixel_along_an_axis_weighs_one(
    spacing: Any, sample_covariance: bool, dtype: Any
) -> None:
    a, b = (v.astype(dtype) for v in pair())
    options: dict[str, Any] = {"window_size": 3.3, "sample_covariance": sample_covariance}
    found = imsim.ssim(a, b, ndim=3, data_range=255, spacing=spacing, **options)
    with formulas():
        want = imsim.ssim(a, b, ndim=3, data_range=255, spacing=spacing, **options)
    assert found == pytest.approx(want, rel=1e-6 if dtype == np.float32 else 1e-12)
