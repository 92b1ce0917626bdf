"""The kernels of ISSM against its formula."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import imsim


def engines(function: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
    """Results of the formula and of the kernel."""
    found = []
    for engine in ("portable", "fast"):
        imsim.set_engine(engine)  # type: ignore[arg-type]
        try:
            found.append(function(*args, **{"data_range": 255, **options}))
        finally:
            imsim.set_engine("auto")
    return found[0], found[1]


def pair(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    x = rng.uniform(-20, 290, shape).clip(0, 255)
    return x.astype(dtype), np.clip(x + rng.normal(0, 20, shape), 0, 255).astype(dtype)


@pytest.mark.parametrize("frame", [(64, 64), (33, 47)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_engines_agree(rng: Any, dtype: Any, frame: tuple[int, int]) -> None:
    """Entropy and edges exactly; the structural similarity as in its own test."""
    x, y = pair(rng, (2, *frame), dtype)
    block = np.zeros(frame, dtype=bool)
    block[frame[0] // 4 :, : frame[1] * 3 // 4] = True
    atol = 1e-6 if dtype == np.float32 else 1e-12
    for mask in (None, block, np.ones(frame, dtype=bool), rng.random((3, 1, *frame)) < 0.9):
        want, got = engines(imsim.issm_components, x, y, mask=mask)
        np.testing.assert_array_equal(got.entropy, want.entropy)
        np.testing.assert_array_equal(got.edge_correlation, want.edge_correlation)
        np.testing.assert_allclose(got.ssim, want.ssim, rtol=0, atol=atol)
        want, got = engines(imsim.issm, x, y, mask=mask)
        np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def test_engines_agree_on_colour_and_broadcast(rng: Any) -> None:
    x, y = pair(rng, (3, 30, 32, 3), np.uint8)
    for a in (x, x[0], x[:, None]):
        want, got = engines(imsim.issm, a, y, channel_axis=-1)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    assert imsim.issm_components(x, y, channel_axis=-1).entropy.shape == (3,)


def test_mask_workers_and_what_is_not_finite(rng: Any) -> None:
    x, y = pair(rng, (4, 48, 40), np.float64)
    mask = np.ones((48, 40), dtype=bool)
    mask[:9, :9] = False
    want = [imsim.issm(a, b, mask=mask, data_range=255) for a, b in zip(x, y, strict=True)]
    for bad in (math.nan, math.inf, -math.inf):
        damaged = x.copy()
        damaged[:, 4, 5] = bad
        for workers in (1, 2, 3):
            with imsim.workers(workers):
                got = imsim.issm(damaged, y, mask=mask, data_range=255)
                assert got.tolist() == want
                assert np.isnan(imsim.issm(damaged, y, data_range=255)).all()
