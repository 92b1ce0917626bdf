"""Which pairs of a batch share an image, so that what depends on it alone is computed once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from imsim.typing import Array
from imsim.validation import Images, broadcast


def owners(
    images: Images, mask: Array | None, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return, for x and for y, the number of the image that each pair has.

    Pairs are counted along `shape`, batch axes and channels. An image within two masks is two.
    """
    masks = () if mask is None else mask.shape[:-3]

    def numbers(image: Array) -> NDArray[np.intp]:
        own = (*broadcast(image.shape[:-3], masks), shape[-1])
        return np.broadcast_to(np.arange(math.prod(own)).reshape(own), shape).reshape(-1)

    return numbers(images.x), numbers(images.y)


def distinct(sides: tuple[NDArray[np.intp], ...]) -> list[tuple[int, int, int]]:
    """List side, number and first pair of every image."""
    firsts: dict[tuple[int, int], int] = {}
    for side, own in enumerate(sides):
        for pair, image in enumerate(own.tolist()):
            firsts.setdefault((side, image), pair)
    return [(side, image, pair) for (side, image), pair in firsts.items()]
