"""SH: cell means in one pass over the pixels, and the census of neighbours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.kernels.common.jit import kernel, part
from imsim.kernels.common.planes import NO_MASK, Planes, distinct_images, image_numbers, sum_parts
from imsim.portable.hashes import SIGNATURES, TIE, Bits, area_means, grid_shape
from imsim.portable.pair import Scores
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import parallel

CHEAPNESS, CENSUS_CHEAPNESS = 32, 2
"""Pixels that cost as much time as one for which `parallel` has its threshold."""


def sh(images: Images, mask: Array | None, hash: str, hash_size: int) -> Scores | None:
    """Part of the bits in which two signatures differ."""
    planes = Planes(images, mask)
    if hash == "census":
        return _census(planes)
    sides = image_numbers(images, mask, planes.shape)
    firsts = distinct_images(sides)
    reduced: list[Any] = [None] * len(firsts)

    def reduce(k: int) -> None:
        side, _, i = firsts[k]
        reduced[k] = cell_means(planes[i][side], planes[i].mask, *grid_shape(hash, hash_size))

    parallel(reduce, len(firsts), len(firsts) * math.prod(planes.frame) // CHEAPNESS)
    # The cells are few, and one thread is enough.
    found: dict[tuple[int, int], tuple[Bits, Bits, float]] = {
        (side, image): (*SIGNATURES[hash](cells, has_pixels, TIE * spread), spread)
        for (side, image, _), (cells, has_pixels, spread) in zip(firsts, reduced, strict=True)
    }
    scores, scored = np.empty((2, planes.count))
    for i in range(planes.count):
        (x, valid_x, spread_x), (y, valid_y, spread_y) = (
            found[side, int(own[i])] for side, own in enumerate(sides)
        )
        valid = valid_x & valid_y
        scored[i] = n = np.count_nonzero(valid)
        differing = np.count_nonzero((x ^ y) & valid)
        # The spread of an image with NaN or infinities is not finite.
        scores[i] = differing / n + 0 * (spread_x + spread_y) if n else math.nan
    scores = scores.reshape(planes.shape)
    return Scores(scores, scored.reshape(planes.shape), witness=scores)


def cell_means(
    image: Array, mask: Array | None, rows: int, columns: int
) -> tuple[Array, Bits, float]:
    """Mean of each cell inside the mask, which cells have pixels, and the spread of the pixels."""
    if mask is not None and mask.all():
        mask = None
    low, high = extremes(image, mask)
    sums, covered = np.empty((2, rows, columns))
    # Sums of bytes fit into int32, which is faster than float64.
    least = np.int32(low) if image.dtype == np.uint8 else np.float64(low)
    height, width = image.shape
    line, parts = np.empty(width, least.dtype), np.empty((2, width))
    _cell_sums(image, NO_MASK if mask is None else mask, least, line, parts, sums, covered)
    means = area_means(sums, None if mask is None else covered, (height / rows) * (width / columns))
    return *means, high - low


def extremes(image: Array, mask: Array | None) -> tuple[float, float]:
    """Smallest and largest value inside the mask; one is not finite if any pixel is not."""
    if mask is None:
        return float(image.min()), float(image.max())
    low, high = _extremes(image, mask)
    return low, high


def _census(planes: Planes) -> Scores:
    """Compare the bits 'is this neighbour brighter than the pixel?' of all pixels."""
    positions = planes.frame[0] - 2
    strips = planes.strips(_differing_codes, 2, positions=positions, cheapness=CENSUS_CHEAPNESS)
    sums = sum_parts(strips)
    rest = np.zeros(planes.shape)
    for i in range(planes.count):
        x, y, mask = planes[i]
        for image in (x, y):
            if image.dtype.kind == "f":
                low, high = extremes(image, mask)
                rest.flat[i] += 0 * (high - low)
    return Scores(sums[..., 0] / sums[..., 1] + rest, sums[..., 1], witness=rest)


@kernel
def _extremes(image, mask):  # type: ignore[no-untyped-def]
    low, high, rest = np.inf, -np.inf, 0.0
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            if mask[i, j]:
                low, high = min(low, image[i, j]), max(high, image[i, j])
                rest += image[i, j] * 0.0  # NaN if the pixel is not finite
    return (low + rest, high + rest) if low <= high or rest != 0 else (0.0, 0.0)


@kernel
def _cell_sums(image, mask, low, line, room, sums, covered):  # type: ignore[no-untyped-def]
    """Sum the pixels, less their minimum, and the mask over a grid of cells.

    A pixel is weighted with the part of its area inside the cell.
    """
    height, width = image.shape
    down = height / sums.shape[0]
    parts, inside = room[0], room[1]
    for r in range(sums.shape[0]):
        top, bottom = r * down, (r + 1) * down
        for j in range(width):
            line[j], parts[j], inside[j] = 0, 0, 0
        for i in range(int(top), min(int(np.ceil(bottom)), height)):
            weight = min(bottom, i + 1.0) - max(top, np.float64(i))
            if mask.size > 0:
                for j in range(width):
                    if mask[i, j]:
                        parts[j] += weight * (image[i, j] - low)
                        inside[j] += weight
            elif weight == 1:
                for j in range(width):
                    line[j] += image[i, j] - low
            else:
                for j in range(width):
                    parts[j] += weight * (image[i, j] - low)
        for j in range(width):
            parts[j] += line[j]
        _sums_of_row(parts, inside, sums[r], covered[r])


@part
def _sums_of_row(parts, inside, sums, covered):  # type: ignore[no-untyped-def]
    across = parts.size / sums.size
    for c in range(sums.size):
        left, right = c * across, (c + 1) * across
        total, area = 0.0, 0.0
        for j in range(int(left), min(int(np.ceil(right)), parts.size)):
            weight = min(right, j + 1.0) - max(left, np.float64(j))
            total += weight * parts[j]
            area += weight * inside[j]
        sums[c], covered[c] = total, area


@kernel
def _differing_codes(x, y, mask, start, stop, out):  # type: ignore[no-untyped-def]
    """Count the differing bits, and all bits, of rows of positions."""
    differing, bits = 0, 0
    for i in range(start + 1, stop + 1):
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if dy == 0 and dx == 0:
                    continue
                for j in range(1, x.shape[1] - 1):
                    if mask.size == 0 or (mask[i, j] and mask[i + dy, j + dx]):
                        brighter_x = x[i + dy, j + dx] > x[i, j]
                        brighter_y = y[i + dy, j + dx] > y[i, j]
                        differing += brighter_x != brighter_y
                        bits += 1
    out[0], out[1] = differing, bits
