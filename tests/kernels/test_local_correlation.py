"""The kernel of windowed ZNCC against its formula."""

from __future__ import annotations

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
    region,
)

import imsim

FRAMES = ((9, 9), (10, 85), (141, 150))


def close(size: int, dtype: Any = np.float64) -> float:
    """Bound the error of a local value: five float64 sums of 2 size additions, of their own size.

    Maps of float32 images are rounded to float32.
    """
    if dtype == np.float32:
        return float(np.finfo(np.float32).eps)
    return float(5 * 2 * size * np.finfo(np.float64).eps * 4)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_engines_agree(rng: Any, dtype: Any, frame: tuple[int, int]) -> None:
    images = pair(rng, (2, *frame), dtype)
    for mask in masks(rng, frame):
        check_agreement(imsim.zncc, images, 0, close(9), mask=mask, window_size=9)
        check_agreement(imsim.zncc_map, images, 0, close(9, dtype), mask=mask)


@pytest.mark.parametrize("size", [4, 19])
def test_options(rng: Any, size: int) -> None:
    images = pair(rng, (50, 71), np.uint8)
    for mask in (None, region(rng, (50, 71))):
        for function in (imsim.zncc, imsim.zncc_map):
            options = {"window_size": size, "min_coverage": 0.6}
            check_agreement(function, images, 0, 100 * close(size), mask=mask, **options)


@pytest.mark.parametrize("levels", [(0, 50, 255), (0.0, 0.1, 0.7)], ids=["integers", "fractions"])
@pytest.mark.parametrize("size", [7, 8])
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


def test_layouts(rng: Any) -> None:
    images = pair(rng, (3, 30, 80, 3), np.uint8)
    check_layouts(imsim.zncc, images, window_size=9)
    check_layouts(imsim.zncc_map, images, window_size=9)


def test_outside(rng: Any) -> None:
    check_outside(imsim.zncc, pair(rng, (40, 45), np.float32), window_size=9)


def test_workers(rng: Any) -> None:
    images = pair(rng, (400, 330), np.uint8)
    check_workers(imsim.zncc, images, window_size=9)
    check_workers(imsim.zncc_map, images)
