"""The planes of a pair, and the weight of each."""

from __future__ import annotations

import numpy as np

from imsim.portable.pair import Pair
from imsim.typing import Array
from imsim.validation import Images


def images_of(pair: Pair) -> Images:
    """Return the images of a pair as kernels take them."""
    dtype = pair.x.dtype.type
    return Images(pair.xp, pair.x, pair.y, dtype, pair.data_range, pair.has_channels)


def largest(pair: Pair) -> float:
    """Largest magnitude of a pixel."""
    return max(float(np.abs(part(v))) for v in (pair.x, pair.y) for part in (np.min, np.max))


def plane_weights(upstream: Array, shape: tuple[int, ...]) -> Array:
    """Weight of the score of each plane: the score of an image is the mean over its channels.

    `shape` is the batch shape and the number of channels.
    """
    weights = np.asarray(upstream, np.float64)[..., None] / shape[-1]
    return np.broadcast_to(weights, shape).reshape(-1)
