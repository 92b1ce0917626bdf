"""Weighted scores against plain loops over windows, written from the definitions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from sampling import blob_mask, textured_pair

import imsim
from imsim.portable.phase_congruency import phase_congruency

CLOSE = 1e-12
"""The loops sum in another order; scores are means of numbers near 1."""


def make(rng: np.random.Generator, kind: str, height: int, width: int) -> np.ndarray:
    """Weights, 0 outside some mask."""
    weights = rng.random((height, width)) + 0.01
    if kind == "everywhere":
        return weights
    if kind == "holes":
        return np.where(rng.random((height, width)) < 0.7, weights, 0)
    return np.where(blob_mask(rng, height, width, 0.6), weights**3, 0)


each_kind = pytest.mark.parametrize("kind", ["everywhere", "holes", "blob"])


def gauss(size: int, sigma: float = 1.5) -> np.ndarray:
    k = np.arange(size) - (size - 1) / 2
    taps = np.exp(-(k**2) / (2 * sigma**2))
    return np.outer(taps, taps) / taps.sum() ** 2


def windows(
    weights: np.ndarray, window: np.ndarray, least: float = 0.0
) -> Iterator[tuple[Any, np.ndarray, float]]:
    """Yield slices, normalised weights and the weight of the position of all scored windows."""
    size = len(window)
    for i, j in product(*(range(n - size + 1) for n in weights.shape)):
        where = np.s_[i : i + size, j : j + size]
        inside = window * (weights[where] > 0)
        own = window * weights[where]
        centre = weights[i + size // 2, j + size // 2]
        if size % 2 == 0:
            centre, least = own.sum() / max(inside.sum(), 1e-300), 0.5
        if centre > 0 and inside.sum() >= least * window.sum():
            yield where, own / own.sum(), centre


def moments(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> tuple[float, ...]:
    mx, my = (w * x).sum(), (w * y).sum()
    dx, dy = x - mx, y - my
    return mx, my, (w * dx * dx).sum(), (w * dy * dy).sum(), (w * dx * dy).sum()


@each_kind
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *((shape, np.float64) for shape in ("gaussian", "uniform", "sample", "even", "strict")),
        ("gaussian", np.float32),
        pytest.param("gaussian", np.uint8, marks=pytest.mark.thorough),  # a kernel of its own
    ],
)
def test_ssim(kind: str, shape: str, dtype: type, rng: np.random.Generator) -> None:
    a, b = (v.astype(dtype) for v in textured_pair(rng, 21, 24))
    x, y = a.astype(float), b.astype(float)
    given = make(rng, kind, 21, 24)
    size = {"strict": 5, "even": 6}.get(shape, 11)
    window = gauss(size) if shape in {"gaussian", "strict"} else np.ones((size, size))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values, positions = [], []
    for where, w, centre in windows(given, window, 0.8 if shape == "strict" else 0.0):
        mx, my, vx, vy, cov = moments(x[where], y[where], w)
        if shape == "sample":
            own = given[where] / given[where].sum()
            rest = 1 - (own**2).sum()  # V1 - V2 / V1
            if np.count_nonzero(own) < 2:
                continue
            vx, vy, cov = vx / rest, vy / rest, cov / rest
        luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        values.append(luminance * (2 * cov + c2) / (vx + vy + c2))
        positions.append(centre)
    options: dict[str, Any] = {"window_size": size}
    if shape in {"uniform", "sample", "even"}:
        options |= {"window": "uniform", "sample_covariance": shape == "sample"}
    if shape == "strict":
        options["min_coverage"] = 0.8
    got = imsim.ssim(a, b, weights=given, data_range=255, **options)
    close = 1e-6 if dtype == np.float32 else CLOSE
    assert abs(got - np.average(values, weights=positions)) <= close
    local = imsim.ssim_map(a, b, weights=given, data_range=255, **options)
    np.testing.assert_allclose(np.sort(local[np.isfinite(local)]), np.sort(values), atol=10 * close)


@each_kind
# What is not of the usual size is held for SSIM, whose kernel has the same lines.
@pytest.mark.parametrize("size", [8, pytest.param(5, marks=pytest.mark.thorough)])
def test_uiq(kind: str, size: int, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, 17, 20)
    given = make(rng, kind, 17, 20)
    values, positions = [], []
    for where, w, centre in windows(given, np.ones((size, size))):
        mx, my, vx, vy, cov = moments(a[where], b[where], w)
        if vx + vy == 0:  # one pixel
            values.append(2 * mx * my / (mx**2 + my**2))
        else:
            values.append(4 * cov * mx * my / ((vx + vy) * (mx**2 + my**2)))
        positions.append(centre)
    got = imsim.uiq(a, b, weights=given, block_size=size)
    assert abs(got - np.average(values, weights=positions)) <= CLOSE


@each_kind
@pytest.mark.parametrize("size", [9, pytest.param(4, marks=pytest.mark.thorough)])
def test_windowed_zncc(kind: str, size: int, rng: np.random.Generator) -> None:
    a, b = (np.floor(image) for image in textured_pair(rng, 18, 20))
    a[:12, :11] = 70  # one flat, and both flat
    b[:12, :10] = 90
    given = make(rng, kind, 18, 20)
    values, positions = [], []
    for where, w, centre in windows(given, np.ones((size, size))):
        _, _, vx, vy, cov = moments(a[where], b[where], w)
        flat = [np.ptp(z[where][w > 0]) == 0 for z in (a, b)]
        values.append(float(all(flat)) if any(flat) else cov / np.sqrt(vx * vy))
        positions.append(centre)
    got = imsim.zncc(a, b, weights=given, window_size=size)
    assert abs(got - np.average(values, weights=positions)) <= CLOSE
    local = imsim.zncc_map(a, b, weights=given, window_size=size)
    np.testing.assert_allclose(np.sort(local[np.isfinite(local)]), np.sort(values), atol=1e-10)


@each_kind
def test_windows_of_volumes(kind: str, rng: np.random.Generator) -> None:
    x, y = (rng.uniform(0, 255, (6, 7, 8)) for _ in "xy")
    given = np.stack([make(rng, kind, 7, 8) for _ in range(6)])
    values, positions = [], []
    for place in product(*(range(n - 4) for n in x.shape)):
        where = tuple(slice(k, k + 5) for k in place)
        centre = given[tuple(k + 2 for k in place)]
        if centre == 0:
            continue
        mx, my, vx, vy, cov = moments(x[where], y[where], given[where] / given[where].sum())
        values.append(4 * cov * mx * my / ((vx + vy) * (mx**2 + my**2)))
        positions.append(centre)
    got = imsim.uiq(x, y, weights=given, block_size=5, ndim=3)
    assert abs(got - np.average(values, weights=positions)) <= CLOSE


@each_kind
@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_imed(kind: str, sigma: float, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, 12, 11)
    given = 7 * make(rng, kind, 12, 11)
    places = np.argwhere(given > -1)
    squared = ((places[:, None] - places[None]) ** 2).sum(-1)
    metric = np.exp(-squared / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    d = (np.sqrt(given) * (a - b)).ravel()
    want = np.sqrt(d @ metric @ d)
    assert imsim.imed(a, b, weights=given, sigma=sigma) == pytest.approx(want, rel=CLOSE)
    local = imsim.imed_map(a, b, weights=given, sigma=sigma)
    assert np.nansum(local) == pytest.approx(want**2, rel=CLOSE)
    rms = imsim.imed(a, b, weights=given, sigma=sigma, normalize="rms")
    assert rms == pytest.approx(want / np.sqrt(given.sum()), rel=CLOSE)


@pytest.mark.parametrize("kind", ["everywhere", "blob"])
@pytest.mark.parametrize("shape", [(30, 34), (31, 33)])
def test_gmsd(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> None:
    """Each cell by the least weight of the 6 x 6 pixels that its gradient reads."""
    a, b = textured_pair(rng, *shape)
    given = rng.random(shape) + 0.01
    if kind == "blob":
        given = np.where(blob_mask(rng, *shape, 0.8), given, 0)
    local = imsim.gmsd_map(a, b, weights=given, data_range=255)
    masked = imsim.gmsd_map(a, b, mask=given > 0, data_range=255)
    np.testing.assert_allclose(local, masked, rtol=0, atol=CLOSE)
    local, weights = local[::2, ::2], np.empty(tuple(-(-n // 2) for n in shape))
    for r, c in np.ndindex(weights.shape):
        weights[r, c] = given[max(2 * r - 2, 0) : 2 * r + 4, max(2 * c - 2, 0) : 2 * c + 4].min()
    np.testing.assert_array_equal(np.isfinite(local), weights > 0)
    local = np.nan_to_num(local)
    mean = np.average(local, weights=weights)
    whole, squares = weights.sum(), (weights**2).sum()
    variance = (weights * (local - mean) ** 2).sum() / (whole - squares / whole)
    score = imsim.gmsd(a, b, weights=given, data_range=255)
    assert abs(score - np.sqrt(variance)) <= CLOSE


@pytest.mark.parametrize("kind", ["everywhere", "blob"])
def test_fsim(kind: str, rng: np.random.Generator) -> None:
    """The weight PC_m, of the pixels themselves on a small frame, times the least around."""
    a, b = textured_pair(rng, 34, 37)
    given = make(rng, "everywhere", 34, 37)
    if kind == "blob":
        given[:9] = 0
        a[:9], b[:9] = a[9], b[9]  # as they are filled, nearly
    local = imsim.fsim_map(a, b, weights=given, data_range=255)
    framed = np.pad(given, 1, constant_values=np.inf)
    least = np.min([framed[i : i + 34, j : j + 37] for i, j in np.ndindex(3, 3)], axis=0)
    np.testing.assert_array_equal(np.isfinite(local), least > 0)
    if kind == "everywhere":
        weight = np.maximum(*(phase_congruency(v, None) for v in (a, b))) * least
        want = (np.nan_to_num(local) * weight).sum() / weight.sum()
        assert abs(imsim.fsim(a, b, weights=given, data_range=255) - want) <= CLOSE


def cells_by_hand(image: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means over 2 x 2 pixels, and the mean weights of those inside."""
    blocks = image.reshape(image.shape[0] // 2, 2, -1, 2)
    w = weights.reshape(blocks.shape)
    whole, inside = w.sum((1, 3)), (w > 0).sum((1, 3))
    means = (blocks * w).sum((1, 3)) / np.maximum(whole, 1e-300)
    return means, np.where(inside >= 2, whole / np.maximum(inside, 1), 0)


@pytest.mark.parametrize("kind", ["everywhere", "holes"])
def test_coarser_grids_take_weighted_means(kind: str, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, 388, 400)
    given = make(rng, kind, 388, 400)
    if kind == "holes":
        given = np.where(rng.random((388, 400)) < 0.9, given, 0)
        given[:, :200] = 0
    (x, cells), (y, _) = (cells_by_hand(v, given) for v in (a, b))
    want = imsim.ssim(x, y, weights=cells, data_range=255)
    got = imsim.ssim(a, b, weights=given, data_range=255, downsample=True)
    assert abs(got - want) <= CLOSE
    want = imsim.fsim(x, y, weights=cells, data_range=255)
    got = imsim.fsim(a, b, weights=given, data_range=255)
    assert abs(got - want) <= 1e-11


def test_windows_about_a_pixel_of_weight(rng: np.random.Generator) -> None:
    """An outlier of little weight at the centre of a window costs no digits."""
    a, b = (1000 + rng.random((11, 11)) for _ in "ab")
    weights = rng.random((11, 11)) + 0.5
    weights[5, 5] = 1e-28
    a[5, 5] = b[5, 5] = 1e12
    window = gauss(11) * weights
    *_, vx, vy, cov = moments(a - 1000, b - 1000, window / window.sum())
    flat = imsim.ssim(a, b, weights=weights, data_range=1e-3, K1=1e-3, K2=1e-3)
    assert flat == pytest.approx(2 * cov / (vx + vy), rel=1e-6)
    a, b, weights = (v[1:-1, 1:-1] for v in (a, b, weights))
    uniform = weights / weights.sum()
    *_, vx, vy, cov = moments(a - 1000, b - 1000, uniform)
    want = cov / np.sqrt(vx * vy)
    assert imsim.zncc(a, b, weights=weights, window_size=9) == pytest.approx(want, rel=1e-6)
    assert imsim.zncc(a, b, weights=weights) == pytest.approx(want, rel=1e-6)
