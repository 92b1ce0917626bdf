"""Compilation: one decorator for every kernel."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}
"""Freedom to fuse and reorder, never to assume that NaN and infinities do not occur."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first use, for each combination of dtypes; release the GIL; cache on disk."""
    return _compile(function, nogil=True)


def exact(function: Callable[..., Any]) -> Any:
    """Compile a part of a kernel whose operations must happen just as they are written."""
    return _compile(function, nogil=True, fastmath=False)


def inline(function: Callable[..., Any]) -> Any:
    """Compile a scalar formula into the kernels that call it."""
    return numba.njit(function, inline="always", fastmath=FAST_MATH, error_model="numpy")


@functools.cache
def _digest() -> str:
    """Digest of the source that kernels are made of."""
    digest = hashlib.blake2s(digest_size=6)
    package = Path(__file__).parent.parent
    for folder in ("kernels", "metrics", "portable"):
        for path in sorted((package / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    # Numba's cache on disk knows a kernel by its name, and its age by its own file; but what it
    # inlines and the constants in it come from other files, so that these must be in the name.
    function.__qualname__ += f"_{_digest()}"
    options = {"fastmath": FAST_MATH, "error_model": "numpy", **options}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # nowhere to write a cache: compile in every process
        return numba.njit(function, **options)
