"""Weighted sums over pixels: for SE, RMSE, PSNR, SRE, ZNCC and SAM."""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.common.jit import kernel
from imsim.kernels.common.pixel_blocks import BLOCK, NO_BYTES, load_block
from imsim.kernels.sam import fit, merge_gram
from imsim.kernels.zncc import merge, set_moments
from imsim.typing import Array


def squares_of_run(x: Array, y: Array, mask: Array | None, out: Array, weights: Array) -> None:
    """Sum of the squared differences, of the weights, and of x."""
    _squares(x, y, weights, out)


@kernel
def _squares(x, y, weights, out):  # type: ignore[no-untyped-def]
    for start in range(0, x.size, BLOCK):
        p, q, w = x[start : start + BLOCK], y[start : start + BLOCK], weights[start : start + BLOCK]
        squares, whole, total = 0.0, 0.0, 0.0
        for i in range(p.size):
            weight, v, u = np.float64(w[i]), np.float64(p[i]), np.float64(q[i])
            # Selections between computed values, since a pixel of weight 0 may be NaN.
            d = v - u if weight != 0 else 0.0
            squares += weight * (d * d)
            whole += weight
            total += weight * v if weight != 0 else 0.0
        out[0] += squares
        out[1] += whole
        out[2] += total


def moments_of_run(x: Array, y: Array, mask: Array | None, out: Array, weights: Array) -> None:
    """Moments of ZNCC, see `imsim.kernels.zncc.N_MOMENTS`, and the sum of the squared weights."""
    inside = NO_BYTES if mask is None else mask
    _moments(x, y, inside, weights, np.empty((3, BLOCK)), out)


@kernel
def _moments(x, y, mask, weights, room, out):  # type: ignore[no-untyped-def]
    """Moments about the means of the block before; those of the first one about its pixels."""
    centre_x, centre_y, block = 0.0, 0.0, room[2]
    for start in range(0, x.size, BLOCK):
        p, q, inside, n = load_block(x, y, mask, start, room)
        if n == 0:
            continue
        w = weights[start : start + BLOCK]
        first = 0
        while inside[first] == 0:
            first += 1
        is_first = out[0] == 0
        if is_first:
            centre_x, centre_y = np.float64(p[first]), np.float64(q[first])
        for _ in range(2 if is_first else 1):
            whole, squares, dx, dy, xx, yy, xy = _centred_sums(p, q, inside, w, centre_x, centre_y)
            set_moments((dx, dy, xx, yy, xy), whole, centre_x, centre_y, block)
            centre_x, centre_y = block[6] + block[1], block[7] + block[2]
        merge(out, block)
        out[8] += squares


@kernel
def _centred_sums(p, q, inside, w, centre_x, centre_y):  # type: ignore[no-untyped-def]
    whole, squares, dx, dy, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(p.size):
        use = inside[i] != 0
        u = np.float64(p[i]) - centre_x if use else 0.0
        v = np.float64(q[i]) - centre_y if use else 0.0
        weight = np.float64(w[i]) if use else 0.0
        whole += weight
        squares += weight * weight
        a, b = weight * u, weight * v
        dx += a
        dy += b
        xx += a * u
        yy += b * v
        xy += a * v
    return whole, squares, dx, dy, xx, yy, xy


def gram_of_run(x: Array, y: Array, mask: Array | None, out: Array, weights: Array) -> None:
    """Gram matrix of SAM, see `imsim.kernels.sam.N_GRAM`, and the sum of the weights."""
    inside = NO_BYTES if mask is None else mask
    _gram(x, y, inside, weights, np.empty((4, BLOCK)), np.empty(4), out)


@kernel
def _gram(x, y, mask, weights, room, block, out):  # type: ignore[no-untyped-def]
    """Vectors are multiplied by the roots of the weights."""
    out[3] = 1.0
    for start in range(0, x.size, BLOCK):
        p, q, inside, n = load_block(x, y, mask, start, room)
        if n == 0:
            continue
        w = weights[start : start + BLOCK]
        u, v = room[2, : p.size], room[3, : p.size]
        whole, xx, yy, xy = 0.0, 0.0, 0.0, 0.0
        for i in range(p.size):
            use = inside[i] != 0
            weight = np.float64(w[i]) if use else 0.0
            root = math.sqrt(weight)
            a = root * (np.float64(p[i]) if use else 0.0)
            b = root * (np.float64(q[i]) if use else 0.0)
            u[i], v[i] = a, b
            whole += weight
            xx += a * a
            yy += b * b
            xy += a * b
        fit(u, v, xx, yy, xy, block)
        merge_gram(out, block)
        out[4] += whole
