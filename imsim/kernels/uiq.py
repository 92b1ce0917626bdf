"""UIQ: structural similarity without its constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from imsim.caches import kept
from imsim.kernels.common.window_strips import PixelTypes, Positions, limits, pixel_types, taps_of
from imsim.kernels.ssim import quality_strip
from imsim.portable.pair import Local, Scores
from imsim.portable.windows import least_weight, uniform
from imsim.typing import Array
from imsim.validation import Images


def uiq(images: Images, mask: Array | None, *, block_size: int) -> Scores:
    """Mean quality over all blocks."""
    positions = Positions(images, mask, block_size)
    return positions.scores(quality_strip, *_constants(pixel_types(images), block_size))


def uiq_map(images: Images, mask: Array | None, *, block_size: int) -> Local:
    """Quality of every block."""
    positions = Positions(images, mask, block_size)
    _, local = positions.local(quality_strip, *_constants(pixel_types(images), block_size))
    return local


@kept
def _constants(pixels: PixelTypes, block_size: int) -> tuple[Any, ...]:
    # Without constants in the quotients, rounding in float32 would decide the flat blocks.
    block = uniform(block_size)
    epsilon = float(np.finfo(np.float64).eps)
    least = least_weight(block, 0.0, epsilon)
    constants = np.array([1, 0, 0, least, 0])
    share = limits(pixels, block, np.float64)
    return *taps_of(block), share, None, False, constants, 2 * block_size * epsilon
