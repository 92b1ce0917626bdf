"""Scores of tensors are those of NumPy: eager by the kernels, compiled by the formulas."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
import torch
from sampling import DEFAULTS, Variant, blob_mask, frame, textured_pair

import imsim

PORTABLE = [v for v in DEFAULTS if not imsim.METRICS[v.metric].numpy_only]
each = pytest.mark.parametrize("variant", DEFAULTS, ids=lambda v: v.id)
each_portable = pytest.mark.parametrize("variant", PORTABLE, ids=lambda v: v.id)
FRAME = frame(33, 38)
CLOSE = {"float64": 1e-12, "float32": 2e-6}
"""Relative for scores above 1."""
CLOSE_OF_FSIM = 1e-5
"""The same in float32, of transforms."""
DTYPES = pytest.mark.parametrize("dtype", CLOSE)


def inputs(dtype: str) -> list[np.ndarray]:
    """Return two pairs, and a mask of each."""
    rng = np.random.default_rng(5)
    images = (v.astype(dtype) for v in textured_pair(rng, *FRAME, batch=(2,)))
    return [*images, np.stack([blob_mask(rng, *FRAME), blob_mask(rng, *FRAME, 0.4)])]


def check(variant: Variant, dtype: str, got: Any, mask: Any) -> None:
    a, b, _ = inputs(dtype)
    want = variant(a, b, mask=mask)
    close = CLOSE[dtype]
    if variant.metric == "fsim" and dtype == "float32":
        close = CLOSE_OF_FSIM
    got, scale = np.asarray(got, np.float64), np.maximum(1, np.abs(want))
    np.testing.assert_allclose(got / scale, want / scale, rtol=0, atol=close)


def test_every_metric_is_here() -> None:
    assert {v.metric for v in DEFAULTS} == set(imsim.METRICS)


@each
@DTYPES
def test_eager(variant: Variant, dtype: str) -> None:
    a, b, mask = inputs(dtype)
    for one in (None, mask):
        for convert in (torch.from_numpy, jax.numpy.asarray):
            own = None if one is None else convert(one)
            check(variant, dtype, variant(convert(a), convert(b), mask=own), one)


@each_portable
def test_compiled_by_torch(variant: Variant) -> None:
    """Float32 only: in float64, `test_traced` compares compiled with eager formulas."""
    torch._dynamo.reset()

    def score(a: Any, b: Any, mask: Any) -> Any:
        return variant(a, b, mask=mask)

    compiled = torch.compile(score, backend="aot_eager", fullgraph=True)
    a, b, mask = inputs("float32")
    got = compiled(*map(torch.from_numpy, (a, b, mask)))
    check(variant, "float32", got, mask)


@each_portable
@DTYPES
def test_compiled_by_jax(variant: Variant, dtype: str) -> None:
    """Float32 without 64-bit numbers, as JAX is by default, and with a mask, its longest path."""
    a, b, mask = inputs(dtype)
    inside = mask if dtype == "float32" else None
    with jax.enable_x64(dtype == "float64"):
        got = jax.jit(lambda a, b, mask: variant(a, b, mask=mask))(a, b, inside)
    assert got.dtype == dtype
    check(variant, dtype, got, inside)
