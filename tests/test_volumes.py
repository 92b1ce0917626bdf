"""Volumes, ``ndim=3``: the same contract as images, in three dimensions."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import formulas
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

import imsim
from imsim.registry import Metric

VOLUMES = [m for m in imsim.METRICS.values() if m.volumes]
IMAGES_ONLY = [m for m in imsim.METRICS.values() if not m.volumes]
OF_PIXELS = [m for m in VOLUMES if m.volumes == "pixels"]
KERNELS = [m for m in VOLUMES if m.volumes == "windows" and m.volume_kernel is not None]
FLAT = [m for m in VOLUMES if m.name not in {"gmsd", "imed", "uiq"}]
"""Whose cells, G and blocks have a depth also where the volume has none."""
MAPS = [m for m in VOLUMES if m.map_function is not None and not m.map_needs_channels]
SHAPE = (14, 18, 20)  # even, for GMSD's cells
MATLAB = Path(__file__).parent.parent.parent / "shared" / "data" / "matlab_volume_ssim"
each = pytest.mark.parametrize("facts", VOLUMES, ids=lambda m: m.name)
each_map = pytest.mark.parametrize("facts", MAPS, ids=lambda m: m.name)

OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "ssim": (
        {"border": "replicate"},
        {"sample_covariance": True},
        {"window": "uniform", "window_size": 11},
        {"window_size": 6},
        {"spacing": (1.0, 2.0, 1.5), "window": "uniform", "sample_covariance": True},
        {"spacing": (2.0, 1.0, 1.0)},
        {"spacing": (1.3, 1.0, 1.0), "window_size": 4, "border": "replicate"},
        {"min_coverage": 1.0, "window_size": 3},
    ),
    "zncc": ({"window_size": 5}, {"window_size": 6, "spacing": (3.0, 1.0, 1.5)}),
    "imed": ({"sigma": 2.0, "normalize": "rms"}, {"spacing": (3.0, 1.0, 1.0)}),
    "uiq": ({"block_size": 5},),
}
CALLS = [
    *((m, {}, masked) for m in VOLUMES for masked in (False, True)),
    *((m, o, i % 2 == 1) for m in VOLUMES for i, o in enumerate(OPTIONS.get(m.name, ()))),
]
"""By default masked and not, with options by turns: each is a kernel of its own."""
each_call = pytest.mark.parametrize(
    ("facts", "options", "masked"),
    [
        # Masked and of other sizes: SSIM has the same, by the same lines.
        pytest.param(
            *call,
            marks=pytest.mark.thorough if call[0].name == "zncc" and "spacing" in call[1] else (),
        )
        for call in CALLS
    ],
    ids=lambda v: v.name if isinstance(v, Metric) else str(v),
)


def pair(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Smooth volumes and noisy versions of them, in [0, 255]."""
    rng = np.random.default_rng(seed)
    a = gaussian_filter(rng.standard_normal(shape), 1.5, axes=(-3, -2, -1))
    a = 30 + 190 * (a - a.min()) / (a.max() - a.min())
    return a, np.clip(a + rng.normal(0, 8, shape), 0, 255)


def blob(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A ball with a hole, larger than every window's least support."""
    places = np.ogrid[tuple(map(slice, shape))]
    distance = sum((g - (n - 1) / 2) ** 2 for g, n in zip(places, shape, strict=True))
    return np.asarray((distance < 7.6**2) & (distance > 4))


def call(facts: Metric, a: Any, b: Any, **options: Any) -> Any:
    return facts.function(a, b, ndim=3, **{"data_range": 255, **options})


def call_map(facts: Metric, a: Any, b: Any, **options: Any) -> Any:
    assert facts.map_function is not None
    return facts.map_function(a, b, ndim=3, **{"data_range": 255, **options})


@each_call
def test_kernels_agree_with_formulas(facts: Metric, options: dict[str, Any], masked: bool) -> None:
    check_engines(facts, options, "float64", masked)


@pytest.mark.parametrize("facts", KERNELS, ids=lambda m: m.name)
@pytest.mark.parametrize(
    "dtype",
    [
        *("bool", "uint8", "int32", "float16", "float32"),
        pytest.param("uint16", marks=pytest.mark.thorough),
    ],
)
def test_dtypes(facts: Metric, dtype: str) -> None:
    check_engines(facts, {}, dtype, masked=False)


def check_engines(facts: Metric, options: dict[str, Any], dtype: str, masked: bool) -> None:
    """Score volumes by kernel and by formula."""
    a, b = (v > 128 if dtype == "bool" else v.astype(dtype) for v in pair())
    # GMSD's cells of 2x2x2 pixels with all their neighbours need more room than the ball has.
    mask = None if not masked else blob() if facts.name != "gmsd" else np.indices(SHAPE)[2] < 15
    found = call(facts, a, b, mask=mask, **options)
    with formulas():
        want = call(facts, a, b, mask=mask, **options)
    # The kernel of SSIM computes narrow floats in float32.
    assert found == pytest.approx(want, rel=2e-6 if dtype in {"float16", "float32"} else 1e-12)
    assert np.isfinite(found)


@each_map
def test_maps_agree_with_formulas_and_scores(facts: Metric) -> None:
    a, b = pair()
    mask = np.indices(SHAPE)[2] < 15
    found = call_map(facts, a, b, mask=mask)
    with formulas():
        want = call_map(facts, a, b, mask=mask)
    assert found.shape == SHAPE
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)
    if facts.name in {"ssim", "uiq"}:
        assert np.nanmean(found) == pytest.approx(call(facts, a, b, mask=mask), rel=1e-12)


ODD_VALUES = (np.nan, np.inf, -np.inf, 1e200, 1e-200, 0.0)


@each_call
@pytest.mark.filterwarnings("ignore::imsim.EmptyMaskWarning")  # black volumes have no angle
def test_others_of_the_batch_keep_theirs(
    facts: Metric, options: dict[str, Any], masked: bool
) -> None:
    """One volume of odd pixels decides of no other one how it is computed."""
    a, b = pair()
    mask = (np.indices(SHAPE)[2] < 15) if masked else None
    odd = [np.where(np.indices(SHAPE).sum(0) == 20, value, a) for value in ODD_VALUES[:3]]
    odd += [a * value for value in ODD_VALUES[3:]]
    partners = [b] * 3 + [b * value for value in ODD_VALUES[3:]]
    found = call(facts, np.stack([a, *odd, a]), np.stack([b, *partners, b]), mask=mask, **options)
    assert found[0] == found[-1] == call(facts, a, b, mask=mask, **options)
    for x, y, score in zip(odd, partners, found[1:-1], strict=True):
        np.testing.assert_array_equal(score, call(facts, x, y, mask=mask, **options))


@each
def test_batches_channels_and_memory_orders(facts: Metric) -> None:
    a, b = pair(shape=(2, 3, *SHAPE))
    found = call(facts, a, b)
    assert found.shape == (2, 3)
    for index in np.ndindex(2, 3):
        single = call(facts, a[index], b[index])
        assert single == found[index]
        assert np.ndim(single) == 0
    p, q = (np.moveaxis(v[0], 0, -1) for v in (a, b))
    with_channels = call(facts, p, q, channel_axis=-1)
    assert with_channels == call(facts, a[0], b[0], channel_axis=0)
    order = [np.asfortranarray(v[0, 0]) for v in (a, b)]
    assert call(facts, *order) == found[0, 0]
    assert call(facts, a[0, 0][:, ::-1], b[0, 0][:, ::-1]) == pytest.approx(found[0, 0], rel=1e-12)


@each
def test_order_of_the_axes(facts: Metric) -> None:
    a, b = pair(shape=(14, 16, 18))
    found = call(facts, a, b)
    for axes in itertools.permutations(range(3)):
        assert call(facts, a.transpose(axes), b.transpose(axes)) == pytest.approx(found, rel=1e-13)


@each
def test_pixels_outside_the_mask_change_no_bit(facts: Metric) -> None:
    a, b = pair()
    mask = np.indices(SHAPE)[2] < 15
    found = call(facts, a, b, mask=mask)
    for garbage in (np.nan, np.inf, -9999.0, 1e300):
        p, q = np.where(mask, a, garbage), np.where(mask, b, -garbage)
        assert call(facts, p, q, mask=mask) == found
        with formulas():
            assert call(facts, p, q, mask=mask) == call(facts, a, b, mask=mask)
    assert call(facts, a, b, mask=np.ones(SHAPE, bool)) == call(facts, a, b)
    stack = np.stack([a, a]), np.stack([b, b])
    masks = np.stack([mask, np.ones(SHAPE, bool)])
    assert call(facts, *stack, mask=masks).tolist() == [found, call(facts, a, b)]


@each
def test_pixels_that_are_not_finite(facts: Metric) -> None:
    a, b = pair()
    b[7, 8, 9] = np.nan
    assert np.isnan(call(facts, a, b))
    assert np.isfinite(call(facts, a, b, mask=np.indices(SHAPE)[2] > 9))
    with formulas():
        assert np.isnan(call(facts, a, b))


@each_map
def test_maps_where_pixels_are_not_finite(facts: Metric) -> None:
    a, b = pair()
    whole = call_map(facts, a, b)
    b[7, 8, 9] = np.inf
    found = call_map(facts, a, b)
    with formulas():
        want = call_map(facts, a, b)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(want))
    lost = np.isnan(found) & ~np.isnan(whole)
    assert lost[7, 8, 9]
    assert 0 < lost.sum() < whole.size or facts.name == "imed"
    # Windows elsewhere are taken about another offset if that is read from pixels that are lost.
    np.testing.assert_allclose(found[~lost], whole[~lost], rtol=1e-13)


@pytest.mark.parametrize("facts", OF_PIXELS, ids=lambda m: m.name)
@settings(max_examples=15)
@given(depth=st.integers(1, 4), seed=st.integers(0, 99), masked=st.booleans())
def test_sums_over_pixels_take_a_volume_for_the_image_of_its_planes(
    facts: Metric, depth: int, seed: int, masked: bool
) -> None:
    a, b = pair(seed, (depth, 5, 7))
    mask = np.random.default_rng(seed).random(a.shape) < 0.6 if masked else None
    if masked:
        assert mask is not None
        mask[0, 0, :3] = True
    flat = [None if v is None else v.reshape(-1, 7) for v in (a, b, mask)]
    found = call(facts, a, b, mask=mask)
    assert found == facts.function(flat[0], flat[1], mask=flat[2], data_range=255)


@pytest.mark.parametrize("facts", FLAT, ids=lambda m: m.name)
@pytest.mark.parametrize("engine", ["auto", "portable"])
def test_one_plane_is_an_image_to_the_bit(facts: Metric, engine: Any) -> None:
    a, b = pair()
    plane = a[:1], b[:1]
    options = {"border": "replicate"} if facts.name == "ssim" else {}
    imsim.set_engine(engine)
    try:
        for mask in (None, blob()[7]):
            volume = None if mask is None else mask[None]
            image = facts.function(a[0], b[0], data_range=255, mask=mask, **options)
            assert call(facts, *plane, mask=volume, **options) == image
            if facts in MAPS and facts.name != "zncc":  # whose windows have a depth
                found = call_map(facts, *plane, mask=volume, **options)
                assert facts.map_function is not None
                want = facts.map_function(a[0], b[0], data_range=255, mask=mask, **options)
                np.testing.assert_array_equal(found[0], want)
    finally:
        imsim.set_engine("auto")


@pytest.mark.parametrize("facts", IMAGES_ONLY, ids=lambda m: m.name)
def test_metrics_of_images_refuse_volumes_with_the_remedy(facts: Metric) -> None:
    a, b = pair()
    with pytest.raises(imsim.OptionError, match=rf"^{facts.name} is .* imsim\.by_slice "):
        call(facts, a, b)


# Against others.


@pytest.mark.skipif(not MATLAB.exists(), reason="needs ../shared/data/matlab_volume_ssim")
def test_matlab_published_values() -> None:
    for row in csv.DictReader((MATLAB / "values.csv").read_text().splitlines()):
        x, y = (np.asarray(Image.open(MATLAB / row[k])) for k in ("reference", "test"))
        found = imsim.ssim(x, y, ndim=3, border="replicate")
        assert found == pytest.approx(float(row["ssim_volume"]), abs=2e-14)
        assert imsim.psnr(x, y, ndim=3) == pytest.approx(float(row["psnr"]), rel=1e-14)


@pytest.mark.parametrize(
    ("window", "sample_covariance"),
    # Of a Gaussian window, scikit-image takes the sample covariance for that of a uniform one.
    [("gaussian", False), ("uniform", False), ("uniform", True)],
)
def test_scikit_image(window: Any, sample_covariance: bool) -> None:
    a, b = pair()
    gaussian = {"gaussian_weights": True, "sigma": 1.5} if window == "gaussian" else {}
    theirs, local = structural_similarity(
        a,
        b,
        win_size=11,
        data_range=255,
        use_sample_covariance=sample_covariance,
        full=True,
        **gaussian,
    )
    options: dict[str, Any] = {"window": window, "window_size": 11}
    options |= {"ndim": 3, "data_range": 255, "sample_covariance": sample_covariance}
    assert imsim.ssim(a, b, **options) == pytest.approx(theirs, abs=1e-12)
    found = imsim.ssim_map(a, b, **options)
    inside = np.isfinite(found)
    np.testing.assert_allclose(found[inside], local[inside], atol=1e-12)


def test_uiq_by_scikit_images_uniform_window() -> None:
    a, b = pair()
    theirs = structural_similarity(
        a, b, win_size=5, data_range=255, use_sample_covariance=False, K1=1e-9, K2=1e-9
    )
    assert imsim.uiq(a, b, ndim=3, block_size=5) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("spacing", [None, (2.0, 1.0, 0.5)])
def test_imed_by_brute_force(spacing: Any) -> None:
    a, b = pair(shape=(4, 5, 6))
    mask = np.random.default_rng(1).random(a.shape) < 0.7
    places = np.argwhere(mask) * np.array(spacing or (1, 1, 1))
    d = (a - b)[mask]
    distances = ((places[:, None] - places[None]) ** 2).sum(-1)
    sigma = 1.3
    g = np.exp(-distances / (2 * sigma**2)) / (2 * np.pi * sigma**2) ** 1.5
    found = imsim.imed(a, b, ndim=3, mask=mask, sigma=sigma, spacing=spacing)
    assert found == pytest.approx(np.sqrt(d @ g @ d), rel=1e-13)


def test_zncc_within_windows_by_brute_force() -> None:
    a, b = pair(shape=(6, 7, 8))
    found = imsim.zncc_map(a, b, ndim=3, window_size=6.0, spacing=(2.0, 1.2, 2.0))
    part = slice(1, 4), slice(1, 6), slice(3, 6)  # 3, 5 and 3 pixels
    want = np.corrcoef(a[part].ravel(), b[part].ravel())[0, 1]
    assert found[2, 3, 4] == pytest.approx(want, rel=1e-12)


def test_gmsd_of_a_volume_constant_along_its_depth_is_that_of_its_planes_inside() -> None:
    a, b = (np.repeat(v[None, 0], 12, axis=0) for v in pair())
    found = imsim.gmsd_map(a, b, ndim=3, data_range=255)
    want = imsim.gmsd_map(a[0], b[0], data_range=255)
    np.testing.assert_allclose(found[4:8], np.broadcast_to(want, (4, *want.shape)), rtol=1e-12)


def test_gmsd_by_convolution() -> None:
    from scipy.ndimage import convolve

    a, b = pair(shape=(8, 10, 12))

    def magnitude(v: np.ndarray) -> np.ndarray:
        means = v.reshape(4, 2, 5, 2, 6, 2).mean(axis=(1, 3, 5))
        step, flat = np.array([1.0, 0, -1]), np.full(3, 1 / 3)
        total = 0.0
        for across in range(3):
            kernel = np.ones(())
            for axis in range(3):
                kernel = np.multiply.outer(kernel, step if axis == across else flat)
            total = total + convolve(means, kernel, mode="constant") ** 2
        return np.sqrt(total)

    x, y, c = magnitude(a), magnitude(b), 170.0
    want = ((2 * x * y + c) / (x * x + y * y + c)).std(ddof=1)
    assert imsim.gmsd(a, b, ndim=3, data_range=255) == pytest.approx(want, rel=1e-12)


def test_replicated_border_in_two_dimensions() -> None:
    a, b = (v[0] for v in pair())
    wide = [np.pad(v, 5, mode="edge") for v in (a, b)]
    found = imsim.ssim(a, b, data_range=255, border="replicate")
    assert found == imsim.ssim(*wide, data_range=255)
    local = imsim.ssim_map(a, b, data_range=255, border="replicate")
    assert local.mean() == pytest.approx(found, rel=1e-13)
    assert imsim.ssim(a[:3, :4], b[:3, :4], data_range=255, border="replicate") > 0


# Values far out, and threads.


def test_windows_far_from_their_slab_are_computed_again() -> None:
    a, b = pair(shape=(20, 22, 24))
    for v in (a, b):
        v[:10] += 1e9
    for options in ({}, {"mask": np.indices(a.shape)[1] > 3}):
        found = imsim.ssim_map(a, b, ndim=3, data_range=255, **options)
        with formulas():
            want = imsim.ssim_map(a, b, ndim=3, data_range=255, **options)
        np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-9)


@each
def test_constant_volumes(facts: Metric) -> None:
    a = np.full(SHAPE, 7.0)
    found = call(facts, a, a)
    assert found == facts.best or np.isnan(facts.best)
    with formulas():
        assert found == call(facts, a, a)


@each
def test_slabs_join_and_workers_change_no_bit(facts: Metric) -> None:
    """A slab holds 64 planes and 24 rows of positions, which windows of 11 voxels leave here."""
    a, b = pair(shape=(80, 40, 16))
    found = call(facts, a, b)
    with formulas():
        assert found == pytest.approx(call(facts, a, b), rel=1e-11, abs=1e-11)
    with imsim.workers(1):
        assert call(facts, a, b) == found


# What is refused.


@pytest.mark.parametrize("ndim", [1, 4, 2.0, True, None, "3", np.array([2, 3])])
def test_other_numbers_of_axes_are_refused(ndim: Any) -> None:
    with pytest.raises(imsim.OptionError, match="ndim"):
        imsim.se(np.ones((4, 4, 4)), np.ones((4, 4, 4)), ndim=ndim)


def test_shapes_are_named_as_volumes() -> None:
    a = np.ones((8, 9, 10))
    with pytest.raises(imsim.ShapeError, match="at least 3 axes, "):
        imsim.se(a[0], a[0], ndim=3)
    with pytest.raises(imsim.ShapeError, match="depth, height, width and channels must agree"):
        imsim.se(a, a.reshape(4, 18, 10), ndim=3)  # as many rows
    with pytest.raises(imsim.MaskError, match="8x9x10"):
        imsim.se(a, a, ndim=3, mask=np.ones((18, 4, 10), bool))
    with pytest.raises(imsim.ShapeError, match="8x9x10 pixels, ssim needs at least 11x11x11"):
        imsim.ssim(a, a, ndim=3, data_range=1)


@pytest.mark.parametrize("spacing", [1.0, (1.0, 1.0), (1.0, 0.0, 1.0), (1, 2, "3"), (1, 1, np.nan)])
@pytest.mark.parametrize("facts", [m for m in VOLUMES if m.takes_spacing], ids=lambda m: m.name)
def test_other_spacings_are_refused(facts: Metric, spacing: Any) -> None:
    a, b = pair()
    with pytest.raises(imsim.OptionError, match="spacing"):
        call(facts, a, b, spacing=spacing, **({"window_size": 5} if facts.name == "zncc" else {}))


def test_downsampled_volumes_and_windows_without_extent_are_refused() -> None:
    a, b = pair()
    with pytest.raises(imsim.OptionError, match="downsample"):
        imsim.ssim(a, b, ndim=3, data_range=255, downsample=True)
    with pytest.raises(imsim.OptionError, match="window_size=2"):
        imsim.zncc(a, b, ndim=3, window_size=2, spacing=(5.0, 5.0, 5.0))


def test_compare_scores_volumes() -> None:
    a, b = pair()
    found = imsim.compare(a, b, ndim=3, data_range=255, spacing=(2.0, 1.0, 1.0))
    assert set(found) == {m.name for m in VOLUMES}
    assert set(found.skipped) == {m.name for m in IMAGES_ONLY}
    for facts in VOLUMES:
        options = {"spacing": (2.0, 1.0, 1.0)} if facts.takes_spacing else {}
        assert found[facts.name] == call(facts, a, b, **options)


# Slices.


@pytest.mark.parametrize("facts", list(imsim.METRICS.values()), ids=lambda m: m.name)
def test_slices_are_images(facts: Metric) -> None:
    a, b = pair()
    mask = np.zeros(SHAPE, bool)
    mask[2:12, 1:15, 4:16] = True
    for axis in range(3):
        found = imsim.by_slice(facts.name, a, b, axis=axis, data_range=255)
        p, q = (np.moveaxis(v, axis, 0) for v in (a, b))
        np.testing.assert_array_equal(found, facts.function(p, q, data_range=255))
        with pytest.warns(imsim.EmptyMaskWarning):
            within = imsim.by_slice("se", a, b, axis=axis, mask=mask, data_range=255)
        assert np.nansum(within) == pytest.approx(imsim.se(a, b, ndim=3, mask=mask))
    means = [imsim.by_slice(facts.name, a, b, axis=k, data_range=255).mean() for k in range(3)]
    found = imsim.by_slice(facts.name, a, b, data_range=255)
    assert found == pytest.approx(np.mean(means), rel=1e-13)


def test_slices_of_batches_with_channels() -> None:
    a, b = pair(shape=(2, 3, *SHAPE))
    found = imsim.by_slice("fsim", a, b, axis=1, channel_axis=1, data_range=255)
    assert found.shape == (2, SHAPE[1])
    assert imsim.by_slice("fsim", a, b, channel_axis=1, data_range=255).shape == (2,)


def test_empty_slices_are_left_out_and_broken_pixels_are_not() -> None:
    a, b = pair()
    mask = np.zeros(SHAPE, bool)
    mask[3:9, 4:12, 5:15] = True
    found = imsim.by_slice("rmse", a, b, mask=mask)
    assert np.isfinite(found)
    b[4, 5, 6] = np.nan
    assert np.isnan(imsim.by_slice("rmse", a, b, mask=mask))
    with pytest.warns(imsim.EmptyMaskWarning):
        assert np.isnan(imsim.by_slice("rmse", a, b, mask=np.zeros(SHAPE, bool)))


def test_slices_of_both_infinities_have_no_average() -> None:
    """One slice of decibels is of equal images, another of a black reference."""
    a, b = np.ones((2, *SHAPE))
    a[1], b[1] = 0, 1
    assert np.isneginf(imsim.by_slice("sre", a, b, axis=0)[1])
    assert np.isnan(imsim.by_slice("sre", a, b))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"axis": 3}, "axis=3"), ({"axis": "z"}, "axis"), ({"ndim": 3}, "ndim")],
)
def test_wrong_slices_are_refused(options: Any, words: str) -> None:
    a, b = pair()
    with pytest.raises(imsim.OptionError, match=words):
        imsim.by_slice("se", a, b, **options)
    for metric in ("nothing", ["se", "ssim"]):
        with pytest.raises(imsim.OptionError, match=r"^metric=.*; expected one of '"):
            imsim.by_slice(metric, a, b)  # type: ignore[arg-type]


# Large volumes.


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        (m, o)
        for m in [v for v in VOLUMES if v.volumes == "windows" and v.name != "imed"]
        for o in ({}, *OPTIONS.get(m.name, ()))
    ],
    ids=lambda v: v.name if isinstance(v, Metric) else str(v),
)
@pytest.mark.parametrize("within", ["everything", "mask", "weights"])
def test_slabs_of_a_formula_join(
    facts: Metric, options: dict[str, Any], within: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair(shape=(2, 31, 12, 14))
    a[0, 15, 6, 6] = 1e30  # a part of its own unit
    mask = np.random.default_rng(0).random(a.shape[1:]) < 0.9 if within != "everything" else None
    if mask is not None and facts.name == "gmsd":
        mask = np.indices(a.shape[1:])[0] % 19 < 15
    given: dict[str, Any] = {"mask": mask}
    if within == "weights":
        given["weights"] = np.random.default_rng(1).uniform(0.2, 1, a.shape[1:])
    with formulas():
        want = call(facts, a, b, **given, **options)
        wanted = call_map(facts, a, b, **given, **options)
        monkeypatch.setattr("imsim.portable.pair.PIXELS", 2 * 12 * 14 * 12)
        found = call(facts, a, b, **given, **options)
        local = call_map(facts, a, b, **given, **options)
    np.testing.assert_allclose(found, want, rtol=1e-12)
    np.testing.assert_allclose(local, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("facts", list(imsim.METRICS.values()), ids=lambda m: m.name)
def test_slices_by_weights(facts: Metric) -> None:
    a, b = pair()
    weights = np.random.default_rng(2).uniform(0.5, 1.5, SHAPE)
    weights[:, :2] = 0
    b[3, 1, 4] = np.nan  # of weight 0
    if facts.no_weights:
        with pytest.raises(imsim.OptionError, match="weights"):
            imsim.by_slice(facts.name, a, b, axis=0, weights=weights, data_range=255)
        return
    for axis in (0, 2):
        p, q, w = (np.moveaxis(v, axis, 0) for v in (a, b, weights))
        found = imsim.by_slice(facts.name, a, b, axis=axis, weights=weights, data_range=255)
        want = facts.function(p, q, weights=w, data_range=255)
        np.testing.assert_array_equal(found, want)


def test_an_axis_across_which_no_slice_is_scored_is_told() -> None:
    a, b = pair()
    mask = np.zeros(SHAPE, bool)
    mask[6] = True  # of slices across the height and the width, one row: no window fits
    with pytest.warns(imsim.EmptyMaskWarning, match="across some axis"):
        found = imsim.by_slice("ssim", a, b, mask=mask, data_range=255, min_coverage=0.5)
    assert np.isnan(found)
