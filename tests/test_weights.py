"""What weights of pixels mean, for every metric that takes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
from engines import by_both
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sampling import (
    MAPS,
    PIXELWISE,
    PLAIN,
    SCORES,
    Variant,
    each_of_some,
    outside_replaced,
    textured_pair,
)
from strategies import SEEDS, masked_pair, pairs, region

import imsim

WEIGHED = [v for v in (*SCORES, *MAPS) if not imsim.METRICS[v.metric].no_weights]
UNWEIGHED = [name for name, facts in imsim.METRICS.items() if facts.no_weights]


def is_rare(variant: Variant, dtype: Any = np.float64) -> bool:
    """Whether it takes a kernel of its own, from the same lines as those of SSIM."""
    has_window = variant.metric == "uiq" or (variant.metric, variant.is_map) == ("zncc", True)
    return "block_size" in variant.options or (dtype == np.float32 and has_window)


each = pytest.mark.parametrize(
    "variant",
    [
        pytest.param(v, marks=pytest.mark.thorough if is_rare(v) else (), id=v.id)
        for v in WEIGHED
        if not v.colour
    ],
)
each_colour = pytest.mark.parametrize(
    "variant", [v for v in WEIGHED if v.colour], ids=lambda v: v.id
)
each_plain = pytest.mark.parametrize(
    "variant", [v for v in WEIGHED if v in PLAIN], ids=lambda v: v.id
)
FACTORS = (3.0, 0.1, 1e-300, 1e300, 2.0**-1030)
few = settings(max_examples=8)


def quietly(variant: Variant, *images: Any, **options: Any) -> Any:
    """Call it where it may find nothing to score."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", imsim.EmptyMaskWarning)
        return variant(*images, **options)


def uneven(seed: int, mask: np.ndarray) -> np.ndarray:
    """Weights from 0 to 1, 0 outside a mask; some inside it are tiny."""
    rng = np.random.default_rng(seed)
    weights = rng.random(mask.shape) * 10.0 ** rng.choice(
        [0, -3, -17], mask.shape, p=[0.8, 0.1, 0.1]
    )
    return np.where(mask, weights, 0.0)


def power(variant: Variant) -> float:
    """Power of a common factor of all weights by which a score grows: 0 but for the sums."""
    if variant.options.get("reduction") == "mean" or variant.options.get("normalize") == "rms":
        return 0
    if variant.metric == "imed":
        return 1 if variant.is_map else 0.5
    return 1 if variant.metric == "se" else 0


@each
@few
@given(pairs(), SEEDS, st.sampled_from((1.0, 0.3, 7.0, 1e-310)))
def test_equal_weights_are_the_mask(variant: Variant, pair: Any, seed: int, value: float) -> None:
    x, y = pair
    mask = region(seed, x)
    want = quietly(variant, x, y, mask=mask)
    got = quietly(variant, x, y, weights=np.where(mask, value, 0.0))
    if value == 1 or power(variant) == 0:
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want * value ** power(variant), rtol=1e-13, atol=1e-320)
    for zeros_and_ones in (mask.astype(np.float32), mask.astype(np.int8), mask):
        np.testing.assert_array_equal(quietly(variant, x, y, weights=zeros_and_ones), want)
    whole = np.ones(x.shape)
    np.testing.assert_array_equal(quietly(variant, x, y, weights=whole), quietly(variant, x, y))
    np.testing.assert_array_equal(quietly(variant, x, y, weights=whole, mask=mask), want)


@each
@few
@given(SEEDS, st.sampled_from(FACTORS))
@example(1, 3.0)
def test_a_common_factor_changes_nothing(variant: Variant, seed: int, factor: float) -> None:
    """But for the sums, which grow with it."""
    if power(variant):  # or the score itself would have few digits
        factor = max(factor, 1e-290)
    x, y, mask = masked_pair(seed, 26, 29)
    weights = uneven(seed, mask)
    want = quietly(variant, x, y, weights=weights)
    got = quietly(variant, x, y, weights=weights * factor)
    if factor * 1e-17 < np.finfo(float).tiny:  # the smallest weights lose digits
        got = quietly(variant, x, y, weights=np.where(weights > 1e-6, weights, 0) * factor)
        want = quietly(variant, x, y, weights=np.where(weights > 1e-6, weights, 0))
    want = want * np.float64(factor) ** power(variant)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9 * factor ** power(variant))


@pytest.mark.parametrize("name", PIXELWISE)
@given(pairs(), SEEDS)
def test_whole_numbers_are_repeated_pixels(name: str, pair: Any, seed: int) -> None:
    x, y = pair
    mask = region(seed, x)
    weights = np.where(mask, np.random.default_rng(seed).integers(1, 5, x.shape), 0)
    function = imsim.METRICS[name].function
    rows = (np.repeat(image[mask], weights[mask])[None] for image in (x, y))
    want = function(*rows, data_range=255)
    got = function(x, y, weights=weights, data_range=255)
    assert got == pytest.approx(want, rel=1e-10, abs=1e-10)


@each
@few
@given(SEEDS)
def test_weight_0_is_outside_the_mask(variant: Variant, seed: int) -> None:
    """No value there influences a bit, be it in the images or among the weights of the mask."""
    x, y, mask = masked_pair(seed, 26, 29)
    weights = uneven(seed, mask)
    want = quietly(variant, x, y, weights=weights)
    for left, right in ((np.nan, np.inf), (1e300, -1e300), (0, 255)):
        p, q = outside_replaced(x, mask, left), outside_replaced(y, mask, right)
        np.testing.assert_array_equal(quietly(variant, p, q, weights=weights), want)
    dense = np.where(
        mask, weights, np.random.default_rng(seed).choice([-1, np.nan, 5e300], x.shape)
    )
    np.testing.assert_array_equal(quietly(variant, x, y, mask=mask, weights=dense), want)
    if variant.is_map:
        scored = quietly(variant, x, y, mask=weights > 0)
        np.testing.assert_array_equal(np.isnan(want), np.isnan(scored))


@each
@few
@given(SEEDS)
def test_not_finite_inside_is_not_excused(variant: Variant, seed: int) -> None:
    x, y, mask = masked_pair(seed, 26, 29)
    weights = uneven(seed, mask)
    row, column = np.argwhere(mask)[seed % mask.sum()]
    x[row, column] = np.nan
    result = quietly(variant, x, y, weights=weights)
    if not variant.is_map:
        assert np.isnan(result)
    weights[row, column] = 0
    assert variant.is_map or np.isfinite(quietly(variant, x, y, weights=weights))


@each
def test_an_image_is_equal_to_itself(variant: Variant, rng: np.random.Generator) -> None:
    """Values that are all the best one add up to the weights, in loops of any length."""
    metric = imsim.METRICS[variant.metric]
    best = float(metric.map_higher_is_better) if variant.is_map else metric.best
    for _ in range(40):
        a = 255 * rng.random(rng.integers([25, 25], [40, 90]))
        got = quietly(variant, a, a, weights=rng.random(a.shape) * (rng.random(a.shape) < 0.7))
        np.testing.assert_array_equal(got[~np.isnan(got)], best)


@each_colour
@few
@given(SEEDS)
def test_channels_share_their_weights(variant: Variant, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = textured_pair(rng, 24, 27, colour=True)
    mask = region(seed, x)
    np.testing.assert_array_equal(
        quietly(variant, x, y, weights=mask * 1.0), quietly(variant, x, y, mask=mask)
    )
    weights = uneven(seed, mask)
    want = quietly(variant, x, y, weights=weights)
    got = quietly(variant, x, y, weights=weights * 5) / 5 ** power(variant)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


@each
def test_batch_of_weights_is_a_loop(variant: Variant, rng: np.random.Generator) -> None:
    """Also where the weights of some pairs are equal, or none is left."""
    x, y = textured_pair(rng, 26, 29, batch=(4,))
    mask = region(1, x[0])
    weights = np.stack([uneven(1, mask), mask, 1e-200 * uneven(2, mask > -1), 0 * mask])
    want = [quietly(variant, x[i], y[i], weights=weights[i]) for i in range(4)]
    np.testing.assert_array_equal(quietly(variant, x, y, weights=weights), want)
    crossed = [[quietly(variant, x[0], y[j], weights=w) for j in range(2)] for w in weights]
    got = quietly(variant, x[0], y[:2], weights=weights[:, None])
    np.testing.assert_array_equal(got, crossed)
    masks = np.stack([mask, region(3, x[0])])
    got = quietly(variant, x[:2], y[:2], mask=masks, weights=weights[0])
    want = [quietly(variant, x[i], y[i], weights=np.where(masks[i], weights[0], 0)) for i in (0, 1)]
    np.testing.assert_array_equal(got, want)


@each
def test_batch_of_large_weights_is_a_loop(variant: Variant, rng: np.random.Generator) -> None:
    """Sums of weights beyond 256 have a unit in a batch, and may have none in a call of one."""
    for largest in (300.0, 1000.0, 2000.0):
        x, y = textured_pair(rng, 26, 29, batch=(3,))
        weights = largest * (1 - 0.9 * rng.random(x.shape))
        want = [variant(x[i], y[i], weights=weights[i]) for i in range(3)]
        np.testing.assert_array_equal(variant(x, y, weights=weights), want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_up_to_the_largest_float(dtype: Any, rng: np.random.Generator) -> None:
    x, y = rng.random((2, 16, 18))
    weights = (1 - 0.9 * rng.random(x.shape)).astype(dtype) * np.finfo(dtype).max
    weights[3, 4] = np.finfo(dtype).max
    for name in ("rmse", "sam", "gmsd"):
        score = partial(imsim.METRICS[name].function, x, y, data_range=1)
        assert score(weights=weights) == score(weights=weights * dtype(2.0**-100))


@each_of_some([v for v in WEIGHED if not v.colour], np.float64, np.float32, thorough=is_rare)
def test_weights_are_those_of_either_image(
    variant: Variant, dtype: Any, rng: np.random.Generator
) -> None:
    """To the bit: swapped images have the same score, and equal ones the best."""
    facts = imsim.METRICS[variant.metric]
    for kind in range(6):
        shape = (int(rng.integers(16, 34)), int(rng.integers(16, 34)))
        x, y = (rng.random((2, *shape)) * 255).astype(dtype)
        if kind % 3 == 0:  # windows that kernels compute again
            x[:, : shape[1] // 2] = 0
            y[: shape[0] // 2] = 250
        weights = 1 - rng.random(shape)
        if facts.symmetric:
            got = variant(y, x, weights=weights)
            np.testing.assert_array_equal(got, variant(x, y, weights=weights))
        if not np.isnan(facts.best) and not variant.is_map:
            assert variant(x, x, weights=weights) == facts.best


@each_of_some([v for v in WEIGHED if v.colour], np.float32, thorough=is_rare)
def test_batch_of_weights_is_a_loop_over_channels_of_float32(
    variant: Variant, dtype: Any, rng: np.random.Generator
) -> None:
    """Also where one engine computes some pairs and the other the rest."""
    x, y = (v.astype(dtype) for v in textured_pair(rng, 26, 29, colour=True))
    mask = region(1, x[..., 0])
    weights = np.stack([uneven(1, mask), mask])
    want = [quietly(variant, x, y, weights=w) for w in weights]
    np.testing.assert_array_equal(quietly(variant, x, y, weights=weights), want)


def in_order(weights: np.ndarray) -> np.ndarray:
    return np.asfortranarray(weights)


def with_gaps(weights: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(weights, 2, axis=0), 3, axis=1)[::2, ::3]


def swapped(weights: np.ndarray) -> np.ndarray:
    return weights.astype(weights.dtype.newbyteorder())


@each_plain
def test_the_layout_of_weights_changes_no_bit(variant: Variant, rng: np.random.Generator) -> None:
    x, y = textured_pair(rng, 26, 29, colour=variant.colour)
    for dtype in (np.float64, np.float32):
        weights = uneven(1, region(1, x)).astype(dtype)
        want = variant(x, y, weights=weights)
        for change in (in_order, with_gaps, swapped):
            got = variant(x, y, weights=change(weights))
            np.testing.assert_array_equal(got, want, err_msg=change.__name__)


@each_plain
def test_dtypes_of_weights(variant: Variant, rng: np.random.Generator) -> None:
    x, y = textured_pair(rng, 26, 29, colour=variant.colour)
    weights = np.where(region(1, x), rng.integers(0, 200, x.shape[:2]), 0)
    want = variant(x, y, weights=weights * 1.0)
    for dtype in ("float16", "longdouble", "int64", "uint8", "float32"):
        got = variant(x, y, weights=weights.astype(dtype))
        np.testing.assert_allclose(got, want, rtol=1e-12, err_msg=dtype)


def negative_zeros(weights: np.ndarray) -> np.ndarray:
    return np.where(weights == 0, -0.0, weights)


@each_plain
def test_minus_zero_is_zero(variant: Variant, rng: np.random.Generator) -> None:
    x, y = textured_pair(rng, 26, 29, colour=variant.colour)
    weights = uneven(1, region(1, x))
    got = variant(x, y, weights=negative_zeros(weights))
    np.testing.assert_array_equal(got, variant(x, y, weights=weights))


@each_plain
def test_input_is_not_changed(variant: Variant, rng: np.random.Generator) -> None:
    x, y = textured_pair(rng, 26, 29, colour=variant.colour)
    weights = 1e9 * uneven(1, region(1, x))
    kept = weights.copy()
    weights.setflags(write=False)
    quietly(variant, x, y, weights=weights)
    np.testing.assert_array_equal(weights, kept)


@each_plain
def test_nothing_to_score(variant: Variant, rng: np.random.Generator) -> None:
    x, y = textured_pair(rng, 26, 29, colour=variant.colour)
    with pytest.warns(imsim.EmptyMaskWarning, match=variant.metric):
        result = variant(x, y, weights=np.zeros((26, 29)))
    assert np.isnan(result).all()
    mask = region(1, x)
    with pytest.warns(imsim.EmptyMaskWarning, match=variant.metric):
        result = variant(x, y, weights=1.0 * mask, mask=~mask)
    assert np.isnan(result).all()


@each
def test_one_pixel(variant: Variant, rng: np.random.Generator) -> None:
    """The mask of that pixel, whatever its weight; so are others of next to no weight."""
    x, y = textured_pair(rng, 26, 29)
    weights = np.zeros((26, 29))
    weights[13, 14] = 0.7
    want = quietly(variant, x, y, mask=weights > 0)
    np.testing.assert_allclose(
        quietly(variant, x, y, weights=weights), want * 0.7 ** power(variant), rtol=1e-14
    )
    weights = np.where(weights > 0, 0.7, 1e-40)
    np.testing.assert_allclose(
        quietly(variant, x, y, weights=weights), want * 0.7 ** power(variant), rtol=1e-14
    )


@each
def test_leading_axes_of_weights_are_batch_axes(variant: Variant, rng: np.random.Generator) -> None:
    x, y = textured_pair(rng, 26, 29)
    weights = rng.uniform(0.5, 1, x.shape)
    want = quietly(variant, x, y, weights=weights)
    got = quietly(variant, x, y, weights=weights[None, None])
    np.testing.assert_array_equal(got, np.asarray(want)[None, None], strict=True)


@each
def test_one_weight_unlike_all_others(variant: Variant) -> None:
    """It counts by the same rule, whoever finds it: a kernel on its way, or the check in full."""
    rng = np.random.default_rng(1)
    x, y = textured_pair(rng, 26, 29)
    weights = rng.uniform(0.5, 1, x.shape)
    for odd in (2.0**-100, 2.0, 3.0, 1e300):
        weights[13, 14] = odd
        want, got = by_both(partial(quietly, variant), x, y, weights=weights)
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9, err_msg=str(odd))
    weights[13, 14] = 0
    want = quietly(variant, x, y, weights=weights)
    x[13, 14] = np.nan
    for odd in (5e-324, 1e-310, 2.0**-120):  # they count as 0, and hide what is there
        weights[13, 14] = odd
        got = quietly(variant, x, y, weights=weights)
        np.testing.assert_array_equal(got, want, err_msg=str(odd))


@pytest.mark.parametrize("name", ["zncc", "gmsd", "ssim"])
def test_one_weight_that_exceeds_all_others(name: str, rng: np.random.Generator) -> None:
    """Variances about the pixel that dominates keep their digits."""
    x, y = (np.round(v) for v in textured_pair(rng, 26, 29))
    weights = rng.integers(1, 9, x.shape) * 2.0**-60
    options = {} if name == "zncc" else {"data_range": 255}
    if name == "ssim":
        options = {**options, "window": "uniform", "sample_covariance": True, "K2": 1e-9}
        weights[13, 14] = weights[13, 14] * 2.0**60
    elif name == "zncc":
        weights[13, 14] = 1.0
    if name == "gmsd":
        weights[10:16, 10:16] = 1.0  # the pixels of one cell and its neighbours
    got = imsim.METRICS[name].function(x, y, weights=weights, **options)
    again = imsim.METRICS[name].function(x, y, weights=weights * 3, **options)
    assert got == pytest.approx(again, rel=1e-9)
    if name == "zncc":
        w = [Fraction(v) for v in weights.ravel()]
        p, q = ([Fraction(v) for v in image.ravel()] for image in (x, y))
        n = sum(w)
        mp, mq = (sum(map(Fraction.__mul__, w, v)) / n for v in (p, q))
        pp, qq, pq = (
            sum(a * (b - mb) * (c - mc) for a, b, c in zip(w, s, t, strict=True))
            for s, mb, t, mc in ((p, mp, p, mp), (q, mq, q, mq), (p, mp, q, mq))
        )
        assert got == pytest.approx(float(pq) / float(pp * qq) ** 0.5, rel=1e-11)


def test_weights_of_volumes(rng: np.random.Generator) -> None:
    x, y = (rng.uniform(0, 255, (12, 13, 14)) for _ in "xy")
    mask = rng.random(x.shape) < 0.9
    weights = np.where(mask, rng.random(x.shape), 0)
    for name, facts in imsim.METRICS.items():
        if not facts.volumes or facts.no_weights:
            continue
        options: dict[str, Any] = {"data_range": 255, "ndim": 3}
        if name == "gmsd":  # whose gradients need several cells within the mask
            mask, weights = mask | (x > -1), rng.random(x.shape)
        masked = quietly_of(facts.function, x, y, mask=mask, **options)
        even = quietly_of(facts.function, x, y, weights=mask * 1.0, **options)
        np.testing.assert_array_equal(even, masked)
        got = facts.function(x, y, weights=weights, **options)
        turned = facts.function(x, y, weights=weights.astype(np.longdouble), **options)
        assert np.isfinite(got)
        assert got == turned
        order = (2, 0, 1)
        p, q, w = (np.ascontiguousarray(v.transpose(order)) for v in (x, y, weights))
        if name != "gmsd":  # cells of odd frames are not those of turned ones
            assert facts.function(p, q, weights=w, **options) == pytest.approx(got, rel=1e-10)
        with pytest.raises(imsim.WeightsError, match="weights has shape"):
            facts.function(x, y, weights=weights[1:], **options)


def quietly_of(function: Callable[..., Any], *images: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", imsim.EmptyMaskWarning)
        return function(*images, **options)


def test_compare_takes_weights(rng: np.random.Generator) -> None:
    x, y = textured_pair(rng, 26, 29)
    weights = uneven(1, region(1, x))
    found = imsim.compare(x, y, weights=weights, data_range=255)
    assert sorted(found.skipped) == UNWEIGHED
    assert all("weights" in reason for reason in found.skipped.values())
    for name, score in found.items():
        assert score == imsim.METRICS[name].function(x, y, weights=weights, data_range=255)


# Refusals

IMAGE = np.arange(32.0 * 32).reshape(32, 32) % 251
ONES = np.ones((32, 32))


def call(name: str, weights: Any) -> Any:
    return imsim.METRICS[name].function(IMAGE, IMAGE, weights=weights, data_range=255)


@pytest.mark.parametrize("name", UNWEIGHED)
def test_metrics_without_weights(name: str) -> None:
    with pytest.raises(imsim.OptionError, match=rf"weights.*{name}.*mask=") as caught:
        call(name, ONES)
    assert imsim.METRICS[name].no_weights in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        (np.where(IMAGE == 7, -1e-9, ONES), imsim.WeightsError, "weights .*negative.*-1e-09"),
        (np.where(IMAGE == 7, np.nan, ONES), imsim.WeightsError, "weights .*NaN"),
        (np.where(IMAGE == 7, np.inf, ONES), imsim.WeightsError, "weights .*infinit"),
        (np.where(IMAGE == 7, -np.inf, ONES), imsim.WeightsError, "weights "),
        (ONES.astype(np.longdouble) * np.longdouble("1e400"), imsim.WeightsError, "weights .*inf"),
        (ONES.astype(int) - 2, imsim.WeightsError, "weights .*negative"),
        (ONES.astype(complex), imsim.DTypeError, "weights has dtype complex128"),
        (ONES.astype(object), imsim.DTypeError, "weights has dtype object"),
        (np.full((32, 32), "True"), imsim.DTypeError, "weights has dtype <U4"),
        (ONES[1:], imsim.WeightsError, "weights has shape .*32x32.*height"),
        (ONES[..., None], imsim.WeightsError, "weights has shape .*no channel axis"),
        (np.ones(32), imsim.WeightsError, "weights has shape"),
        (1.0, imsim.WeightsError, "weights has shape"),
        (
            np.ma.masked_array(ONES, ONES > 2),
            imsim.DTypeError,
            r"weights is .*MaskedArray.*weights\.data",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_weights_that_are_refused(weights: Any, error: type[Exception], words: str) -> None:
    for name, facts in imsim.METRICS.items():
        if not facts.no_weights:
            with pytest.raises(error, match=words):
                call(name, weights)


def test_weights_with_names_are_refused() -> None:
    class Named(np.ndarray):
        dims = ("y", "x")

    with pytest.raises(imsim.DTypeError, match=r"weights is .*axes have names"):
        call("se", ONES.view(Named))


def test_batches_that_do_not_broadcast() -> None:
    stack = np.zeros((2, 32, 32))
    with pytest.raises(imsim.WeightsError, match=r"weights has shape .*batch.*broadcast"):
        imsim.se(stack, stack, weights=np.ones((3, 32, 32)))


def test_a_soft_mask_is_told_of_weights() -> None:
    with pytest.raises(imsim.MaskTypeError, match="weights="):
        imsim.se(IMAGE, IMAGE, mask=0.5 * ONES)


@pytest.mark.parametrize("variant", WEIGHED, ids=lambda v: ("map of " if v.is_map else "") + v.id)
def test_weights_that_are_all_zero_are_named(variant: Variant) -> None:
    """The mask is named only if there is one."""
    shape = variant.shape(32, 34)
    x, ones = np.full(shape, 0.5), np.ones((32, 34))
    half = np.tile(np.arange(34) < 16, (32, 1))
    for weights, mask, remedy in (
        (0 * ones, None, r"; give more pixels weights > 0, or leave"),
        (half * ones, ~half, r"; widen the mask, or give more of its pixels weights > 0, or"),
    ):
        with pytest.warns(imsim.EmptyMaskWarning, match=remedy):
            assert np.isnan(variant(x, x, weights=weights, mask=mask)).all()


def test_slices_without_weights_are_told_of_them() -> None:
    with pytest.warns(imsim.EmptyMaskWarning, match="; give more pixels weights > 0, or name"):
        imsim.by_slice("rmse", np.ones((3, 4, 5)), np.ones((3, 4, 5)), weights=np.zeros((3, 4, 5)))
