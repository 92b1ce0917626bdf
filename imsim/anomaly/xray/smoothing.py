"""Convolution with a Gaussian, as products of matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from imsim.anomaly.stacks import Floats, product
from imsim.caches import kept

_REACH = 6
"""Standard deviations at which a Gaussian ends; 2e-9 of its weight lie beyond."""
_LEAST_BLOCK = 64
"""Least pixels of a block of `smoothed`: products of smaller matrices take longer per pixel."""


def smoothed(image: Floats, sigma: float) -> Floats:
    """Convolve with a Gaussian, zeros beyond the frame.

    Along each axis, blocks of pixels are products of a matrix and the pixels that the Gaussian
    reaches, so that time grows with the number of pixels. What it leaves out, beyond `_REACH`
    standard deviations, is below the resolution of float32.
    """
    across, result = np.empty_like(image), np.empty_like(image)
    for inside, around, part in _blocks(image.shape[0], float(sigma)):
        across[inside] = product(part, image[around])
    for inside, around, part in _blocks(image.shape[1], float(sigma)):
        result[:, inside] = product(across[:, around], part.T)
    return result


def _blocks(length: int, sigma: float) -> Iterator[tuple[slice, slice, Floats]]:
    """Cut an axis into blocks: their pixels, those within reach, and the weights of these."""
    reach = math.ceil(_REACH * sigma)
    block = max(2 * reach, _LEAST_BLOCK)
    if block >= length:  # a single block, which sees the whole axis
        reach, block = 0, length
    weights = _gaussian(reach, block, sigma)
    for start in range(0, length, block):
        stop = min(start + block, length)
        first, last = max(start - reach, 0), min(stop + reach, length)
        origin = start - reach
        part = weights[: stop - start, first - origin : last - origin]
        yield slice(start, stop), slice(first, last), part


@kept
def _gaussian(reach: int, block: int, sigma: float) -> Floats:
    """Return the weights of the pixels from `reach` before a block to `reach` behind it."""
    distance = np.arange(block)[:, None] + reach - np.arange(block + 2 * reach)
    weights = np.exp(-0.5 * (distance / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    result: Floats = weights.astype(np.float32)
    return result
