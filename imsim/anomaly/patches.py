"""Overlapping square patches of images."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from imsim.anomaly.stacks import Floats

_Scalar = TypeVar("_Scalar", np.float32, np.bool_)


def _places(size: int, side: int, stride: int) -> int:
    """Return the number of patches that cover an axis; the last may reach beyond its end."""
    return -(-(size - side) // stride) + 1


def cut(image: NDArray[_Scalar], side: int, stride: int) -> NDArray[_Scalar]:
    """Return the patches of an image (height, width) as rows, shape (patches, side * side).

    Where the last patches reach beyond the image they hold 0 (False in a mask).
    """
    beyond = [(0, side + (_places(n, side, stride) - 1) * stride - n) for n in image.shape]
    if any(after for _, after in beyond):
        image = np.pad(image, beyond)
    windows = sliding_window_view(image, (side, side))[::stride, ::stride]
    return windows.reshape(-1, side * side)


def join(patches: Floats, shape: tuple[int, int], side: int, stride: int) -> Floats:
    """Return the sum of patches at the places where `cut` took them from an image of this shape."""
    rows, columns = (_places(n, side, stride) for n in shape)
    parts = side // stride
    # In blocks of stride x stride pixels, part (i, j) of all patches is added at once.
    cells = patches.reshape(rows, columns, parts, stride, parts, stride)
    total = np.zeros((rows + parts - 1, stride, columns + parts - 1, stride), dtype=np.float32)
    for i in range(parts):
        for j in range(parts):
            total[i : i + rows, :, j : j + columns] += cells[:, :, i, :, j].transpose(0, 2, 1, 3)
    height, width = shape
    full = total.reshape((rows + parts - 1) * stride, (columns + parts - 1) * stride)
    return full[:height, :width]


def window(side: int) -> Floats:
    """Return a smooth weight for each pixel of a patch, largest in its middle, never 0."""
    profile = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    return np.outer(profile, profile).astype(np.float32).ravel()
