"""Windowed metrics of images with distant parts, against slow exact sums."""

from __future__ import annotations

import tracemalloc
from typing import Any

import exact_windows as exact
import numpy as np
import pytest
from distant import KINDS, distant_pair, distant_pairs
from engines import by_both, by_engine
from exact_ssim import ssim_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling import MAPS, SCORES, Variant, each_of_some

import imsim

thorough = pytest.mark.thorough
CASES: dict[str, dict[str, Any]] = {
    "ssim": {"data_range": 2.0},
    "uiq": {},
    "zncc": {"window_size": 9},
}
"""The metrics with local windows, whose windows have the usual sizes."""
OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "ssim",
        {"data_range": 2.0, "window": "uniform", "window_size": 5, "sample_covariance": True},
    ),
    ("ssim", {"data_range": 2.0, "window_size": 6, "sigma": 0.9}),
    ("ssim", {"data_range": 2.0, "K1": 0.0, "K2": 0.0}),
    ("uiq", {"block_size": 3}),
    ("zncc", {"window_size": 4, "min_coverage": 0.6}),
)


ENGINES = ("portable", "auto")


@pytest.fixture(params=ENGINES)
def each_engine(request: Any) -> Any:
    imsim.set_engine(request.param)
    yield request.param
    imsim.set_engine("auto")


def check(
    name: str,
    images: tuple[np.ndarray, np.ndarray],
    mask: np.ndarray | None = None,
    **options: Any,
) -> None:
    """Score and map of both engines are near the exact ones, and within the bounds of the metric.

    The exact ones take longer than both.
    """
    x, y = images
    with np.errstate(all="ignore"):
        local = getattr(exact, f"{name}_map")(x, y, mask=mask, **options)
    want = exact.on_frame(local, x.shape)
    mean = float(np.nanmean(want))
    # The contract of the library; a map of float32 images has about 7 digits.
    map_bound, bound = (2e-5, 2e-6) if x.dtype == np.float32 else (1e-11, 1e-11)
    low, high = imsim.METRICS[name].bounds
    for engine in ENGINES:
        got = by_engine(engine, getattr(imsim, f"{name}_map"), x, y, mask=mask, **options)
        score = by_engine(engine, getattr(imsim, name), x, y, mask=mask, **options)
        np.testing.assert_allclose(
            got, want.astype(np.float64), rtol=0, atol=map_bound, err_msg=engine
        )
        np.testing.assert_allclose(score, mean, rtol=0, atol=bound, err_msg=engine)
        assert np.nanmin(got) >= low
        assert np.nanmax(got) <= high
        assert low <= score <= high


def region(shape: tuple[int, int]) -> np.ndarray:
    """Make a mask of scattered pixels with a part that is whole."""
    mask = np.random.default_rng(1).random(shape) < 0.8
    mask[: shape[0] // 2, : shape[1] // 2] = True
    return mask


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, np.float64) for name in CASES),
        ("ssim", np.float32),
        # Others compute pixels of float32 in float64.
        *(pytest.param(name, np.float32, marks=thorough) for name in ("uiq", "zncc")),
    ],
)
def test_distant_parts(dtype: Any, name: str, kind: str) -> None:
    mask = region((26, 80))
    for distance, masks in ((1e2, (None,)), (1e4, (None, mask)), (1e6, (mask,))):
        rng = np.random.default_rng(int(distance))
        images = distant_pair(kind, rng, (26, 80), distance=distance, dtype=dtype)
        for mask in masks:
            check(name, images, mask, **CASES[name])


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_options(name: str, options: dict[str, Any]) -> None:
    for kind in ("cliff", "constant part", "hounsfield"):
        images = distant_pair(kind, np.random.default_rng(3), (26, 80))
        for mask in (None, region((26, 80))):
            if options.get("K1") == 0:
                # Without constants it is UIQ, whose quotients of zeros follow rules of their own.
                x, y = images
                for uiq in by_both(imsim.uiq, x, y, mask=mask):
                    ssim = imsim.ssim(x, y, mask=mask, window="uniform", window_size=8, **options)
                    np.testing.assert_allclose(ssim, uiq, rtol=0, atol=1e-11)
            else:
                check(name, images, mask, **options)


@settings(max_examples=15, deadline=None)
@given(distant_pairs(16, 40, (np.float32, np.float64)), st.sampled_from(sorted(CASES)))
def test_any_distant_pair(images: tuple[np.ndarray, np.ndarray], name: str) -> None:
    check(name, images, **CASES[name])


def test_integers_of_every_width() -> None:
    x, y = distant_pair("plateaus", np.random.default_rng(0), (30, 80), distance=1000)
    for dtype in (np.uint8, np.int16, np.int64):
        scale = 100 if dtype == np.uint8 else 1e4
        p, q = (np.clip(v * scale, 0, np.iinfo(dtype).max).astype(dtype) for v in (x, y))
        for name in ("uiq", "zncc"):
            check(name, (p, q), **CASES[name])


def opposites(level: float, shape: tuple[int, ...]) -> np.ndarray:
    """Make two textures, whose columns lie by turns at a level and at its opposite."""
    pair = np.random.default_rng(int(level)).normal(0, 0.3, (2, *shape))
    return np.asarray(pair + level * (1 - 2 * (np.arange(shape[-1]) // 16 % 2)))


@pytest.mark.parametrize("level", [3e3, 1e6])
def test_means_of_opposite_levels(level: float) -> None:
    """Of blocks half at a level and half at its opposite, a mean near 0 keeps its digits."""
    for shape in ((40, 64), (9, 200)):
        x, y = opposites(level, shape)
        for mask in (None, region(shape)):
            check("uiq", (x, y), mask)
            check("ssim", (x, y), mask, data_range=2.0, window="uniform", window_size=6)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64], ids=lambda v: v.__name__)
def test_opposite_levels_in_several_strips(dtype: Any) -> None:
    """Beside black and constant parts, NaN and in several blocks; both engines agree."""
    x, y = opposites(3e3, (300, 520))
    x[:40], y[:40, 100:200] = 0, 0
    x[200:230] = y[200:240] = 7
    x, y = x.astype(dtype), y.astype(dtype)
    mask = region(x.shape)
    mask[100:260, 300:] = False
    if dtype != np.int16:
        x[280, 500] = np.nan
    bound = 2e-5 if dtype == np.float32 else 1e-11  # as in `check`
    sizes = [{"block_size": 33}] if dtype != np.float32 else []
    for options in ({}, {"mask": mask}, *sizes):
        np.testing.assert_allclose(*by_both(imsim.uiq_map, x, y, **options), rtol=0, atol=bound)


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e150, 1e200])
def test_opposite_levels_far_outside_the_range(scale: float) -> None:
    x, y = opposites(3e3, (40, 64)) * scale
    np.testing.assert_allclose(*by_both(imsim.uiq_map, x, y), rtol=0, atol=1e-11)


@pytest.mark.usefixtures("kernels")
def test_opposite_levels_in_large_blocks_need_little_memory() -> None:
    x, y = opposites(3e3, (200, 300))
    imsim.uiq(x[:70], y[:70], block_size=64)
    tracemalloc.start()
    try:
        imsim.uiq(x, y, block_size=64)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * (x.nbytes + y.nbytes)


def test_opposite_levels_of_volumes() -> None:
    x, y = opposites(1e6, (12, 40, 64))
    for mask in (None, np.random.default_rng(1).random(x.shape) < 0.9):
        for name, options in (("uiq", {}), ("ssim", {"data_range": 2.0})):
            function = getattr(imsim, f"{name}_map")
            maps = by_both(function, x, y, ndim=3, mask=mask, **options)
            np.testing.assert_allclose(*maps, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=thorough), np.float64])
def test_volumes_and_weighted_images_far_from_each_other(name: str, dtype: Any, rng: Any) -> None:
    """The difference of two pixels loses digits that those from the means of a tile keep."""
    x = rng.normal(0, 0.3, (12, 20, 40))
    y = x + rng.normal(0, 0.1, x.shape)
    function, bound = getattr(imsim, f"{name}_map"), 2e-5 if dtype == np.float32 else 1e-11
    for levels in ((-1e6, 1e6), (1e4, 3e4), (1e3, 3e5)):
        p, q = (v.astype(dtype) + dtype(level) for v, level in zip((x, y), levels, strict=True))
        weights = rng.random(p.shape)
        for options in ({"ndim": 3}, {"weights": weights}):
            maps = by_both(function, p, q, **CASES[name], **options)
            np.testing.assert_allclose(*maps, rtol=0, atol=bound)


def test_a_scene_without_data_in_one_part() -> None:
    rng = np.random.default_rng(0)
    p = rng.normal(0.2, 0.03, (64, 120))
    q = p + rng.normal(0, 0.01, p.shape)
    for value in (-9999, 1000):
        p[:, 80:] = q[:, 80:] = value
        check("ssim", (p.astype("f4"), q.astype("f4")), data_range=1)


def test_a_bright_half_does_not_hide_the_dark_one() -> None:
    a, b = np.random.default_rng(0).normal(0, 1e-3, (2, 64, 64))
    a[:, 32:] += 65535
    b[:, 32:] += 65535
    check("zncc", (a, b), window_size=9)
    for local in by_both(imsim.zncc_map, a, b):
        assert abs(np.nanmean(local[:, :28])) < 0.1


def test_bands_that_are_constant_in_both_images() -> None:
    """In float32 all windows of such a band have the same error, which no mean reduces."""
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 60, 150))
    for levels in ((0.0, 0.0), (0.0, 0.3), (1.0, 0.98), (0.9, 0.1)):
        x[:, 10:140], y[:, 10:140] = levels
        check("ssim", (x.astype("f4"), y.astype("f4")), data_range=1)


def test_only_what_overflows_is_repeated_in_float64() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 4, 20, 30), np.float32)
    mask = np.ones((4, 20, 30), bool)
    x[1] *= np.float32(1e30)
    x[2, 3, 4] = np.nan
    mask[3] = False
    for function in (imsim.ssim, imsim.ssim_map):
        for m in (None, mask):
            with pytest.warns(imsim.EmptyMaskWarning) if m is not None else np.errstate():
                got = function(x, y, mask=m, data_range=1)
            for k in range(3 if m is not None else 4):
                alone = function(x[k], y[k], mask=None if m is None else m[k], data_range=1)
                np.testing.assert_array_equal(got[k], alone)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("name", "options"), [("uiq", {}), ("zncc", {"window_size": 9})])
def test_sound_windows_beside_flat_ones_keep_their_digits(
    name: str, options: dict[str, Any], masked: bool, dtype: str, rng: np.random.Generator
) -> None:
    """Rows with both, over several strips and tiles; these metrics compute in float64."""
    x = rng.integers(0, 255, (300, 310))
    y = np.clip(x + rng.integers(-9, 9, x.shape), 0, 255)
    x[:, 100:200], y[:, 120:220] = 128, 64
    mask = rng.random(x.shape) < 0.95 if masked else None
    x, y = ((v / (1 if dtype == "uint8" else 256)).astype(dtype) for v in (x, y))
    want = by_engine("portable", getattr(imsim, name), x, y, mask=mask, **options)
    got = getattr(imsim, name)(x, y, mask=mask, **options)
    # Rounding the values to float32 makes an error of 5e-11.
    assert abs(got - want) < 1e-13


def test_large_windows_take_no_new_kernel() -> None:
    from imsim.kernels.ssim import quality_strip

    x, y = np.random.default_rng(0).random((2, 1030, 1027))
    imsim.uiq(x[:40, :40], y[:40, :40], block_size=5)
    compiled = len(quality_strip.signatures)
    for size in (13, 27):
        imsim.uiq(x[:40, :40], y[:40, :40], block_size=size)
    got = imsim.uiq_map(x, y, block_size=1024)[512, 512]
    p, q = x[:1024, :1024], y[:1024, :1024]
    moments = np.cov(p.ravel(), q.ravel(), bias=True)
    mean = p.mean(), q.mean()
    want = 4 * moments[0, 1] * mean[0] * mean[1]
    want /= (moments[0, 0] + moments[1, 1]) * (mean[0] ** 2 + mean[1] ** 2)
    assert abs(got - want) < 1e-11
    assert len(quality_strip.signatures) == compiled


def test_identity_is_exact_in_any_unit(each_engine: str) -> None:
    x = np.random.default_rng(0).random((40, 40))
    for unit in (1e-60, 1e-30, 1.0, 1e25, 1e60):
        assert imsim.zncc(x * unit, x * unit, window_size=9) == 1
        y = x[::-1] * unit
        assert imsim.zncc(x, y, window_size=9) == imsim.zncc(y, x, window_size=9)


@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=thorough), np.float64])
def test_half_a_window_of_even_size_is_scored(each_engine: str, dtype: Any) -> None:
    x = np.random.default_rng(0).random((20, 20))
    masks = [np.zeros((20, 20), bool) for _ in range(3)]
    masks[0][:, 10:] = True
    masks[1][np.add.outer(np.arange(20), np.arange(20)) % 2 == 0] = True
    masks[2][10:] = True
    for mask in masks:
        for size in (4, 6):
            p = x.astype(dtype)
            got = imsim.ssim_map(p, p, mask=mask, data_range=1, window_size=size)
            want = exact.ssim_map(x, x, mask=mask, data_range=1, window_size=size)
            want = exact.on_frame(want, x.shape)
            np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=thorough), np.float64])
def test_full_coverage_is_of_pixels_that_weigh_nothing_too(each_engine: str, dtype: Any) -> None:
    x, y = np.random.default_rng(0).random((2, 24, 24))
    mask = np.ones((24, 24), bool)
    mask[12, 12] = False
    for size in (6, 11):
        options = {"mask": mask, "data_range": 1, "window_size": size, "min_coverage": 1}
        got = imsim.ssim_map(x.astype(dtype), y.astype(dtype), sigma=0.4, **options)
        whole = exact.on_frame(exact.ssim_map(x, y, **options), x.shape)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(whole))


SIZES = (
    *(1e-310, 1e-120, 1e90, 1e300),
    *(pytest.param(size, marks=thorough) for size in (1e-200, 1e-90, 1e120, 1e200)),
)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "variant",
    [v for v in (*SCORES, *MAPS) if v.metric in ("ssim", "uiq", "zncc")],
    ids=lambda v: ("map of " if v.is_map else "") + v.id,
)
def test_extreme_magnitudes(variant: Variant, size: float, each_engine: Any, rng: Any) -> None:
    """In another unit an image is the same; far above the data range SSIM is without constants."""
    shape = variant.shape(24, 26)
    x = rng.normal(1, 1, shape) * 2.0 ** round(np.log2(size))
    y = x + rng.normal(0, 0.3, shape) * 2.0 ** round(np.log2(size))
    unit = 2.0 ** round(np.log2(size))
    options: dict[str, Any] = {}
    if variant.metric == "ssim":
        options = {"K1": 0.0, "K2": 0.0} if size > 1 else {"data_range": 1.0}
    got = variant(x, y, **({"data_range": 1.0} if variant.metric == "ssim" else {}))
    want = variant(x / unit, y / unit, **options) if size > 1 or not options else np.ones_like(got)
    # Multiples of the smallest float have few digits.
    close = 1e-3 if size < 1e-300 else 1e-11
    np.testing.assert_allclose(got, np.where(np.isnan(got), np.nan, want), rtol=0, atol=close)
    assert variant.is_map or np.isfinite(got)
    equal = variant(x, x)
    np.testing.assert_array_equal(equal, np.where(np.isnan(equal), np.nan, 1.0))
    batch = variant(np.stack([x, x, x * 0 + 1]), np.stack([y, x, x * 0 + 1]), data_range=1.0)
    np.testing.assert_array_equal(batch[0], variant(x, y, data_range=1.0))


@each_of_some(MAPS, np.float64, np.float32)
@pytest.mark.parametrize("least", [np.finfo(np.float32).min, np.finfo(np.float64).min], ids=str)
def test_the_least_float_spoils_only_what_reads_it(
    variant: Variant, least: float, dtype: Any, each_engine: Any, rng: Any
) -> None:
    """As it stands where a file has no data; FSIM transforms the whole frame."""
    if variant.metric == "fsim" or least < np.finfo(dtype).min:
        return
    x, y = (rng.normal(100, 50, variant.shape(30, 52)).astype(dtype) for _ in "xy")
    want = variant(x, y)[:, 32:]
    x[:, :4] = least
    got = variant(x, y)[:, 32:]
    np.testing.assert_allclose(got, want, rtol=4e-5 if dtype == np.float32 else 1e-11, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.0, 1.2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_narrow_gaussians_see_far_pixels(sigma: float, dtype: Any, rng: Any) -> None:
    """A tap below the resolution of a float counts where the pixel under it is large."""
    for height in (1e2, 1e4, 1e38 if dtype == np.float64 else 1e6):
        x = rng.random((24, 27))
        y = x + 0.1 * rng.normal(size=x.shape)
        x[12, 13], y[12, 13] = height, height / 2
        check("ssim", (x.astype(dtype), y.astype(dtype)), data_range=1.0, sigma=sigma)


def test_flat_images_far_from_each_other() -> None:
    x, y = (np.full((16, 16), v, np.float32) for v in (11253.084, 11175.919))
    check("ssim", (x, y), data_range=1.0)


def test_settled_values_add_up_without_drift() -> None:
    """Ten thousand equal values, a third of them settled, and a row that is not doubtful."""
    settle = pytest.importorskip("imsim.kernels.common.window_doubts").settle
    value = 1 / 3 - 2.0**-54
    values = np.full((101, 120), 0.25, np.float32)
    values[:, ::3] = np.nan
    doubtful = np.ones((101, 1), np.bool_)
    doubtful[50] = False
    total = np.zeros(2)
    settle(values, np.full((101, 100), value), 120, 0, 10, doubtful, True, total)
    number = len(range(12, 110, 3))
    assert total.sum() == pytest.approx(100 * number * value, rel=2e-16, abs=0)
    assert np.isnan(values[50]).sum() == 40
    assert (values[0, 12:110:3] == np.float32(value)).all()
    assert (values[0, 10:110][values[0, 10:110] != np.float32(value)] == 0.25).all()
    assert np.isnan(values[0, :10]).sum() == 4


@pytest.mark.parametrize("inside", ["all", "mask", "weights"])
@pytest.mark.parametrize(
    "options", [{}, {"window": "uniform", "window_size": 6}, {"window_size": 6}, {"ndim": 3}]
)
@pytest.mark.parametrize(
    "far", [1e2, pytest.param(1e4, marks=thorough), 1e5, pytest.param(1e6, marks=thorough), 1e9]
)
def test_levels_that_cancel_within_windows(
    far: float, options: dict[str, Any], inside: str, each_engine: str, rng: Any
) -> None:
    """As in a checkerboard: what rounding takes from the taps counts beside a mean near 0."""
    shape = (14, 13, 12) if "ndim" in options else (16, 15)
    level = far * (np.indices(shape).sum(axis=0) % 2 * 2 - 1)
    x = level + rng.normal(0, 0.3, shape)
    y = level + rng.normal(0, 0.3, shape)
    weights, options = None, dict(options)
    if inside == "mask":  # of 2 x 2 pixels each, whose levels still cancel
        coarse = rng.random([-(-n // 2) for n in shape]) < 0.8
        weights = np.kron(coarse, np.ones([2] * len(shape)))[tuple(map(slice, shape))] > 0
        options["mask"] = weights
    elif inside == "weights":
        weights = rng.random(shape) + 0.5
        options["weights"] = weights
    got = imsim.ssim_map(x, y, data_range=2.0, **options)
    is_uniform = options.get("window") == "uniform"
    size = options.get("window_size") or (7 if is_uniform else 11)
    sigma = None if is_uniform else 1.5
    places = np.argwhere(~np.isnan(got))
    assert len(places)
    for place in places[:: -(-len(places) // 3)]:
        window = tuple(slice(i - size // 2, i - size // 2 + size) for i in place)
        own = None if weights is None else weights[window]
        want = ssim_of(x[window], y[window], own, data_range=2.0, sigma=sigma)
        assert got[tuple(place)] == pytest.approx(want, rel=0, abs=1e-11)


@pytest.mark.parametrize("name", ["gmsd", "ssim", "uiq", "zncc"])
def test_finite_sums_above_infinite_ones_are_no_score_of_zero(name: str, rng: Any) -> None:
    x, y = rng.random((2, 24, 30))
    y, function, span = (x + y) / 2, getattr(imsim, f"{name}_map"), 2.0**-200
    for scale in 2.0 ** np.arange(508, 517):
        for found in by_both(function, x * scale, y * scale, data_range=span * scale):
            np.testing.assert_allclose(found, function(x, y, data_range=span), rtol=0, atol=1e-11)
