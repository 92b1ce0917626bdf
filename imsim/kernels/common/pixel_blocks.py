"""Blocks of pixels that fit into the cache, as floats: what pixelwise kernels work through."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from imsim.kernels.common.jit import kernel
from imsim.typing import Array

BLOCK = 1 << 11
"""Pixels; two blocks of float64 are 32 KiB."""


def scratch(values: Array) -> Array:
    """Return room for two blocks of each image, as floats; for compiled code only."""
    raise NotImplementedError


@overload(scratch)
def _scratch(values: Any) -> Any:
    dtype = values.dtype if isinstance(values.dtype, types.Float) else types.float64

    def room(values: Any) -> Any:
        return np.empty((4, BLOCK), dtype)

    return room


def floats(values: Array, room: Array) -> Array:
    """Return floats as they are, integers copied into `room`; for compiled code only.

    A copy costs little in the cache, and lets integers take the very path of floats, so that
    they are added up in the same order.
    """
    raise NotImplementedError


@overload(floats)
def _floats(values: Any, room: Any) -> Any:
    def same(values: Any, room: Any) -> Any:
        return values

    def converted(values: Any, room: Any) -> Any:
        for i in range(values.size):
            room[i] = values[i]
        return room[: values.size]

    return same if isinstance(values.dtype, types.Float) else converted


@kernel
def count(inside):  # type: ignore[no-untyped-def]
    """Count the pixels inside a mask of bytes."""
    total = np.int64(0)
    for start in range(0, inside.size, BLOCK):
        block = inside[start : start + BLOCK]
        n = np.uint16(0)  # the CPU adds many numbers of 16 bits at a time
        for i in range(block.size):
            n = np.uint16(n + np.uint16(block[i] & np.uint8(1)))
        total += np.int64(n)
    return total
