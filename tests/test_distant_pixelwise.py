"""Pixelwise metrics against sums without rounding: distant parts, extreme magnitudes, equal images.

What float64 makes of them is a few roundings, of which a sum averages; float32 images are as they
are, and what is computed in float32 from their differences is within 2e-6, in maps 2e-5.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import exact_pixelwise as exact
import numpy as np
import pytest
from distant import KINDS, distant_pair

import imsim

NAMES = ("se", "rmse", "psnr", "sre", "imed", "zncc", "sam", "gmsd")
BOUNDED = ("zncc", "sam", "gmsd")
SCORE = {np.float32: 2e-6, np.float64: 1e-11}
MAP = {np.float32: 2e-5, np.float64: 1e-11}


@pytest.fixture(params=["auto", "portable"], autouse=True)
def each_engine(request: pytest.FixtureRequest) -> Any:
    """Compute by kernels and by formulas."""
    imsim.set_engine(request.param)
    yield
    imsim.set_engine("auto")


def check_scores(x: np.ndarray, y: np.ndarray, data_range: float) -> None:
    """Compare all scores with what they are."""
    close = SCORE[x.dtype.type]
    ranged = ("psnr", "gmsd")
    for name in NAMES:
        function = exact.angle if name == "sam" else getattr(exact, name)
        want = float_of(function(x, y, data_range) if name in ranged else function(x, y))
        got = getattr(imsim, name)(x, y, data_range=data_range)
        if name in BOUNDED:
            assert got == pytest.approx(want, rel=0, abs=close), name
            low, high = imsim.METRICS[name].bounds
            assert low <= got <= high
        else:
            # Below the least normal number float64 has fewer digits.
            assert got == pytest.approx(want, rel=close, abs=1e-300), name


def float_of(value: Any) -> float:
    return value if isinstance(value, float) else exact.real(value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_distant_parts(rng: Any, kind: str, dtype: Any) -> None:
    for distance in (1e2, 1e6):
        x, y = distant_pair(kind, rng, (11, 14), distance=distance, dtype=dtype)
        check_scores(x, y, 2.0)
        close = MAP[dtype]
        cells = np.kron(exact.gmsd_map(x, y, 2.0), np.ones((2, 2)))[:11]
        got = imsim.gmsd_map(x, y, data_range=2.0)
        np.testing.assert_allclose(got, cells, rtol=0, atol=close)
        assert got.max() <= 1
        form, size = (v.astype(float) for v in exact.imed_map(x, y))
        # In float64 what rounding knows is the sum of magnitudes, where neighbours make up for a
        # pixel; float32 is a rounding of that.
        rounding = np.finfo(dtype).eps * abs(form) + 1e-11 * size
        assert (abs(imsim.imed_map(x, y) - form) <= rounding).all()
        spectra = [np.stack([v, v[::-1], v[:, ::-1]]) for v in (x, y)]
        want = exact.angles(*(np.moveaxis(v, 0, -1) for v in spectra))
        got = imsim.sam_map(*spectra, channel_axis=0)
        np.testing.assert_allclose(got, want, rtol=0, atol=close)
        score = imsim.sam(*spectra, channel_axis=0)
        assert score == pytest.approx(np.nanmean(want), abs=SCORE[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_extreme_magnitudes(rng: Any, dtype: Any) -> None:
    powers = (
        (-310, -200, -160, -60, 60, 150, 200, 300) if dtype == np.float64 else (-40, -20, 20, 37)
    )
    for power in powers:
        x, y = (rng.normal(1, 1, (2, 9, 10)) * 10.0**power).astype(dtype)
        check_scores(x, x + y, 1.0)
        close = MAP[dtype]
        spectra = [np.stack([v, v[::-1]], -1) for v in (x, y)]
        angles = imsim.sam_map(*spectra, channel_axis=-1)
        np.testing.assert_allclose(angles, exact.angles(*spectra), rtol=0, atol=close)
        for p, q in ((x, x), (y, y)):
            assert imsim.zncc(p, q) == 1
            assert imsim.rmse(p, q) == imsim.sam(p, q) == imsim.gmsd(p, q, data_range=1) == 0
            assert imsim.sre(p, q) == np.inf
        assert imsim.zncc(x, y) == imsim.zncc(y, x)
        batch = np.stack([x, np.ones_like(x), x]), np.stack([y, np.ones_like(x), x])
        for name in NAMES:
            function = imsim.METRICS[name].function
            each = [function(*pair, data_range=1.0) for pair in zip(*batch, strict=True)]
            np.testing.assert_array_equal(function(*batch, data_range=1.0), each)


def test_one_pixel_decides(rng: Any) -> None:
    """A mask keeps what is huge outside from deciding the scale."""
    x, y = rng.normal(1, 1, (2, 9, 10)) * 1e-170
    mask = np.ones(x.shape, bool)
    mask[3, 4] = False
    p, q = np.where(mask, x, 1e200), np.where(mask, y, np.nan)
    for name in NAMES:
        function = imsim.METRICS[name].function
        assert function(p, q, mask=mask, data_range=1) == function(x, y, mask=mask, data_range=1)


def test_alternating_differences(rng: Any) -> None:
    """Their squares nearly cancel in the quadratic form of IMED, of which float32 sees little."""
    x = np.zeros((16, 18))
    y = (np.indices(x.shape).sum(axis=0) % 2 * 2 - 1) * rng.uniform(0.99, 1.01, x.shape)
    x, y = x.astype(np.float32), y.astype(np.float32)
    assert imsim.imed(x, y) == pytest.approx(exact.imed(x, y), rel=2e-6)


def test_trend_far_from_zero(rng: Any) -> None:
    """Means of blocks keep the digits of their differences."""
    t = np.linspace(0, 1, 20_000).reshape(40, -1)
    x, y = (1e6 + f + rng.normal(0, 0.2, t.shape) for f in (t, t**2))
    assert imsim.zncc(x, y) == pytest.approx(exact.zncc(x, y), abs=1e-13)


def test_decibels_where_only_one_image_is_huge() -> None:
    least = np.finfo(np.float64).min
    assert imsim.sre([[1.0, 2.0]], [[1.0, 2e200]]) == pytest.approx(-3999.4884747755)
    assert imsim.sre([[1e-170, 2e-170]], [[1.0, 2.0]]) == pytest.approx(-3400.4575749056)
    bright, dark = np.full((2, 8, 8), [[[1.7e308]], [[-1.7e308]]])
    assert imsim.psnr(bright, dark, data_range=1) == pytest.approx(-6170.62957834)
    x = np.linspace(0, 1, 64).reshape(8, 8)
    p, q = np.where(x < 0.2, least, x), np.where(x < 0.2, least, x + 0.1)
    shared = np.mean(p == q)  # pixels without data in both, which do not differ
    assert imsim.rmse(p, q) == pytest.approx(0.1 * np.sqrt(1 - shared))
    level = 20 * (np.log10(shared) + np.log10(-least)) + 20 - 10 * np.log10(1 - shared)
    assert imsim.sre(p, q) == pytest.approx(level)


@pytest.mark.parametrize("name", ["sre", "zncc", "uiq"])
@pytest.mark.parametrize("sizes", [(1e-200, 1.0, 1e200), (1e90, 1e-90, 1e90), (1e-90, 1.0, 1e120)])
def test_channels_of_unlike_magnitudes(name: str, sizes: tuple[float, ...], rng: Any) -> None:
    """These metrics depend on no unit of a channel."""
    x = rng.random((12, 13, 3)) + 1
    y, function = x + 0.1 * rng.random(x.shape), imsim.METRICS[name].function
    want = function(x, y, channel_axis=-1)
    got = function(x * sizes, y * sizes, channel_axis=-1)
    assert got == pytest.approx(want, rel=0, abs=1e-9 if name == "sre" else 1e-12)


def test_angle_between_images_of_unlike_magnitudes(rng: Any) -> None:
    """Their blocks and channels are merged by slopes whose squares leave float64."""
    x, y = rng.random((2, 60, 70, 3)) + np.linspace(0, 3, 70)[:, None]
    want = imsim.sam(x, y, mode="image", channel_axis=-1)
    for size in (1e-90, 1e90):
        got = imsim.sam(x * size, y / size, mode="image", channel_axis=-1)
        assert got == pytest.approx(want, rel=0, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("kind", ["checks", "noise", "outliers", "weights"])
def test_a_mean_that_cancels(kind: str, dtype: Any, rng: Any) -> None:
    """SRE divides by the mean of the reference, of which rounding leaves few digits."""
    x = rng.random((40, 300))
    mask, weights = rng.random(x.shape) < 0.9, None
    if kind == "checks":
        x = 1e-3 * x + np.where(np.indices(x.shape).sum(axis=0) % 2, 1e3, -1e3)
        mask[:, 1::2] = mask[:, ::2]
    elif kind == "noise":
        x = rng.normal(0, 1, x.shape)
        x += 1e-9 - np.array([x[mask].mean(), x[~mask].mean()])[1 - mask.astype(int)]
    elif kind == "outliers":
        x[3, 4], x[30, 50] = 1e17, -1e17
        mask[3, 4] = mask[30, 50] = True
    else:
        weights = rng.random(x.shape) + 0.5
        x = rng.normal(0, 1, x.shape)
        for _ in range(2):
            x[mask] -= (x * weights)[mask].sum() / weights[mask].sum()
    x = x.astype(dtype)
    y = x + 0.1 * rng.normal(size=x.shape).astype(dtype)
    close = SCORE[dtype]
    if weights is None:
        assert imsim.sre(x, y) == pytest.approx(exact.sre(x, y), rel=close)
        want = exact.sre(x[mask], y[mask])
        pairs = np.stack([x, y])
        each = imsim.sre(pairs, pairs[::-1])
        np.testing.assert_array_equal(each, [imsim.sre(x, y), imsim.sre(y, x)])
        both = imsim.sre(pairs, pairs[::-1], channel_axis=0)
        assert both == pytest.approx(np.mean([exact.sre(x, y), exact.sre(y, x)]), rel=close)
    else:
        p, q, w = (v[mask].astype(object) for v in (x.astype(float), y.astype(float), weights))
        p, q, w = (np.array([Fraction(n) for n in v]) for v in (p, q, w))
        want = 10 * exact.log10((w @ p) ** 2 / (w @ (p - q) ** 2) / w.sum())
    got = imsim.sre(x, y, mask=mask, weights=weights)
    assert got == pytest.approx(want, rel=close)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("distance", [1e3, 1e6, 1e8, 1e15])
def test_a_cliff_whose_gradient_cancels(distance: float, dtype: Any, rng: Any) -> None:
    """The last cells of an odd frame are half zeros, and those of the cliff are half as bright."""
    x = rng.normal(0, 0.5, (15, 17))
    y = x + rng.normal(0, 0.5, x.shape)
    for v in (x, y):
        v[:, 13:] += distance
        v[:, 3] -= distance  # and a line of which both sides
        v[:, 6] -= distance  # lie in the cells that are compared
    x, y = x.astype(dtype), y.astype(dtype)
    for p, q in ((x, y), (x.T, y.T)):
        want = exact.gmsd_map(p, q, 2.0)
        got = imsim.gmsd_map(p, q, data_range=2.0)[::2, ::2]
        np.testing.assert_allclose(got, want, rtol=0, atol=MAP[dtype])
        score = imsim.gmsd(p, q, data_range=2.0)
        assert score == pytest.approx(exact.gmsd(p, q, 2.0), rel=0, abs=SCORE[dtype])
        everywhere = np.ones(p.shape, bool)
        assert imsim.gmsd(p, q, data_range=2.0, mask=everywhere) == score
