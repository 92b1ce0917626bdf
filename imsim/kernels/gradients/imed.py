"""Gradient of IMED: the blurred difference of the images."""

from __future__ import annotations

import numpy as np

from imsim.kernels.gradients import Gradients, images_of, inverse, multiples
from imsim.kernels.imed import blurred_difference
from imsim.kernels.imed import imed as score
from imsim.portable.pair import Pair
from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST


def imed(
    pair: Pair,
    upstream: Array,
    wanted: tuple[bool, bool],
    sigma: float,
    normalize: str | None,
    spacing: tuple[float, ...] | None,
) -> Gradients | None:
    """G d / sqrt(d' G d), divided by the square root of the number of values on request.

    The gradient of identical images is 0. None, for the formula, where there is a spacing.
    """
    images = images_of(pair)
    scores = score(images, pair.mask, sigma, None, spacing)
    if scores is None:
        return None
    distance = scores.values[..., 0]
    if not np.all((distance == 0) | ((distance > SMALLEST) & (distance < LARGEST))):
        return None
    if normalize == "rms":
        upstream = upstream * np.sqrt(inverse(scores.scored[..., 0] * images.x.shape[-3]))
    blurred = blurred_difference(images, pair.mask, sigma)
    return multiples(pair, blurred, upstream * inverse(distance), wanted)
