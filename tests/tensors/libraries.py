"""The libraries of tensors, by what the tests need of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

# JAX compiles the gradient of a windowed metric twice as fast without optimisation, and has two
# devices. This is read when JAX is first used.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_force_host_platform_device_count=2",
)

import jax
import jax.numpy as jnp

Function = Callable[..., Any]


class Torch:
    """PyTorch on the CPU."""

    name = "torch"
    kind = torch.Tensor

    def asarray(self, image: Any) -> Any:
        """Make a tensor that shares no memory."""
        return None if image is None else torch.tensor(np.asarray(image))

    def gradients(self, function: Function, *images: np.ndarray) -> list[np.ndarray]:
        """Derivatives of the sum of a function with respect to each image."""
        leaves = [self.asarray(image).requires_grad_() for image in images]
        total = function(*leaves).sum()
        return [g.numpy() for g in torch.autograd.grad(total, leaves, materialize_grads=True)]

    def weighted_sum(self, values: Any) -> Any:
        """Sum of the finite values, weighted by their places."""
        flat = values.reshape(-1)
        weights = torch.cos(torch.arange(flat.numel(), dtype=torch.float64))
        return torch.where(torch.isfinite(flat), flat, 0.0).mul(weights).sum()


class Jax:
    """JAX on the CPU."""

    name = "jax"
    kind = jax.Array

    def asarray(self, image: Any) -> Any:
        """Make an array of JAX."""
        return None if image is None else jnp.asarray(image)

    def gradients(
        self, function: Function, *images: np.ndarray, is_compiled: bool = False
    ) -> list[np.ndarray]:
        """Derivatives of the sum of a function with respect to each image."""
        every = tuple(range(len(images)))
        gradient = jax.grad(lambda *images: function(*images).sum(), argnums=every)
        if is_compiled:
            gradient = jax.jit(gradient)
        return [np.asarray(g) for g in gradient(*map(self.asarray, images))]

    def weighted_sum(self, values: Any) -> Any:
        """Sum of the finite values, weighted by their places."""
        flat = values.reshape(-1)
        weights = jnp.cos(jnp.arange(flat.size, dtype=flat.dtype))
        return (jnp.where(jnp.isfinite(flat), flat, 0.0) * weights).sum()


Library = Torch | Jax
TORCH, JAX = Torch(), Jax()
