"""JAX without most of its optimisations, which take half of the time of compiling a program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest


@contextmanager
def quick_jax() -> Iterator[ModuleType]:
    """Return JAX; skip the test if it is missing."""
    jax = pytest.importorskip("jax", reason="JAX is an optional array library")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield jax
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
