"""The kernels of the similarity hash against its formula."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import imsim

HASHES = ("wavelet", "perceptual", "difference", "average", "census")
DTYPES = (np.uint8, np.uint16, np.int64, np.float32, np.float64)


def engines(*args: Any, **options: Any) -> tuple[Any, Any]:
    """Results of the formula and of the kernel."""
    found = []
    for engine in ("portable", "fast"):
        imsim.set_engine(engine)  # type: ignore[arg-type]
        try:
            found.append(imsim.sh(*args, **options))
        finally:
            imsim.set_engine("auto")
    return found[0], found[1]


def pair(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    x = rng.uniform(0, 250, shape)
    return x.astype(dtype), np.clip(x + rng.normal(0, 20, shape), 0, 255).astype(dtype)


@pytest.mark.filterwarnings("ignore::imsim.EmptyMaskWarning")
@pytest.mark.parametrize("frame", [(64, 64), (33, 47), (130, 101), (5, 6)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("hash", HASHES)
def test_engines_agree(rng: Any, hash: str, dtype: Any, frame: tuple[int, int]) -> None:
    """Exactly: signatures are bits, and ties are ties in both."""
    x, y = pair(rng, (2, *frame), dtype)
    block = np.zeros(frame, dtype=bool)
    block[frame[0] // 4 :, : frame[1] // 2 + 1] = True
    sparse = rng.random((3, 1, *frame)) < 0.1
    for hash_size in (8, 5):
        for mask in (None, block, sparse, np.ones(frame, dtype=bool)):
            want, got = engines(x, y, mask=mask, hash=hash, hash_size=hash_size)
            np.testing.assert_array_equal(got, want)
        want, got = engines(x[0], y, hash=hash, hash_size=hash_size)
        np.testing.assert_array_equal(got, want)
    flat = np.full(frame, 7.3).astype(dtype)
    assert engines(flat, flat + 1, hash=hash) == (0, 0)


@pytest.mark.parametrize("hash", HASHES)
def test_what_is_not_finite_counts_inside_the_mask_only(rng: Any, hash: str) -> None:
    x, y = pair(rng, (40, 40), np.float32)
    mask = np.ones((40, 40), dtype=bool)
    mask[7, 9] = False
    want = imsim.sh(x, y, mask=mask, hash=hash)
    for bad in (math.nan, math.inf, -math.inf):
        damaged = x.copy()
        damaged[7, 9] = bad
        assert math.isnan(imsim.sh(damaged, y, hash=hash))
        assert math.isnan(imsim.sh(y, damaged, mask=~mask | mask, hash=hash))
        assert imsim.sh(damaged, y, mask=mask, hash=hash) == want


@pytest.mark.parametrize("hash", HASHES)
def test_batches_equal_single_calls_for_every_worker_count(rng: Any, hash: str) -> None:
    x, y = pair(rng, (3, 700, 300), np.uint8)
    single = [imsim.sh(a, b, hash=hash) for a, b in zip(x, y, strict=True)]
    for workers in (1, 2, 3):
        with imsim.workers(workers):
            assert imsim.sh(x, y, hash=hash).tolist() == single
            assert imsim.sh(x[::1, :, ::-1], y[:, :, ::-1][:, :, ::1], hash=hash).shape == (3,)
