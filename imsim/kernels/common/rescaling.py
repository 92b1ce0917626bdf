"""Images so bright or so dark that sums of their squares leave float64 are scaled, one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

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
