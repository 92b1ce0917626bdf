"""ZNCC of whole images and in windows: its kernels against its formulas, and its properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import (
    DTYPES,
    FRAMES,
    check_agreement,
    check_layouts,
    check_outside,
    check_workers,
    fewer_masks,
    masks,
    pair,
    region,
    tolerance,
)
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, images, textured_pairs
from strategies import region as some_region

import imsim

gains = st.floats(0.01, 100)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_engines_agree(rng: Any, dtype: Any, frame: tuple[int, int]) -> None:
    # Both engines compute in float64, whatever the dtype.
    close = tolerance(np.float64, 16, frame[0] * frame[1])
    for mask in masks(rng, frame):
        check_agreement(imsim.zncc, pair(rng, (2, *frame), dtype), 0, close, mask=mask)


@pytest.mark.parametrize("offset", [1e3, -1e6, 1e9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_offset(rng: Any, offset: float, dtype: Any) -> None:
    """Blocks whose means differ, far from zero: nothing cancels."""
    x, y = pair(rng, (150, 160), np.float64)
    x, y = (v + np.linspace(0, 3000, 150)[:, None] for v in (x, y))
    x, y = ((v + offset).astype(dtype) for v in (x, y))
    for mask in (None, region(rng, (150, 160))):
        check_agreement(imsim.zncc, (x, y), 0, tolerance(np.float64, 64, 24000), mask=mask)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_images(rng: Any, dtype: Any) -> None:
    """Exactly: the level has no short binary fraction, and neither has its sum."""
    flat = np.full((70, 71), 1 / 3, dtype)
    texture = rng.random((70, 71)).astype(dtype)
    for mask in masks(rng, (70, 71)):
        assert imsim.zncc(flat, flat * 3, mask=mask) == 1
        assert imsim.zncc(flat, texture, mask=mask) == 0
        assert imsim.zncc(texture, texture, mask=mask) == 1
        broken = texture.copy()
        broken[0, 0] = np.nan
        assert np.isnan(imsim.zncc(flat, broken, mask=mask))


def test_an_outlier_in_front() -> None:
    x = np.random.default_rng(0).random((90, 90))
    y = x[::-1].copy()
    x[0, 0] = y[0, 0] = 1e8
    check_agreement(imsim.zncc, (x, y), 0, 1e-13)
    mask = np.ones((90, 90), bool)
    mask[0, 0] = False
    check_agreement(imsim.zncc, (x, y), 0, 1e-13, mask=mask)


def test_layouts(rng: Any) -> None:
    check_layouts(imsim.zncc, pair(rng, (3, 20, 26, 3), np.float32))


def test_outside(rng: Any) -> None:
    check_outside(imsim.zncc, pair(rng, (2, 40, 90), np.float32))


def test_workers(rng: Any) -> None:
    check_workers(imsim.zncc, pair(rng, (2, 700, 800), np.uint16))


FRAMES_OF_WINDOWS = ((9, 9), (10, 85), (141, 150))


def close(size: int, dtype: Any = np.float64) -> float:
    """Bound the error of a local value: five float64 sums of 2 size additions, of their own size.

    Maps of float32 images are rounded to float32.
    """
    if dtype == np.float32:
        return float(np.finfo(np.float32).eps)
    return float(5 * 2 * size * np.finfo(np.float64).eps * 4)


@pytest.mark.parametrize("frame", FRAMES_OF_WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_engines_agree_in_windows(rng: Any, dtype: Any, frame: tuple[int, int]) -> None:
    images = pair(rng, (2, *frame), dtype)
    for mask in fewer_masks(rng, frame, dtype):
        check_agreement(imsim.zncc, images, 0, close(9), mask=mask, window_size=9)
        check_agreement(imsim.zncc_map, images, 0, close(9, dtype), mask=mask)


@pytest.mark.parametrize("size", [4, 19])
def test_options_of_windows(rng: Any, size: int) -> None:
    images = pair(rng, (50, 71), np.float64)
    for mask in (None, region(rng, (50, 71))):
        for function in (imsim.zncc, imsim.zncc_map):
            options = {"window_size": size, "min_coverage": 0.6}
            check_agreement(function, images, 0, 100 * close(size), mask=mask, **options)


@pytest.mark.parametrize("levels", [(0, 50, 255), (0.0, 0.1, 0.7)], ids=["integers", "fractions"])
@pytest.mark.parametrize("size", [9, 4])
def test_flat_windows(rng: Any, levels: tuple[float, ...], size: int) -> None:
    """Large tiles of equal pixels: windows that are flat in both images, or in one."""
    x, y = (np.kron(rng.choice(levels, (5, 9)), np.ones((16, 16))) for _ in range(2))
    for mask in (None, region(rng, x.shape)):
        for p, q in ((x, y), (x, x), (x, -y)):
            check_agreement(imsim.zncc_map, (p, q), 0, 1e-12, mask=mask, window_size=size)


def test_a_pixel_that_is_not_finite_beside_a_flat_image(rng: Any) -> None:
    x, flat = rng.random((40, 40)), np.full((40, 40), 0.3)
    x[20, 20] = np.nan
    assert np.isnan(imsim.zncc(x, flat, window_size=9))
    assert np.isnan(imsim.zncc(flat, x, window_size=9))


def test_layouts_of_windows(rng: Any) -> None:
    images = pair(rng, (3, 30, 80, 3), np.uint8)
    check_layouts(imsim.zncc, images, window_size=9)
    check_layouts(imsim.zncc_map, images, window_size=9)


def test_outside_of_windows(rng: Any) -> None:
    check_outside(imsim.zncc, pair(rng, (40, 45), np.float32), window_size=9)


def test_workers_on_windows(rng: Any) -> None:
    images = pair(rng, (400, 330), np.uint8)
    check_workers(imsim.zncc, images, window_size=9)
    check_workers(imsim.zncc_map, images)


@given(textured_pairs(), gains, st.floats(-1000, 1000), SEEDS)
def test_zncc_does_not_see_brightness_or_contrast(
    pair: tuple[np.ndarray, np.ndarray], gain: float, offset: float, seed: int
) -> None:
    x, y = pair
    mask = some_region(seed, x)
    for options in ({}, {"window_size": 9}, {"mask": mask}):
        # An offset of 1000 on a contrast of 0.3 costs seven digits of the variance in a window.
        close = 1e-6 if "window_size" in options else 1e-10
        assert imsim.zncc(x, gain * x + offset, **options) == pytest.approx(1, abs=close)
        assert imsim.zncc(x, -gain * x + offset, **options) == pytest.approx(-1, abs=close)
        want = imsim.zncc(x, y, **options)
        got = imsim.zncc(x, gain * y + offset, **options)
        assert got == pytest.approx(want, abs=close)


@given(images(), st.integers(0, 255))
def test_zncc_of_constant_images(x: np.ndarray, level: int) -> None:
    flat = np.full(x.shape, float(level))
    is_flat = np.ptp(x) == 0
    for options in ({}, {"window_size": 5}):
        assert imsim.zncc(flat, flat, **options) == 1
        assert imsim.zncc(flat, flat + 3, **options) == 1
    assert imsim.zncc(x, flat) == (1 if is_flat else 0)
    third = np.full(x.shape, 1 / 3)  # its mean is not exactly representable
    assert imsim.zncc(third, third) == 1
    assert imsim.zncc(x, third) == (1 if is_flat else 0)


def test_zncc_of_independent_noise() -> None:
    for seed, side in ((0, 32), (1, 128)):
        x, y = np.random.default_rng(seed).standard_normal((2, side, side))
        assert abs(imsim.zncc(x, y)) < 4 / side


def test_zncc_map_of_flat_windows() -> None:
    x = np.zeros((24, 24))
    x[:, 12:] = np.arange(12)
    local = imsim.zncc_map(x, 2 * x + 3, window_size=5)
    np.testing.assert_allclose(local[2:-2, 2:-2], 1.0, rtol=0, atol=1e-12)
    one = imsim.zncc_map(x, np.full_like(x, 7), window_size=5)
    np.testing.assert_array_equal(one[2:-2, 2:9], 1.0)
    np.testing.assert_array_equal(one[2:-2, 15:-2], 0.0)


@pytest.mark.parametrize("window_size", [3, 6, 9, 13])
def test_the_map_of_an_image_with_itself_is_1(rng: Any, window_size: int) -> None:
    """Squares and products are rounded alike, whatever code sums a window."""
    image = rng.random((20, 31))
    for mask in (None, rng.random(image.shape) < 0.8):
        values = imsim.zncc_map(image, image, window_size=window_size, mask=mask)
        assert (values[np.isfinite(values)] == 1).all()
