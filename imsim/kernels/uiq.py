"""UIQ: structural similarity without its constants."""

from __future__ import annotations

import numpy as np

from imsim.caches import kept
from imsim.kernels import weighing
from imsim.kernels.common.window_strips import PixelTypes, Positions, Strips, pixel_types
from imsim.kernels.ssim import quality_strips
from imsim.portable.pair import Local, Scores
from imsim.portable.windows import least_weight, uniform
from imsim.typing import Array
from imsim.validation import Images


@weighing
def uiq(images: Images, mask: Array | None, *, block_size: int) -> Scores:
    """Mean quality over all blocks."""
    return Positions(images, mask, _strips(pixel_types(images), block_size)).scores()


@weighing
def uiq_map(images: Images, mask: Array | None, *, block_size: int) -> Local:
    """Quality of every block."""
    return Positions(images, mask, _strips(pixel_types(images), block_size)).local()[1]


@kept
def _strips(pixels: PixelTypes, block_size: int) -> Strips:
    # Without constants in the quotients, rounding in float32 would decide the flat blocks.
    block, epsilon = uniform(block_size, block_size), float(np.finfo(np.float64).eps)
    least, rounding = least_weight(block, 0.0, epsilon), 2 * block_size * epsilon
    return quality_strips(pixels, np.float64, block, 1.0, 0.0, 0.0, least, rounding=rounding)
