"""Images so bright or so dark that sums of their squares leave float64: scaled, one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST, Images, broadcast, element


def odd_ones(images: Images, *sums: Array) -> Array | None:
    """Find the sums of squares that may have lost something to an overflow or underflow.

    Of several sums it is enough that one has. None: none has.
    """
    is_narrow = images.dtype is np.float32  # whose squares are far from the ends of float64
    if sums[0].size == 1:  # one pair: without NumPy's detour
        least = 0.0 if is_narrow else SMALLEST**2
        if all(least < one.item() < LARGEST**2 for one in sums):
            return None
    odd: Array = np.zeros(sums[0].shape, np.bool_)
    for one in sums:
        odd |= ~np.isfinite(one) if is_narrow else ~((one > SMALLEST**2) & (one < LARGEST**2))
    return odd if odd.any() else None


def elements(
    odd: Array, images: Images, mask: Array | None, *, equal: bool = True
) -> Iterator[tuple[tuple[int, ...], Images, Array | None]]:
    """Yield the place of the odd elements of a batch, their images in float64, and their masks.

    Leave out those that are not finite; and those that are `equal`, on request.
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
        if np.isfinite(x).all() and np.isfinite(y).all():
            yield index, images._replace(x=x, y=y, dtype=np.float64), valid


def each_scaled(images: Images) -> Images:
    """Bring each image to magnitudes below 1."""
    return images._replace(x=images.x / unit(images.x), y=images.y / unit(images.y))


def difference_scaled(images: Images) -> tuple[Images, float]:
    """Replace images by their difference, in a unit that is returned, and zeros."""
    common = 1.0
    d = images.x - images.y
    if not np.isfinite(d).all():
        common = 2.0
        d = images.x / common - images.y / common
    own = unit(d)
    return images._replace(x=d / own, y=np.zeros_like(d)), common * own


def unit(image: Array) -> float:
    """Power of two near the largest magnitude, whose double is a number; 1 if all are 0."""
    largest = float(abs(image).max())
    return math.ldexp(1.0, min(math.frexp(largest)[1] - 1, 1022)) if largest > 0 else 1.0
