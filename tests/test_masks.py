"""The mask contract over all metrics and maps."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
from sampling import (
    MAPS,
    PLAIN,
    SCORES,
    Variant,
    blob_mask,
    each_of_some,
    frame,
    noise_like,
    outside_replaced,
    spread_mask,
    textured_pair,
)

import imsim
from imsim.portable import arrays

each_variant = pytest.mark.parametrize("variant", [*SCORES, *MAPS], ids=lambda v: v.id)
each_score = pytest.mark.parametrize("variant", SCORES, ids=lambda v: v.id)
each_map = pytest.mark.parametrize("variant", MAPS, ids=lambda v: v.id)
HEIGHT, WIDTH = frame(33, 38)
WHOLE = np.ones((HEIGHT, WIDTH), dtype=bool)


def images(variant: Variant, rng: np.random.Generator, **options: Any) -> tuple[np.ndarray, ...]:
    return textured_pair(rng, HEIGHT, WIDTH, colour=variant.colour, **options)


@each_of_some([*SCORES, *MAPS], np.float64, np.float32)
def test_pixels_outside_influence_no_bit(
    variant: Variant, dtype: type, rng: np.random.Generator
) -> None:
    a, b = (image.astype(dtype) for image in images(variant, rng))
    largest = float(np.finfo(dtype).max)
    for mask in (blob_mask(rng, HEIGHT, WIDTH), blob_mask(rng, HEIGHT, WIDTH, 0.9)):
        want = variant(a, b, mask=mask)
        assert np.any(np.isfinite(want))
        garbage: list[tuple[Any, Any]] = [
            (noise_like(rng, a), noise_like(rng, b)),
            (noise_like(rng, a) * 1e6 - 1e8, 0),
            (np.nan, np.nan),
            (0, np.nan),
            (np.inf, -np.inf),
            (-np.inf, 1),
            (largest, -largest),
            (np.where(noise_like(rng, a) > 128, np.nan, np.inf), largest),
        ]
        for k, (left, right) in enumerate(garbage):
            x = outside_replaced(a, mask, left).astype(dtype)
            y = outside_replaced(b, mask, right).astype(dtype)
            got = variant(x, y, mask=mask)
            np.testing.assert_array_equal(got, want, err_msg=f"garbage {k}")


@pytest.mark.parametrize("variant", PLAIN, ids=lambda v: v.id)
@pytest.mark.parametrize("dtype", [np.uint8, pytest.param(np.uint16, marks=pytest.mark.thorough)])
def test_integer_pixels_outside_influence_no_bit(
    variant: Variant, dtype: type, rng: np.random.Generator
) -> None:
    mask = blob_mask(rng, HEIGHT, WIDTH)
    a, b = (image.astype(dtype) for image in images(variant, rng))
    want = variant(a, b, mask=mask)
    for left, right in ((0, np.iinfo(dtype).max), (np.iinfo(dtype).max, 0)):
        x = outside_replaced(a, mask, dtype(left))
        y = outside_replaced(b, mask, dtype(right))
        np.testing.assert_array_equal(variant(x, y, mask=mask), want)


@each_of_some([*SCORES, *MAPS], np.float64, np.float32, np.uint8)
def test_all_true_is_no_mask(variant: Variant, dtype: type, rng: np.random.Generator) -> None:
    for grain in (8.0, 90.0):
        a, b = (image.astype(dtype) for image in images(variant, rng, noise=grain))
        want = variant(a, b)
        np.testing.assert_array_equal(variant(a, b, mask=WHOLE), want)
        np.testing.assert_array_equal(variant(a, b, mask=WHOLE.astype(np.uint8)), want)
        np.testing.assert_array_equal(variant(a, b, mask=WHOLE[None]), want[None])


@each_variant
def test_batch_of_masks_is_a_loop(variant: Variant, rng: np.random.Generator) -> None:
    """Also where some masks of the batch are all True and others are not."""
    a, b = images(variant, rng, batch=(4,))
    masks = np.stack(
        [WHOLE, blob_mask(rng, HEIGHT, WIDTH), blob_mask(rng, HEIGHT, WIDTH, 0.4), WHOLE]
    )
    want = [variant(a[i], b[i], mask=masks[i]) for i in range(4)]
    np.testing.assert_array_equal(variant(a, b, mask=masks), want)
    np.testing.assert_array_equal(want[0], variant(a[0], b[0]))
    order = [2, 0, 3, 1]
    permuted = variant(a[order], b[order], mask=masks[order])
    np.testing.assert_array_equal(permuted, [want[i] for i in order])


@each_variant
def test_masks_broadcast(variant: Variant, rng: np.random.Generator) -> None:
    a, b = images(variant, rng, batch=(2, 3))
    masks = np.stack([blob_mask(rng, HEIGHT, WIDTH), WHOLE, blob_mask(rng, HEIGHT, WIDTH, 0.5)])
    one_mask = [[variant(a[i, j], b[i, j], mask=masks[0]) for j in range(3)] for i in range(2)]
    np.testing.assert_array_equal(variant(a, b, mask=masks[0]), one_mask)
    by_column = [[variant(a[i, j], b[i, j], mask=masks[j]) for j in range(3)] for i in range(2)]
    np.testing.assert_array_equal(variant(a, b, mask=masks), by_column)
    # One pair, many regions.
    regions = [variant(a[0, 0], b[0, 0], mask=m) for m in masks]
    np.testing.assert_array_equal(variant(a[0, 0], b[0, 0], mask=masks), regions)
    crossed = [[variant(a[i, 0], b[0, j], mask=masks[j]) for j in range(3)] for i in range(2)]
    np.testing.assert_array_equal(variant(a[:, :1], b[0], mask=masks), crossed)


@each_variant
def test_nothing_to_score(variant: Variant, rng: np.random.Generator) -> None:
    a, b = images(variant, rng)
    with pytest.warns(imsim.EmptyMaskWarning, match=variant.metric) as caught:
        result = variant(a, b, mask=~WHOLE)
    assert len(caught) == 1
    assert caught[0].filename in variant_files(variant)
    assert np.all(np.isnan(result))
    assert variant.is_map or type(result) is np.float64


def variant_files(variant: Variant) -> tuple[str, ...]:
    """Where the warning may point: the caller of the public function, if that is the package's."""
    return Variant.__call__.__code__.co_filename, inspect.getfile(variant.function)


@each_variant
def test_nothing_to_score_in_one_element(variant: Variant, rng: np.random.Generator) -> None:
    a, b = images(variant, rng, batch=(3,))
    masks = np.stack([blob_mask(rng, HEIGHT, WIDTH), ~WHOLE, WHOLE])
    with pytest.warns(imsim.EmptyMaskWarning):
        result = variant(a, b, mask=masks)
    assert np.all(np.isnan(result[1]))
    for i in (0, 2):
        np.testing.assert_array_equal(result[i], variant(a[i], b[i], mask=masks[i]))


@each_score
def test_garbage_around_an_empty_mask(variant: Variant, rng: np.random.Generator) -> None:
    a, b = images(variant, rng)
    with pytest.warns(imsim.EmptyMaskWarning):
        assert np.isnan(variant(a * np.nan, b * np.inf, mask=~WHOLE))


ONE_PIXEL_SCORES = ("se", "rmse", "psnr", "imed", "sre", "sam", "zncc", "ssim")


def has_even_window(variant: Variant) -> bool:
    """Whether a window is chosen that has no pixel at its centre."""
    return "window_size" in variant.options and variant.options["window_size"] % 2 == 0


@each_score
def test_one_pixel(variant: Variant, rng: np.random.Generator) -> None:
    """A score or NaN with a warning, never an exception; the same NaN rule for all garbage."""
    a, b = images(variant, rng)
    mask = ~WHOLE
    mask[16, 19] = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score = variant(a, b, mask=mask)
        again = variant(*(outside_replaced(i, mask, np.nan) for i in (a, b)), mask=mask)
    np.testing.assert_array_equal(score, again)
    assert np.isnan(score) == bool(caught)
    assert all(issubclass(w.category, imsim.EmptyMaskWarning) for w in caught)
    if variant.metric in ONE_PIXEL_SCORES and not {"sample_covariance", "min_coverage"} & set(
        variant.options
    ):
        assert np.isnan(score) == has_even_window(variant)  # which needs half of the window


@each_variant
def test_not_finite_inside_is_not_excused(variant: Variant, rng: np.random.Generator) -> None:
    a, b = images(variant, rng)
    mask = blob_mask(rng, HEIGHT, WIDTH, 0.7)
    row, col = np.argwhere(mask)[len(np.argwhere(mask)) // 2]
    without = mask.copy()
    without[row, col] = False
    for bad in (np.nan, np.inf):
        a[row, col] = bad
        result = variant(a, b, mask=mask)
        if not variant.is_map:
            assert np.isnan(result)
            assert np.isfinite(variant(a, b, mask=without))


@each_map
def test_map_is_nan_outside(variant: Variant, rng: np.random.Generator) -> None:
    a, b = images(variant, rng)
    mask = blob_mask(rng, HEIGHT, WIDTH, 0.7)
    local = variant(a, b, mask=mask)
    assert local.shape == (HEIGHT, WIDTH)
    assert np.isfinite(local[mask]).any()
    if variant.metric in {"se", "imed", "sam"}:
        np.testing.assert_array_equal(np.isfinite(local), mask)
    elif variant.metric in {"ssim", "zncc"} and not has_even_window(variant):
        assert not np.isfinite(local[~mask]).any()
    # Far from the region nothing is scored, whatever the window.
    corner = np.zeros_like(mask)
    corner[:12, :12] = True
    far = variant(a, b, mask=corner)
    assert np.isfinite(far[:12, :12]).any()
    assert not np.isfinite(far[20:, 20:]).any()


def test_finite_mask(rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, HEIGHT, WIDTH)
    a[3, 4], b[5, 6], b[7, 8] = np.nan, np.inf, -np.inf
    mask = imsim.finite_mask(a, b)
    assert mask.dtype == bool
    assert sorted(map(tuple, np.argwhere(~mask))) == [(3, 4), (5, 6), (7, 8)]
    assert np.isfinite(imsim.rmse(a, b, mask=mask))


def test_finite_mask_of_batches_and_channels(rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, HEIGHT, WIDTH, colour=True, batch=(2,))
    a[0, 1, 2, 0] = np.nan
    mask = imsim.finite_mask(a, b, channel_axis=-1)
    assert mask.shape == (2, HEIGHT, WIDTH)
    assert [tuple(i) for i in np.argwhere(~mask)] == [(0, 1, 2)]
    crossed = imsim.finite_mask(a[:, None], b, channel_axis=-1)
    assert crossed.shape == (2, 2, HEIGHT, WIDTH)
    assert imsim.finite_mask([[1, 2]], [[3, 4]]).all()
    with pytest.raises(imsim.ShapeError):
        imsim.finite_mask(a, b[:, 1:], channel_axis=-1)


@each_score
def test_scores_are_those_of_the_region(variant: Variant, rng: np.random.Generator) -> None:
    """Whatever the background: a disc on black, on white, and within the full texture agree."""
    a, b = images(variant, rng)
    mask = blob_mask(rng, HEIGHT, WIDTH)
    scores = {
        float(variant(outside_replaced(a, mask, v), outside_replaced(b, mask, v), mask=mask))
        for v in (0.0, 255.0)
    }
    assert scores == {float(variant(a, b, mask=mask))}
    assert spread_mask(mask, a).shape == a.shape


@each_variant
def test_any_byte_but_0_is_true(variant: Variant, rng: np.random.Generator) -> None:
    """As in integers that are viewed as booleans."""
    a, b = images(variant, rng)
    mask = blob_mask(rng, HEIGHT, WIDTH)
    want = variant(a, b, mask=mask)
    for true in (2, 3, 128, 255):
        odd = np.where(mask, true, 0).astype(np.uint8)
        odd[HEIGHT // 2 :] //= true  # 1
        np.testing.assert_array_equal(variant(a, b, mask=odd.view(bool)), want)


@pytest.mark.parametrize("variant", PLAIN, ids=lambda v: v.id)
def test_any_byte_but_0_is_a_white_pixel(variant: Variant, rng: np.random.Generator) -> None:
    p, q = (v > np.median(v) for v in images(variant, rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", imsim.DataRangeWarning)
        want = variant(p, q, data_range=1)
        for true in (2, 3, 128, 255):
            x, y = ((v * np.uint8(true)).view(bool) for v in (p, q))
            np.testing.assert_array_equal(variant(x, y, data_range=1), want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [((2,), (2,)), ((3,), (1,)), ((1,), (2, 1)), ((), ())])
def test_pixels_are_left_out_bit_by_bit(
    dtype: str, batch: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, mask = (
        rng.normal(size=(*batch[0], 70, 80)).astype(dtype),
        rng.random((*batch[1], 70, 80)),
    )
    for k, odd in enumerate((np.nan, -0.0, np.inf, -np.inf)):
        values.flat[k::7] = odd
    want = np.where(mask > 0.5, values, values.dtype.type(0))
    monkeypatch.setattr(np, "where", None)
    found = arrays.where_valid(mask > 0.5, values)
    assert found.tobytes() == want.tobytes()
    assert (found.dtype, found.shape) == (want.dtype, want.shape)
