"""The modules of kernels that several metrics share, for their records; Numba is slow to import."""

from __future__ import annotations

from typing import Any


def pixel_sums() -> Any:
    """Return what scores by sums over pixels."""
    from imsim.kernels import se

    return se


def pixel_gradients() -> Any:
    """Return the gradients of these scores."""
    from imsim.kernels.gradients import se

    return se


def windows() -> Any:
    """Return what scores by the similarity of windows."""
    from imsim.kernels import ssim

    return ssim


def volume_windows() -> Any:
    """Return the same for volumes."""
    from imsim.kernels import volume_ssim

    return volume_ssim


def window_gradients() -> Any:
    """Return the gradients of scores of windows."""
    from imsim.kernels.gradients import windows

    return windows
