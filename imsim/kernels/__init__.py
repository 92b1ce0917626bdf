"""Compiled kernels for NumPy arrays: the home of Numba, which only they import.

`imsim/kernels/<name>.py` holds what the record of the metric loads: a function of the images, the
mask and the options of the formula, that returns what the formula returns, or None for what it
leaves to the formula. `common` holds what several of them share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def loaded(load: Callable[[], Callable[..., Any]]) -> Callable[..., Any] | None:
    """Load a kernel, once; None where Numba is told not to compile."""
    from imsim.kernels.common.jit import IS_ENABLED  # Numba takes long to import

    return load() if IS_ENABLED else None
