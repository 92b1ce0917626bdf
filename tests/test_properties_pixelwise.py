"""Properties of the metrics that look at each pixel by itself: SE, RMSE, PSNR, SRE, SAM, ZNCC."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import SEEDS, image, images, pairs, region, textured_pairs

import imsim

EXTREME = np.where(image("binary", 5, 18, 20) > 0, 65535, 0).astype(np.uint16)
gains = st.floats(0.01, 100)


@given(pairs(), SEEDS)
def test_triangle_inequality(pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    x, y = pair
    z = image("noise", seed, *x.shape)
    for distance in (imsim.rmse, imsim.imed, imsim.sam):
        direct, detour = distance(x, y), distance(x, z) + distance(z, y)
        if distance is imsim.sam and not (x.any() and y.any()):
            continue  # a zero vector has no direction
        assert direct <= detour * (1 + 1e-12) + 1e-12


@given(pairs(), SEEDS)
def test_order_of_pixels_does_not_matter(pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    x, y = pair
    order = np.random.default_rng(seed).permutation(x.size)
    shuffled = [image.ravel()[order].reshape(image.shape) for image in (x, y)]
    for name in ("se", "rmse", "psnr", "sre", "sam", "zncc"):
        function = imsim.METRICS[name].function
        want = function(x, y, data_range=255)
        assert function(*shuffled, data_range=255) == pytest.approx(want, rel=1e-10, abs=1e-10)


@given(pairs(), st.integers(-1000, 1000))
def test_common_offset(pair: tuple[np.ndarray, np.ndarray], offset: int) -> None:
    x, y = (np.floor(image) for image in pair)  # so that adding the offset is exact
    for distance in (imsim.se, imsim.rmse, imsim.imed):
        assert distance(x + offset, y + offset) == distance(x, y)


@given(SEEDS)
@example(0)
def test_extreme_uint16(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.choice(np.array([0, 65535], dtype=np.uint16), EXTREME.shape)
    n = np.count_nonzero(y != EXTREME)
    assert imsim.se(EXTREME, y) == n * 65535**2
    want = 65535 * math.sqrt(n / EXTREME.size)
    assert imsim.rmse(EXTREME, y) == pytest.approx(want, rel=1e-15)
    assert imsim.psnr(EXTREME, y, data_range=65535) == pytest.approx(
        -10 * math.log10(n / EXTREME.size), rel=1e-12
    )
    assert imsim.se(EXTREME, 65535 - EXTREME) == EXTREME.size * 65535**2


@given(textured_pairs())
def test_psnr_in_decibels(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    psnr = imsim.psnr(x, y, data_range=255)
    assert imsim.psnr(x, x + (y - x) / 2, data_range=255) == pytest.approx(
        psnr + 20 * math.log10(2), abs=1e-9
    )
    assert imsim.psnr(x, y, data_range=2550) == pytest.approx(psnr + 20, abs=1e-9)


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


@given(images(), images(), st.floats(0.1, 10))
def test_sam_of_scaled_images(x: np.ndarray, y: np.ndarray, gain: float) -> None:
    if x.any():
        # The computed gain * x is parallel to x up to half an ulp in each pixel.
        assert imsim.sam(x, gain * x) == pytest.approx(0, abs=1e-15)
        assert imsim.sam(x, -gain * x) == pytest.approx(math.pi, abs=1e-15)
        assert imsim.sam(x, 2 * x) == 0
    rows, cols = (min(n) for n in zip(x.shape, y.shape, strict=True))
    x, y = x[:rows, :cols], y[:rows, :cols]
    if x.any() and y.any():
        angle = imsim.sam(x, y)
        assert imsim.sam(gain * x, y) == pytest.approx(angle, abs=1e-14)
        assert imsim.sam(x, y / gain) == pytest.approx(angle, abs=1e-14)
        assert imsim.sam(x, y, degrees=True) == pytest.approx(math.degrees(angle), rel=1e-14)


def test_sam_of_zero_images() -> None:
    zero, x = np.zeros((4, 4)), np.ones((4, 4))
    assert imsim.sam(zero, zero) == 0
    assert imsim.sam(zero, x) == pytest.approx(math.pi / 2, rel=1e-15)


def test_sam_sees_small_angles() -> None:
    """Arccos would lose everything below 1e-8 rad."""
    x = image("texture", 1, 16, 16)
    y = x.copy()
    y[3, 3] += 1e-9 * np.linalg.norm(x)
    parallel = x[3, 3] / np.linalg.norm(x)
    want = 1e-9 * math.sqrt(1 - parallel**2)
    assert imsim.sam(x, y) == pytest.approx(want, rel=1e-5)


@given(SEEDS, gains)
def test_spectral_sam(seed: int, gain: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(1, 255, (2, 12, 13, 4))
    cosine = (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    want = np.arccos(cosine)
    got = imsim.sam_map(x, y, channel_axis=-1)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-7)  # the oracle's arccos
    assert imsim.sam(x, y, channel_axis=-1) == pytest.approx(got.mean(), rel=1e-12)
    # Each pixel may have a brightness of its own.
    light = rng.uniform(0.1, 10, (12, 13, 1))
    assert imsim.sam(light * x, gain * y, channel_axis=-1) == pytest.approx(got.mean(), rel=1e-10)


@pytest.mark.parametrize("engine", ["portable", "auto"])
def test_spectral_sam_of_black_pixels(engine: Any) -> None:
    """Black in one image is orthogonal, black in both is left out."""
    rng = np.random.default_rng(3)
    x, y = rng.uniform(1, 255, (2, 8, 9, 3))
    keep = np.ones((8, 9), dtype=bool)
    x[2, 3], y[5, 6] = 0, 0
    x[4, 4], y[4, 4] = 0, 0
    keep[2, 3] = keep[5, 6] = keep[4, 4] = False
    black = np.zeros((8, 9, 3))
    imsim.set_engine(engine)
    try:
        want = (imsim.sam(x, y, channel_axis=-1, mask=keep) * 69 + math.pi) / 71
        assert imsim.sam(x, y, channel_axis=-1) == pytest.approx(want, rel=1e-14)
        angles = imsim.sam_map(x, y, channel_axis=-1, degrees=True)
        assert angles[2, 3] == angles[5, 6] == 90
        assert np.isnan(angles[4, 4])
        assert np.isfinite(angles).sum() == 71
        assert imsim.sam(black, black, channel_axis=-1) == 0
        assert imsim.sam(black, y, channel_axis=-1) == pytest.approx(math.pi / 2, rel=1e-15)
        assert imsim.sam(y, black, channel_axis=-1, mask=~keep) == pytest.approx(math.pi / 2)
        for bad in (math.nan, math.inf, -math.inf):
            y[4, 4, 1] = bad
            assert np.isnan(imsim.sam(x, y, channel_axis=-1))
            assert np.isnan(imsim.sam_map(x, y, channel_axis=-1)[4, 4])
            assert np.isnan(imsim.sam(y, black, channel_axis=-1))
    finally:
        imsim.set_engine("auto")


@given(textured_pairs(), gains, st.floats(-1000, 1000), SEEDS)
def test_zncc_does_not_see_brightness_or_contrast(
    pair: tuple[np.ndarray, np.ndarray], gain: float, offset: float, seed: int
) -> None:
    x, y = pair
    mask = region(seed, x)
    for options in ({}, {"window_size": 7}, {"mask": mask}):
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


@given(SEEDS)
def test_channels_pool_or_average(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(1, 255, (2, 16, 17, 3))
    each = [(x[..., c], y[..., c]) for c in range(3)]
    axis = {"channel_axis": -1}
    assert imsim.se(x, y, **axis) == pytest.approx(sum(imsim.se(*p) for p in each), rel=1e-12)
    mse = np.mean((x - y) ** 2)
    assert imsim.rmse(x, y, **axis) == pytest.approx(math.sqrt(mse), rel=1e-12)
    psnr = 10 * math.log10(255**2 / mse)
    assert imsim.psnr(x, y, data_range=255, **axis) == pytest.approx(psnr, rel=1e-12)
    imed = math.sqrt(sum(imsim.imed(*p) ** 2 for p in each))
    assert imsim.imed(x, y, **axis) == pytest.approx(imed, rel=1e-12)
    sre = np.mean([imsim.sre(*p) for p in each])
    assert imsim.sre(x, y, **axis) == pytest.approx(sre, rel=1e-12)
    flat = imsim.sam(x.reshape(16, -1), y.reshape(16, -1))
    assert imsim.sam(x, y, mode="image", **axis) == pytest.approx(flat, rel=1e-12)
