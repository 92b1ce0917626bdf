"""Whatever form the pixels come in, the same values give the same bits, and are left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sampling import (
    DEFAULTS,
    FRAME,
    MAPS,
    PIXELWISE,
    PLAIN,
    SCORES,
    Variant,
    blob_mask,
    textured_pair,
)

import imsim
from imsim.kernels.common.window_doubts import pixel_types
from imsim.validation import check_images

each_variant = pytest.mark.parametrize("variant", [*SCORES, *MAPS], ids=lambda v: v.id)
each_plain = pytest.mark.parametrize("variant", PLAIN, ids=lambda v: v.id)


def _read_only(image: np.ndarray) -> np.ndarray:
    image = image.copy()
    image.setflags(write=False)
    return image


def _every_second(image: np.ndarray) -> np.ndarray:
    big = np.full(tuple(2 * n for n in image.shape), -1.0, dtype=image.dtype)
    view = big[tuple(slice(None, None, 2) for _ in image.shape)]
    view[...] = image
    return view


def _reversed(image: np.ndarray) -> np.ndarray:
    backwards = tuple(slice(None, None, -1) for _ in image.shape)
    return image[backwards].copy()[backwards]


def _transposed(image: np.ndarray) -> np.ndarray:
    return image.swapaxes(0, 1).copy().swapaxes(0, 1)


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "Fortran order": np.asfortranarray,
    "every second element of a larger array": _every_second,
    "negative strides": _reversed,
    "transposed view": _transposed,
    "read-only": _read_only,
    "big-endian": lambda image: image.astype(image.dtype.newbyteorder(">")),
    "unaligned": lambda image: np.frombuffer(
        b"x" + image.tobytes(), dtype=image.dtype, offset=1
    ).reshape(image.shape),
    "nested lists": lambda image: image.tolist(),
}


@each_plain
def test_same_values_same_bits(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    mask = blob_mask(rng, *FRAME)
    want, masked = variant(a, b), variant(a, b, mask=mask)
    for form, make in FORMS.items():
        np.testing.assert_array_equal(variant(make(a), make(b)), want, err_msg=form)
        got = variant(make(a), make(b), mask=make(mask))
        np.testing.assert_array_equal(got, masked, err_msg=form)


@each_plain
def test_byte_order(variant: Variant, rng: np.random.Generator) -> None:
    images = textured_pair(rng, *FRAME, colour=variant.colour)
    # As uint16 in this range, each window is a kernel of its own.
    short = "u2" if variant.metric in PIXELWISE and variant.id != "zncc_map()" else "i2"
    for dtype in (short, "i4", "i8", "f2", "f4"):
        a, b = (v.astype(dtype) for v in images)
        swapped = np.dtype(dtype).newbyteorder(">")
        want = variant(a, b)
        got = variant(a.astype(swapped), b.astype(swapped))
        np.testing.assert_array_equal(got, want, err_msg=dtype)
        np.testing.assert_array_equal(variant(a, b.astype(swapped)), want, err_msg=dtype)


def test_byte_order_chooses_no_kernel() -> None:
    """Of windows, whose kernels depend on the dtypes of both images."""
    short = np.zeros((1, 8, 8), np.uint16)
    swapped = short.astype(short.dtype.newbyteorder())
    images = [
        check_images(x, y, data_range=255, channel_axis=None)
        for x in (short, swapped)
        for y in (short, swapped)
    ]
    assert len({pixel_types(pair) for pair in images}) == 1


@each_variant
def test_broadcast_views(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    views = [np.broadcast_to(image, (2, *image.shape)) for image in (a, b)]
    want = variant(a, b)
    np.testing.assert_array_equal(variant(*views), [want, want])


@each_variant
def test_inputs_stay_as_they_are(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    a[0, 0] = np.nan
    mask = blob_mask(rng, *FRAME)
    mask[0, 0] = False
    for dtype in variant.some(np.float64, np.float32):
        arrays = [a.astype(dtype), b.astype(dtype), mask.copy()]
        before = [array.copy() for array in arrays]
        variant(arrays[0], arrays[1], mask=arrays[2])
        for array, copy in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, copy)


@each_variant
def test_result_is_not_a_view_of_the_input(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    result = variant(a, b)
    assert not np.may_share_memory(result, a)
    assert not np.may_share_memory(result, b)


@each_plain
def test_pil_images(variant: Variant, rng: np.random.Generator) -> None:
    a, b = (i.astype(np.uint8) for i in textured_pair(rng, *FRAME, colour=variant.colour))
    got = variant(Image.fromarray(a), Image.fromarray(b))
    np.testing.assert_array_equal(got, variant(a, b))


@pytest.mark.parametrize("mode", ["F", "I", "I;16", "1"])
def test_pil_modes(mode: str, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME)
    dtype = {"F": np.float32, "I": np.int32, "I;16": np.uint16, "1": bool}[mode]
    x, y = ((i > 120 if mode == "1" else i).astype(dtype) for i in (a, b))
    images = [Image.fromarray(i) for i in (x, y)]
    assert [image.mode for image in images] == [mode, mode]
    assert imsim.ssim(*images, data_range=255) == imsim.ssim(x, y, data_range=255)


@each_variant
@pytest.mark.parametrize(
    "dtypes",
    [(np.float64, np.float64), (np.float64, np.float32), (np.float32, np.uint8)],
    ids=lambda pair: "-".join(np.dtype(d).name for d in pair),
)
def test_double_unless_both_are_narrow(
    variant: Variant, dtypes: tuple[type, type], rng: np.random.Generator
) -> None:
    images = textured_pair(rng, *FRAME, colour=variant.colour)
    x, y = (np.floor(i).astype(d) for i, d in zip(images, dtypes, strict=True))
    got = variant(x, y)
    np.testing.assert_array_equal(got, variant(x.astype(np.float64), y.astype(np.float64)))
    assert got.dtype == np.float64


@each_plain
def test_half_becomes_single(variant: Variant, rng: np.random.Generator) -> None:
    x, y = (i.astype(np.float16) for i in textured_pair(rng, *FRAME, colour=variant.colour))
    single = [i.astype(np.float32) for i in (x, y)]
    want = variant(*single)
    np.testing.assert_array_equal(variant(x, y), want)
    np.testing.assert_array_equal(variant(x, single[1]), want)


def extreme_integers(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: type
) -> tuple[np.ndarray, np.ndarray, float]:
    """Images of the smallest and largest numbers, or those that float64 holds, and the range."""
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -(2**52)), min(limits.max, 2**52)
    x, y = (rng.choice([low, high, 0, 1], size=shape).astype(dtype) for _ in range(2))
    return x, y, float(high - low)


@each_plain
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_never_wrap(variant: Variant, dtype: type, rng: np.random.Generator) -> None:
    x, y, L = extreme_integers(rng, variant.shape(*FRAME), dtype)
    want = variant(x.astype(np.float64), y.astype(np.float64), data_range=L)
    # Compiled for each dtype, a kernel may fuse and order its operations in another way.
    np.testing.assert_allclose(variant(x, y, data_range=L), want, rtol=1e-12, atol=1e-12)


@each_plain
def test_other_integers_become_double(variant: Variant, rng: np.random.Generator) -> None:
    for dtype in (np.int8, np.int16, np.int32, np.uint32, np.int64, np.uint64):
        x, y, L = extreme_integers(rng, variant.shape(*FRAME), dtype)
        want = variant(x.astype(np.float64), y.astype(np.float64), data_range=L)
        got = variant(x, y, data_range=L)
        np.testing.assert_array_equal(got, want, err_msg=dtype.__name__)


@pytest.mark.parametrize(
    "variant",
    [
        # As bytes, of which each window with options is a kernel of its own.
        pytest.param(v, marks=() if v in PLAIN else pytest.mark.thorough, id=v.id)
        for v in (*SCORES, *MAPS)
    ],
)
def test_boolean_images(variant: Variant, rng: np.random.Generator) -> None:
    x, y = (i > 120 for i in textured_pair(rng, *FRAME, colour=variant.colour))
    want = variant(x.astype(np.float64), y.astype(np.float64), data_range=1)
    # Compiled for each dtype, a kernel may fuse and order its operations in another way.
    np.testing.assert_allclose(variant(x, y, data_range=None), want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("variant", DEFAULTS, ids=lambda v: v.id)
def test_integer_types_agree_with_single_precision(
    variant: Variant, rng: np.random.Generator
) -> None:
    """The same numbers in float32 arithmetic: 24 bits, and a score that adds them up."""
    x, y = (np.floor(i) for i in textured_pair(rng, *FRAME, colour=variant.colour))
    want = variant(x.astype(np.uint16), y.astype(np.uint8))
    got = variant(x.astype(np.float32), y.astype(np.float32))
    assert abs(got - want) <= 1e-5 * max(1.0, abs(want))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a.png", r"a is a str, which is no array; pass numpy.asarray\(PIL.Image.open\(a\)\)"),
        (Path("a.png"), r"Path, which is no array; pass numpy.asarray\(PIL.Image.open\(a\)\)"),
        (None, "a is a NoneType, which is no array; pass an array of numbers"),
    ],
    ids=str,
)
def test_what_is_no_array_is_named(value: Any, message: str) -> None:
    with pytest.raises(imsim.DTypeError, match=message):
        imsim.rmse(value, np.zeros((4, 4)))
