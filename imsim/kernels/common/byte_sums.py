"""Sums over images of bytes: exact, since integers of 32 bits hold them block by block."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import inline, part

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
