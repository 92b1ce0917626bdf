"""Properties of IMED, SSIM, UIQ, GMSD and FSIM."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sampling import blob_mask, texture, textured_pair
from strategies import SEEDS, images, pairs, textured_pairs

import imsim

levels = st.integers(0, 255)


def ssim(x: np.ndarray, y: np.ndarray, **options: object) -> float:
    return float(imsim.ssim(x, y, **{"data_range": 255, **options}))  # type: ignore[arg-type]


# --- IMED


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


# --- SSIM and UIQ


@given(levels, levels)
@example(0, 0)
@example(0, 255)
def test_constant_images(p: int, q: int) -> None:
    x, y = np.full((12, 13), float(p)), np.full((12, 13), float(q))
    c1 = 2.55**2
    luminance = (2 * p * q + c1) / (p**2 + q**2 + c1)
    assert ssim(x, y) == pytest.approx(luminance, abs=1e-12)
    assert ssim(x, y, window="uniform") == pytest.approx(luminance, abs=1e-12)
    unsteady = 1.0 if p == q == 0 else 2 * p * q / (p**2 + q**2)
    assert imsim.uiq(x, y) == pytest.approx(unsteady, abs=1e-12)
    without = ssim(x, y, K1=0.0, K2=0.0)
    assert without == pytest.approx(unsteady, abs=1e-12)


def test_black_windows_without_constants() -> None:
    """Both means are 0: the authors' code gives 1, however far from 0 the rest of the image is."""
    x = np.zeros((24, 48))
    x[:, 36:] = 200 + np.arange(12)
    y = x.copy()
    y[:, 36:] += np.arange(24)[:, None]
    for options in ({"window": "gaussian"}, {"window": "uniform"}):
        local = imsim.ssim_map(x, y, data_range=255, K1=0.0, K2=0.0, **options)
        np.testing.assert_array_equal(local[8:16, 8:28], 1.0)
    np.testing.assert_array_equal(imsim.uiq_map(x, y)[8:16, 8:28], 1.0)


@given(textured_pairs())
def test_ssim_is_one_only_for_equal_images(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    assert ssim(x, x) == 1
    assert ssim(x, y) < 1
    local = imsim.ssim_map(x, np.where(np.arange(x.shape[1]) < 5, y, x), data_range=255)
    # Moments about the mean of each whole image: equal windows differ by rounding.
    np.testing.assert_allclose(local[5:-5, 10:-5], 1.0, rtol=0, atol=1e-14)


@given(textured_pairs(), st.floats(1, 60))
def test_offset_lowers_the_luminance_term_only(
    pair: tuple[np.ndarray, np.ndarray], offset: float
) -> None:
    x, y = pair
    # With K1 huge the luminance term is 1, and an offset leaves no trace.
    assert ssim(x, y + offset, K1=1e8) == pytest.approx(ssim(x, y, K1=1e8), abs=1e-9)
    assert ssim(x, x + offset) < 1
    assert ssim(x, y, data_range=1e9) == pytest.approx(1, abs=1e-9)


@given(textured_pairs(low=32))
def test_small_images_are_not_downsampled(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert ssim(*pair, downsample=True) == ssim(*pair)


@given(images())
def test_uiq_of_scaled_images(x: np.ndarray) -> None:
    y = 0.5 * x
    # Q = 2c/(1+c^2) squared for y = c x; blocks that are black, or flat, lack one factor or both.
    q = 2 * 0.5 / 1.25
    assert q**2 - 1e-9 <= imsim.uiq(x, y) <= 1 + 1e-12


def test_zncc_map_of_flat_windows() -> None:
    x = np.zeros((24, 24))
    x[:, 12:] = np.arange(12)
    local = imsim.zncc_map(x, 2 * x + 3, window_size=5)
    np.testing.assert_allclose(local[2:-2, 2:-2], 1.0, rtol=0, atol=1e-12)
    one = imsim.zncc_map(x, np.full_like(x, 7), window_size=5)
    np.testing.assert_array_equal(one[2:-2, 2:9], 1.0)
    np.testing.assert_array_equal(one[2:-2, 15:-2], 0.0)


# --- GMSD


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


# --- FSIM


@given(pairs(), levels)
def test_fsim_range_and_flat_pairs(pair: tuple[np.ndarray, np.ndarray], level: int) -> None:
    x, y = pair
    assert 0 < imsim.fsim(x, y, data_range=255) <= 1
    flat = np.full(x.shape, float(level))
    assert imsim.fsim(flat, flat, data_range=255) == 1
    assert imsim.fsim(flat, 0 * flat + 100, data_range=255) == 1
    assert imsim.fsim(flat + 1 / 3, flat + 2 / 3, data_range=255) == 1


@given(textured_pairs(), st.floats(-100, 100))
def test_fsim_map_does_not_see_an_offset_inside(
    pair: tuple[np.ndarray, np.ndarray], offset: float
) -> None:
    x, y = pair
    inside = np.s_[1:-1, 1:-1]
    want = imsim.fsim_map(x, y, data_range=255)[inside]
    got = imsim.fsim_map(x + offset, y + offset, data_range=255)[inside]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("least", "factor"), [(383, 1), (384, 2), (385, 2), (639, 2), (640, 3), (641, 3)]
)
def test_downsampling_switches_where_matlab_rounds(least: int, factor: int) -> None:
    x, y = textured_pair(np.random.default_rng(least), least, least + 3)
    for local in (
        imsim.fsim_map(x, y, data_range=255),
        imsim.ssim_map(x, y, data_range=255, downsample=True),
    ):
        steps = np.flatnonzero(np.diff(local[least // 2, 60:120]) != 0)
        assert set(np.diff(steps)) == {factor}


def test_masked_fsim_is_near_the_truth() -> None:
    """A disc on garbage scores about what the same pixels score within the full texture."""
    rng = np.random.default_rng(12)
    x = texture(rng, (128, 128))
    y = x + 10 * rng.standard_normal(x.shape)
    rows, cols = np.indices(x.shape) - 64
    disc = rows**2 + cols**2 < 40**2
    truth = np.mean(imsim.fsim_map(x, y, data_range=255)[disc])
    local = imsim.fsim_map(
        np.where(disc, x, np.nan), np.where(disc, y, np.inf), data_range=255, mask=disc
    )
    assert np.nanmean(local) == pytest.approx(truth, abs=0.01)
    whole = imsim.fsim(x, y, data_range=255)
    assert imsim.fsim(x, y, data_range=255, mask=disc) == pytest.approx(whole, abs=0.01)


# --- a masked score does not depend on how much background is in the crop


@pytest.mark.parametrize(
    "name", ["se", "rmse", "psnr", "imed", "ssim", "zncc", "gmsd", "issm", "sre", "sam", "uiq"]
)
@given(SEEDS, st.integers(6, 12).map(lambda n: 2 * n))
def test_cropping_the_background(name: str, seed: int, margin: int) -> None:
    """Even margins keep GMSD's 2x2 cells; FSIM's filters depend on the size of the frame."""
    rng = np.random.default_rng(seed)
    x, y = textured_pair(rng, 80, 84)
    mask = np.zeros(x.shape, dtype=bool)
    mask[26:54, 26:58] = blob_mask(rng, 28, 32, 0.8)
    crop = np.s_[26 - margin : 54 + margin, 26 - margin : 58 + margin]
    function = imsim.METRICS[name].function
    want = function(x, y, mask=mask, data_range=255)
    got = function(x[crop], y[crop], mask=mask[crop], data_range=255)
    assert got == pytest.approx(want, rel=1e-11, abs=1e-11)
