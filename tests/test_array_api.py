"""The portable mathematics on other array libraries: the standard's strict one, and JAX."""

from __future__ import annotations

from itertools import groupby
from types import ModuleType
from typing import Any

import array_api_strict
import numpy as np
import pytest
from sampling import FRAME, MAPS, PLAIN, SCORES, Variant, blob_mask, each_of_some, textured_pair

import imsim

PORTABLE = [v for v in (*SCORES, *MAPS) if not imsim.METRICS[v.metric].numpy_only]
NUMPY_ONLY = [v for v in SCORES if imsim.METRICS[v.metric].numpy_only]
each_portable = pytest.mark.parametrize(
    "variant",
    [
        # What happens before and after the mathematics; test_strict_equals_numpy has all options.
        pytest.param(v, marks=() if v in PLAIN else pytest.mark.thorough, id=v.id)
        for v in PORTABLE
    ],
)
# The same operations on another library's loops: some sums associate differently.
CLOSE = {"float64": 1e-12, "float32": 2e-5}


def compare(got: Any, want: Any, xp: ModuleType, dtype: str) -> None:
    assert type(got) is type(xp.asarray(0.0))
    assert tuple(got.shape) == np.shape(want)
    got = np.asarray(got)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    scale = np.maximum(1, np.abs(np.where(np.isfinite(want), want, 1)))
    np.testing.assert_allclose(got / scale, want / scale, rtol=0, atol=CLOSE[dtype])


@each_of_some(PORTABLE, "float64", "float32")
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_strict_equals_numpy(
    variant: Variant, dtype: str, masked: bool, rng: np.random.Generator
) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour, batch=(2,))
    a, b = a.astype(dtype), b.astype(dtype)
    mask = np.stack([blob_mask(rng, *FRAME), blob_mask(rng, *FRAME, 0.4)]) if masked else None
    xp = array_api_strict
    got = variant(xp.asarray(a), xp.asarray(b), mask=None if mask is None else xp.asarray(mask))
    compare(got, variant(a, b, mask=mask), xp, dtype)
    expected = xp.float64 if not variant.is_map else getattr(xp, dtype)
    assert got.dtype == expected


@each_portable
def test_single_pair_of_strict_arrays(variant: Variant, rng: np.random.Generator) -> None:
    xp = array_api_strict
    a, b = (image.astype(np.uint8) for image in textured_pair(rng, *FRAME, colour=variant.colour))
    got = variant(xp.asarray(a), xp.asarray(b), data_range=None)
    compare(got, variant(a, b, data_range=None), xp, "float64")


@each_portable
def test_pixels_outside_influence_no_bit_of_strict_arrays(
    variant: Variant, rng: np.random.Generator
) -> None:
    xp = array_api_strict
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    mask = blob_mask(rng, *FRAME)
    spoilt = [np.where(mask[..., None] if variant.colour else mask, i, np.nan) for i in (a, b)]
    results = [
        np.asarray(variant(*(xp.asarray(i) for i in images), mask=xp.asarray(mask)))
        for images in ((a, b), spoilt)
    ]
    np.testing.assert_array_equal(results[0], results[1])


@each_portable
@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("no_float64", False),
        ("no_x64", True),
        ("device1", True),
        pytest.param("device1", False, marks=pytest.mark.thorough),
    ],
)
def test_everything_lands_on_the_device_of_the_images(
    variant: Variant, name: str, masked: bool, rng: np.random.Generator
) -> None:
    xp = array_api_strict
    place = xp.Device(name)
    a, b = (image.astype(np.float32) for image in textured_pair(rng, *FRAME, colour=variant.colour))
    mask = blob_mask(rng, *FRAME) if masked else None
    arrays = (xp.asarray(image, device=place) for image in (a, b))
    got = variant(*arrays, mask=None if mask is None else xp.asarray(mask, device=place))
    assert got.device == place
    if name.startswith("no"):
        assert got.dtype == xp.float32
    compare(
        xp.asarray(got, device=xp.Device("CPU_DEVICE")), variant(a, b, mask=mask), xp, "float32"
    )


@pytest.mark.parametrize("name", [n for n, m in imsim.METRICS.items() if not m.numpy_only])
def test_weights_with_numbers_of_32_bits_and_an_older_standard(
    name: str, rng: np.random.Generator
) -> None:
    xp, variant = array_api_strict, Variant(name)
    a, b, weights = (
        v.astype(np.float32) for v in (*textured_pair(rng, *FRAME), np.eye(*FRAME) + 1)
    )
    place = xp.Device("no_x64")
    with xp.ArrayAPIStrictFlags(api_version="2023.12"):
        images = (xp.asarray(v, device=place) for v in (a, b))
        got = variant(*images, weights=xp.asarray(weights, device=place))
    np.testing.assert_allclose(float(got), variant(a, b, weights=weights), rtol=2e-5)


@pytest.mark.parametrize("name", ["device1", "no_float64"])
def test_compare_on_a_device(name: str, rng: np.random.Generator) -> None:
    xp = array_api_strict
    place = xp.Device(name)
    a, b = (image.astype(np.float32) for image in textured_pair(rng, *FRAME, batch=(2,)))
    mask = xp.asarray(blob_mask(rng, *FRAME), device=place)
    images = [xp.asarray(image, device=place) for image in (a, b)]
    for options in ({}, {"mask": mask}):
        result = imsim.compare(*images, data_range=255, **options)
        assert {m.name for m in imsim.METRICS.values() if m.numpy_only} == set(result.skipped)
        assert all(score.device == place for score in result.values())
        assert "ssim" in str(result)
        one = imsim.compare(*(image[0, ...] for image in images), data_range=255, **options)
        assert "ssim" in str(one)


@pytest.mark.parametrize("variant", NUMPY_ONLY, ids=lambda v: v.id)
def test_numpy_only_says_so(variant: Variant) -> None:
    image = array_api_strict.ones(variant.shape(*FRAME))
    with pytest.raises(imsim.DTypeError, match=rf"{variant.metric} .*NumPy.*numpy.asarray"):
        variant(image, image)


def test_compare_of_strict_arrays(rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME)
    result = imsim.compare(array_api_strict.asarray(a), array_api_strict.asarray(b), data_range=255)
    assert set(result.skipped) == {m.name for m in imsim.METRICS.values() if m.numpy_only}
    want = imsim.compare(a, b, data_range=255)
    for name, score in result.items():
        compare(score, want[name], array_api_strict, "float64")
    assert "ssim" in str(result)


def test_finite_mask_of_strict_arrays() -> None:
    xp = array_api_strict
    mask = imsim.finite_mask(xp.asarray([[1.0, np.nan]]), xp.asarray([[np.inf, 1.0]]))
    assert type(mask) is type(xp.asarray(True))
    assert not np.asarray(mask).any()


def test_strict_with_numpy_gives_strict(rng: np.random.Generator) -> None:
    xp = array_api_strict
    a, b = textured_pair(rng, *FRAME)
    for images in ((xp.asarray(a), b), (a, xp.asarray(b))):
        compare(imsim.rmse(*images), imsim.rmse(a, b), xp, "float64")
    mask = blob_mask(rng, *FRAME)
    got = imsim.rmse(xp.asarray(a), xp.asarray(b), mask=mask)
    compare(got, imsim.rmse(a, b, mask=mask), xp, "float64")


def test_empty_mask_of_strict_arrays() -> None:
    xp = array_api_strict
    image = xp.ones((24, 27))
    with pytest.warns(imsim.EmptyMaskWarning):
        score = imsim.rmse(image, image, mask=xp.zeros((24, 27), dtype=xp.bool))
    assert np.isnan(float(score))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_strict_arrays(dtype: str) -> None:
    image = array_api_strict.ones((24, 27), dtype=getattr(array_api_strict, dtype))
    with pytest.raises(imsim.DTypeError, match="a has dtype"):
        imsim.rmse(image, image)


def of_one(variant: Variant) -> tuple[Any, ...]:
    """Key of the variants that share their images and their options."""
    return variant.metric, variant.colour, str(variant.options)


def test_jax(rng: np.random.Generator, request: pytest.FixtureRequest) -> None:
    """JAX, which has float32 only by default, and compiles for seconds.

    Every day the formulas are traced, which is what tells JAX from other libraries, and some are
    compiled: all of them by tests/tensors, with options by `pytest --thorough`.
    """
    is_thorough = request.config.getoption("--thorough")
    variants = PORTABLE if is_thorough else [v for v in PORTABLE if v in PLAIN]
    compiled = {m.name for m in imsim.METRICS.values()} if is_thorough else {"psnr", "sam", "ssim"}
    # A score and its map in one program, which computes once what both need.
    jax = pytest.importorskip("jax", reason="JAX is an optional array library")
    for _, together in groupby(sorted(variants, key=of_one), of_one):
        group = list(together)
        colour = group[0].colour
        a, b = (v.astype(np.float32) for v in textured_pair(rng, *FRAME, colour=colour))
        mask = blob_mask(rng, *FRAME)
        by_formula = jax.jit(lambda x, y, m, group=group: [v(x, y, mask=m) for v in group])
        if group[0].metric not in compiled:
            for found, variant in zip(jax.eval_shape(by_formula, a, b, mask), group, strict=True):
                assert found.shape == (a.shape[:2] if variant.is_map else ())
                assert found.dtype == "float32"
            continue
        for found, variant in zip(by_formula(a, b, mask), group, strict=True):
            compare(found, variant(a, b, mask=mask), jax.numpy, "float32")


def test_far_from_zero_in_single_precision(rng: np.random.Generator) -> None:
    """Strict arrays and those of JAX by default have float32 only."""
    xp = pytest.importorskip("jax.numpy", reason="JAX is an optional array library")
    x = 0.1 * rng.random((32, 32))
    x, y = ((v + 1e6).astype(np.float32) for v in (x, x + 0.03 * rng.random(x.shape)))
    for mask in (None, rng.random(x.shape) < 0.5):
        want = imsim.zncc(x.astype(np.float64), y.astype(np.float64), mask=mask)
        got = imsim.zncc(
            xp.asarray(x), xp.asarray(y), mask=None if mask is None else xp.asarray(mask)
        )
        assert float(got) == pytest.approx(want, abs=2e-6)


@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
def test_a_data_range_of_strict_arrays(device: str, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME)
    xp = array_api_strict
    strict = [xp.asarray(v, device=xp.Device(device)) for v in (a, b, np.array(255.0))]
    want = imsim.psnr(a, b, data_range=255)
    assert float(imsim.psnr(*strict[:2], data_range=strict[2])) == pytest.approx(want, rel=1e-12)
    with pytest.raises(imsim.DataRangeError, match="data_range=True"):
        imsim.psnr(*strict[:2], data_range=xp.asarray(True))
