"""Pearson's correlation in every square window, in one pass."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from imsim.kernels.jit import exact, inline, kernel
from imsim.kernels.moments import (
    SUM_X,
    SUM_XX,
    SUM_XY,
    SUM_Y,
    SUM_YY,
    TINY,
    WEIGHT,
    find_moments,
    is_doubtful,
    is_lost,
    moments_workspace,
)
from imsim.kernels.positions import Positions, limits, taps_of
from imsim.kernels.windows import (
    TILE,
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
from imsim.metrics.zncc import local_correlation
from imsim.portable.pair import Local, Scores
from imsim.portable.windows import least_weight, uniform
from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST, Images, check_size


@inline
def _correlation(covariance, variance_x, variance_y):  # type: ignore[no-untyped-def]
    """See `imsim.metrics.zncc.correlation`; a window is flat if its variance is 0."""
    product = variance_x * variance_y
    if SMALLEST < product < LARGEST:
        r = covariance / math.sqrt(product)
    else:  # exactly 1 for equal images as well; but the product may overflow, or vanish
        larger, smaller = max(variance_x, variance_y), min(variance_x, variance_y)
        r = covariance / larger / math.sqrt(smaller / larger)
    r = 1.0 if r > 1 else (-1.0 if r < -1 else r)
    if variance_x <= 0 or variance_y <= 0:
        # 1 if both are flat, else 0, but NaN if the other image is not finite here.
        r = 1.0 if variance_x <= 0 and variance_y <= 0 else 0.0 * (variance_x + variance_y)
    return r


@exact  # covariance and variances of equal images are to be equal
def _correlation_row(sums, pixels, full, limits, found):  # type: ignore[no-untyped-def]
    """Correlation at a row of positions, from sums of x, y, x^2, y^2 and x y; NaN if doubtful.

    Variances and covariance are left multiplied by the square of the number of pixels.
    """
    if limits is not None:
        share = limits[0]
    for j in range(found.size):
        n = full if pixels is None else pixels[j]
        covariance = n * sums[4, j] - sums[0, j] * sums[1, j]
        power_x, power_y = n * sums[2, j], n * sums[3, j]
        variance_x = power_x - sums[0, j] * sums[0, j]
        variance_y = power_y - sums[1, j] * sums[1, j]
        r = _correlation(covariance, variance_x, variance_y)
        if limits is not None:
            sound = (share * power_x < variance_x) & (share * power_y < variance_y)
            sound &= (variance_x > TINY) & (variance_y > TINY)
            r = r if sound else np.nan
        found[j] = r


@exact
def _correlation_again(sums, scored, count, found):  # type: ignore[no-untyped-def]
    """Correlation at the doubtful ones among a row of positions, from their own moments."""
    for j in range(count):
        if np.isnan(found[j]) and scored[j]:
            n = sums[WEIGHT, j]
            if is_lost(sums[SUM_X, j], sums[SUM_XX, j]) or is_lost(sums[SUM_Y, j], sums[SUM_YY, j]):
                continue
            sum_x, sum_y = sums[SUM_X, j], sums[SUM_Y, j]
            found[j] = _correlation(
                n * sums[SUM_XY, j] - sum_x * sum_y,
                n * sums[SUM_XX, j] - sum_x * sum_x,
                n * sums[SUM_YY, j] - sum_y * sum_y,
            )


@kernel
def correlation_strip(x, y, mask, out, values, valid, taps, precise, order, limits, least):  # type: ignore[no-untyped-def]
    """Correlation at all positions of a strip."""
    size = len(taps)
    full = float(size**2)
    totals = np.zeros(TILE // 8)
    tile = totals.size
    planes = 5 if mask is None else 6
    rows, ring, slots, sums, flat_sums, found = workspace(size, planes, totals)
    p, q, inside, pixels = rows[0], rows[1], rows[2], sums[planes - 1]
    scored = np.ones(tile, np.bool_)
    moments = moments_workspace(1, 0)

    columns = x.shape[1] - size + 1
    for left in range(0, columns, tile):
        count = min(tile, columns - left)
        right = left + count + size - 1
        offset_x = local_offset(x, mask, left, right)
        offset_y = local_offset(y, mask, left, right)
        known = 0
        for i in range(x.shape[0]):
            slot, oldest, row = i % size, (i + 1) % size, i - size + 1
            load(x, mask, i, left, right, offset_x, 1.0, p)
            load(y, mask, i, left, right, offset_y, 1.0, q)
            filter_moments(p, taps, ring, slot, 0, 2)
            filter_moments(q, taps, ring, slot, 1, 3)
            filter_products(p, q, taps, ring, slot, 4)
            if mask is not None:
                out[0] += not_finite(p, x, mask, i, left, right)
                out[0] += not_finite(q, y, mask, i, left, right)
                load_mask(mask, i, left, right, inside)
                filter_row(inside, taps, ring, slot, 5)
            if row < 0:
                continue
            filter_rows(slots, oldest, taps, flat_sums)
            if mask is None:
                _correlation_row(sums, None, full, limits, found)
            else:
                _correlation_row(sums, pixels, full, limits, found)
                find_scored(pixels, None, least, 0, mask, row, left, count, size, scored)
            if limits is not None and is_doubtful(found, mask, scored, count):
                if moments[2].size == 0:
                    moments = moments_workspace(size, tile)
                known = find_moments(x, y, mask, row, left, count, precise, order, known, moments)
                _correlation_again(moments[2], scored, count, found)
            if mask is None:
                out[1] += add_row(found, None, count, totals)
            else:
                out[1] += add_row(found, scored, count, totals)
            if values.size > 0:
                values[row, left : left + count] = found[:count]
            if valid.size > 0:
                valid[row, left : left + count] = scored[:count]
        add_totals(totals, count, out)


def zncc_map(images: Images, mask: Array | None, *, window_size: int, min_coverage: float) -> Local:
    """Correlation in every window."""
    positions, constants = _prepare(images, mask, window_size, min_coverage)
    _, local = positions.local(correlation_strip, *constants)
    return local


def mean_local_correlation(
    images: Images, mask: Array | None, window_size: int, min_coverage: float
) -> Scores:
    """Mean of the correlation over all windows."""
    positions, constants = _prepare(images, mask, window_size, min_coverage)
    return positions.scores(correlation_strip, *constants)


def _prepare(
    images: Images, mask: Array | None, window_size: int, min_coverage: float
) -> tuple[Positions, tuple[Any, ...]]:
    check_size("zncc", images.x, window_size)
    formula = functools.partial(
        local_correlation, window_size=window_size, min_coverage=min_coverage
    )
    positions = Positions(images, mask, window_size, formula)
    # Without a constant that steadies the quotient, float32 would not do.
    window = uniform(window_size)
    least = least_weight(window, min_coverage, float(np.finfo(np.float64).eps))
    return positions, (*taps_of(window), limits(images, window, np.float64), least)
