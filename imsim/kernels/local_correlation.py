"""Pearson's correlation in every square window, in one pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.kernels.jit import kernel
from imsim.kernels.positions import Positions, exact_taps, least_weight
from imsim.kernels.windows import (
    add_row,
    add_totals,
    filter_moments,
    filter_products,
    filter_row,
    filter_rows,
    find_scored,
    load,
    load_mask,
    local_offset,
    not_finite,
    workspace,
)
from imsim.portable.pair import Local, Scores
from imsim.portable.windows import uniform
from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST, Images, check_size


@kernel
def _correlation_row(sums, pixels, full, rounding, found):  # type: ignore[no-untyped-def]
    """Correlation at a row of positions, from sums of x, y, x^2, y^2 and x y.

    Variances and covariance are left multiplied by the square of the number of pixels.
    """
    for j in range(found.size):
        n = full if pixels is None else pixels[j]
        covariance = n * sums[4, j] - sums[0, j] * sums[1, j]
        variance_x = n * sums[2, j] - sums[0, j] * sums[0, j]
        variance_y = n * sums[3, j] - sums[1, j] * sums[1, j]
        # As differences, which are NaN and not 0 where both sides are infinite.
        flat_x = variance_x - rounding * n * sums[2, j] <= 0
        flat_y = variance_y - rounding * n * sums[3, j] <= 0
        product = variance_x * variance_y
        if SMALLEST < product < LARGEST:
            r = covariance / math.sqrt(product)
        else:  # the root of the product is exact for equal images, but overflows
            r = covariance / math.sqrt(variance_x) / math.sqrt(variance_y)
        r = 1.0 if r > 1 else (-1.0 if r < -1 else r)
        if flat_x or flat_y:
            # 1 if both are flat, else 0, but NaN if the other image is not finite here.
            r = 1.0 if flat_x and flat_y else 0.0 * (variance_x + variance_y)
        found[j] = r


@kernel
def correlation_strip(x, y, mask, out, values, valid, taps, constants):  # type: ignore[no-untyped-def]
    """Correlation at all positions of a strip."""
    size = len(taps)
    full = float(size**2)
    least, rounding = constants
    planes = 5 if mask is None else 6
    rows, ring, slots, sums, flat_sums, found = workspace(size, planes, constants)
    p, q, inside, pixels = rows[0], rows[1], rows[2], sums[planes - 1]
    tile = found.size
    scored = np.ones(tile, np.bool_)
    totals = np.zeros(tile)

    columns = x.shape[1] - size + 1
    for left in range(0, columns, tile):
        count = min(tile, columns - left)
        right = left + count + size - 1
        offset_x = local_offset(x, mask, left, right)
        offset_y = local_offset(y, mask, left, right)
        for i in range(x.shape[0]):
            slot, oldest, row = i % size, (i + 1) % size, i - size + 1
            load(x, mask, i, left, right, offset_x, 1.0, p)
            load(y, mask, i, left, right, offset_y, 1.0, q)
            filter_moments(p, taps, ring, slot, 0, 2)
            filter_moments(q, taps, ring, slot, 1, 3)
            filter_products(p, q, taps, ring, slot, 4)
            if mask is not None:
                out[0] += not_finite(p, right - left) + not_finite(q, right - left)
                load_mask(mask, i, left, right, inside)
                filter_row(inside, taps, ring, slot, 5)
            if row < 0:
                continue
            filter_rows(slots, oldest, taps, flat_sums)
            if mask is None:
                _correlation_row(sums, None, full, rounding, found)
                out[1] += add_row(found, None, count, totals)
            else:
                _correlation_row(sums, pixels, full, rounding, found)
                find_scored(pixels, None, least, mask, row, left, count, size, scored)
                out[1] += add_row(found, scored, count, totals)
            if values.size > 0:
                values[row, left : left + count] = found[:count]
            if valid.size > 0:
                valid[row, left : left + count] = scored[:count]
        add_totals(totals, count, out)


def zncc_map(images: Images, mask: Array | None, *, window_size: int, min_coverage: float) -> Local:
    """Correlation in every window."""
    check_size("zncc", images.x, window_size)
    positions = Positions(images, mask, window_size)
    constants = _constants(window_size, min_coverage)
    _, local = positions.local(correlation_strip, *constants)
    return local


def mean_local_correlation(
    images: Images, mask: Array | None, window_size: int, min_coverage: float
) -> Scores:
    """Mean of the correlation over all windows."""
    check_size("zncc", images.x, window_size)
    positions = Positions(images, mask, window_size)
    return positions.scores(correlation_strip, *_constants(window_size, min_coverage))


def _constants(window_size: int, min_coverage: float) -> tuple[Any, ...]:
    # Without a constant that steadies the quotient, float32 would not do.
    window = uniform(window_size)
    taps = exact_taps(window, np.float64)
    rounding = 2 * window_size * float(np.finfo(np.float64).eps)
    return taps, np.array([least_weight(window, min_coverage), rounding])
