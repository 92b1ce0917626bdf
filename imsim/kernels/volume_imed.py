"""IMED of volumes: planes are blurred as images are, and joined along the depth.

The Gaussian separates: the form is the sum over all planes of a plane blurred along itself, times
the plane and those behind it by the taps along the depth. G is symmetric, so that the products with
planes behind count twice.
"""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.common.jit import kernel
from imsim.kernels.common.pixel_blocks import BLOCK
from imsim.kernels.common.rescaling import find_lost_sums
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
    """sqrt(d' G d), pooled over channels; None, for the formula.

    It gets volumes with a spacing, and those with squares that leave float64 or are not finite.
    """
    if spacing is not None:
        return None
    channels = images.x.shape[-3]
    batch = broadcast(images.batch_shape, () if mask is None else mask.shape[:-3])
    squared, n, energy = (np.zeros((*batch, 1)) for _ in range(3))
    differs = np.ones(squared.shape, np.bool_)
    for place in np.ndindex(batch):
        x, y = (unstacked(element(v, batch, place), images.depth) for v in (images.x, images.y))
        valid = None
        if mask is not None:
            valid = unstacked(element(mask, batch, place), images.depth)[0]
        n[place] = x[0].size if valid is None else np.count_nonzero(valid)
        for p, q in zip(x, y, strict=True):
            squared[place] += _form(images, p, q, valid, sigma, energy[place])
        if energy[place] == 0:
            differs[place] = (x != y).any(where=True if valid is None else valid)
    # G is positive definite, yet for a large sigma its smallest eigenvalues are below rounding.
    squared = np.maximum(squared, 0)
    lost = find_lost_sums(images._replace(dtype=np.float64), squared)
    if lost is not None and (lost & differs).any():
        return None
    root = np.sqrt(squared / (n * channels) if normalize == "rms" else squared)
    return Scores(root, n, witness=energy)


def _form(
    images: Images, x: Array, y: Array, mask: Array | None, sigma: float, energy: Array
) -> float:
    """D' G d of one channel, (depth, height, width); add the sum of squares to `energy`."""
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
    energy += squares
    return form


def _add(
    ring: Array, here: int, taps: Array, blurred: Array, parts: list[slice], sums: Array
) -> None:
    """Add what a plane, blurred along itself, gives with those behind it."""

    def task(i: int) -> None:
        part = parts[i]
        _add_part(ring, here, taps, blurred, part.start, part.stop, sums[i])

    parallel(task, len(parts), blurred.size)


@kernel
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
