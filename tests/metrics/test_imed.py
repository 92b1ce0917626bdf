"""IMED: its kernel against its formula, and its properties."""

from __future__ import annotations

import math
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
    masks,
    pair,
    tolerance,
)
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, images, masked_pair, pairs

import imsim

sides = st.integers(16, 40)
# Two well-conditioned routes to one number: a few hundred additions in float64.
CLOSE = 1e-12


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("sigma", [0.1, 1.0, 2.5])
def test_engines_agree(rng: Any, sigma: float, dtype: Any, frame: tuple[int, int]) -> None:
    x, y = pair(rng, (2, *frame), dtype)
    difference = np.abs(x.astype(np.float64) - y).max()
    # Errors are relative to the largest weight, which is that of a pixel with itself.
    close = tolerance(dtype, 20 + int(10 * sigma), frame[0] * frame[1])
    scale = difference**2 * (1 + 1 / sigma**2)
    for mask in masks(rng, frame):
        check_agreement(imsim.imed_map, (x, y), 0, close * scale, mask=mask, sigma=sigma)
        for normalize in (None, "rms"):
            options = {"sigma": sigma, "normalize": normalize}
            check_agreement(imsim.imed, (x, y), 100 * close, 0, mask=mask, **options)


def test_channels(rng: Any) -> None:
    images = pair(rng, (2, 30, 31, 3), np.float64)
    for mask in masks(rng, (30, 31)):
        for function in (imsim.imed, imsim.imed_map):
            check_agreement(function, images, 1e-13, 1e-11, mask=mask, channel_axis=-1)


@pytest.mark.parametrize("sigma", [6.0, 40.0])
def test_wide(rng: Any, sigma: float) -> None:
    """Filters longer than a strip, and than the frame."""
    images = pair(rng, (90, 80), np.float64)
    check_agreement(imsim.imed, images, 1e-12, 0, sigma=sigma)
    check_agreement(imsim.imed_map, images, 0, 1e-11, sigma=sigma)


def test_maps_add_up(rng: Any) -> None:
    x, y = pair(rng, (150, 300), np.float64)
    assert imsim.imed_map(x, y).sum() == pytest.approx(imsim.imed(x, y) ** 2, rel=1e-12)


def test_layouts(rng: Any) -> None:
    check_layouts(imsim.imed, pair(rng, (3, 20, 26, 3), np.float32))
    check_layouts(imsim.imed_map, pair(rng, (3, 20, 26, 3), np.uint8))


def test_outside(rng: Any) -> None:
    check_outside(imsim.imed, pair(rng, (2, 40, 90), np.float32))


def test_workers(rng: Any) -> None:
    images = pair(rng, (2, 300, 301), np.float32)
    check_workers(imsim.imed, images)
    check_workers(imsim.imed_map, images)


@given(pairs())
def test_imed_lies_between_its_spectral_bounds(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Eigenvalues of the metric at sigma = 1: from 2.07e-4 = 0.0144**2 to 1 + 1e-8."""
    euclidean = math.sqrt(imsim.se(*pair))
    imed = imsim.imed(*pair)
    assert 0.01438 * euclidean <= imed <= (1 + 1e-8) * euclidean


@given(st.integers(0, 15), st.integers(0, 15), st.floats(-1e3, 1e3), st.floats(0.3, 3))
def test_imed_of_one_pixel(row: int, col: int, d: float, sigma: float) -> None:
    x = np.zeros((16, 16))
    y = x.copy()
    y[row, col] = d
    want = abs(d) / math.sqrt(2 * math.pi * sigma**2)
    assert imsim.imed(x, y, sigma=sigma) == pytest.approx(want, rel=1e-12)


@given(SEEDS, st.integers(-6, 6), st.integers(-6, 6))
def test_imed_does_not_see_a_common_shift(seed: int, down: int, right: int) -> None:
    x, y = np.zeros((2, 40, 40))
    x[15:25, 15:25], y[15:25, 15:25] = np.random.default_rng(seed).uniform(0, 255, (2, 10, 10))
    shifted = [np.roll(image, (down, right), axis=(0, 1)) for image in (x, y)]
    assert imsim.imed(*shifted) == pytest.approx(imsim.imed(x, y), rel=1e-12)


def test_imed_forgives_a_small_shift_the_more_it_blurs() -> None:
    x = np.zeros((32, 32))
    x[10:20, 12:18] = 1
    y = np.roll(x, 1, axis=1)
    ratios = [
        imsim.imed(x, y, sigma=s) * math.sqrt(2 * math.pi) * s / math.sqrt(imsim.se(x, y))
        for s in (0.1, 0.5)
    ]
    assert ratios[0] == pytest.approx(1, rel=1e-9)
    distances = [imsim.imed(x, y, sigma=s) for s in (0.6, 1.0, 1.5, 2.0)]
    assert all(d < math.sqrt(imsim.se(x, y)) for d in distances)
    assert np.all(np.diff(distances) < 0)
    assert distances[1] == pytest.approx(2.72, abs=0.005)


@given(images())
def test_imed_grows_with_the_root_of_the_size(x: np.ndarray) -> None:
    y = x + 3.0
    want = imsim.imed(x, y) / math.sqrt(x.size)
    assert imsim.imed(x, y, normalize="rms") == pytest.approx(want, rel=1e-12)


@given(SEEDS, sides)
def test_x6_imed_of_a_narrow_kernel_is_se(seed: int, side: int) -> None:
    a, b, mask = masked_pair(seed, side, side)
    sigma = 0.1  # the next pixel weighs exp(-50) = 2e-22
    for m in (None, mask):
        se = imsim.imed(a, b, mask=m, sigma=sigma) ** 2 * 2 * np.pi * sigma**2
        assert se == pytest.approx(imsim.se(a, b, mask=m), rel=CLOSE)
