"""align(): known shifts, the mask contract, and shifts that cannot be told."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sampling import blob_mask, texture
from scipy import ndimage
from skimage.registration import phase_cross_correlation

import imsim
from imsim.shifts import interpolated, moved

FRAME = (96, 88)
SCENE = texture(np.random.default_rng(7), (160, 160), grain=1.2)
"""Grey values around 128, of which images are cut."""
Masks = dict[str, Callable[[np.random.Generator], NDArray[np.bool_] | None]]
MASKS: Masks = {
    "whole": lambda _: None,
    "blob": lambda rng: blob_mask(rng, *FRAME),
    "disc": lambda _: np.hypot(*np.ogrid[-48:48, -44:44]) < 40,
    "holes": lambda rng: rng.random(FRAME) < 0.9,
    "half of the pixels": lambda rng: rng.random(FRAME) < 0.5,
}


def at(top: int, left: int, frame: tuple[int, int] = FRAME, scene: Any = SCENE) -> Any:
    """Cut an image out of the scene."""
    return scene[top : top + frame[0], left : left + frame[1]]


def shifted(scene: NDArray[np.float64], dy: float, dx: float) -> NDArray[np.float64]:
    """Move a scene that repeats itself by any shift, which Fourier's theorem does exactly."""
    return np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(scene), (dy, dx))).real


def noisy(image: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    """Add noise of 30 dB."""
    return image + rng.normal(scale=255 / 10**1.5, size=image.shape)


VARIANTS = {("blob", 0.8), ("disc", 0.8), ("holes", 0.8), ("whole", 2.0), ("disc", 2.0)}


@pytest.mark.parametrize(
    ("grain", "kind"),
    [
        pytest.param(grain, kind, marks=[pytest.mark.thorough] * ((kind, grain) in VARIANTS))
        for kind in MASKS
        for grain in (0.8, 2.0)
    ],
)
def test_known_shifts_at_30_db(kind: str, grain: float, rng: np.random.Generator) -> None:
    """Within 0.05 pixels; and on average near to what the noise leaves, so that nothing draws."""
    errors = []
    for _ in range(12):
        scene = texture(rng, (160, 160), grain=grain)
        scene *= 40 / scene.std()
        shift = rng.uniform(-7.5, 7.5, 2)
        a, b = (noisy(at(30, 30, scene=v), rng) for v in (scene, shifted(scene, *-shift)))
        errors.append(np.abs(np.subtract(imsim.align(a, b, MASKS[kind](rng)).shift, shift)))
    half = kind == "half of the pixels"  # a quarter of the pairs
    assert np.max(errors) < (0.06 if half else 0.05)
    assert np.mean(errors) < (0.03 if half else 0.015)


@pytest.mark.parametrize("grain", [0.7, 1.2, 2.5])
def test_whole_and_half_pixels_do_not_attract(grain: float, rng: np.random.Generator) -> None:
    """Steps of a fifth, without noise; interpolation has errors at the finest grain."""
    scene = texture(rng, (160, 160), grain=grain)
    for fraction in (0.2, 0.4, 0.5, 0.6, 0.8):
        found = imsim.align(at(30, 30, scene=scene), at(30, 30, scene=shifted(scene, fraction, 3)))
        np.testing.assert_allclose(found.shift, (-fraction, -3), atol=0.015)


@given(
    dy=st.integers(-8, 8),
    dx=st.integers(-8, 8),
    height=st.integers(24, 40),
    width=st.integers(24, 40),
    more=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    dtype=st.sampled_from(["bool", "uint8", "int16", ">u2", "uint64", "float16", "float32", "f8"]),
    subpixel=st.booleans(),
)
def test_whole_shifts_copy(
    dy: int,
    dx: int,
    height: int,
    width: int,
    more: tuple[int, int],
    dtype: str,
    subpixel: bool,
) -> None:
    """Of images whose sizes may differ."""
    scene = SCENE > 128 if dtype == "bool" else SCENE.astype(dtype)
    frame, other = (height, width), (height + more[0], width + more[1])
    a, b = at(40, 40, frame, scene), at(40 - dy, 40 - dx, other, scene)
    # b shows at (i, j) what a shows at (i - dy, j - dx).
    found = imsim.align(a, b, subpixel=subpixel)
    assert found.shift == (-dy, -dx)
    assert found.image.dtype == b.dtype
    assert found.image.shape == found.valid.shape == a.shape
    rows, columns = (
        (np.arange(side) + step >= 0) & (np.arange(side) + step < own)
        for side, step, own in zip(frame, (dy, dx), other, strict=True)
    )
    np.testing.assert_array_equal(found.valid, np.outer(rows, columns))
    np.testing.assert_array_equal(found.image[found.valid], a[found.valid])
    beyond = found.image[~found.valid]
    assert np.isnan(beyond).all() if b.dtype.kind == "f" else not beyond.any()


def test_a_defect_does_not_draw(rng: np.random.Generator) -> None:
    for dy, dx in rng.integers(-8, 9, (6, 2)):
        a, b = at(30, 30), at(30 + dy, 30 + dx).copy()
        b[40:60, 30:70] = 255
        assert imsim.align(a, b).shift == (dy, dx)


@pytest.mark.parametrize("kind", MASKS)
def test_scikit_image_finds_the_same(kind: str, rng: np.random.Generator) -> None:
    a, b = noisy(at(30, 30), rng), noisy(at(33, 26), rng)
    mask = MASKS[kind](rng)
    want, _, _ = phase_cross_correlation(
        a, b, reference_mask=np.ones(FRAME, bool) if mask is None else mask
    )
    assert imsim.align(a, b, mask, subpixel=False).shift == tuple(want)


@pytest.mark.parametrize("fraction", [0.0, 0.3])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, -9999.0])
def test_what_is_outside_the_mask_has_no_influence(
    value: float, fraction: float, rng: np.random.Generator
) -> None:
    mask = blob_mask(rng, *FRAME)
    a, b = noisy(at(30, 30), rng), noisy(at(32, 29, scene=shifted(SCENE, fraction, 0)), rng)
    want = imsim.align(a, b, mask)
    outside = [np.where(mask, image, value) for image in (a, b)]
    found = imsim.align(*outside, mask)
    assert found.shift == want.shift
    np.testing.assert_array_equal(found.valid, want.valid)
    np.testing.assert_array_equal(found.image[found.valid], want.image[want.valid])
    assert not (found.valid & ~mask).any()
    assert found.valid.sum() > mask.sum() / 2


def test_a_mask_of_all_is_none() -> None:
    a, b = at(30, 30), at(28, 31, (99, 80))
    for one, other in zip(imsim.align(a, b), imsim.align(a, b, np.ones(FRAME, bool)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_pixels_that_are_not_finite() -> None:
    """Any value that is not finite has the same, that is no, influence; it stays what it is."""
    a, b = at(30, 30).copy(), at(32, 30).copy()
    results = []
    for value in (np.nan, np.inf):
        a[10:14, 20:23], b[50, 60] = value, -value
        results.append(imsim.align(a, b))
    for found in results:
        assert found.shift == results[0].shift == (2, 0)
        assert found.valid[52, 60]
        assert found.valid[12, 21]
    np.testing.assert_equal(results[0].image[52, 60], np.nan)
    assert results[1].image[52, 60] == -np.inf


def test_interpolation_spreads_what_is_not_finite_no_further_than_it_reads() -> None:
    b = at(30, 30, scene=shifted(SCENE, 0.4, 0)).copy()
    b[50, 60] = np.inf
    found = imsim.align(at(30, 30), b)
    broken = np.argwhere(~np.isfinite(found.image) & found.valid)
    assert set(broken[:, 1]) == {60}
    assert broken[:, 0].tolist() == list(range(47, 53))


@pytest.mark.parametrize("channels", [0, 1, -1])
def test_colour_has_one_shift(channels: int, rng: np.random.Generator) -> None:
    """Of channels that are grey together, whose sum tells nothing."""
    a, b = (
        np.stack([v, 255 - v, np.full(FRAME, 90.0)], axis=channels)
        for v in (at(30, 30), at(33, 28))
    )
    found = imsim.align(a, b, channel_axis=channels)
    assert found.shift == (3, -2)
    assert found.image.shape == a.shape
    valid = np.expand_dims(found.valid, channels)
    np.testing.assert_array_equal(np.where(valid, found.image, a), a)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e305])
def test_brightness_and_contrast_may_differ(scale: float) -> None:
    found = imsim.align(at(30, 30), (3 * at(31, 32) + 1000) * scale)
    assert found.shift == (1, 2)


@pytest.mark.parametrize("dtype", ["int64", "uint64", ">i8"])
def test_integers_that_floats_do_not_hold(dtype: str) -> None:
    start = np.iinfo(dtype).max - 1000
    a, b = (at(top, 30).astype(dtype) + np.array(start, dtype) for top in (30, 33))
    found = imsim.align(a, b)
    assert found.shift == (3, 0)
    assert found.image.dtype == b.dtype


def test_the_sign_is_that_of_scipy() -> None:
    a, b = at(30, 30), at(30, 30, scene=shifted(SCENE, -2.4, 1.3))
    found = imsim.align(a, b)
    for want in (a, ndimage.shift(b, found.shift, order=5)):
        assert imsim.rmse(found.image, want, mask=found.valid) < 1  # of values around 128


def test_pixels_that_interpolation_would_have_to_invent_are_not_valid() -> None:
    found = imsim.align(at(30, 30), at(30, 30, scene=shifted(SCENE, 0, 1.4)))
    width = FRAME[1]
    want = np.zeros(FRAME, bool)
    want[:, : width - 2] = True  # at j + 1.4
    np.testing.assert_array_equal(found.valid, want)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint64", "int64", "float16", ">f4"])
def test_interpolation_keeps_the_dtype(dtype: str) -> None:
    """What overshoots does not wrap around."""
    is_integer = np.dtype(dtype).kind in "iu"
    top = float(np.iinfo(dtype).max) if is_integer else 1.0
    right = np.broadcast_to(np.arange(8) >= 4, (1, 8, 8))
    image = right.astype(dtype) * np.array(np.iinfo(dtype).max if is_integer else 1, dtype)
    found, valid = moved(image, right[0], np.array([0, 0.25]), (8, 8))
    assert found.dtype == image.dtype
    np.testing.assert_array_equal(valid, np.arange(8) >= 5 + np.zeros((8, 1)))
    want = interpolated(image.astype(float), np.array([0, 0.25]), (8, 8))
    assert want.min() < 0
    assert want.max() > top
    if is_integer:
        want = np.clip(want, np.iinfo(dtype).min, top)
    elif dtype == "bool":
        want = (want > 0.5).astype(float)
    # Pixels inside see none outside.
    want[:, valid] = top
    atol = 0.5 if is_integer else 1e-3
    np.testing.assert_allclose(found.astype(float), want, rtol=1e-14, atol=atol)


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.9])
def test_interpolation_is_exact_for_cubic_polynomials(fraction: float) -> None:
    x = np.arange(12.0)
    image = np.stack([x**power for power in range(4)])[:, None]
    found = interpolated(image, np.array([0, fraction]), (1, 12))
    want = np.stack([(x - fraction) ** power for power in range(4)])[:, None]
    np.testing.assert_allclose(found[..., 3:-3], want[..., 3:-3], rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("step", [(0, 9), (-20, 3), (9, 9), (0, 45)])
def test_a_shift_beyond_the_limit_is_an_error(step: tuple[int, int]) -> None:
    a, b = at(30, 30), at(30 + step[0], 30 + step[1])
    with pytest.raises(imsim.AlignmentError, match="beyond max_shift=8; pass max_shift=") as caught:
        imsim.align(a, b)
    assert caught.value.shift == step
    largest = max(map(abs, step))
    assert f"max_shift={largest} or more" in str(caught.value.remedy)
    assert imsim.align(a, b, max_shift=largest).shift == step


def test_of_a_pattern_that_repeats_itself_the_smallest_shift(rng: np.random.Generator) -> None:
    """Even where another brings more pixels together, as many of a smaller image may."""
    tiles = np.tile(texture(rng, (6, 6), grain=0.7), (16, 16))
    for dy, dx in itertools.product((-2, 0, 2), (-1, 1)):
        for frame in ((60, 60), (40, 40)):
            b = noisy(at(20 + dy, 20 + dx, frame, tiles), rng)
            found = imsim.align(noisy(at(20, 20, (60, 60), tiles), rng), b, subpixel=False)
            assert found.shift == (dy, dx)


def test_a_pattern_that_nearly_repeats_itself(rng: np.random.Generator) -> None:
    """What fits a little worse nearer by is not taken instead."""
    scene = np.tile(texture(rng, (6, 6), grain=0.7), (16, 16))
    scene += 0.2 * scene.std() / SCENE.std() * SCENE[:96, :96]
    a, b = (noisy(at(20, left, (60, 60), scene), rng) for left in (10, 22))
    with pytest.raises(imsim.AlignmentError, match=r"beyond max_shift=8") as caught:
        imsim.align(a, b)
    assert caught.value.shift == (0, 12)


@pytest.mark.parametrize("frame", [FRAME, (20, 99)])
def test_equal_images_are_aligned_whatever_they_show(frame: tuple[int, int]) -> None:
    """Where both have pixels that are used; NaN and what is masked have no influence."""
    mask = np.ones(FRAME, bool)
    mask[:9] = False
    for a in (np.full(FRAME, 7.0), STRIPES[:1, :1] + np.zeros(FRAME), np.zeros(FRAME, np.uint8)):
        b = np.zeros(frame, a.dtype) + a[0, 0]
        b[:9] = 99
        if a.dtype.kind == "f":
            b[12, 3] = np.nan
        found = imsim.align(a, b, mask)
        assert found.shift == (0, 0)
        part = tuple(map(slice, map(min, FRAME, frame)))
        np.testing.assert_array_equal(found.image[part], b[part])
        covered = np.zeros(FRAME, bool)
        covered[part] = True
        np.testing.assert_array_equal(found.valid, mask & covered)
        with pytest.raises(imsim.AlignmentError, match="constant"):
            imsim.align(a, b)


@pytest.mark.parametrize("kind", ["whole", "disc"])
def test_the_error_is_that_of_the_bound(kind: str, rng: np.random.Generator) -> None:
    """Of Cramér and Rao; no estimator without bias has a smaller variance."""
    found = []
    for grain in (3, 6) * 6:
        scene = 40 * (wide := texture(rng, (160, 160), grain=grain)) / wide.std()
        shift = rng.uniform(-7.5, 7.5, 2)
        a, b = (noisy(at(30, 30, scene=v), rng) for v in (scene, shifted(scene, *-shift)))
        mask = MASKS[kind](rng)
        seen = at(31, 31, (94, 86), scene), np.s_[:] if mask is None else mask[1:-1, 1:-1]
        slopes = np.stack([slope[seen[1]].ravel() for slope in np.gradient(seen[0])])
        variance = 2 * 255**2 / 1000
        bound = np.sqrt(np.diag(np.linalg.inv(slopes @ slopes.T / variance)))
        found.append((np.array(imsim.align(a, b, mask).shift) - shift) / bound)
    assert np.sqrt(np.mean(np.square(found))) < 1.4  # of 24, 1 to about 0.15 by chance


STRIPES = np.tile(100 * np.sin(np.arange(64) / 3), (64, 1))
SLANT = np.sin(np.add.outer(np.arange(64), np.arange(64)) / 3)
TOO_LITTLE: dict[str, tuple[Any, Any, str]] = {
    "black": (np.zeros(FRAME), at(0, 0), "a is constant"),
    "constant": (at(0, 0), np.full(FRAME, 0.1), "b is constant"),
    "nothing finite": (at(0, 0), np.full(FRAME, np.nan), "b has no finite pixel"),
    "stripes": (STRIPES, STRIPES + 1, "in common along the height"),
    "upright stripes": (STRIPES.T, STRIPES.T + 1, "in common along the width"),
    "slanting stripes": (SLANT, SLANT + 1, "in common along the"),
    "one pixel": (np.ones((1, 1)), np.zeros((1, 1)), "a is constant"),
    "few pixels": (at(0, 0, (3, 3)), at(0, 0, (3, 3)) + 1, "too little structure"),
    "opposite": (at(0, 0), 255 - at(0, 0), "beyond|too little"),
}


@pytest.mark.parametrize("kind", TOO_LITTLE)
def test_no_shift_can_be_told(kind: str) -> None:
    a, b, words = TOO_LITTLE[kind]
    with pytest.raises(imsim.AlignmentError, match=words) as caught:
        imsim.align(a, b)
    assert caught.value.remedy
    assert (caught.value.shift is None) == ("beyond" not in str(caught.value))


@pytest.mark.parametrize("kind", ["noise", "noisy stripes"])
def test_noise_tells_no_shift(kind: str, rng: np.random.Generator) -> None:
    image = STRIPES if kind != "noise" else np.zeros((64, 64))
    for _ in range(5):
        with pytest.raises(imsim.AlignmentError, match=r"beyond|in common") as caught:
            imsim.align(noisy(image, rng), noisy(image, rng))
        assert kind != "noise" or "along" not in str(caught.value)


def test_images_that_fit_nowhere_near(rng: np.random.Generator) -> None:
    for _ in range(5):
        with pytest.raises(imsim.AlignmentError):
            imsim.align(*(texture(rng, (128, 128), grain=4) for _ in range(2)))


@pytest.mark.parametrize("axis", [0, 1])
def test_strips_of_one_pixel(axis: int, rng: np.random.Generator) -> None:
    strip = texture(rng, (1, 120))[0]
    a, b = (np.expand_dims(strip[k : k + 80], axis) for k in (10, 13))
    found = imsim.align(a, b)
    assert found.shift == ((0, 3) if axis == 0 else (3, 0))
    np.testing.assert_array_equal(found.image[found.valid], a[found.valid])


def test_images_smaller_than_the_limit() -> None:
    a, b = at(30, 30, (12, 12)), at(31, 28, (12, 12))
    assert imsim.align(a, b, max_shift=100).shift == (1, -2)


def test_no_shift_at_all(rng: np.random.Generator) -> None:
    """No shift is -0.0, and none is allowed."""
    found = imsim.align(at(30, 30), at(30, 30), max_shift=0)
    assert found.shift == (0, 0)
    assert found.valid.all()
    for _ in range(4):
        found = imsim.align(at(30, 30), at(30, 30) + rng.normal(size=FRAME))
        assert str(found.shift) == "(0.0, 0.0)"
    with pytest.raises(imsim.AlignmentError):
        imsim.align(at(30, 30), at(30, 31), max_shift=0)


WRONG: dict[str, tuple[type[imsim.ImsimError], str, Any, dict[str, Any]]] = {
    "batch": (imsim.ShapeError, "one pair of images", np.zeros((2, 9, 9)), {}),
    "line": (imsim.ShapeError, "at least 2 axes", np.zeros(9), {}),
    "empty": (imsim.ShapeError, "no pixels", np.zeros((0, 9)), {}),
    "channels": (imsim.ShapeError, "a has 88 channels, b has 3", np.zeros((*FRAME, 3)), {"c": -1}),
    "complex": (imsim.DTypeError, "b has dtype complex", np.zeros(FRAME, complex), {}),
    "mask": (imsim.MaskError, "mask has shape", SCENE, {"mask": np.ones((9, 9), bool)}),
    "masks": (imsim.MaskError, "mask has 3 axes", SCENE, {"mask": np.ones((2, *FRAME), bool)}),
    "max_shift": (imsim.OptionError, "max_shift=-1", SCENE, {"max_shift": -1}),
    "half": (imsim.OptionError, "max_shift=0.5", SCENE, {"max_shift": 0.5}),
    "subpixel": (imsim.OptionError, "subpixel=10", SCENE, {"subpixel": 10}),
    "axis": (imsim.OptionError, "channel_axis", SCENE, {"channel_axis": "c"}),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_input_is_named(kind: str) -> None:
    error, words, b, options = WRONG[kind]
    a = at(30, 30)
    if "c" in options:
        a, options = a[None], {"channel_axis": -1}
    with pytest.raises(error, match=words):
        imsim.align(a, b, **options)


def test_containers(rng: np.random.Generator) -> None:
    a, b = (at(top, 30).astype(np.uint8) for top in (30, 32))
    a.flags.writeable = b.flags.writeable = False
    want = imsim.align(a, b)
    for form in (list, Image.fromarray, np.asfortranarray):
        found = imsim.align(form(a), form(b))
        np.testing.assert_array_equal(found.image, want.image)
        assert found.shift == want.shift == (2, 0)
    found = imsim.align(*map(array_api_strict.asarray, (a, b)), mask=np.ones(FRAME, bool))
    assert type(found.image) is type(found.valid) is type(array_api_strict.asarray(0))
    np.testing.assert_array_equal(np.asarray(found.image), want.image)
    np.testing.assert_array_equal(np.asarray(found.valid), want.valid)


def test_arrays_of_jax() -> None:
    jax = pytest.importorskip("jax", reason="an optional array library; see the extra 'anomaly'")
    a, b = (jax.numpy.asarray(at(top, 30), dtype="float32") for top in (30, 32))
    found = imsim.align(a, b)
    assert isinstance(found.image, jax.Array)
    assert found.shift == (2, 0)
    assert found.valid.dtype == bool
    with pytest.raises(imsim.DTypeError, match=r"^a is lazy, traced"):
        jax.jit(lambda a, b: imsim.align(a, b).image)(a, b)


def test_lazy_arrays_are_refused() -> None:
    dask = pytest.importorskip("dask.array", reason="an optional array library")
    with pytest.raises(imsim.DTypeError, match=r"^a is lazy"):
        imsim.align(dask.from_array(at(30, 30)), dask.from_array(at(32, 30)))


@pytest.mark.parametrize("by", [(1, 1), (2, -1), (0, 3)])
def test_ramps_tell_no_shift(by: tuple[int, int]) -> None:
    ramp = np.tensordot(by, np.mgrid[:40, :40], 1) + 50
    for dtype in (np.uint8, np.float64):
        with pytest.raises(imsim.AlignmentError, match="too little structure"):
            imsim.align(ramp.astype(dtype), (ramp + 3).astype(dtype))
