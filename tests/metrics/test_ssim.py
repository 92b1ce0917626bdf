"""SSIM: its kernel against its formula, and its properties."""

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
    engines,
    fewer_masks,
    pair,
    region,
)
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import textured_pairs

import imsim
from imsim.kernels.ssim import suits_float32
from imsim.portable.windows import gaussian

levels = st.integers(0, 255)
FRAMES = ((11, 11), (12, 85), (141, 150))


def close(dtype: Any, size: int = 11, K2: float = 0.03) -> float:
    """Bound the error of a local value.

    The squares of centred pixels, at most (L / 2)^2, go through 2 size additions, whose roundings
    add up as a random walk; they count against C2 = (K2 L)^2.
    """
    arithmetic = np.float32 if dtype == np.float32 else np.float64
    return float(math.sqrt(2 * size) * np.finfo(arithmetic).eps * 0.25 / K2**2)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_engines_agree(rng: Any, dtype: Any, frame: tuple[int, int]) -> None:
    images = pair(rng, (2, *frame), dtype)
    for mask in fewer_masks(rng, frame, dtype):
        options = {"data_range": 255, "mask": mask}
        atol = close(dtype)
        check_agreement(imsim.ssim_map, images, 0, atol, **options)
        positions = (frame[0] - 10) * (frame[1] - 10)
        check_agreement(imsim.ssim, images, 0, 8 * atol / math.sqrt(positions), **options)


OPTIONS = (
    {"sample_covariance": True},
    {"min_coverage": 0.7},
    {"window_size": 4, "sigma": 0.9, "min_coverage": 0.6},
    {"window_size": 25, "sigma": 4.0},
    {"window": "uniform"},
    {"window": "uniform", "window_size": 6, "sample_covariance": True},
    {"window": "uniform", "window_size": 21},
    {"K1": 1e-3, "K2": 0.05},
)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        *((np.float64, options) for options in OPTIONS if options != {"window": "uniform"}),
        # Among the authors' values, but for masks.
        pytest.param(np.float64, {"window": "uniform"}, marks=pytest.mark.thorough),
        # By the kernel that is used by default. All others are kernels of their own for float32.
        (np.float32, OPTIONS[0]),
        *(
            pytest.param(np.float32, o, marks=pytest.mark.thorough)
            for o in OPTIONS[1:]
            # Small and uniform windows are computed in float64 anyway.
            if o.get("window_size", 25) == 25
        ),
        *(pytest.param(np.uint8, o, marks=pytest.mark.thorough) for o in OPTIONS),
    ],
    ids=lambda v: v.__name__ if isinstance(v, type) else str(v),
)
def test_options(rng: Any, dtype: Any, options: dict[str, Any]) -> None:
    images = pair(rng, (50, 71), dtype)
    atol = close(dtype, options.get("window_size", 11))
    for mask in (None, region(rng, (50, 71))):
        for function in (imsim.ssim, imsim.ssim_map):
            check_agreement(function, images, 0, atol, data_range=255, mask=mask, **options)


@pytest.mark.parametrize(
    ("suits", "options"),
    [
        (True, {}),
        (True, {"min_coverage": 1.0}),
        (False, {"K1": 1e-3}),
        (False, {"K2": 0.01}),
        (False, {"data_range": 1e35}),
        (False, {"min_coverage": 0.7}),
        (False, {"window": gaussian((10, 10), (1.5, 1.5))}),
        (False, {"window": gaussian((25, 25), (1.5, 1.5))}),  # its outer taps are tiny
    ],
    ids=str,
)
def test_float32_is_left_where_its_digits_do_not_suffice(
    suits: bool, options: dict[str, Any]
) -> None:
    given = {"data_range": 255.0, "window": gaussian((11, 11), (1.5, 1.5)), "K1": 0.01, "K2": 0.03}
    assert suits_float32(**{**given, "min_coverage": 0.0, **options}) is suits


def test_downsampling(rng: Any) -> None:
    images = pair(rng, (400, 385), np.uint8)
    for mask in (None, region(rng, (400, 385))):
        for function in (imsim.ssim, imsim.ssim_map):
            check_agreement(
                function, images, 0, close(np.uint8), data_range=255, mask=mask, downsample=True
            )


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_identical_and_symmetric(rng: Any, dtype: Any) -> None:
    x, y = pair(rng, (60, 140), dtype)
    assert imsim.ssim(x, x, data_range=255) == 1
    assert imsim.ssim(x, y, data_range=255) == imsim.ssim(y, x, data_range=255)


@pytest.mark.parametrize("is_sample", [False, True])
def test_dark_spots_of_bright_float32_images(rng: Any, is_sample: bool) -> None:
    """Their few windows are computed again, in float64."""
    x = rng.normal(200, 20, (150, 300))
    for top, left in ((20, 30), (90, 200), (130, 270)):  # one at the corner, none of a whole tile
        x[top : top + 20, left : left + 30] = rng.normal(2, 3, (20, 30))[: 150 - top]
    y = x + rng.normal(0, 2, x.shape)
    images = x.astype(np.float32), y.astype(np.float32)
    options = {"data_range": 255, "sample_covariance": is_sample}
    lattice = np.arange(150)[:, None] % 7 + np.arange(300) % 5 > 0
    for mask in (None, region(rng, x.shape), lattice):
        for function in (imsim.ssim, imsim.ssim_map):
            check_agreement(function, images, 0, close(np.float32), mask=mask, **options)


def test_a_mask_that_is_full_in_one_strip(rng: Any) -> None:
    x, y = pair(rng, (300, 50), np.float32)
    mask = np.ones((300, 50), dtype=bool)
    mask[250:, 10:20] = False
    check_agreement(imsim.ssim_map, (x, y), 0, close(np.float32), data_range=255, mask=mask)
    check_agreement(imsim.ssim, (x, y), 0, close(np.float32), data_range=255, mask=mask)


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e5])
def test_float32_far_from_zero(rng: Any, mean: float) -> None:
    x = np.asarray(mean + rng.normal(0, 0.1, (60, 60)), np.float32)
    y = np.asarray(x + rng.normal(0, 0.05, x.shape), np.float32)
    # The luminance term needs the means to the full, and float32 has them relative to their size.
    check_agreement(imsim.ssim, (x, y), 0, 2e-6, data_range=1)


@pytest.mark.parametrize(
    "data_range", [1e-25, 1e25, pytest.param(1e-35, marks=pytest.mark.thorough)]
)
def test_float32_in_any_unit(rng: Any, data_range: float) -> None:
    images = pair(rng, (30, 30), np.float64)
    x, y = (np.asarray(v / 255 * data_range, np.float32) for v in images)
    check_agreement(imsim.ssim, (x, y), 0, 2e-6, data_range=data_range)


def test_float32_that_overflows_is_computed_in_float64(rng: Any) -> None:
    x, y = pair(rng, (30, 30), np.float32)
    check_agreement(imsim.ssim, (x * 1e25, y * 1e25), 1e-6, 0, data_range=1)
    check_agreement(imsim.ssim_map, (x * 1e25, y * 1e25), 1e-6, 1e-6, data_range=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_what_is_not_finite_stays_in_its_windows(rng: Any, dtype: Any) -> None:
    x, y = pair(rng, (60, 160), dtype)
    x[20, 30], x[3, 100], y[40, 140] = np.nan, np.inf, -np.inf
    mask = region(rng, x.shape)
    for m in (None, mask):
        check_agreement(imsim.ssim_map, (x, y), 0, close(dtype), data_range=255, mask=m)
        assert np.isnan(imsim.ssim(x, y, data_range=255, mask=m))


def test_without_constants_it_is_left_to_the_formula(rng: Any) -> None:
    images = pair(rng, (20, 20), np.uint8)
    for options in ({"K1": 0.0}, {"K2": 0.0}):
        with pytest.raises(imsim.OptionError, match="no kernel"):
            engines(imsim.ssim, *images, data_range=255, **options)


def test_layouts(rng: Any) -> None:
    for function in (imsim.ssim, imsim.ssim_map):
        check_layouts(function, pair(rng, (3, 30, 80, 3), np.float32), data_range=255)


def test_outside(rng: Any) -> None:
    for dtype in (np.float32, np.float64):
        check_outside(imsim.ssim, pair(rng, (40, 45), dtype), data_range=255)


def test_workers(rng: Any) -> None:
    for function in (imsim.ssim, imsim.ssim_map):
        check_workers(function, pair(rng, (400, 330), np.float32), data_range=255)


def ssim(x: np.ndarray, y: np.ndarray, **options: object) -> float:
    return float(imsim.ssim(x, y, **{"data_range": 255, **options}))  # type: ignore[arg-type]


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
