"""Passes over X-ray images equal what SciPy and NumPy say, pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from imsim.kernels import xray

SHAPES = ((1, 1, 1), (2, 1, 9), (2, 9, 1), (3, 2, 2), (2, 17, 40), (1, 130, 300))

PLACES = np.array([(y, x, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)])
"""Row and column of the neighbours of a pixel, and 1 for their mean."""


def noise(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0.5, 0.01, shape).astype(np.float32)


def neighbours(image: Any) -> Any:
    padded = np.pad(image, 1, mode="reflect")
    height, width = image.shape
    nine = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.delete(nine, 4, axis=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_lone_pixels_take_the_middle_of_their_neighbours(shape: tuple[int, ...]) -> None:
    images = noise(shape)
    images.reshape(-1)[::37] += 3
    images.reshape(-1)[5::41] -= 3
    images[-1, shape[1] // 2, ::11] = np.nan
    images[0, -1, ::13] = np.inf
    found = xray.without_lone(images, 0.1)
    for image, result in zip(images, found, strict=True):
        with np.errstate(invalid="ignore"):
            around = neighbours(image).astype(np.float64)
            plane, *_ = np.linalg.lstsq(PLACES, np.nan_to_num(around, posinf=0).reshape(8, -1))
            slopes = (PLACES[:, :2] @ plane[:2]).reshape(around.shape)
            around = np.where(np.isfinite(around).all(axis=0), around - slopes, np.nan)
            low, high = around.min(axis=0), around.max(axis=0)
            distance = np.maximum(image - high, low - image)
            lone = (high - low < 0.1 * distance) & (distance > 0)
        assert lone.any() or image.size < 100
        np.testing.assert_array_equal(result != image, lone | np.isnan(image))
        np.testing.assert_allclose(result, np.where(lone, (low + high) / 2, image), rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_mean_of_neighbours(shape: tuple[int, ...]) -> None:
    images = noise(shape)
    expected = [ndimage.uniform_filter(image.astype(float), 3, mode="nearest") for image in images]
    np.testing.assert_allclose(xray.mean_of_neighbours(images), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_halfway_is_between_the_means_of_both_sides(shape: tuple[int, ...]) -> None:
    images = noise(shape)
    images[:, : shape[1] // 2] += 1
    for image, threshold in zip(images, xray.halfway(images, 50), strict=True):
        above = image > threshold
        high, low = (image[side].sum() / max(side.sum(), 1) for side in (above, ~above))
        assert threshold == pytest.approx((high + low) / 2, rel=1e-6)


def item_of(above: Any, smallest: float, second: float) -> tuple[Any, int]:
    labels, count = ndimage.label(above)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    if areas.max() < smallest:
        return np.zeros_like(above), 0
    large = areas >= second * areas.max()
    return ndimage.binary_fill_holes(large[labels]), int(large.sum())


def distances_of(mask: Any, reach: int) -> Any:
    padded = np.pad(mask, reach, mode="edge")
    padded[0] |= mask.all()  # else SciPy knows no rim
    padded = np.pad(padded, 1) if mask.all() else padded
    found = ndimage.distance_transform_cdt(padded)
    edge = reach + int(mask.all())
    return np.minimum(found[edge:-edge, edge:-edge], reach)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.sampled_from((2, 16)))
def test_items_and_distances_of_random_masks(
    seed: int, height: int, width: int, reach: int
) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((3, height, width)) > np.array([0.1, 0.4, 0.7])[:, None, None]
    items, numbers = xray.items(masks, 3, 0.1, True)
    single, _ = xray.items(masks, 3, 0.1, False)
    for mask, item, number, alone in zip(masks, items, numbers, single, strict=True):
        expected, count = item_of(mask, 3, 0.1)
        np.testing.assert_array_equal(item, expected)
        assert number == count
        np.testing.assert_array_equal(alone, expected & (count == 1))
    found = xray.distances(masks, reach)
    np.testing.assert_array_equal(found, [distances_of(mask, reach) for mask in masks])


def test_items_of_many_runs() -> None:
    """A comb, a spiral, rings in rings: what is joined late, and islands within holes."""
    comb = np.zeros((200, 301), bool)
    comb[:, ::2] = comb[-1] = True
    y, x = np.mgrid[:200, :301]
    rings = np.hypot(y - 100, x - 150).astype(int) // 9 % 2 == 0
    angle = np.arctan2(y - 100, x - 150)
    spiral = (np.hypot(y - 100, x - 150) + 12 * angle / np.pi) % 24 < 12
    masks = np.stack([comb, rings, spiral, ~rings, ~comb])
    items, numbers = xray.items(masks, 1, 0.001, True)
    for mask, item, number in zip(masks, items, numbers, strict=True):
        expected, count = item_of(mask, 1, 0.001)
        np.testing.assert_array_equal(item, expected)
        assert number == count


def test_steps_where_both_neighbours_are_free() -> None:
    images, rng = noise((3, 40, 70)), np.random.default_rng(1)
    images[:, 10, 20] += 1
    beam = rng.random(images.shape) > 0.2
    columns, rows = xray.steps(images, beam, 0.2)
    for found, axis in ((columns, 2), (rows, 1)):
        apart = np.diff(images, axis=axis)
        both = beam & np.roll(beam, -1, axis)
        both = both.take(range(apart.shape[axis]), axis) & (np.abs(apart) < 0.2)
        np.testing.assert_array_equal(found[1], both.sum(axis=3 - axis))
        expected = np.where(both, apart, 0).sum(axis=3 - axis, dtype=float)
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-12)


def test_inputs_of_any_kind_are_left_alone() -> None:
    images = noise((2, 12, 15)).astype(np.float64)[:, ::-1]
    images.setflags(write=False)
    masks = np.asfortranarray(images > 0.5)
    masks.setflags(write=False)
    expected = np.ascontiguousarray(images, np.float32), np.ascontiguousarray(masks)
    before = images.copy()
    for function, options in (
        (xray.without_lone, (0.1,)),
        (xray.mean_of_neighbours, ()),
        (xray.halfway, (12,)),
    ):
        np.testing.assert_array_equal(function(images, *options), function(expected[0], *options))
    np.testing.assert_array_equal(
        xray.items(masks, 1, 0.1, True)[0], xray.items(expected[1], 1, 0.1, True)[0]
    )
    np.testing.assert_array_equal(xray.distances(masks, 16), xray.distances(expected[1], 16))
    np.testing.assert_array_equal(images, before)
