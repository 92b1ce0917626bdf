"""Which pairs of a batch share an image: what depends on one image is computed once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from imsim.portable.arrays import broadcast
from imsim.typing import Array
from imsim.validation import Images


def image_numbers(
    images: Images, mask: Array | None, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number the images of x and of y; return the number of each pair's image.

    Pairs are counted along `shape`, the batch axes and channels. An image with two masks counts as
    two images.
    """
    masks = () if mask is None else mask.shape[:-3]

    def numbers(image: Array) -> NDArray[np.intp]:
        own = (*broadcast(image.shape[:-3], masks), shape[-1])
        return np.broadcast_to(np.arange(math.prod(own)).reshape(own), shape).reshape(-1)

    return numbers(images.x), numbers(images.y)


def distinct_images(sides: tuple[NDArray[np.intp], ...]) -> list[tuple[int, int, int]]:
    """List side (0: x, 1: y), number and first pair of every image."""
    firsts: dict[tuple[int, int], int] = {}
    for side, own in enumerate(sides):
        for pair, image in enumerate(own.tolist()):
            firsts.setdefault((side, image), pair)
    return [(side, image, pair) for (side, image), pair in firsts.items()]
