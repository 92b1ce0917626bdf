"""Packs the numbers that a page shows under the pointer."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from imsim.typing import Array

Content = TypeVar("Content")
LEVEL = 4
"""Level of zlib: it takes half the time of the usual 6, and 2 % more bytes."""
NUMBER_BITS = 12
"""Bits of the mantissa that are kept for values of blocks, of which the page shows 4 digits."""


def text_size(content: int) -> int:
    """Return how many characters of base64 so many bytes take."""
    return (content + 2) // 3 * 4


def plain(image: Array, other: Array) -> Array:
    """Convert an image to the type common to both images, and to one that JavaScript has."""
    dtype = np.result_type(image, other)
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    elif dtype.kind == "f":
        dtype = np.dtype(np.float32 if dtype.itemsize <= 4 else np.float64)
    return image.astype(dtype)


def rounded(values: Array) -> Array:
    """Keep the leading bits of float32, which compress better."""
    last = np.uint32(1 << (23 - NUMBER_BITS))
    words = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    up = np.where(np.isfinite(values), last >> 1, np.uint32(0))  # an infinity must not become NaN
    return ((words + up) & ~(last - np.uint32(1))).view(np.float32)


def packed(image: Array, like: Array | None = None) -> str:
    """Pack an image without loss: `packed.js` has the way back.

    Numbers are read as unsigned words. With `like`, the difference from its words is stored;
    without it, the difference from the channel before and from the pixel to the left. Bytes of
    equal weight stand together, which compresses well.

    The image, (rows, columns, channels), has a type that `plain` returns, and so has `like`. The
    result is deflated, in base64.
    """
    words = _words(image)
    if like is not None:
        left = words - _words(like)
    else:
        stride = words.shape[-1] // image.shape[-1]
        left = words.copy()
        left[..., stride:] -= words[..., :-stride]
        left[:, 1:] -= left[:, :-1].copy()
    planes = np.moveaxis(left, -1, 0)[..., None].view(np.uint8)
    return deflated(np.moveaxis(planes, -1, 1))


def deflated(values: Array) -> str:
    """Return bytes in base64 of their zlib stream."""
    return base64.b64encode(zlib.compress(values.tobytes(), LEVEL)).decode("ascii")


def _words(image: Array) -> Array:
    little = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<"))
    return little.view(f"<u{min(image.dtype.itemsize, 4)}")


def finest(
    make: Callable[[int], tuple[Content | None, int]], budget: int, first: int, last: int
) -> tuple[int, Content | None]:
    """Find the smallest blocks whose content fits; return their side, and the content.

    ``make(side)`` returns the content and its size. It may stop early, and return None, once the
    size is beyond the budget. Sides from `first` to `last` are tried, and the last one is taken if
    none fits.
    """
    side = first
    while True:
        content, size = make(side)
        if size <= budget or side >= last:
            return side, content
        side = min(max(side + 1, int(side * (size / max(budget, 1)) ** 0.5)), last)
