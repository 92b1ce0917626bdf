"""Tests of tensors run with 64-bit numbers in JAX, which it has on request only."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest
from engines import formulas
from libraries import JAX, TORCH, Library


@pytest.fixture(scope="package", autouse=True)
def _optimised() -> Iterator[None]:
    """What users run; other tests do without, see tests/conftest.py."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=[TORCH, JAX], ids=lambda library: library.name)
def library(request: pytest.FixtureRequest) -> Library:
    """Each library in turn."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def by_formulas() -> Iterator[None]:
    """Compute by the formulas, whatever kernels there are."""
    with formulas():
        yield
