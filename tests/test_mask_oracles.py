"""Masked scores against plain loops over windows, written from the definitions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from sampling import blob_mask, textured_pair

import imsim

# The loops sum in another order; scores are means of numbers near 1.
CLOSE = 1e-12
MASKS = ("none", "blob", "holes", "stripe")


def make(rng: np.random.Generator, kind: str, height: int, width: int) -> np.ndarray | None:
    if kind == "none":
        return None
    if kind == "blob":
        return blob_mask(rng, height, width, 0.6)
    if kind == "holes":
        return rng.random((height, width)) < 0.7
    mask = np.zeros((height, width), dtype=bool)
    mask[:, width // 2 - 1 : width // 2 + 1] = True
    return mask


def everywhere(mask: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    return np.ones(image.shape, dtype=bool) if mask is None else mask


def windows(
    image: np.ndarray, mask: np.ndarray, size: int, weights: np.ndarray, least: float
) -> Iterator[tuple[Any, np.ndarray, int]]:
    """Yield slices and renormalised weights of all scored windows."""
    height, width = image.shape
    for i, j in product(range(height - size + 1), range(width - size + 1)):
        where = np.s_[i : i + size, j : j + size]
        inside = weights * mask[where]
        coverage = inside.sum() / weights.sum()
        centre = mask[i + size // 2, j + size // 2]
        if coverage > 0 and coverage >= least and (centre or size % 2 == 0):
            yield where, inside / inside.sum(), int(mask[where].sum())


def gauss(size: int = 11, sigma: float = 1.5) -> np.ndarray:
    k = np.arange(size) - (size - 1) / 2
    taps = np.exp(-(k**2) / (2 * sigma**2))
    return np.outer(taps, taps) / taps.sum() ** 2


def moments(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> tuple[float, ...]:
    mx, my = (w * x).sum(), (w * y).sum()
    return (
        mx,
        my,
        (w * (x - mx) ** 2).sum(),
        (w * (y - my) ** 2).sum(),
        (w * (x - mx) * (y - my)).sum(),
    )


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("shape", ["gaussian", "uniform", "sample", "even", "strict"])
def test_ssim(kind: str, shape: str, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, 21, 24)
    given = make(rng, kind, 21, 24)
    mask = everywhere(given, a)
    size = {"gaussian": 11, "even": 6}.get(shape, 5)  # 5 and 6: a kernel for all sizes
    weights = gauss(size) if shape in {"gaussian", "strict"} else np.ones((size, size))
    least = {"even": 0.5, "strict": 0.8}.get(shape, 0.0)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for where, w, n in windows(a, mask, size, weights, least):
        mx, my, vx, vy, cov = moments(a[where], b[where], w)
        if shape == "sample":
            if n < 2:
                continue
            vx, vy, cov = (v * n / (n - 1) for v in (vx, vy, cov))
        values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    options: dict[str, Any] = {
        "window": "gaussian" if shape in {"gaussian", "strict"} else "uniform",
        "window_size": size,
        "sample_covariance": shape == "sample",
        "min_coverage": least if shape == "strict" else 0.0,
    }
    if not values:  # two columns never fill as much of a window
        assert (kind, shape) in {("stripe", "strict"), ("stripe", "even")}
        with pytest.warns(imsim.EmptyMaskWarning):
            assert np.isnan(imsim.ssim(a, b, mask=given, data_range=255, **options))
        return
    got = imsim.ssim(a, b, mask=given, data_range=255, **options)
    assert abs(got - np.mean(values)) <= CLOSE


def quality(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    mx, my, vx, vy, cov = moments(x, y, w)
    inside = w > 0
    if np.ptp(x[inside]) == 0 and np.ptp(y[inside]) == 0:
        return 1.0 if mx == my == 0 else 2 * mx * my / (mx**2 + my**2)
    if mx == my == 0:
        return 1.0
    return 4 * cov * mx * my / ((vx + vy) * (mx**2 + my**2))


@pytest.mark.parametrize("kind", MASKS[:3])
@pytest.mark.parametrize("size", [8, 5])
@pytest.mark.parametrize("flat", [False, True], ids=["texture", "with flat parts"])
def test_uiq(kind: str, size: int, flat: bool, rng: np.random.Generator) -> None:
    a, b = (np.floor(image) for image in textured_pair(rng, 12, 12))
    if flat:
        a[:, :9], b[:, :9] = 40, 60
        a[:, :8], b[:, :8] = 0, 0
    given = make(rng, kind, 12, 12)
    mask = everywhere(given, a)
    least = 0.5 if size % 2 == 0 else 0.0
    found = windows(a, mask, size, np.ones((size, size)), least)
    values = [quality(a[where], b[where], w) for where, w, _ in found]
    assert abs(imsim.uiq(a, b, mask=given, block_size=size) - np.mean(values)) <= CLOSE


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_imed(kind: str, sigma: float, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, 12, 11)
    given = make(rng, kind, 12, 11)
    mask = everywhere(given, a)
    places = np.argwhere(mask)
    squared = ((places[:, None] - places[None]) ** 2).sum(-1)
    metric = np.exp(-squared / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    d = (a - b)[mask]
    want = np.sqrt(d @ metric @ d)
    assert imsim.imed(a, b, mask=given, sigma=sigma) == pytest.approx(want, rel=CLOSE)
    rms = imsim.imed(a, b, mask=given, sigma=sigma, normalize="rms")
    assert rms == pytest.approx(want / np.sqrt(mask.sum()), rel=CLOSE)
    local = imsim.imed_map(a, b, mask=given, sigma=sigma)
    assert np.nansum(local) == pytest.approx(want**2, rel=CLOSE)


def gmsd_map_by_hand(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """GMS of each cell, NaN where a gradient needs a pixel outside the mask."""
    height, width = a.shape
    rows, cols = -(-height // 2), -(-width // 2)
    cells = np.zeros((2, rows + 2, cols + 2))  # a ring of zeros: beyond the frame
    valid = np.ones((rows + 2, cols + 2), dtype=bool)
    for r, c in product(range(rows), range(cols)):
        where = np.s_[2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
        cells[:, r + 1, c + 1] = a[where].sum() / 4, b[where].sum() / 4
        valid[r + 1, c + 1] = mask[where].all()
    prewitt = np.array([[1, 0, -1]] * 3) / 3
    local = np.full((rows, cols), np.nan)
    for r, c in product(range(rows), range(cols)):
        near = np.s_[r : r + 3, c : c + 3]
        if valid[near].all():
            mags = [np.hypot((z[near] * prewitt).sum(), (z[near] * prewitt.T).sum()) for z in cells]
            local[r, c] = (2 * mags[0] * mags[1] + 170) / (mags[0] ** 2 + mags[1] ** 2 + 170)
    return local


@pytest.mark.parametrize("kind", ["none", "blob"])
@pytest.mark.parametrize("shape", [(30, 34), (31, 33)])
def test_gmsd(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *shape)
    given = None if kind == "none" else blob_mask(rng, *shape, 0.8)
    want = gmsd_map_by_hand(a, b, everywhere(given, a))
    got = imsim.gmsd_map(a, b, mask=given, data_range=255)
    np.testing.assert_allclose(got[::2, ::2], want, rtol=0, atol=CLOSE)
    score = imsim.gmsd(a, b, mask=given, data_range=255)
    assert abs(score - np.nanstd(want, ddof=1)) <= CLOSE


@pytest.mark.parametrize("kind", MASKS[:3])
@pytest.mark.parametrize("size", [9, 4])
def test_windowed_zncc(kind: str, size: int, rng: np.random.Generator) -> None:
    a, b = (np.floor(image) for image in textured_pair(rng, 18, 20))
    a[:12, :11] = 70  # one flat, and both flat
    b[:12, :10] = 90
    given = make(rng, kind, 18, 20)
    mask = everywhere(given, a)
    least = 0.5 if size % 2 == 0 else 0.0
    values = []
    for where, w, _ in windows(a, mask, size, np.ones((size, size)), least):
        _, _, vx, vy, cov = moments(a[where], b[where], w)
        flat = [np.ptp(z[where][w > 0]) == 0 for z in (a, b)]
        values.append(float(all(flat)) if any(flat) else cov / np.sqrt(vx * vy))
    got = imsim.zncc(a, b, mask=given, window_size=size)
    assert abs(got - np.mean(values)) <= CLOSE
    local = imsim.zncc_map(a, b, mask=given, window_size=size)
    assert np.isfinite(local).sum() == len(values)
    assert abs(np.nanmean(local) - np.mean(values)) <= CLOSE
