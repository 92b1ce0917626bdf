"""The kernels of IMED against their formulas."""

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
    masks,
    pair,
    tolerance,
)

import imsim


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
