"""Blocks of pixels that fit into the cache, as floats: what pixelwise kernels work through."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from imsim.kernels.jit import kernel
from imsim.typing import Array

BLOCK = 1 << 11
"""Pixels; two blocks of float64 are 32 KiB."""

LONG = (types.int64, types.uint64)
"""Integers of more digits than float64 has."""


def scratch(values: Array) -> Array:
    """Return room for two blocks of each image, as floats; for compiled code only."""
    raise NotImplementedError


@overload(scratch)
def _scratch(values: Any) -> Any:
    dtype = values.dtype if isinstance(values.dtype, types.Float) else types.float64

    def room(values: Any) -> Any:
        return np.empty((4, BLOCK), dtype)

    return room


def apart(x: Array, y: Array, room: Array) -> tuple[Array, Array]:
    """Return floats as far apart as x and y; for compiled code only.

    They are those of `floats`, but of integers of 64 bits, which no float holds, the differences
    and zeros.
    """
    raise NotImplementedError


@overload(apart)
def _apart(x: Any, y: Any, room: Any) -> Any:
    def converted(x: Any, y: Any, room: Any) -> Any:
        return floats(x, room[0]), floats(y, room[1])

    def subtracted(x: Any, y: Any, room: Any) -> Any:
        for i in range(x.size):
            room[0, i] = difference(x[i], y[i], np.float64)
            room[1, i] = 0
        return room[0, : x.size], room[1, : x.size]

    is_long = x.dtype in LONG
    return subtracted if is_long else converted


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


def difference(p: Any, q: Any, real: Any) -> Any:
    """Return p - q as a `real`, of integers of 64 bits without an error; for compiled code only."""
    raise NotImplementedError


@overload(difference)
def _difference(p: Any, q: Any, real: Any) -> Any:
    def of_floats(p: Any, q: Any, real: Any) -> Any:
        return real(p) - real(q)

    def of_long_integers(p: Any, q: Any, real: Any) -> Any:
        d = np.int64(p - q)  # wraps around where it does not fit
        return real(d) if (d >= 0) == (p >= q) else real(p) - real(q)

    long = p in LONG
    return of_long_integers if long else of_floats


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
