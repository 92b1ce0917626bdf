"""The compiled gradient of any call of a metric, without a library that differentiates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

import imsim
from imsim import tensors


class _Tensor(np.ndarray):
    """An array that is no plain one, so that the engine asks whose it is."""


def gradient(
    score: Callable[..., Any],
    a: np.ndarray,
    b: np.ndarray,
    mask: np.ndarray | None = None,
    upstream: Any = 1.0,
    wanted: tuple[bool, bool] = (True, True),
) -> list[np.ndarray | None] | None:
    """Gradient of the sum of ``upstream * score(a, b, mask=mask)``; None: no kernel has it."""
    found = []

    def call(function: Any, given: Any, gradient: Any) -> Any:
        result = function(*given)
        weights = np.full(np.shape(result), upstream)
        found.append(gradient and gradient(given, weights, wanted, result))
        return result

    with mock.patch.object(tensors, "call", call):
        score(a.view(_Tensor), b.view(_Tensor), mask=mask)
    return found[0]


DIFFERENTIABLE = [m for m in imsim.METRICS.values() if m.gradient is not None]
