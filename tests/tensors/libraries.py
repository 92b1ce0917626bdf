"""The array libraries that differentiate, behind one signature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import imsim

Function = Callable[..., Any]
NAMES = ("torch", "jax")


@contextmanager
def formulas() -> Iterator[None]:
    """Compute by the formulas, whatever kernels there are."""
    from imsim import engine

    before = engine._engine
    imsim.set_engine("portable")
    try:
        yield
    finally:
        engine._engine = before


class Torch:
    """PyTorch on the CPU."""

    def __init__(self) -> None:
        self.torch = pytest.importorskip("torch", reason="torch is an optional array library")

    def asarray(self, image: Any) -> Any:
        """Make a tensor that shares no memory."""
        return None if image is None else self.torch.tensor(np.asarray(image))

    def gradients(self, function: Function, *images: np.ndarray) -> list[np.ndarray]:
        """Derivatives of a scalar function with respect to each image."""
        leaves = [self.asarray(image).requires_grad_() for image in images]
        value = function(*leaves)
        found = self.torch.autograd.grad(value, leaves, materialize_grads=True)
        return [g.numpy() for g in found]

    def masked_sum(self, values: Any) -> Any:
        """Sum of the finite values, weighted by their places."""
        weights = self.torch.cos(self.torch.arange(values.numel(), dtype=self.torch.float64))
        flat = values.reshape(-1)
        return self.torch.where(self.torch.isfinite(flat), flat, 0.0).mul(weights).sum()


class Jax:
    """JAX on the CPU, with float64."""

    def __init__(self) -> None:
        self.jax = pytest.importorskip("jax", reason="JAX is an optional array library")

    def asarray(self, image: Any) -> Any:
        """Make an array of JAX."""
        return None if image is None else self.jax.numpy.asarray(image)

    def gradients(
        self, function: Function, *images: np.ndarray, x64: bool = True
    ) -> list[np.ndarray]:
        """Derivatives of a scalar function with respect to each image."""
        with self.jax.enable_x64(x64):
            every = tuple(range(len(images)))
            # Compiled, since JAX compiles single operations much longer than all at once.
            gradient = self.jax.jit(self.jax.grad(function, argnums=every))
            return [np.asarray(g) for g in gradient(*map(self.asarray, images))]

    def masked_sum(self, values: Any) -> Any:
        """Sum of the finite values, weighted by their places."""
        jnp = self.jax.numpy
        flat = values.reshape(-1)
        weights = jnp.cos(jnp.arange(flat.size, dtype=flat.dtype))
        return (jnp.where(jnp.isfinite(flat), flat, 0.0) * weights).sum()


def library(name: str) -> Any:
    """Return one of the libraries, or skip the test."""
    return Torch() if name == "torch" else Jax()
