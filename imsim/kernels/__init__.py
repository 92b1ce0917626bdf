"""Compiled kernels for NumPy arrays: the home of Numba, which only they import.

A kernel function has the name of its metric or map, takes the images, the mask and the options
of the formula, and returns what the formula returns, or None for what it leaves to the formula.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from imsim.typing import Array
from imsim.validation import Images

MODULES: dict[str, str] = {
    "fsim": "fsim",
    "fsim_map": "fsim",
    "gmsd": "gmsd",
    "gmsd_map": "gmsd",
    "imed": "imed",
    "imed_map": "imed",
    "issm": "issm",
    "issm_components": "issm",
    "psnr": "differences",
    "rmse": "differences",
    "sam": "angles",
    "sam_map": "spectra",
    "se": "differences",
    "se_map": "differences",
    "sh": "sh",
    "sre": "differences",
    "ssim": "ssim",
    "ssim_map": "ssim",
    "uiq": "uiq",
    "uiq_map": "uiq",
    "zncc": "correlation",
    "zncc_map": "local_correlation",
}
"""The module of each kernel; imported with the first call, as Numba takes long to import."""


def run(metric: str, images: Images, mask: Array | None, options: dict[str, Any]) -> Any:
    """Compute a metric by its kernel; None if there is none for this input."""
    function = _find(metric)
    return None if function is None else function(images, mask, **options)


@cache
def _find(metric: str) -> Callable[..., Any] | None:
    module = MODULES.get(metric)
    if module is None or not import_module("imsim.kernels.jit").IS_ENABLED:
        return None
    function: Callable[..., Any] = getattr(import_module(f"imsim.kernels.{module}"), metric)
    return function
