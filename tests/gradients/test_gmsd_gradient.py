"""The compiled gradient of GMSD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from derivatives import (
    DEGENERATE,
    check_batch,
    check_directions,
    check_dtypes,
    check_finite_and_inside,
    check_wanted,
    degenerate_pairs,
    gradients,
)
from sampling import blob_mask


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize(
    "shape", [(1, 20, 24), (2, 3, 21, 17), (1, 1, 3), (1, 4, 1), (1, 200, 131)]
)
def test_it_is_the_derivative_of_the_score(
    rng: Any, shape: tuple[int, ...], is_masked: bool
) -> None:
    x = rng.random(shape)
    y = x + 0.1 * rng.standard_normal(shape)
    mask = blob_mask(rng, *shape[-2:], 0.9) if is_masked and min(shape[-2:]) > 4 else None
    upstream = rng.standard_normal(shape[:-3])
    check_directions("gmsd", x, y, mask, upstream=upstream)


@pytest.mark.parametrize("data_range", [2.0**-40, 256.0, 2.0**80])
def test_data_ranges(rng: Any, data_range: float) -> None:
    """The gradient is inverse to the unit of the pixels."""
    x, y = rng.random((2, 1, 30, 30), dtype=np.float32)
    unit = np.float32(data_range)
    for got, want in zip(
        gradients("gmsd", x * unit, y * unit, data_range=data_range),
        gradients("gmsd", x, y),
        strict=True,
    ):
        np.testing.assert_allclose(got * unit, want, rtol=0, atol=1e-6 * abs(want).max())


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("frame", [(16, 16), (15, 13)], ids=str)
def test_degenerate_pairs(rng: Any, frame: tuple[int, int], name: str) -> None:
    x, y, mask = degenerate_pairs(rng, (1, *frame))[name]
    for images in ((x, y), (y, x)):
        found = gradients("gmsd", *images, mask)
        check_finite_and_inside(found, mask)
        if name in {"identical", "identical and flat", "the same constant", "black"} or (
            mask is not None
        ):
            assert not np.any(found)
    x, y = x.astype(np.float64), y.astype(np.float64)
    check_finite_and_inside(gradients("gmsd", x, y, mask), mask)


def test_float32_keeps_small_differences(rng: Any) -> None:
    """The score of these images is 0 in float32; their gradient is that in float64."""
    x = rng.random((1, 40, 40), dtype=np.float32)
    y = x + np.float32(1e-7) * rng.standard_normal(x.shape).astype(np.float32)
    wide = gradients("gmsd", x.astype(np.float64), y.astype(np.float64))
    for got, want in zip(gradients("gmsd", x, y), wide, strict=True):
        assert abs(want).max() > 1e-8
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * abs(want).max())


def test_outside_the_mask_it_is_zero(rng: Any) -> None:
    x, y = rng.random((2, 2, 3, 40, 33))
    inside = blob_mask(rng, 40, 33, 0.5)
    mask = np.stack([inside, ~inside])
    found = gradients("gmsd", x, y, mask)
    check_finite_and_inside(found, mask)
    assert np.any(found[0])


def test_batches_and_threads(rng: Any) -> None:
    check_batch("gmsd", rng, (150, 151))


def test_only_what_is_wanted(rng: Any) -> None:
    check_wanted("gmsd", rng, (2, 1, 20, 21))
    x = rng.random((1, 8, 8))
    assert gradients("gmsd", x, x, wanted=(False, False)) == (None, None)


def test_dtypes(rng: Any) -> None:
    check_dtypes("gmsd", rng, (2, 3, 64, 63), rel=1e-6)


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float64, 1e8), (np.float32, 1e30), (np.float64, 1e200)]
)
def test_what_is_left_to_the_formula(rng: Any, dtype: Any, size: float) -> None:
    x, y = rng.random((2, 1, 16, 16)).astype(dtype)
    assert gradients("gmsd", x * dtype(size), y) is None
    assert gradients("gmsd", x, y * dtype(size)) is None
    assert gradients("gmsd", x, y, data_range=1e-40) is None


def test_pixels_far_from_zero(rng: Any) -> None:
    """A large offset costs no digits of what differs."""
    x, y = rng.random((2, 1, 30, 30))
    mask = np.zeros((30, 30), bool)
    mask[4:-4, 4:-4] = True
    for got, want in zip(
        gradients("gmsd", x + 2.0**18, y + 2.0**18, mask),
        gradients("gmsd", x, y, mask),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-8 * abs(want).max())
