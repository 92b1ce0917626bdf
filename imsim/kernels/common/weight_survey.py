"""What a check of weights needs to know of them, in one pass."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from imsim.kernels import DoubtfulWeights
from imsim.kernels.common.jit import inline, kernel, part
from imsim.kernels.common.pixel_blocks import BLOCK
from imsim.typing import Array
from imsim.validation import Images

NO_MASK = np.empty((0, 0), np.uint8)
LEAST, MOST = 2.0**-64, 2.0**40
"""Least of the usual weights that are positive, and largest sum of these. Then all of them count,
see `imsim.checking.LEAST`, and none needs a unit."""
LEAST_SPREAD = 1e-6
"""Least share of all products of weights that those of different pixels make up. Where one weight
exceeds all others by more, squares about the mean lose digits."""


class Survey(NamedTuple):
    """What is known of weights, (*batch, 1, height, width), that are finite and >= 0."""

    kept: Array
    """The weights, 0 outside the mask."""
    valid: Array
    """Where they are positive."""
    largest: Array
    """The largest weight of each image, (*batch, 1, 1, 1)."""
    least: Array
    """The least positive one of each; infinity where there is none."""


def survey(weights: Array, mask: Array | None) -> Survey | None:
    """Look at weights of float32 or float64; None if one is not allowed, or the mask broadcasts.

    The bits of floats without sign, read as integers, have the order of the floats. Those of
    negative numbers, infinity and NaN come after all others. The CPU compares many integers at a
    time.
    """
    if mask is not None and mask.shape != weights.shape:
        return None
    *batch, height, width = weights.shape
    pixels = height * width
    kind = np.uint64 if weights.dtype == np.float64 else np.uint32
    bits = np.ascontiguousarray(weights).view(kind).reshape(-1, pixels)
    inside, kept = NO_MASK, weights
    if mask is not None:
        inside, kept = np.ascontiguousarray(mask).view(np.uint8), np.empty_like(weights, order="C")
        inside = inside.reshape(-1, pixels)
    out = np.empty((0, 0), kind) if mask is None else kept.view(kind).reshape(-1, pixels)
    valid = np.empty(weights.shape, np.bool_)
    found = np.empty((2, len(bits)), kind)
    bits.setflags(write=False)
    inside.setflags(write=False)
    _survey(bits, inside, out, valid.view(np.uint8).reshape(-1, pixels), found)
    shape = (*batch, 1, 1)
    largest, least = (v.view(weights.dtype).reshape(shape) for v in found)
    if np.signbit(largest).any() or not np.isfinite(largest).all():  # also of -0.0
        return None
    return Survey(kept, valid, largest, np.where(largest > 0, least, math.inf))


def check_usual(images: Images, unusual: Array, whole: Array) -> None:
    """Refuse unchecked weights of which a kernel has found an unusual one, or an unusual sum."""
    if images.are_unchecked and (unusual.any() or not ((whole > LEAST) & (whole < MOST)).all()):
        raise DoubtfulWeights


def refuse_unchecked(images: Images) -> None:
    """Leave images that need more than one pass to weights that are checked."""
    if images.are_unchecked:
        raise DoubtfulWeights


@inline
def is_unusual(weight):  # type: ignore[no-untyped-def]
    """Whether a weight is negative or tiny; NaN and infinities are seen in the sum of all."""
    return (weight != 0) & (weight < LEAST)


@kernel
def _survey(bits, inside, out, valid, found):  # type: ignore[no-untyped-def]
    """Find the largest and the least positive number of each row, block by block."""
    kind = bits.dtype.type
    for k in range(bits.shape[0]):
        largest, below = kind(0), kind(np.iinfo(bits.dtype).max)
        for start in range(0, bits.shape[1], BLOCK):
            row, use = bits[k, start : start + BLOCK], valid[k, start : start + BLOCK]
            if inside.shape[0] > 0:
                kept = out[k, start : start + BLOCK]
                _keep(row, inside[k, start : start + BLOCK], kept)
                largest, below = _ends(kept, largest, below)
                _mark(kept, use)
            else:
                largest, below = _ends(row, largest, below)
                _mark(row, use)
        found[0, k], found[1, k] = largest, below + kind(1)


@part
def _keep(row, inside, out):  # type: ignore[no-untyped-def]
    nothing = row.dtype.type(0)
    for i in range(row.size):
        v = row[i]
        out[i] = v if inside[i] else nothing


@part
def _ends(row, largest, below):  # type: ignore[no-untyped-def]
    """Largest number, and one less than the least positive one; one less than 0 is the largest."""
    one = row.dtype.type(1)
    for i in range(row.size):
        v = row[i]
        largest = v if v > largest else largest
        v = row.dtype.type(v - one)
        below = v if v < below else below
    return largest, below


@part
def _mark(row, valid):  # type: ignore[no-untyped-def]
    for i in range(row.size):
        valid[i] = row[i] > 0
