"""Images moved by whole pixels, and by fractions of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.typing import Array

TAPS = 6
"""Pixels in a row that a fraction of a pixel reads."""


def translated(image: Array, shift: Any, frame: tuple[int, ...], *, fill: Any) -> Array:
    """Move (..., height, width) by whole pixels into a frame; fill what is not covered."""
    moved = np.full((*image.shape[:-2], *frame), fill, image.dtype)
    to: list[Any] = [...]
    of: list[Any] = [...]
    for side, own, step in zip(frame, image.shape[-2:], shift, strict=True):
        first, last = max(0, step), min(side, own + step)
        if first >= last:
            return moved
        to.append(slice(first, last))
        of.append(slice(first - step, last - step))
    moved[tuple(to)] = image[tuple(of)]
    return moved


def interpolated(image: Array, shift: Any, frame: tuple[int, ...]) -> Array:
    """Move floats, (..., height, width), by a shift that need not be whole, into a frame.

    Cubic convolution of fourth order, by Keys 1981. It continues the image by its rim; the frame
    beyond is 0.
    """
    from scipy import ndimage  # slow to import

    whole = np.floor(shift).astype(np.int64)
    # What a window of even size reads around a pixel, in SciPy: one more before it.
    offsets = np.arange(-TAPS // 2, TAPS // 2)
    for axis, rest in enumerate(shift - whole):
        if rest:
            s = np.abs(offsets + rest)
            near = 1 - 7 / 3 * s**2 + 4 / 3 * s**3
            middle = 5 / 2 - 59 / 12 * s + 3 * s**2 - 7 / 12 * s**3
            far = -3 / 2 + 7 / 4 * s - 2 / 3 * s**2 + 1 / 12 * s**3
            weights = np.where(s < 1, near, np.where(s < 2, middle, far))
            image = ndimage.correlate1d(image, weights, axis=axis - 2, mode="nearest")
    return translated(image, whole, frame, fill=0.0)


def moved(image: Array, inside: Array, shift: Any, frame: tuple[int, ...]) -> tuple[Array, Array]:
    """Move (channels, height, width) into a frame; say where its place lies between pixels inside.

    A whole-pixel shift copies. Any other keeps the dtype too: integers are rounded. Where the
    place lies between pixels inside, no other has any influence.
    """
    nothing = math.nan if image.dtype.kind == "f" else 0
    whole = np.floor(shift).astype(np.int64)
    fraction = shift - whole
    if fraction.any():
        image, inside = _between(image, inside, fraction)
    return (
        translated(image, whole, frame, fill=nothing),
        translated(inside, whole, frame, fill=False),
    )


def _between(image: Array, inside: Array, fraction: Array) -> tuple[Array, Array]:
    from scipy import ndimage  # slow to import

    sides = image.shape[-2:]
    values = image.astype(np.float64)
    usable = ndimage.minimum_filter(
        inside, [2 if rest else 1 for rest in fraction], mode="constant", cval=False
    )
    with np.errstate(invalid="ignore", over="ignore"):  # of infinities
        found = interpolated(values, fraction, sides)
        if usable.any() and not inside.all():
            # What lies outside is continued from inside, as the frame is.
            nearest = ndimage.distance_transform_edt(
                ~inside, return_distances=False, return_indices=True
            )
            values = values[:, *nearest]
            found = np.where(usable, interpolated(values, fraction, sides), found)
        return _in_dtype(found, image.dtype), usable


def _in_dtype(image: Array, dtype: Any) -> Array:
    """Convert floats to the dtype; round to integers, or to the nearer boolean."""
    if dtype.kind == "f":
        return image.astype(dtype)
    if dtype.kind == "b":
        return image >= 0.5
    ends = np.iinfo(dtype)
    rounded = np.rint(image)
    above = rounded >= float(ends.max)  # which, of 64 bits, is one more than the largest integer
    found = np.where(above, 0, np.maximum(rounded, ends.min)).astype(dtype)
    found[above] = ends.max
    return found
