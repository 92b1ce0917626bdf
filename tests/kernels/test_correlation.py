"""The kernel of global ZNCC against its formula."""

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
    region,
    tolerance,
)

import imsim


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
