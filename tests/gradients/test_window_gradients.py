"""The compiled gradients of SSIM, UIQ and ZNCC."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import imsim
from imsim import kernels
from imsim.metrics.ssim import check_options
from imsim.portable.pair import Pair
from imsim.registry import METRICS

pytestmark = pytest.mark.skipif(not kernels.are_enabled(), reason="Numba is told not to compile")

FRAME = (24, 27)
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ssim", {}),
    ("ssim", {"window": "uniform", "window_size": 11}),
    ("ssim", {"window": "uniform", "window_size": 6, "sample_covariance": True}),
    ("ssim", {"window_size": 4, "sigma": 0.9, "min_coverage": 0.6}),
    ("ssim", {"min_coverage": 1.0}),
    ("ssim", {"window_size": 5, "sample_covariance": True, "min_coverage": 1.0}),
    ("ssim", {"K1": 0.0, "K2": 0.0}),
    ("uiq", {}),
    ("uiq", {"block_size": 5}),
    ("zncc", {}),
    ("zncc", {"window_size": 9}),
    ("zncc", {"window_size": 4, "min_coverage": 0.7}),
)
USUAL = tuple(case for case in CASES if case[1] in ({}, {"window_size": 9}))
MASKED = tuple(
    (name, options, is_masked)
    for name, options in CASES
    for is_masked in ((False, True) if (name, options) in USUAL else ("min_coverage" in options,))
)
"""By default masked and not, with options once: each is a kernel of its own."""
IN_FLOAT32 = tuple(case for case in MASKED if case[:2] in USUAL or case[1].get("window_size") == 4)
"""Each size is compiled for each dtype, the usual ones by themselves, all others together."""
RARE = (
    ("ssim", {"window": "uniform", "window_size": 6, "sample_covariance": True}),
    ("uiq", {"block_size": 5}),
    ("zncc", {"window_size": 4, "min_coverage": 0.7}),
)
"""Kernels of their own, from the same lines as those of SSIM in windows of any size."""


def each_of(cases: tuple[tuple[str, dict[str, Any], bool], ...]) -> Any:
    """Parametrise a test by calls, of which the rare ones are left to `--thorough`."""
    marked = [
        pytest.param(*case, marks=pytest.mark.thorough if case[:2] in RARE else ())
        for case in cases
    ]
    return pytest.mark.parametrize(("metric", "options", "is_masked"), marked, ids=str)


def gradients(
    metric: str,
    x: np.ndarray,
    y: np.ndarray,
    mask: np.ndarray | None = None,
    upstream: Any = None,
    wanted: tuple[bool, bool] = (True, True),
    data_range: float = 1.0,
    **options: Any,
) -> Any:
    """Call a gradient with the checked options of its formula."""
    if metric == "ssim":
        signature = inspect.signature(imsim.ssim).parameters
        names = inspect.signature(check_options).parameters
        options = check_options(**{k: options.get(k, signature[k].default) for k in names})
    elif metric == "zncc":
        size = options.pop("window_size", None)
        lengths = None if size is None else (size, size)
        options = {"lengths": lengths, "min_coverage": 0.0, **options}
    else:
        options = {"block_size": 8, **options}
    inside = None if mask is None else mask[..., None, :, :]
    masks = () if mask is None else mask.shape[:-2]
    batch = np.broadcast_shapes(x.shape[:-3], y.shape[:-3], masks)
    weights = np.ones(batch) if upstream is None else upstream
    load = METRICS[metric].gradient
    assert load is not None
    pair = Pair(np, x, y, x.dtype.type, data_range, True, mask=inside)
    return load()(pair, weights, wanted, **options)


def scores(metric: str, x: Any, y: Any, mask: Any, **options: Any) -> Any:
    if metric == "ssim":
        options["data_range"] = 1.0
    return getattr(imsim, metric)(x, y, mask=mask, channel_axis=-3, **options)


def pair_of(rng: Any, shape: tuple[int, ...], mask: Any, dtype: Any = "f8") -> list[np.ndarray]:
    x = rng.random(shape)
    pair = [x, x + 0.2 * rng.standard_normal(shape)]
    return [(v if mask is None else np.where(mask, v, 0)).astype(dtype) for v in pair]


def part_of(rng: Any, frame: tuple[int, int]) -> np.ndarray:
    mask: np.ndarray = rng.random(frame) < 0.6
    mask[: frame[0] * 2 // 3, : frame[1] * 2 // 3] = True
    return mask


@each_of(MASKED)
def test_it_is_the_derivative_of_the_score(
    rng: Any, metric: str, options: dict[str, Any], is_masked: bool
) -> None:
    mask = part_of(rng, FRAME) if is_masked else None
    images = pair_of(rng, (2, *FRAME), mask)
    found = gradients(metric, *images, mask, **options)
    step = 1e-5
    for side in (0, 1):
        alone = gradients(metric, *images, mask, wanted=(side == 0, side == 1), **options)
        assert alone[1 - side] is None
        largest = abs(found[side]).max()
        np.testing.assert_allclose(alone[side], found[side], rtol=0, atol=1e-12 * largest)
        for place in zip(*(rng.integers(n, size=9) for n in (2, *FRAME)), strict=True):
            ends = []
            for change in (step, -step):
                moved = [v.copy() for v in images]
                moved[side][place] += change
                ends.append(scores(metric, *moved, mask, **options))
            slope = (ends[0] - ends[1]) / (2 * step)
            assert abs(found[side][place] - slope) <= 1e-6 * largest
        if mask is not None:
            assert not found[side][:, ~mask].any()


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize(("metric", "options"), USUAL, ids=str)
def test_blocks_join(rng: Any, metric: str, options: dict[str, Any], is_masked: bool) -> None:
    """Images of several blocks: a part far from the others' reach has the gradient of a part."""
    frame = (140, 270)
    mask = part_of(rng, frame) if is_masked else None
    x, y = pair_of(rng, (1, *frame), mask)
    direction = rng.standard_normal((1, *frame)) * (1 if mask is None else mask)
    step = 1e-5
    ends = [scores(metric, x + h * direction, y, mask, **options) for h in (step, -step)]
    found = gradients(metric, x, y, mask, **options)[0]
    slope = (found * direction).sum()
    assert abs(slope - (ends[0] - ends[1]) / (2 * step)) <= 1e-6 * np.sqrt((found**2).sum())
    if metric != "zncc" or options:  # windows that see none of the other pixels
        rows, columns = slice(100, None), slice(110, 160)
        near = None if mask is None else mask[rows, columns]
        part = gradients(metric, x[:, rows, columns], y[:, rows, columns], near, **options)[0]
        inner = (slice(None), slice(15, 25), slice(15, 35))
        numbers = [
            positions(metric, *v, **options)
            for v in ((x, y, mask), (x[:, rows, columns], y[:, rows, columns], near))
        ]
        want = part[inner] * numbers[1] / numbers[0]
        got = found[:, rows, columns][inner]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-10 * abs(want).max())


def positions(metric: str, x: Any, y: Any, mask: Any, **options: Any) -> int:
    if metric == "ssim":
        options["data_range"] = 1.0
    local = getattr(imsim, metric + "_map")(x, y, mask=mask, channel_axis=-3, **options)
    return int(np.isfinite(local).sum())


@each_of(IN_FLOAT32)
def test_float32(rng: Any, metric: str, options: dict[str, Any], is_masked: bool) -> None:
    mask = part_of(rng, (40, 150)) if is_masked else None
    x, y = pair_of(rng, (1, 40, 150), mask, "f4")
    x[0, 5:20], y[0, 5:20] = 0.5 * (mask is None or mask[5:20]), y[0, 5:20].round(1)
    narrow = gradients(metric, x, y, mask, **options)
    wide = gradients(metric, x.astype("f8"), y.astype("f8"), mask, **options)
    for got, want in zip(narrow, wide, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * abs(want).max())


@pytest.mark.parametrize(("metric", "options"), USUAL, ids=str)
def test_batches_broadcast(rng: Any, metric: str, options: dict[str, Any]) -> None:
    """To the bit that of the pairs, one by one."""
    mask = np.stack([part_of(rng, FRAME), np.ones(FRAME, bool), np.zeros(FRAME, bool)])
    x, y = rng.random((2, 1, 2, *FRAME)), rng.random((3, 2, *FRAME))
    upstream = rng.standard_normal((2, 3))
    found = gradients(metric, x, y, mask, upstream, **options)
    for i, j in np.ndindex(2, 3):
        images = (np.where(mask[j], v, 0) for v in (x[i, 0], y[j]))
        want = gradients(metric, *images, mask[j], upstream[i, j, None][0], **options)
        for side in (0, 1):
            np.testing.assert_array_equal(found[side][i, j], want[side])
    assert not found[0][:, 2].any()


@pytest.mark.parametrize(("metric", "options"), USUAL, ids=str)
def test_workers(rng: Any, metric: str, options: dict[str, Any]) -> None:
    x, y = pair_of(rng, (2, 200, 310), None, "f4")
    found = []
    for n in (1, 3):
        with imsim.workers(n):
            found.append(gradients(metric, x, y, **options))
    np.testing.assert_array_equal(*found)


def degenerate(rng: Any) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    texture = rng.random((1, 30, 34))
    flat, one, part = np.full_like(texture, 0.3), np.zeros((30, 34), bool), part_of(rng, (30, 34))
    one[15, 16] = True
    distant = texture.copy()
    distant[..., 17:] += 1e4
    chequers = np.indices((1, 30, 34)).sum(0) % 2 * 2.0 - 1
    patchy = texture.copy()
    patchy[:, :20, :20] = 0.25
    return {
        "identical": (texture, texture, None),
        "identical in a part": (texture * part, texture * part, part),
        "the same constant": (flat, flat, None),
        "black": (0 * flat, 0 * flat, None),
        "two constants": (flat, 2 * flat, None),
        "flat and textured": (flat, texture, None),
        "black and textured": (0 * flat, texture, None),
        "patches": (patchy, patchy + 0.1 * (patchy != 0.25), None),
        "one pixel": (texture * one, (texture + 0.1) * one, one),
        "no pixel": (0 * flat, 0 * flat, one & False),
        "nearly equal": (texture, texture + 1e-7 * rng.standard_normal(texture.shape), None),
        "distant parts": (distant, distant + 0.1 * rng.standard_normal(texture.shape), None),
        "far away": (1 + 1e-4 * texture, 1 + 1e-4 * rng.random(texture.shape), None),
        "means of 0": (chequers, -chequers, None),
    }


@pytest.mark.parametrize("name", list(degenerate(np.random.default_rng(0))))
@pytest.mark.parametrize(("metric", "options"), [*USUAL, ("ssim", {"K1": 0.0, "K2": 0.0})], ids=str)
def test_degenerate_pairs(rng: Any, metric: str, options: dict[str, Any], name: str) -> None:
    """Finite, 0 at equal images and outside the mask, and precise in float32."""
    images, mask = degenerate(rng)[name][:2], degenerate(rng)[name][2]
    narrow = [v.astype("f4") for v in images]
    with np.errstate(all="raise"):
        found = gradients(metric, *narrow, mask, **options)
        wide = gradients(metric, *(v.astype("f8") for v in narrow), mask, **options)
    for got, want in zip(found, wide, strict=True):
        assert np.isfinite(got).all()
        assert np.isfinite(want).all()
        atol = 1e-4 * abs(want).max()
        np.testing.assert_allclose(got, want, rtol=0, atol=max(atol, 1e-15))
        if name.startswith("identical") or name in ("the same constant", "black", "no pixel"):
            noise = 1e-15 if metric == "zncc" else 0  # two terms of a correlation cancel
            assert abs(got).max() <= noise
            assert abs(want).max() <= noise
        if mask is not None:
            assert not got[:, ~mask].any()


@pytest.mark.parametrize(("metric", "options"), USUAL, ids=str)
def test_what_leaves_float64_is_left_to_the_formula(
    rng: Any, metric: str, options: dict[str, Any]
) -> None:
    x, y = pair_of(rng, (1, *FRAME), None)
    for unit in (1e-160, 1e-90, 1e90, 1e200):
        data_range = float(np.clip(unit, 1e-100, 1e100))
        found = gradients(metric, x * unit, y * unit, data_range=data_range, **options)
        assert found is None or np.isfinite(found).all()
        assert found is None or unit != 1e-160 or metric == "ssim"


def test_a_coarser_grid_is_left_to_the_formula(rng: Any) -> None:
    x, y = pair_of(rng, (1, 400, 390), None)
    assert gradients("ssim", x, y, downsample=True) is None
    assert gradients("ssim", x[..., :300, :300], y[..., :300, :300], downsample=True) is not None
