"""Compiled gradients, and central differences of the scores beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import imsim
from imsim.portable.pair import Pair
from imsim.registry import METRICS


def pair_of(x: Any, y: Any, mask: Any = None, data_range: float = 1.0) -> Pair:
    """Pair of images (..., channels, height, width), with a mask (..., height, width)."""
    if mask is not None:
        mask = mask[..., None, :, :]
        x, y = (np.where(mask, v, v.dtype.type(0)) for v in (x, y))
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    return Pair(np, x, y, x.dtype.type, data_range, has_channels=True, mask=mask)


def gradients(
    metric: str,
    x: Any,
    y: Any,
    mask: Any = None,
    *,
    upstream: Any = 1.0,
    wanted: tuple[bool, bool] = (True, True),
    data_range: float = 1.0,
    **options: Any,
) -> Any:
    """Call the compiled gradient of a metric."""
    load = METRICS[metric].gradient
    assert load is not None
    batches = [x.shape[:-3], y.shape[:-3], *([] if mask is None else [mask.shape[:-2]])]
    weights = np.broadcast_to(upstream, np.broadcast_shapes(*batches)).astype(np.float64)
    return load()(pair_of(x, y, mask, data_range), weights, wanted, **options)


def score(metric: str, x: Any, y: Any, mask: Any = None, **options: Any) -> Any:
    """Score images (..., channels, height, width)."""
    options = {"data_range": 1.0, **options}
    return METRICS[metric].function(x, y, mask=mask, channel_axis=-3, **options)


def check_directions(
    metric: str,
    x: Any,
    y: Any,
    mask: Any = None,
    *,
    upstream: Any = 1.0,
    steps: tuple[float, ...] = (1e-4,),
    rel: float = 1e-6,
    **options: Any,
) -> None:
    """Compare with differences along a random direction of x, and of y; float64 images.

    One of the steps must agree: a long one may cross a corner of the score, a short one rounds.
    """
    rng = np.random.default_rng(7)
    found = gradients(metric, x, y, mask, upstream=upstream, **options)
    for side, gradient in enumerate(found):
        image = (x, y)[side]
        direction = rng.standard_normal(image.shape)

        def moved(h: float, side: int = side, direction: Any = direction) -> Any:
            images = [x, y]
            images[side] = images[side] + h * direction
            scores = score(metric, *images, mask, **options)
            return np.sum(np.nan_to_num(upstream * scores))

        def slope(h: float, moved: Any = moved) -> Any:
            return (moved(h) - moved(-h)) / (2 * h)

        got = float(np.sum(gradient * direction))
        wants = [float(4 * slope(step / 2) - slope(step)) / 3 for step in steps]
        assert any(got == pytest.approx(want, rel=rel, abs=1e-12) for want in wants), (got, wants)


def check_finite_and_inside(found: Any, mask: Any = None) -> None:
    """No gradient is NaN, and outside the mask all are 0."""
    for gradient in found:
        assert np.isfinite(gradient).all()
        if mask is not None:
            outside = np.broadcast_to(~mask[..., None, :, :], gradient.shape)
            assert (gradient[outside] == 0).all()


def degenerate_pairs(rng: Any, shape: tuple[int, ...]) -> dict[str, tuple[Any, Any, Any]]:
    """Pairs, and masks, at which derivatives of roots and quotients are likely to be NaN."""
    x = rng.random(shape).astype(np.float32)
    half = np.array(x)
    half[..., shape[-1] // 2 :] = 0.5
    other = half + np.float32(0.1) * rng.random(shape).astype(np.float32)
    other[..., shape[-1] // 2 :] = 0.5
    black, grey = np.zeros_like(x), np.full_like(x, 0.5)
    one, none = np.zeros(shape[-2:], bool), np.zeros(shape[-2:], bool)
    one[shape[-2] // 2, shape[-1] // 2] = True
    return {
        "flat patches": (half, other, None),
        "identical": (x, x, None),
        "identical and flat": (half, half, None),
        "constant": (grey, grey + np.float32(0.1), None),
        "the same constant": (grey, grey, None),
        "black": (black, black, None),
        "one black": (black, x, None),
        "one pixel inside": (x, x[..., ::-1], one),
        "nothing inside": (x, x[..., ::-1], none),
        "nearly identical": (x, x + np.float32(1e-7), None),
        "nearly constant": (grey, grey + np.float32(1e-7) * x, None),
        "tiny": (np.float32(1e-30) * x, np.float32(1e-30) * x[..., ::-1], None),
        "checkerboard": (np.indices(shape).sum(0).astype(np.float32) % 2, x, None),
        "even loss of contrast": (half, half / 2, None),
    }


DEGENERATE = tuple(degenerate_pairs(np.random.default_rng(0), (4, 4)))


def check_batch(metric: str, rng: Any, frame: tuple[int, int], **options: Any) -> None:
    """A batch that broadcasts has the gradients of its pairs, whatever the number of threads."""
    x, y = rng.random((3, 1, 3, *frame)), rng.random((1, 2, 3, *frame))
    mask = rng.random((2, *frame)) > 0.01
    upstream = rng.standard_normal((3, 2))
    found = gradients(metric, x, y, mask, upstream=upstream, **options)
    for workers in (1, 3, 8):
        with imsim.workers(workers):
            again = gradients(metric, x, y, mask, upstream=upstream, **options)
        for got, want in zip(again, found, strict=True):
            assert got.shape == (3, 2, 3, *frame)
            np.testing.assert_array_equal(got, want)
    for i, j in np.ndindex(3, 2):
        one = gradients(metric, x[i, 0], y[0, j], mask[j], upstream=upstream[i, j], **options)
        for got, want in zip(found, one, strict=True):
            np.testing.assert_allclose(got[i, j], want, rtol=1e-12, atol=1e-15)


def check_wanted(metric: str, rng: Any, shape: tuple[int, ...], **options: Any) -> None:
    """Only the gradients that are wanted are computed."""
    x, y = rng.random(shape), rng.random(shape)
    both = gradients(metric, x, y, **options)
    for side, wanted in enumerate(((True, False), (False, True))):
        found = gradients(metric, x, y, wanted=wanted, **options)
        np.testing.assert_array_equal(found[side], both[side])
        assert found[1 - side] is None


def check_dtypes(metric: str, rng: Any, shape: tuple[int, ...], rel: float, **options: Any) -> None:
    """Gradients have the dtype of the pixels; float32 keeps most of its digits."""
    x, y = rng.random(shape, dtype=np.float32), rng.random(shape, dtype=np.float32)
    narrow = gradients(metric, x, y, **options)
    wide = gradients(metric, x.astype(np.float64), y.astype(np.float64), **options)
    for got, want in zip(narrow, wide, strict=True):
        assert got.dtype == np.float32
        assert want.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=0, atol=rel * abs(want).max())
