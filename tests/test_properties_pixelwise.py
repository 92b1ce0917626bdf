"""Properties of the metrics that look at each pixel by itself: SE, RMSE, PSNR, SRE, SAM, ZNCC."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, image, pairs

import imsim


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
