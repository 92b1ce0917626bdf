"""UIQ: its kernel against its formula, and its properties."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from agreement import (
    DTYPES,
    check_agreement,
    check_layouts,
    check_outside,
    check_workers,
    fewer_masks,
    pair,
    region,
)
from engines import formulas
from hypothesis import given
from strategies import images

import imsim

FRAMES = ((8, 8), (9, 85), (141, 150))


def close(size: int) -> float:
    """Bound the error of a local value, of float64 sums over windows that vary.

    Each of the four sums takes 2 size additions, and their differences are about as large as they.
    """
    return float(4 * 2 * size * np.finfo(np.float64).eps * 4)


def map_close(size: int, dtype: Any) -> float:
    """Maps of float32 images are rounded to float32."""
    return close(size) if dtype != np.float32 else float(np.finfo(np.float32).eps)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_engines_agree(rng: Any, dtype: Any, frame: tuple[int, int]) -> None:
    images = pair(rng, (2, *frame), dtype)
    for mask in fewer_masks(rng, frame, dtype):
        check_agreement(imsim.uiq, images, 0, close(8), mask=mask)
        check_agreement(imsim.uiq_map, images, 0, map_close(8, dtype), mask=mask)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (2, np.float64),
        (16, np.float64),
        # Kernels of their own; those of the usual size are held for each dtype.
        pytest.param(5, np.uint8, marks=pytest.mark.thorough),
        pytest.param(5, np.float32, marks=pytest.mark.thorough),
    ],
)
def test_block_sizes(rng: Any, size: int, dtype: Any) -> None:
    images = pair(rng, (50, 71), dtype)
    # The 4 pixels of the smallest block may vary little against their distance from the offset.
    factor = 1e4 if size == 2 else 1
    for mask in (None, region(rng, (50, 71))):
        for function, atol in ((imsim.uiq, close(size)), (imsim.uiq_map, map_close(size, dtype))):
            check_agreement(function, images, 0, factor * atol, mask=mask, block_size=size)


@pytest.mark.parametrize("levels", [(0, 50, 255), (0.0, 0.1, 0.7)], ids=["integers", "fractions"])
@pytest.mark.parametrize("size", [5, 8])
def test_flat_blocks(rng: Any, levels: tuple[float, ...], size: int) -> None:
    """Large tiles of equal pixels: blocks that are flat in both images, in one, or black."""
    x, y = (np.kron(rng.choice(levels, (5, 9)), np.ones((16, 16))) for _ in range(2))
    for mask in (None, region(rng, x.shape)):
        for function in (imsim.uiq, imsim.uiq_map):
            check_agreement(function, (x, y), 0, 1e-12, mask=mask, block_size=size)
            check_agreement(function, (x, x), 0, 1e-12, mask=mask, block_size=size)


@pytest.mark.parametrize("engine", ["fast", "portable"])
@pytest.mark.parametrize(
    ("use", "dtype"),
    [
        *((use, dtype) for use in (None, "mask") for dtype in (np.float64, np.float32, np.uint8)),
        ("weights", np.float64),
        pytest.param("weights", np.float32, marks=pytest.mark.thorough),
        pytest.param("weights", np.uint8, marks=pytest.mark.thorough),
    ],
)
def test_windows_whose_means_are_0_are_1(engine: Any, use: Any, dtype: Any, rng: Any) -> None:
    """Black in both images, and patterns about 0 whatever they are: a rule of the authors."""
    a, b = pair(rng, (40, 60), dtype)
    a[:, :20] = b[:, :20] = 0
    if dtype != np.uint8:
        signs = np.where(np.add.outer(np.arange(20), np.arange(20)) % 2, 1, -1)
        a[20:, :20], b[20:, :20] = signs, -3 * signs
    given = {"mask": region(rng, a.shape), "weights": rng.uniform(0.5, 2, a.shape)}
    if use:
        given[use][:, :20] = 1  # the means are those of whole blocks
    imsim.set_engine(engine)
    try:
        found = imsim.uiq_map(a, b, **({use: given[use]} if use else {}))
    finally:
        imsim.set_engine("auto")
    for rows in (slice(4, 16), slice(24, 36)):
        np.testing.assert_array_equal(found[rows, 4:16], 1)
    assert np.nanmax(found[4:36, 24:56]) < 1


def test_identical_and_symmetric(rng: Any) -> None:
    x, y = pair(rng, (60, 140), np.float64)
    assert imsim.uiq(x, x) == 1
    assert imsim.uiq(x, y) == imsim.uiq(y, x)


def test_what_is_not_finite_stays_in_its_blocks(rng: Any) -> None:
    x, y = pair(rng, (60, 160), np.float32)
    x[20, 30], x[3, 100], y[40, 140] = np.nan, np.inf, -np.inf
    for m in (None, region(rng, x.shape)):
        check_agreement(imsim.uiq_map, (x, y), 0, map_close(8, np.float32), mask=m)
        assert np.isnan(imsim.uiq(x, y, mask=m))


def test_layouts(rng: Any) -> None:
    for function in (imsim.uiq, imsim.uiq_map):
        check_layouts(function, pair(rng, (3, 30, 80, 3), np.uint8))


def test_outside(rng: Any) -> None:
    check_outside(imsim.uiq, pair(rng, (40, 45), np.float32))


def test_workers(rng: Any) -> None:
    for function in (imsim.uiq, imsim.uiq_map):
        check_workers(function, pair(rng, (400, 330), np.uint8))


@given(images())
def test_uiq_of_scaled_images(x: np.ndarray) -> None:
    y = 0.5 * x
    # Q = 2c/(1+c^2) squared for y = c x; blocks that are black, or flat, lack one factor or both.
    q = 2 * 0.5 / 1.25
    assert q**2 - 1e-9 <= imsim.uiq(x, y) <= 1 + 1e-12


def shrinking_spots() -> tuple[np.ndarray, np.ndarray]:
    """Two spots, of which the tails lie beyond the squares that float64 holds."""
    rows, columns = np.indices((40, 40))
    return tuple(  # type: ignore[return-value]
        np.exp(-((rows - 10 - off) ** 2 + (columns - 10) ** 2) / 2.0) for off in (0.0, 0.5)
    )


@pytest.mark.parametrize("engine", ["auto", "portable"])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_windows_whose_squares_underflow(engine: Any, size: int) -> None:
    x, y = shrinking_spots()
    p, q = (np.lib.stride_tricks.sliding_window_view(v, (size, size)) for v in (x, y))
    # Each window in a unit of its own, in which its largest pixel is 1.
    unit = np.maximum(p.max((-1, -2)), q.max((-1, -2)))[..., None, None]
    is_black = unit == 0
    p, q = (v / np.where(is_black, 1, unit) for v in (p, q))
    mean_p, mean_q = (v.mean((-1, -2), keepdims=True) for v in (p, q))
    products = ((p - mean_p) * (q - mean_q)).mean((-1, -2), keepdims=True)
    variances = (p.var((-1, -2)) + q.var((-1, -2)))[..., None, None]
    top, bottom = 4 * products * mean_p * mean_q, variances * (mean_p**2 + mean_q**2)
    want = np.where(is_black, 1, top / np.where(is_black, 1, bottom))
    with formulas() if engine == "portable" else nullcontext():
        assert imsim.uiq(x, y, block_size=size) == pytest.approx(want.mean(), abs=1e-12)
        assert imsim.uiq(x, x, block_size=size) == 1
        options = {"window": "uniform", "window_size": size, "data_range": 1, "K1": 0, "K2": 0}
        assert imsim.ssim(x, y, **options) == pytest.approx(want.mean(), abs=1e-12)
        for constants in ({"K1": 0}, {"K2": 0}):
            assert np.isfinite(imsim.ssim(x, y, data_range=1, **constants))
        for least in (1e-150, 1e-170, 1e-308, 5e-324):
            image = np.zeros((16, 16))
            image[:, 8:], image[2, 2] = 1, least
            assert imsim.uiq(image, image, block_size=size) == 1
            assert imsim.uiq(image * 1e200, image * 1e200, block_size=size) == 1


@pytest.mark.parametrize("engine", ["auto", "portable"])
def test_a_mean_near_0_is_not_0_beside_a_larger_one(engine: Any) -> None:
    x, y = np.full((2, 2), 1e-30), np.array([[-1.0, 3.0], [-3.0, 1.0]])
    with formulas() if engine == "portable" else nullcontext():
        assert imsim.uiq(x, y, block_size=2) == 0  # the covariance is
        assert imsim.uiq(0 * x, y, block_size=2) == 1  # both means are
