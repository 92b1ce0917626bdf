"""The two libraries of tensors, by what the tests need of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy
import numpy as np
import torch


@dataclass(frozen=True)
class Library:
    """A library of tensors."""

    name: str
    kind: type
    """Of its arrays."""
    from_numpy: Callable[[Any], Any]
    gradients: Callable[..., list[np.ndarray]]
    """``gradients(f, a, b)``: of the sum of f(a, b), with respect to both NumPy arrays."""


def _torch_gradients(function: Callable[..., Any], *images: np.ndarray) -> list[np.ndarray]:
    tensors = [torch.tensor(image, requires_grad=True) for image in images]
    function(*tensors).sum().backward()
    return [tensor.grad.numpy() for tensor in tensors]


def _jax_gradients(function: Callable[..., Any], *images: np.ndarray) -> list[np.ndarray]:
    def total(*images: Any) -> Any:
        return function(*images).sum()

    found = jax.grad(total, argnums=tuple(range(len(images))))(*map(jax.numpy.asarray, images))
    return [np.asarray(part) for part in found]


LIBRARIES = (
    Library("torch", torch.Tensor, lambda v: torch.from_numpy(np.array(v)), _torch_gradients),
    Library("jax", jax.Array, jax.numpy.asarray, _jax_gradients),
)
