"""Volumes of PyTorch and JAX: values, gradients, and compiled functions."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
import torch
from engines import formulas
from libraries import JAX, TORCH, Library

import imsim
from imsim.registry import Metric

VOLUMES = [m for m in imsim.METRICS.values() if m.volumes]
SHAPE = (12, 12, 13)
each = pytest.mark.parametrize("facts", VOLUMES, ids=lambda m: m.name)
each_library = pytest.mark.parametrize("library", [TORCH, JAX], ids=lambda v: v.name)


def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    a = rng.uniform(50, 200, SHAPE)
    return a, a + rng.normal(0, 20, SHAPE)


def score(facts: Metric, a: Any, b: Any, mask: Any = None) -> Any:
    return facts.function(a, b, ndim=3, data_range=255, mask=mask)


@each
@each_library
def test_gradients(facts: Metric, library: Library) -> None:
    a, b = pair()
    mask = np.indices(SHAPE)[2] < 12
    found = library.gradients(lambda p, q: score(facts, p, q, library.asarray(mask)), a, b)
    step, rng = 1e-4, np.random.default_rng(0)
    for k in range(2):
        assert not found[k][~mask].any()
        direction = rng.choice([-1.0, 1.0], SHAPE)
        ends = []
        for sign in (1, -1):
            moved = [a, b]
            moved[k] = moved[k] + sign * step * direction
            ends.append(score(facts, *moved, mask))
        want = (ends[0] - ends[1]) / (2 * step)
        scale = np.abs(found[k]).sum()
        assert float((found[k] * direction).sum()) == pytest.approx(want, abs=1e-6 * scale)


@each
@each_library
def test_values(facts: Metric, library: Library) -> None:
    a, b = pair()
    want = score(facts, a, b)
    p, q = library.asarray(a), library.asarray(b)
    assert float(score(facts, p, q)) == want  # by the same kernel
    with formulas():
        assert float(score(facts, p, q)) == pytest.approx(want, rel=1e-11)


@each
def test_compiled(facts: Metric) -> None:
    a, b = pair()
    want = score(facts, a, b)
    jitted = jax.jit(lambda p, q: score(facts, p, q))
    assert float(jitted(a, b)) == pytest.approx(want, rel=1e-11)
    torch.compiler.reset()  # one line of code is compiled a few times only
    traced = torch.compile(lambda p, q: score(facts, p, q), fullgraph=True, backend="eager")
    assert float(traced(torch.tensor(a), torch.tensor(b))) == pytest.approx(want, rel=1e-11)
