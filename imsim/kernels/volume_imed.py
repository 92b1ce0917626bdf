"""IMED of volumes: planes are blurred as images are, and joined along the depth.

The Gaussian separates: the form is the sum over all planes of a plane blurred along itself, times
the plane and those behind it by the taps along the depth. G is symmetric, so that the products with
planes behind count twice.
"""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.common.jit import allocating
from imsim.kernels.common.pixel_blocks import BLOCK
from imsim.kernels.common.rescaling import find_lost_sums, lost_elements, scale_difference
from imsim.kernels.imed import blurred_difference, taps_along
from imsim.portable.arrays import broadcast
from imsim.portable.pair import Scores
from imsim.portable.volumes import unstacked
from imsim.typing import Array
from imsim.validation import Images, element
from imsim.workers import divided, parallel

PART = 1 << 16
"""Most pixels of a part of a plane, the unit of work of a thread."""


def imed(
    images: Images,
    mask: Array | None,
    sigma: float,
    normalize: str | None,
    spacing: tuple[float, ...] | None,
) -> Scores | None:
    """sqrt(d' G d), pooled over channels; None, for the formula, where there is a spacing."""
    if spacing is not None:
        return None
    batch = broadcast(images.batch_shape, () if mask is None else mask.shape[:-3])
    squared, n, energy, units = (np.zeros((*batch, 1)) for _ in range(4))
    units[:] = 1
    for place in np.ndindex(batch):
        one = images._replace(x=element(images.x, batch, place), y=element(images.y, batch, place))
        valid = None if mask is None else element(mask, batch, place)
        n[place] = one.x[0].size if valid is None else np.count_nonzero(valid)
        squared[place], energy[place] = _pooled(one, valid, sigma)
    lost = find_lost_sums(images._replace(dtype=np.float64), squared)
    if lost is not None:
        for place, one, valid in lost_elements(lost, images, mask, equal=False):
            difference, units[place] = scale_difference(one)
            squared[place], _ = _pooled(difference, valid, sigma)
    if normalize == "rms":
        squared = squared / (n * images.x.shape[-3])
    return Scores(np.sqrt(squared) * units, n, witness=energy)


def _pooled(images: Images, mask: Array | None, sigma: float) -> tuple[float, float]:
    """D' G d and the sum of squares of a pair of volumes, over all channels."""
    x, y = (unstacked(v, images.depth) for v in (images.x, images.y))
    valid = None if mask is None else unstacked(mask, images.depth)[0]
    form, energy = 0.0, 0.0
    for p, q in zip(x, y, strict=True):
        of_channel, squares = _form(images, p, q, valid, sigma)
        form, energy = form + of_channel, energy + squares
    # G is positive definite, yet for a large sigma its smallest eigenvalues are below rounding.
    return 0.0 if form < 0 else form, energy


def _form(
    images: Images, x: Array, y: Array, mask: Array | None, sigma: float
) -> tuple[float, float]:
    """D' G d and the sum of squares of one channel, (depth, height, width)."""
    depth, height, width = x.shape
    taps = taps_along(sigma, depth, np.dtype(np.float64))
    ring = np.zeros((taps.size, height * width))
    parts = divided(height * width, PART)
    sums = np.zeros((len(parts), 2))
    one = images._replace(dtype=np.float64, depth=None)
    for z in range(1 - taps.size, depth):
        ahead = z + taps.size - 1
        row = ring[ahead % taps.size]
        if ahead < depth:
            np.subtract(x[ahead], y[ahead], dtype=np.float64, out=row.reshape(height, width))
            if mask is not None:
                row[~mask[ahead].reshape(-1)] = 0
        else:
            row[:] = 0
        if z >= 0:
            inside = None if mask is None else mask[z, None]
            plane = one._replace(x=x[z, None], y=y[z, None])
            blurred = blurred_difference(plane, inside, sigma).reshape(-1)
            _add(ring, z % taps.size, taps, blurred, parts, sums)
    form, squares = (math.fsum(column) for column in sums.T)
    return form, squares


def _add(
    ring: Array, here: int, taps: Array, blurred: Array, parts: list[slice], sums: Array
) -> None:
    """Add what a plane, blurred along itself, gives with those behind it."""

    def task(i: int) -> None:
        part = parts[i]
        _add_part(ring, here, taps, blurred, part.start, part.stop, sums[i])

    parallel(task, len(parts), blurred.size)


@allocating
def _add_part(ring, here, taps, blurred, first, last, out):  # type: ignore[no-untyped-def]
    joined, planes = np.empty(BLOCK), taps.size
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        row, own = ring[here, start:stop], blurred[start:stop]
        for j in range(row.size):
            joined[j] = taps[0] * row[j]
        for k in range(1, planes):
            behind, tap = ring[(here + k) % planes, start:stop], 2 * taps[k]
            for j in range(behind.size):
                joined[j] += tap * behind[j]
        form, squares = 0.0, 0.0
        for j in range(row.size):
            form += own[j] * joined[j]
            squares += row[j] * row[j]
        out[0] += form
        out[1] += squares
