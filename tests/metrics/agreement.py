"""How closely a kernel has to follow its formula, and on which input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from engines import by_engine

import imsim

DTYPES = (np.uint8, np.uint16, np.float32, np.float64)
FRAMES = ((1, 1), (1, 7), (5, 2), (33, 38), (70, 301))

Function = Callable[..., Any]
Images = tuple[np.ndarray, np.ndarray]


def tolerance(dtype: Any, operations: int, pixels: int) -> float:
    """Relative error of so many roundings per pixel, and of a sum, which grows as a random walk."""
    arithmetic = np.float32 if dtype == np.float32 else np.float64
    sums = 4 * np.finfo(np.float64).eps * math.sqrt(pixels)
    return float(operations * np.finfo(arithmetic).eps + sums)


def engines(function: Function, *args: Any, **options: Any) -> tuple[Any, Any]:
    """Return the results of the formula and of the kernel."""
    return (
        by_engine("portable", function, *args, **options),
        by_engine("fast", function, *args, **options),
    )


def pair(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Images:
    """Make noise and a noisy version of it, in [1, 255]."""
    x = rng.uniform(1, 250, shape)
    return x.astype(dtype), np.clip(x + rng.normal(0, 20, shape), 1, 255).astype(dtype)


def region(rng: np.random.Generator, frame: tuple[int, int]) -> np.ndarray:
    """Make a mask with a solid part, for what needs neighbours, and scattered pixels."""
    mask = rng.random(frame) < 0.3
    mask[: frame[0] * 2 // 3 + 1, : frame[1] * 2 // 3 + 1] = True
    return mask


def masks(rng: np.random.Generator, frame: tuple[int, int]) -> Iterator[np.ndarray | None]:
    """Yield no mask, the whole frame, and a part of it."""
    yield None
    yield np.ones(frame, dtype=bool)
    yield region(rng, frame)


def fewer_masks(
    rng: np.random.Generator, frame: tuple[int, int], dtype: Any
) -> Iterator[np.ndarray | None]:
    """Yield the same, but no mask for 16-bit integers, whose windows take seconds to compile."""
    return iter((None,)) if dtype == np.uint16 else masks(rng, frame)


def check_agreement(
    function: Function, images: Images, rtol: float, atol: float, **options: Any
) -> None:
    """Compare the engines: values up to rounding, shapes and dtypes exactly."""
    want, got = engines(function, *images, **options)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)
    assert got.dtype == want.dtype
    assert got.shape == want.shape


def check_layouts(function: Function, images: Images, **options: Any) -> None:
    """Channels last and first, in a batch and alone, masked and not: the same bits."""
    x, y = images  # (batch, height, width, channels)
    rng = np.random.default_rng(5)
    mask = region(rng, x.shape[1:3])
    for m in (None, mask):
        want = [function(*p, mask=m, channel_axis=-1, **options) for p in zip(x, y, strict=True)]
        np.testing.assert_array_equal(
            function(x, y, mask=m, channel_axis=-1, **options), np.stack(want)
        )
        first = [np.ascontiguousarray(np.moveaxis(v, -1, 1)) for v in images]
        np.testing.assert_array_equal(
            function(*first, mask=m, channel_axis=1, **options), np.stack(want)
        )
        one = [function(x[0], y[i], mask=m, channel_axis=-1, **options) for i in range(len(y))]
        np.testing.assert_array_equal(
            function(x[0], y, mask=m, channel_axis=-1, **options), np.stack(one)
        )


def check_outside(function: Function, images: Images, **options: Any) -> None:
    """No bit may depend on what lies outside the mask, and NaN inside is not lost."""
    x, y = images
    mask = region(np.random.default_rng(6), x.shape[-2:])
    mask[-1, -1] = True  # alone, perhaps, so that nothing there can be scored
    want = function(x, y, mask=mask, **options)
    for garbage in (np.nan, np.inf, -1e30):
        p, q = (np.where(mask, v, np.array(garbage, v.dtype)) for v in images)
        np.testing.assert_array_equal(function(p, q, mask=mask, **options), want)
        for bad in (np.nan, np.inf):
            for row, column in ((0, 0), (-1, -1)):
                broken = p.copy()
                broken[..., row, column] = bad
                assert np.all(np.isnan(function(broken, q, mask=mask, **options)))
                assert np.all(np.isnan(function(q, broken, mask=mask, **options)))


def check_workers(function: Function, images: Images, **options: Any) -> None:
    """However many threads, the same bits; the images have to be large enough for threads."""
    results = []
    for n in (1, 2, 3):
        with imsim.workers(n):
            results.append(function(*images, **options))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])
