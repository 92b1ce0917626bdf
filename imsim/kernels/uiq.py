"""UIQ: structural similarity without its constants."""

from __future__ import annotations

import numpy as np

from imsim.caches import kept
from imsim.kernels import weighing
from imsim.kernels.common.window_doubts import PixelTypes, pixel_types
from imsim.kernels.common.window_strips import Positions, Strips
from imsim.kernels.ssim import quality_strips
from imsim.portable.pair import Local, Scores
from imsim.portable.windows import Window, least_weight, uniform
from imsim.typing import Array
from imsim.validation import Images


@weighing
def uiq(images: Images, mask: Array | None, *, block_size: int) -> Scores:
    """Mean quality over all blocks."""
    return _positions(images, mask, block_size).scores()


@weighing
def uiq_map(images: Images, mask: Array | None, *, block_size: int) -> Local:
    """Quality of every block."""
    return _positions(images, mask, block_size).local()


def _positions(images: Images, mask: Array | None, block_size: int) -> Positions:
    strips = uiq_strips(pixel_types(images), uniform(block_size, block_size))
    return Positions(images, mask, strips)


@kept
def uiq_strips(pixels: PixelTypes, block: Window) -> Strips:
    """Return the kernel with its arguments."""
    # Without constants in the quotients, rounding in float32 would decide the flat blocks.
    epsilon = float(np.finfo(np.float64).eps)
    least, rounding = least_weight(block, 0.0, epsilon), 2 * block.size * epsilon
    return quality_strips(pixels, np.float64, block, 1.0, 0.0, 0.0, least, rounding=rounding)
