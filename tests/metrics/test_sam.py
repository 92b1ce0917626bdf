"""SAM: its kernels against its formulas, and its properties."""

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
from strategies import SEEDS, image, images

import imsim

gains = st.floats(0.01, 100)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("mode", ["image", "spectral"])
def test_engines_agree(rng: Any, mode: str, dtype: Any, frame: tuple[int, int]) -> None:
    # Both engines compute in float64, whatever the dtype.
    close = tolerance(np.float64, 16, 3 * frame[0] * frame[1])
    x, y = pair(rng, (2, *frame, 3), dtype)
    if frame != (1, 1):
        x[0, 0, 0] = 0
    for mask in masks(rng, frame):
        for degrees in (False, True):
            atol = close * (180 / math.pi if degrees else 1)
            options = {"channel_axis": -1, "degrees": degrees}
            if mode == "image" or frame != (1, 1):
                check_agreement(imsim.sam, (x, y), 0, atol, mask=mask, mode=mode, **options)
            single = tolerance(dtype, 2, 1) * (180 if degrees else math.pi)
            check_agreement(imsim.sam_map, (x, y), 0, single, mask=mask, **options)


@pytest.mark.parametrize("gain", [1, -1, 2, 0.125, 1 / 3, 7.7])
def test_parallel_images(rng: Any, gain: float) -> None:
    x = rng.uniform(0, 255, (70, 80))
    x[:40] *= 1e-6  # dark blocks before bright ones
    want = 0.0 if gain > 0 else math.pi
    for mask in masks(rng, (70, 80)):
        angle = imsim.sam(x, gain * x, mask=mask)
        assert angle == pytest.approx(want, abs=1e-15)
        assert angle == imsim.sam(gain * x, x, mask=mask)
        if gain in (1, 2, 0.125):
            assert angle == 0


def test_small_angles(rng: Any) -> None:
    x = rng.uniform(0, 255, (70, 80))
    for size in (1e-3, 1e-6, 1e-9):
        y = 3 * x + size * rng.normal(0, 1, x.shape)
        want, _ = np.linalg.lstsq(x.reshape(-1, 1), y.ravel(), rcond=None)[1::2]
        exact = math.asin(math.sqrt(want[0]) / np.linalg.norm(y))
        # What rounding makes of 3 x and of y is an angle of its own.
        assert imsim.sam(x, y) == pytest.approx(exact, rel=1e-9, abs=1e-15)


def test_black(rng: Any) -> None:
    x = rng.uniform(1, 255, (20, 30))
    black = np.zeros_like(x)
    broken = np.full_like(x, np.nan)
    for mask in masks(rng, x.shape):
        assert imsim.sam(black, black, mask=mask) == 0
        assert imsim.sam(x, black, mask=mask) == imsim.sam(black, x, mask=mask) == math.pi / 2
        assert np.isnan(imsim.sam(black, broken, mask=mask))
    half = np.where(np.arange(30) < 15, x, 0)
    assert imsim.sam(half, x - half) == math.pi / 2


def test_swapped_images_of_equal_energy(rng: Any) -> None:
    """Nothing but the order of the pixels says which image comes first."""
    x = rng.integers(0, 256, (60, 70)).astype(np.float64)
    y = rng.permuted(x.ravel()).reshape(x.shape)
    for p, q in ((x, y), (x, x[::-1]), (x, x.T.reshape(x.shape))):
        assert imsim.sam(p, q) == imsim.sam(q, p)


def test_layouts(rng: Any) -> None:
    images = pair(rng, (3, 20, 26, 3), np.float32)
    check_layouts(imsim.sam, images, mode="image")
    check_layouts(imsim.sam, images, mode="spectral")


def test_outside(rng: Any) -> None:
    check_outside(imsim.sam, pair(rng, (2, 40, 90), np.float32))
    spectra = pair(rng, (2, 3, 40, 90), np.float32)
    check_outside(imsim.sam, spectra, channel_axis=1)


def test_workers(rng: Any) -> None:
    images = pair(rng, (2, 600, 700), np.float32)
    check_workers(imsim.sam, images)
    check_workers(imsim.sam, images, channel_axis=0)
    check_workers(imsim.sam_map, images, channel_axis=0)


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


@pytest.mark.parametrize("scale", [1e-90, 1e-45, 1.0])
def test_channels_of_unlike_magnitudes(scale: float, rng: np.random.Generator) -> None:
    """Parts of vectors that a kernel merges, of which one image has a tiny one."""
    x = rng.normal(size=(60, 50, 3)) * (1 / scale, 1 / scale, scale)
    y = rng.normal(size=x.shape) * (0.1 / scale)
    for a, b in ((x, y), (y, x), (x * scale, y), (x, y * scale)):
        p, q = (v.ravel() / np.abs(v).max() for v in (a, b))
        want = math.acos((p @ q) / math.sqrt((p @ p) * (q @ q)))
        got = imsim.sam(a, b, mode="image", channel_axis=-1)
        assert got == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("engine", ["auto", "portable"])
def test_maps_of_float32_stay_below_pi(engine: Any) -> None:
    """Rounded to float32, pi is larger than pi."""
    x = np.ones((4, 5, 3), np.float32)
    imsim.set_engine(engine)
    try:
        angles = imsim.sam_map(x, -x, channel_axis=-1)
        degrees = imsim.sam_map(x, -x, channel_axis=-1, degrees=True)
    finally:
        imsim.set_engine("auto")
    assert angles.dtype == np.float32
    assert math.pi - 3e-7 < float(angles.min()) <= float(angles.max()) <= math.pi
    assert (degrees == 180).all()


def test_a_grey_image_has_no_map() -> None:
    with pytest.raises(imsim.OptionError, match=r"^sam_map .*channel_axis=.* one angle") as caught:
        imsim.sam_map(np.ones((9, 9)), np.ones((9, 9)))
    assert "mode" not in str(caught.value)  # which the map does not have
