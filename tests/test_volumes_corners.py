"""Volumes and windows at the corners of what is allowed."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from engines import formulas

import imsim


def pair(shape: tuple[int, ...] = (8, 9, 10)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.uniform(50, 200, shape)
    return a, a + rng.normal(0, 20, shape)


@pytest.mark.parametrize("spacing", [(3.0, 1.0, 3.0), (1.0, 1.0, 3.0), (3.0, 3.0, 1.0)])
@pytest.mark.parametrize("sample_covariance", [False, True])
@pytest.mark.parametrize(
    "dtype", [pytest.param(np.float32, marks=pytest.mark.thorough), np.float64]
)
def test_a_gaussian_of_one_pixel_along_an_axis_weighs_one(
    spacing: Any, sample_covariance: bool, dtype: Any
) -> None:
    a, b = (v.astype(dtype) for v in pair())
    options: dict[str, Any] = {"window_size": 3.3, "sample_covariance": sample_covariance}
    found = imsim.ssim(a, b, ndim=3, data_range=255, spacing=spacing, **options)
    with formulas():
        want = imsim.ssim(a, b, ndim=3, data_range=255, spacing=spacing, **options)
    assert found == pytest.approx(want, rel=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("ndim", [2, 3])
def test_narrow_gaussians_of_even_size_weigh_the_pixels_at_their_middle(ndim: Any) -> None:
    a, b = pair()
    found = imsim.ssim(a, b, ndim=ndim, data_range=255, window_size=4, sigma=1e-3)
    p, q = (v[(..., *[slice(1, -1)] * ndim)] for v in (a, b))
    want = imsim.ssim(p, q, ndim=ndim, data_range=255, window_size=2, sigma=1e6)
    np.testing.assert_allclose(found, want, rtol=1e-9)


@pytest.mark.parametrize(
    ("sigma", "spacing", "window_size"), [(1e-100, 1e99, 3e99), (1e100, 1e-99, 3e-99)]
)
def test_a_gaussian_beyond_the_floats_is_a_point_or_flat(
    sigma: float, spacing: float, window_size: float
) -> None:
    a, b = pair()
    options: dict[str, Any] = {"ndim": 3, "data_range": 255, "window_size": window_size}
    found = imsim.ssim(a, b, sigma=sigma, spacing=(spacing,) * 3, **options)
    usual = 1e-3 if sigma < 1 else 1e6
    want = imsim.ssim(a, b, ndim=3, data_range=255, window_size=3, sigma=usual)
    assert found == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("sample_covariance", [False, True])
def test_a_gaussian_of_one_pixel_is_refused(ndim: Any, sample_covariance: bool) -> None:
    a, b = pair()
    with pytest.raises(imsim.OptionError, match=r"window of 1 pixels; expected 2 to 4096"):
        imsim.ssim(
            a,
            b,
            ndim=ndim,
            data_range=255,
            sigma=1e-10,
            spacing=(1.0,) * ndim,
            sample_covariance=sample_covariance,
        )


@pytest.mark.parametrize("ndim", [2, 3])
def test_sizes_of_numpy(ndim: Any) -> None:
    a, b = pair()
    found = imsim.uiq(a, b, ndim=ndim, block_size=np.int64(4))
    np.testing.assert_array_equal(found, imsim.uiq(a, b, ndim=ndim, block_size=4))
    with pytest.raises(imsim.ShapeError, match="uiq needs at least 20x20"):
        imsim.uiq(a, b, ndim=ndim, block_size=np.int64(20))


@pytest.mark.parametrize("spacing", ["x", (1.0, 1.0), (1.0, 1.0, 0.0)])
def test_a_wrong_spacing_is_refused_where_zncc_does_not_use_it(spacing: Any) -> None:
    a, b = pair()
    with pytest.raises(imsim.OptionError, match="spacing"):
        imsim.zncc(a, b, ndim=3, spacing=spacing)


def test_slices_have_the_spacing_of_their_own_axes() -> None:
    a, b = pair((12, 13, 14))
    spacing = (3.0, 2.0, 1.0)
    options: dict[str, Any] = {"data_range": 255, "sigma": 1.0}
    means = []
    for axis, own in enumerate([(2.0, 1.0), (3.0, 1.0), (3.0, 2.0)]):
        p, q = (np.moveaxis(v, axis, 0) for v in (a, b))
        want = imsim.ssim(p, q, spacing=own, **options)
        found = imsim.by_slice("ssim", a, b, axis=axis, spacing=spacing, **options)
        np.testing.assert_array_equal(found, want)
        means.append(want.mean())
    found = imsim.by_slice("ssim", a, b, spacing=spacing, **options)
    assert found == pytest.approx(np.mean(means), rel=1e-13)
    with pytest.raises(imsim.OptionError, match="expected 3 positive numbers"):
        imsim.by_slice("ssim", a, b, spacing=spacing[1:], **options)
    with pytest.raises(imsim.OptionError, match="fsim takes none"):
        imsim.by_slice("fsim", a, b, spacing=spacing, data_range=255)


@pytest.mark.parametrize("name", ["fsim", "issm", "sh"])
def test_no_data_range_makes_a_metric_of_images_one_of_volumes(name: str) -> None:
    a, b = pair()
    with pytest.raises(imsim.OptionError, match="defined for images only"):
        imsim.METRICS[name].function(a, b, ndim=3)
    assert "defined for images only" in imsim.compare(a, b, ndim=3).skipped[name]


def test_windows_behind_each_other_are_computed_again_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from imsim.kernels.common import volume_slabs

    a, b = pair((20, 12, 14))
    # Windows of 8 that hardly vary, and others, which hold pixels that decide the offset.
    a[:, :, 3:] = b[:, :, 3:] = -1000.0 + 1e-3 * a[:, :, 3:]
    a[7, 8, 9] = 1e9
    windows = []

    def recorded(*arguments: Any) -> np.ndarray:
        found = moments(*arguments)
        windows.append(found.shape[0])
        return found

    moments = volume_slabs.volume_moments
    monkeypatch.setattr(volume_slabs, "volume_moments", recorded)
    mask = np.indices(a.shape)[0] != 10
    for some in (None, mask):
        windows.clear()
        found = imsim.uiq_map(a, b, ndim=3, mask=some)
        assert len(windows) == 5  # a call for all planes of a row
        assert max(windows) == 13
        with formulas():
            want = imsim.uiq_map(a, b, ndim=3, mask=some)
        np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("scale", [1e-160, 1e-300, 1e300])
def test_without_constants_ssim_has_no_scale(ndim: Any, scale: float) -> None:
    a, b = pair()
    options: dict[str, Any] = {"ndim": ndim, "data_range": 1, "window_size": 5, "K1": 0, "K2": 0}
    found = imsim.ssim(a * scale, b * scale, **options)
    np.testing.assert_allclose(found, imsim.ssim(a, b, **options), rtol=1e-9)
    assert np.all(imsim.ssim(a * scale, a * scale, **options) == 1)


def test_a_border_that_would_fill_the_memory_is_refused() -> None:
    a = np.ones((4, 5, 6))
    with pytest.raises(imsim.OptionError, match="at most 128 pixels"):
        imsim.ssim(a, a, ndim=3, data_range=1, border="replicate", window_size=4096)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", [m.name for m in imsim.METRICS.values() if m.volume_kernel])
def test_a_kernel_takes_less_memory_than_its_input(name: str) -> None:
    a, b = (v.astype(np.float32) for v in pair((64, 80, 90)))
    function = imsim.METRICS[name].function
    function(a[:16], b[:16], ndim=3, data_range=255)
    tracemalloc.start()
    try:
        function(a, b, ndim=3, data_range=255)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < a.nbytes + b.nbytes


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("factor", [1e-320, 1e-170, 1e160, 1e300])
def test_imed_of_volumes_whose_squares_leave_float64(factor: float) -> None:
    a, b = pair()
    for x, y in ((a, b), (a, a)):
        found = imsim.imed(x * factor, y * factor, ndim=3)
        with formulas():
            want = imsim.imed(x * factor, y * factor, ndim=3)
        assert found == pytest.approx(want, rel=1e-12)
