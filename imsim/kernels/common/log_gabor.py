"""The filter bank of phase congruency, stored for one quadrant of frequencies."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from imsim.caches import kept
from imsim.kernels.common.jit import kernel
from imsim.portable import phase_congruency as portable
from imsim.portable.phase_congruency import ORIENTATIONS, SCALES, THETA_SIGMA
from imsim.typing import Array

# The angle between a frequency and an orientation is one of eight functions of the frequency's
# angle in the first quadrant. The index of the function is DISTANCES[orientation, fy < 0, fx < 0].
DISTANCES = np.array(
    [
        [[0, 1], [0, 1]],
        [[5, 7], [4, 6]],
        [[3, 3], [2, 2]],
        [[7, 5], [6, 4]],
    ]
)


class Filters(NamedTuple):
    """Radial and angular parts at frequencies that are not negative, in the dtype of the image."""

    radial: Array
    """Shape (scales, height // 2 + 1, width // 2 + 1)."""
    angular: Array
    """Shape (8, height // 2 + 1, width // 2 + 1), see `DISTANCES`."""
    thresholds: tuple[float, ...]
    """Energy of noise by orientation, for squared amplitudes with a median of 1."""


@kept
def filters(height: int, width: int, dtype: np.dtype[Any]) -> Filters:
    """Make the filters for one size of the frame."""
    fy, fx = (np.arange(n // 2 + 1) / portable.samples(n) for n in (height, width))
    radial = np.stack(portable.log_gabor(np.hypot(fy[:, None], fx))).astype(dtype, copy=False)
    angle = np.arctan2(fy[:, None], fx)
    quarter = math.pi / 4
    angular = np.empty((8, *angle.shape), dtype=dtype)
    for k, (start, sign) in enumerate(
        ((0, 1), (4, -1), (2, -1), (2, 1), (1, -1), (1, 1), (3, -1), (3, 1))
    ):
        distance = np.abs(start * quarter + sign * angle)
        distance = np.minimum(distance, 2 * math.pi - distance)
        angular[k] = np.exp(-(distance**2) / (2 * THETA_SIGMA**2))
    sums = np.zeros((ORIENTATIONS, 3))
    _sums(*(np.asarray(part, np.float64) for part in (radial, angular)), height, width, sums)
    return Filters(
        radial,
        angular,
        tuple(float(portable.noise_model(np.float64(1), *row).threshold) for row in sums),
    )


@kernel
def _sums(radial, angular, height, width, sums):  # type: ignore[no-untyped-def]
    """Add up, by orientation, the three sums of the noise model; see `portable.FilterBank`."""
    for i in range(height):
        row, below = min(i, height - i), int(2 * i >= height)
        below_mirrored = int(2 * ((height - i) % height) >= height)
        for o in range(ORIENTATIONS):
            finest, squares, products = 0.0, 0.0, 0.0
            for j in range(width):
                column, left = min(j, width - j), int(2 * j >= width)
                left_mirrored = int(2 * ((width - j) % width) >= width)
                spread = angular[DISTANCES[o, below, left], row, column]
                mirrored = angular[DISTANCES[o, below_mirrored, left_mirrored], row, column]
                even = ((spread + mirrored) / 2) ** 2
                one, all_squares = 0.0, 0.0
                for s in range(SCALES):
                    part = radial[s, row, column]
                    one += part
                    all_squares += part * part
                finest += (radial[0, row, column] * spread) ** 2
                squares += even * all_squares
                products += even * (one * one - all_squares) / 2
            sums[o, 0] += finest
            sums[o, 1] += squares
            sums[o, 2] += products
