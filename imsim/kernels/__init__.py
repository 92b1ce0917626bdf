"""Compiled kernels for NumPy arrays; no other folder imports Numba.

`imsim/kernels/<name>.py` holds the kernel that the record of the metric loads: a function of the
images, the mask and the options of the formula. It returns what the formula returns, or None to
leave the input to the formula. Images with weights are left to it too, unless the kernel is
`weighing`. `loaders` loads kernels that several records share, and `common` holds code that several
kernels share.
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


class DoubtfulWeights(Exception):  # noqa: N818
    """Weights that a kernel was to check are not the usual ones, and need the check in full."""


def surveying(kernel: F) -> F:
    """Mark a weighing kernel that takes unchecked weights, and raises `DoubtfulWeights`."""
    kernel.__dict__["surveys"] = True
    return weighing(kernel)


def weighs(kernel: Callable[..., Any]) -> bool:
    """Whether a kernel takes weights of pixels."""
    return "weighs" in kernel.__dict__


@cache
def loaded(load: Callable[[], Callable[..., Any]]) -> Callable[..., Any] | None:
    """Load a kernel once; return None where Numba is told not to compile."""
    return load() if are_enabled() else None


def surveys(load: Callable[[], Callable[..., Any]] | None) -> bool:
    """Whether there is a kernel, and it takes unchecked weights."""
    kernel = None if load is None else loaded(load)
    return kernel is not None and "surveys" in kernel.__dict__
