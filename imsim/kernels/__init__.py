"""Compiled kernels for NumPy arrays; no other folder imports Numba.

`imsim/kernels/<name>.py` holds the kernel that the record of the metric loads: a function of the
images, the mask and the options of the formula. It returns what the formula returns, or None to
leave the input to the formula. `common` holds code that several kernels share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def loaded(load: Callable[[], Callable[..., Any]]) -> Callable[..., Any] | None:
    """Load a kernel once; return None where Numba is told not to compile."""
    from imsim.kernels.common.jit import IS_ENABLED  # Numba takes long to import

    return load() if IS_ENABLED else None
