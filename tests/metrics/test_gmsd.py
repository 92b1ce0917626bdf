"""GMSD: its kernel against its formula, and its properties."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from agreement import (
    DTYPES,
    check_agreement,
    check_layouts,
    check_outside,
    check_workers,
    masks,
    pair,
    tolerance,
)
from hypothesis import given
from hypothesis import strategies as st
from strategies import pairs, textured_pairs

import imsim

levels = st.integers(0, 255)


RANGE = {"data_range": 255}
# One or two cells, odd numbers of pixels, several strips.
FRAMES = ((1, 3), (3, 3), (4, 7), (33, 38), (270, 35))


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_engines_agree(rng: Any, dtype: Any, frame: tuple[int, int]) -> None:
    images = pair(rng, (2, *frame), dtype)
    close = tolerance(dtype, 32, frame[0] * frame[1])
    for mask in masks(rng, frame):
        if mask is not None and not mask.all() and min(frame) < 9:
            continue  # too small for a region that leaves two cells
        check_agreement(imsim.gmsd, images, 0, close, mask=mask, **RANGE)
        check_agreement(imsim.gmsd_map, images, 0, close, mask=mask, **RANGE)


@pytest.mark.parametrize("weights", [False, True])
def test_memory_of_a_wider_image_leaves_nothing(rng: Any, weights: bool) -> None:
    """Images 64 and 63 pixels wide have as many cells in a row, and share their memory."""
    x, y = pair(rng, (40, 64), np.float64)
    options: dict[str, Any] = {"weights": rng.random((40, 64))} if weights else {}
    imsim.gmsd(x, y, **options, **RANGE)
    options = {key: value[:, :63] for key, value in options.items()}
    check_agreement(imsim.gmsd, (x[:, :63], y[:, :63]), 0, 1e-13, **options, **RANGE)


def test_channels(rng: Any) -> None:
    images = pair(rng, (2, 30, 31, 3), np.float64)
    for mask in masks(rng, (30, 31)):
        for function in (imsim.gmsd, imsim.gmsd_map):
            check_agreement(function, images, 0, 1e-13, mask=mask, channel_axis=-1, **RANGE)


def test_even_loss_of_contrast() -> None:
    """A deviation far below the mean of what deviates."""
    x = np.add.outer(np.arange(300.0), np.arange(290.0)) * 0.4
    x[::2, ::2] += 1e-5
    for k in (0.9, 0.3):
        check_agreement(imsim.gmsd, (x, k * x), 0, 1e-14, **RANGE)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_exact(rng: Any, dtype: Any) -> None:
    x, y = pair(rng, (60, 70), dtype)
    for mask in masks(rng, (60, 70)):
        assert imsim.gmsd(x, x, mask=mask, **RANGE) == 0
        assert imsim.gmsd(x, y, mask=mask, **RANGE) == imsim.gmsd(y, x, mask=mask, **RANGE)


def test_one_cell_has_no_deviation(rng: Any) -> None:
    x, y = pair(rng, (20, 20), np.float64)
    mask = np.zeros((20, 20), bool)
    mask[4:10, 4:10] = True  # 3x3 cells, of which the middle one counts
    with pytest.warns(imsim.EmptyMaskWarning):
        assert np.isnan(imsim.gmsd(x, y, mask=mask, **RANGE))
    assert np.isfinite(imsim.gmsd_map(x, y, mask=mask, **RANGE)).sum() == 4


def test_cells_that_repeat_share_no_rounding_error() -> None:
    """Three data ranges from 0, float32 keeps too few digits of sums of four pixels."""
    cells = np.random.default_rng(1689).normal(3, 0.05, (2, 8, 2)).astype(np.float32)
    x, y = np.tile(cells, (1, 5, 20))
    wide = imsim.gmsd(x.astype(np.float64), y.astype(np.float64), data_range=1)
    assert abs(imsim.gmsd(x, y, data_range=1) - wide) < 1e-6


def test_layouts(rng: Any) -> None:
    check_layouts(imsim.gmsd, pair(rng, (3, 20, 26, 3), np.float32), **RANGE)
    check_layouts(imsim.gmsd_map, pair(rng, (3, 20, 26, 3), np.uint8), **RANGE)


def test_outside(rng: Any) -> None:
    check_outside(imsim.gmsd, pair(rng, (2, 40, 90), np.float32), **RANGE)


def test_workers(rng: Any) -> None:
    images = pair(rng, (2, 300, 301), np.float32)
    check_workers(imsim.gmsd, images, **RANGE)
    check_workers(imsim.gmsd_map, images, **RANGE)


@pytest.mark.parametrize("shape", [(1, -1), (-1, 1)], ids=["columns", "rows"])
def test_pixels_that_cancel_in_each_cell(rng: Any, shape: tuple[int, int]) -> None:
    """Stripes far from 0, whose cells are near it: no digit may be lost before they cancel."""
    stripes = np.where(np.arange(32) % 2, 1e5, -1e5).reshape(shape)
    x = (rng.normal(0, 1, (32, 32)) + stripes).astype(np.float32)
    y = (x + rng.normal(0, 0.3, x.shape)).astype(np.float32)
    wide = x.astype(np.float64), y.astype(np.float64)
    assert imsim.gmsd(x, y, data_range=10) == pytest.approx(
        imsim.gmsd(*wide, data_range=10), abs=2e-6
    )
    np.testing.assert_allclose(
        imsim.gmsd_map(x, y, data_range=10), imsim.gmsd_map(*wide, data_range=10), atol=2e-5
    )


@given(textured_pairs(), st.floats(-100, 100), st.floats(-100, 100))
def test_gmsd_does_not_see_offsets_inside(
    pair: tuple[np.ndarray, np.ndarray], p: float, q: float
) -> None:
    x, y = pair
    inside = np.s_[2 : x.shape[0] // 2 * 2 - 2, 2 : x.shape[1] // 2 * 2 - 2]
    want = imsim.gmsd_map(x, y, data_range=255)[inside]
    got = imsim.gmsd_map(x + p, y + q, data_range=255)[inside]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-11)


@given(pairs(), levels)
def test_gmsd_limits(pair: tuple[np.ndarray, np.ndarray], level: int) -> None:
    x, y = pair
    assert imsim.gmsd(x, y, data_range=1e12) == pytest.approx(0, abs=1e-12)
    n = imsim.gmsd_map(x, y, data_range=255)[::2, ::2].size
    # Values in (0, 1] deviate by at most 1/2, times sqrt(n / (n - 1)).
    assert 0 <= imsim.gmsd(x, y, data_range=255) <= 0.5 * math.sqrt(n / (n - 1))
    assert imsim.gmsd(0 * x + level, 0 * x + level, data_range=255) == 0


@given(textured_pairs())
def test_gmsd_constant_scales_with_the_square_of_the_range(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    x, y = pair
    want = imsim.gmsd(x, y, data_range=255)
    assert imsim.gmsd(x / 255, y / 255, data_range=1) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("data_range", [1e-30, 1e-13, 1e13, 1e30])
@pytest.mark.parametrize("masked", [False, True])
def test_data_ranges_whose_square_leaves_float32(
    data_range: float, masked: bool, rng: np.random.Generator
) -> None:
    x, y = (rng.random((2, 3, 150, 40)) * data_range).astype(np.float32)
    mask = rng.random((150, 40)) > 0.01 if masked else None
    want = imsim.gmsd(x.astype(float), y.astype(float), mask=mask, data_range=data_range)
    got = imsim.gmsd(x, y, mask=mask, data_range=data_range)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    x[1, 3, 3] = np.nan
    broken = imsim.gmsd(x, y, data_range=data_range)
    assert np.isnan(broken).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_true_is_no_mask_far_from_the_range(dtype: type) -> None:
    """The cells of such rows are added by other code."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a = (200 * rng.random((11, 11)) * (rng.random((11, 11)) < 0.05)).astype(dtype)
        b = (a + rng.normal(0, 10, a.shape)).astype(dtype)
        want = imsim.gmsd(a, b, data_range=1)
        assert imsim.gmsd(a, b, mask=np.ones(a.shape, dtype=bool), data_range=1) == want
        assert imsim.gmsd(a, b, weights=np.ones(a.shape), data_range=1) == want
