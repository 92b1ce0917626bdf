"""Images whose sums of squares leave float64 are scaled, one by one; and a survey of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from imsim.kernels import DoubtfulWeights
from imsim.kernels.common.jit import inline, kernel, part
from imsim.kernels.common.planes import BLOCK, NO_MASK
from imsim.portable.arrays import broadcast
from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST, Images, element

LEAST_SQUARE, LARGEST_SQUARE = SMALLEST**2, LARGEST**2
"""Bounds of sums of squares in float64 that have lost nothing."""


def find_lost_sums(images: Images, *sums: Array) -> Array | None:
    """Find the elements of a batch of which a sum of squares may have overflowed or underflowed.

    None: there are none.
    """
    is_narrow = images.dtype == np.float32  # squares of float32 are far from the ends of float64
    if sums[0].size == 1:  # for one pair, Python's comparison is faster than NumPy's
        least = 0.0 if is_narrow else LEAST_SQUARE
        for one in sums:
            if not least < one.item() < LARGEST_SQUARE:
                break
        else:
            return None
    odd: Array = np.zeros(sums[0].shape, np.bool_)
    for one in sums:
        odd |= ~np.isfinite(one) if is_narrow else ~((one > LEAST_SQUARE) & (one < LARGEST_SQUARE))
    return odd if odd.any() else None


def lost_elements(
    odd: Array, images: Images, mask: Array | None, *, equal: bool = True
) -> Iterator[tuple[tuple[int, ...], Images, Array | None]]:
    """Yield index, images in float64 and mask of the odd elements of a batch.

    Elements that are not finite are left out, and so are equal images if `equal` is False.
    """
    if images.x.dtype.kind != "f" and images.y.dtype.kind != "f":
        return
    batch = broadcast(images.batch_shape, () if mask is None else mask.shape[:-3])
    for place in np.argwhere(odd.reshape(batch)):
        index = tuple(place.tolist())
        valid = None if mask is None else element(mask, batch, index)
        x, y = element(images.x, batch, index), element(images.y, batch, index)
        if not equal and np.array_equal(x, y):
            continue
        x, y = (v.astype(np.float64) for v in (x, y))
        if valid is not None:
            x, y = np.where(valid, x, 0), np.where(valid, y, 0)
        weights = None if images.weights is None else element(images.weights, batch, index)
        if np.isfinite(x).all() and np.isfinite(y).all():
            yield index, images._replace(x=x, y=y, dtype=np.float64, weights=weights), valid


def channels_of(images: Images) -> Iterator[Images]:
    """Yield the channels of two images, each as images of one channel."""
    for x, y in zip(images.x[:, None], images.y[:, None], strict=True):
        yield images._replace(x=x, y=y)


def scale_images(images: Images) -> Images:
    """Bring each image to magnitudes below 1."""
    return images._replace(x=images.x / scaling_unit(images.x), y=images.y / scaling_unit(images.y))


def scale_difference(images: Images) -> tuple[Images, float]:
    """Replace x by the difference of the images, in the unit that is returned, and y by zeros."""
    common = 1.0
    d = images.x - images.y
    if not np.isfinite(d).all():
        common = 2.0
        d = images.x / common - images.y / common
    own = scaling_unit(d)
    return images._replace(x=d / own, y=np.zeros_like(d)), common * own


def scaling_unit(image: Array) -> float:
    """Return a power of two near the largest magnitude; 1 for an image of zeros.

    Twice the unit is finite.
    """
    largest = float(abs(image).max())
    return math.ldexp(1.0, min(math.frexp(largest)[1] - 1, 1022)) if largest > 0 else 1.0


LEAST, MOST = 2.0**-64, 2.0**40
"""Least of the usual weights that are positive, and largest sum of these. Then all of them count,
see `imsim.weights.LEAST`, and none needs a unit."""
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
    inside, kept = NO_MASK.view(np.uint8), weights
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
