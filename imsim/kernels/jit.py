"""Compilation: one decorator for every kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}
"""Freedom to fuse and reorder, never to assume that NaN and infinities do not occur."""


def kernel(function: F) -> F:
    """Compile on first use, for each combination of dtypes; release the GIL; cache on disk."""
    return _compile(function, nogil=True)


def inline(function: F) -> F:
    """Compile a scalar formula into the kernels that call it."""
    return _compile(function, inline="always")


def _compile(function: F, **options: Any) -> F:
    try:
        return numba.njit(function, cache=True, fastmath=FAST_MATH, error_model="numpy", **options)
    except RuntimeError:  # nowhere to write a cache: compile in every process
        return numba.njit(function, fastmath=FAST_MATH, error_model="numpy", **options)
