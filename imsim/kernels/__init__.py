"""Compiled kernels for NumPy arrays; no other folder imports Numba.

`imsim/kernels/<name>.py` holds the kernel that the record of the metric loads: a function of the
images, the mask and the options of the formula. It returns what the formula returns, or None to
leave the input to the formula. Images with weights are left to it too, unless the kernel is
`weighing`. `common` holds code that several kernels share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar


def are_enabled() -> bool:
    """Whether Numba compiles, as it does unless it is told not to."""
    from imsim.kernels.common.jit import IS_ENABLED  # Numba takes long to import

    return bool(IS_ENABLED)


def cache_folder() -> str | None:
    """Return the folder of compiled code, if there is one."""
    from imsim.kernels.common import jit

    return jit.cache_folder()


F = TypeVar("F", bound=Callable[..., Any])


def weighing(kernel: F) -> F:
    """Mark a kernel that takes weights of pixels, those of the images; others are not given any."""
    kernel.__dict__["weighs"] = True
    return kernel


def weighs(kernel: Callable[..., Any]) -> bool:
    """Whether a kernel takes weights of pixels."""
    return "weighs" in kernel.__dict__


@cache
def loaded(load: Callable[[], Callable[..., Any]]) -> Callable[..., Any] | None:
    """Load a kernel once; return None where Numba is told not to compile."""
    return load() if are_enabled() else None
