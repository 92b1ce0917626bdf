"""Few windows of ordinary images are so doubtful that their moments are computed one by one."""

from __future__ import annotations

import numpy as np
import pytest

import imsim
from imsim.kernels.common import volume_slabs, window_strips

SHARES = {"photograph": 0.1, "black": 0.1, "no data": 0.02, "scattered no data": 0.02, "page": 0.02}
"""Of the windows; the moments of one take some 50 times as long as it takes in a strip."""


def _scene(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A bright, textured part, a dark and flat one, and some that are constant."""
    x = 0.7 + 0.15 * rng.standard_normal((150, 170))
    x[:, 60:120] = 0.04 + 0.004 * rng.standard_normal((150, 60))
    if kind == "black":
        x[20:90, 70:] = 0
    elif kind == "no data":
        x[20:90, 70:] = -9999.0
    elif kind == "scattered no data":
        x = 0.7 + 0.15 * rng.standard_normal(x.shape)
        x[rng.random(x.shape) < 0.01] = -9999.0
    elif kind == "two levels":
        x = np.where(np.arange(170) // 20 % 2, 0.1, 0.9) + 0.004 * rng.standard_normal(x.shape)
    elif kind == "page":
        x = _page(*x.shape)
    return x


def _page(height: int, width: int) -> np.ndarray:
    """A constant ground with rows of marks."""
    x = np.full((height, width), 0.7)
    for top in range(8, height - 8, 30):
        x[top : top + 4, 6 : width - 40 : 3] = 0.1
    return x


@pytest.fixture
def computed_again(monkeypatch):
    """Count the windows whose moments are computed one by one."""
    numbers = []
    for module, name in ((window_strips, "moments_at"), (volume_slabs, "volume_moments")):
        function = getattr(module, name)

        def counting(*args, function=function, **kwargs):
            moments = function(*args, **kwargs)
            numbers.append(moments.shape[0] * moments.shape[2])
            return moments

        monkeypatch.setattr(module, name, counting)
    return numbers


@pytest.mark.parametrize("kind", SHARES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "name", [m.name for m in imsim.METRICS.values() if m.map_function is not None]
)
def test_few_windows_are_computed_one_by_one(name, dtype, kind, computed_again):
    metric = imsim.METRICS[name]
    rng = np.random.default_rng(5)
    a = _scene(kind, rng)
    b = np.where((a == 0) | (a < -1), a, a + 0.03 * rng.standard_normal(a.shape))
    options = {"data_range": 1.0} if metric.needs_data_range else {}
    if metric.map_needs_channels:
        a, b, options = np.stack([a] * 3, -1), np.stack([b] * 3, -1), {"channel_axis": -1}
    with imsim.errors.silent(imsim.DataRangeWarning):
        metric.map_function(a.astype(dtype), b.astype(dtype), **options)
    assert sum(computed_again) <= SHARES[kind] * a.size


@pytest.mark.parametrize(
    ("ndim", "use"),
    [
        *((2, None), (3, None), (2, "mask"), (2, "weights")),
        pytest.param(3, "mask", marks=pytest.mark.thorough),
    ],
)
def test_values_of_a_photograph_are_those_of_float64(ndim, use):
    """Also where a tile has windows of both kinds; one is sound to 1e-5, their mean to 1e-6."""
    rng = np.random.default_rng(5)
    a = _scene("black", rng).astype(np.float32)
    a = a if ndim == 2 else np.stack([np.roll(a, i, 1)[:60] for i in range(13)])
    b = (a + 0.03 * rng.standard_normal(a.shape)).astype(np.float32)
    options = {"data_range": 1.0, "ndim": ndim}
    if use:
        own = rng.random(a.shape)
        options[use] = own < 0.97 if use == "mask" else own
    narrow = imsim.ssim_map(a, b, **options)
    wide = imsim.ssim_map(a.astype(np.float64), b.astype(np.float64), **options)
    np.testing.assert_allclose(narrow, wide, rtol=0, atol=1e-5)
    score = imsim.ssim(a, b, **options)
    assert abs(score - imsim.ssim(a.astype(np.float64), b.astype(np.float64), **options)) < 1e-6


ALIKE = {
    "two levels": (0.856, (0.798, 1.118), 0, 11, {}),
    "faint dots": (0.948, (0.555, 0.888), 0.0269, 3, {}),
    "bright dots": (0.91, (0.94, 0.94), 4.3, 11, {}),
    "13 pixels": (0.648, (0.54, 0.825), 0, 11, {"window_size": 13, "sigma": 2.0}),
}
"""The level of an image, those of the halves of the other, height and period of dots, options."""


@pytest.mark.parametrize(
    ("case", "use"),
    [*((case, None) for case in ALIKE), ("bright dots", "mask"), ("bright dots", "weights")],
)
def test_windows_that_are_alike_share_no_rounding_error(case, use):
    """A mean takes away none of what all windows err by; see `STRICT`."""
    level, (left, right), height, period, options = ALIKE[case]
    for shape in ((25, 23), (90, 100)):
        a, b = np.full(shape, level, np.float32), np.full(shape, left, np.float32)
        a[::period, ::period] += np.float32(height)
        b[:, shape[1] // 2 :] = right
        every = {"data_range": 1.0, **options}
        if use:
            inside = np.ones(shape, np.bool_)
            inside[:, ::40] = False
            every[use] = inside if use == "mask" else inside * 1.5
        narrow = imsim.ssim(a, b, **every)
        wide = imsim.ssim(a.astype(np.float64), b.astype(np.float64), **every)
        assert abs(narrow - wide) < 1e-6


@pytest.mark.parametrize("kind", ["photograph", "black", "two levels"])
def test_tiles_that_a_mask_crosses_are_computed_in_float64_if_need_be(kind, monkeypatch):
    """And score the same positions, whatever lies outside the mask."""
    runs = []
    run_wider = window_strips.Positions._run_wider
    monkeypatch.setattr(
        window_strips.Positions, "_run_wider", lambda *args: runs.append(run_wider(*args))
    )
    rng = np.random.default_rng(1)
    a = _scene(kind, rng).astype(np.float32)
    b = (a + 0.02 * rng.standard_normal(a.shape)).astype(np.float32)
    mask = np.hypot(*np.ogrid[-75:75, -85:85]) < 80
    options = {"mask": mask, "data_range": 1.0}
    score, values = imsim.ssim(a, b, **options), imsim.ssim_map(a, b, **options)
    # An offset serves the dark part and the bright one, but not two flat parts.
    assert (len(runs) > 0) == (kind == "two levels")
    wide = a.astype(np.float64), b.astype(np.float64)
    assert abs(score - imsim.ssim(*wide, **options)) < 1e-6
    # Means hide what single values err by: the bar of maps.
    np.testing.assert_allclose(values, imsim.ssim_map(*wide, **options), rtol=0, atol=2e-5)
    a[~mask], b[~mask] = np.nan, 1e30
    assert score == imsim.ssim(a, b, **options)
    np.testing.assert_array_equal(values, imsim.ssim_map(a, b, **options))


@pytest.mark.parametrize("seed", range(3))
def test_lone_windows_of_a_full_mask_have_the_bits_of_none(seed):
    """Covariances near 0 show the last bit."""
    a = np.exp(4 * np.random.default_rng(seed).standard_normal((100, 100))).astype(np.float32)
    b, options = np.zeros_like(a), {"data_range": 1.0}
    full = np.ones(a.shape, np.bool_)
    assert imsim.ssim(a, b, **options) == imsim.ssim(a, b, mask=full, **options)
    maps = (imsim.ssim_map(a, b, mask=mask, **options) for mask in (None, full))
    np.testing.assert_array_equal(*maps)


def test_weights_of_0_and_1_are_a_mask_in_a_photograph():
    rng = np.random.default_rng(5)
    a = _scene("black", rng).astype(np.float32)
    b = (a + 0.03 * rng.standard_normal(a.shape)).astype(np.float32)
    mask = np.ones(a.shape, np.bool_)
    mask[100:, :40] = False
    options = {"data_range": 1.0}
    scores = imsim.ssim(a, b, mask=mask, **options), imsim.ssim(a, b, weights=mask * 1.0, **options)
    assert scores[0] == scores[1]
    whole = imsim.ssim(a, b, **options), imsim.ssim(a, b, mask=np.ones_like(mask), **options)
    assert whole[0] == whole[1]


@pytest.mark.parametrize(
    ("use", "name", "dtype"),
    [
        # SSIM alone computes weighted images of float32 by a kernel that few tests need.
        pytest.param(
            *(use, name, dtype),
            marks=pytest.mark.thorough
            if use == "weights" and name != "ssim" and dtype == np.float32
            else (),
        )
        for use in (None, "mask", "weights")
        for name in ("ssim", "uiq", "zncc")
        for dtype in (np.float32, np.float64)
    ],
)
def test_faint_texture_far_from_the_mean_of_its_tile_keeps_its_digits(use, name, dtype):
    """What the sums of a strip have lost is found again: local values are those about 0.

    The pixels are whole numbers, which float32 holds. Values lose no more than the rounding of
    their type over a window; a strip about the mean of both parts loses all but three digits.
    """
    rng = np.random.default_rng(5)
    a = rng.integers(0, 16, (60, 90)).astype(np.float64)
    b = np.clip(a + rng.integers(-3, 4, a.shape), 0, 15)
    level = 2.0**20 if dtype == np.float32 else 2.0**24
    far, far_b = (np.concatenate([v, v + level], axis=1).astype(dtype) for v in (a, b))
    options = {"data_range": 15.0} if name == "ssim" else {}
    if use:
        own = rng.uniform(0.5, 2, far.shape)
        options[use] = own > 0.6 if use == "mask" else own
    function = imsim.METRICS[name].map_function
    found = function(far, far_b, **options)[:, :75]
    if use:
        options[use] = options[use][:, :90]
    expected = function(a, b, **options)[:, :75]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["noise", "other page", "not finite", "mask"])
@pytest.mark.parametrize(
    "name",
    [
        m.name
        for m in imsim.METRICS.values()
        if m.map_function is not None and not m.map_needs_channels and not m.numpy_only
    ],
)
def test_maps_of_a_page_are_those_of_the_formula(name, kind, dtype):
    """Of two strips and several tiles, with many parts in which one image or both are constant."""
    metric, rng = imsim.METRICS[name], np.random.default_rng(8)
    a = _page(180, 300)
    b = _page(190, 300)[10:] if kind == "other page" else a + 0.03 * rng.standard_normal(a.shape)
    options = {"data_range": 1.0, "mask": None}
    if kind == "not finite":
        b[20:150:40, 5:280:60], b[90, 150] = np.nan, np.inf
    if kind == "mask":
        options["mask"] = rng.random(a.shape) < 0.999
    a, b = a.astype(dtype), b.astype(dtype)
    for x, y in ((a, b), (b, a)):
        found = metric.map_function(x, y, **options)
        imsim.set_engine("portable")
        try:
            wanted = metric.map_function(x.astype(np.float64), y.astype(np.float64), **options)
        finally:
            imsim.set_engine("auto")
        close = 2e-5 if dtype == np.float32 else 1e-11  # what is promised of maps
        np.testing.assert_allclose(found, wanted, rtol=0, atol=close, equal_nan=True)
