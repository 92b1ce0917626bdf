"""Blocks of pixels as floats, small enough for the cache: the units of pixelwise kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from imsim.kernels.common.jit import inline, part
from imsim.typing import Array

BLOCK = 1 << 11
"""Pixels of a block; two blocks of float64 take 32 KiB."""
# An array without elements stands for no mask: None would be a type of its own, for which Numba
# compiles a kernel again.
NO_BYTES = np.empty(0, np.uint8)
"""No mask of flat rows, see `imsim.kernels.common.planes.flat_rows`."""
NO_MASK = np.empty((0, 0), np.bool_)
"""No mask of a plane."""
for _none in (NO_BYTES, NO_MASK):
    _none.setflags(write=False)


def floats(values: Array, room: Array) -> Array:
    """Return floats as they are, and integers copied into `room`; for compiled code only.

    A copy within the cache costs little. It lets one code add up integers and floats in the same
    order.
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


@inline
def load_block(x, y, mask, start, room):  # type: ignore[no-untyped-def]
    """Return a block of both images as floats, that of the mask, and its number of pixels inside.

    Two rows of `room` hold what is converted. The compiler gets it as a part of each caller.
    """
    p = floats(x[start : start + BLOCK], room[0])
    q = floats(y[start : start + BLOCK], room[1])
    inside = mask[start : start + BLOCK]
    n = count(inside) if mask.size > 0 else p.size
    return p, q, inside, n


@part
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
