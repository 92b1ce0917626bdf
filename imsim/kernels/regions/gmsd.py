"""GMSD of many small regions."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import kernel
from imsim.kernels.gmsd import N_SUMS, NO_SCORED, NO_VALUES, near_strip, prepare
from imsim.kernels.regions import Places
from imsim.kernels.regions.crops import for_each_part, load_crop
from imsim.portable.pair import Scores
from imsim.validation import Images


def gmsd(images: Images, places: Places) -> Scores:
    """Standard deviation, with n - 1, of the gradient similarity."""
    planes, constant, most, _ = prepare(images, None)
    sums = np.zeros((planes.count, len(places.wanted), N_SUMS))

    nothing = NO_VALUES[type(constant)], NO_SCORED

    def score(channel: int, part: slice) -> None:
        x, y, _ = planes[channel]
        _moments_of(x, y, *places.part(part), sums[channel, part], constant, *nothing)

    for_each_part(score, planes.count, places.crops)
    n, _, squares, _, size = sums.transpose(2, 1, 0)
    # Pixels far from 0, and those that are not finite, are left to the other kernels.
    left = ~(size <= most).all(axis=-1)
    return Scores(np.sqrt(squares / (n - 1)), np.where(n > 1, n, 0), left=left)


@kernel
def _moments_of(x, y, codes, wanted, crops, sums, constant, no_values, no_scored):  # type: ignore[no-untyped-def]
    for k in range(wanted.size):
        top, left = crops[k, 0, 0], crops[k, 1, 0]
        shape = (crops[k, 0, 1] - top, crops[k, 1, 1] - left)
        p, q, inside = np.empty(shape, x.dtype), np.empty(shape, y.dtype), np.empty(shape, np.bool_)
        load_crop(x, codes, wanted[k], top, left, p, inside)
        load_crop(y, codes, wanted[k], top, left, q, inside)
        cells = (shape[0] + 1) // 2
        near_strip(p, q, inside, 0, cells, sums[k], constant, no_values, no_scored)
