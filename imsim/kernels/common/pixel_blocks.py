"""Blocks of pixels that fit into the cache: as floats, and as exact sums of bytes."""

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


BYTE_BLOCK = 1 << 15
"""Pixels of a block: squares and products of bytes add up to less than 2^31."""


@part
def sums_of_bytes(p, q, inside):  # type: ignore[no-untyped-def]
    """Return the number of pixels of a block, and the sums of x, y, x^2, y^2 and x y.

    The CPU multiplies and adds many bytes at a time, other than pixels in float64.
    """
    n, sums = np.int32(p.size), (np.int32(0), np.int32(0), np.int32(0), np.int32(0), np.int32(0))
    if inside.size == 0:
        for i in range(p.size):
            sums = _added(sums, np.int32(p[i]), np.int32(q[i]))
    else:
        n = np.int32(0)
        for i in range(p.size):
            use = inside[i] & np.uint8(1)
            every_bit = np.uint8(0) - np.uint8(use)
            a, b = np.int32(np.uint8(p[i] & every_bit)), np.int32(np.uint8(q[i] & every_bit))
            n = np.int32(n + np.int32(use))
            sums = _added(sums, a, b)
    x, y, xx, yy, xy = sums
    return np.int64(n), np.int64(x), np.int64(y), np.int64(xx), np.int64(yy), np.int64(xy)


@inline
def _added(sums, a, b):  # type: ignore[no-untyped-def]
    x, y, xx, yy, xy = sums
    return (
        np.int32(x + a),
        np.int32(y + b),
        np.int32(xx + np.int32(a * a)),
        np.int32(yy + np.int32(b * b)),
        np.int32(xy + np.int32(a * b)),
    )
