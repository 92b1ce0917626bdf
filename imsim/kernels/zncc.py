"""Pearson's correlation of whole images, and in every square window, in one pass each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.caches import kept
from imsim.kernels.common.jit import exact, inline, kernel
from imsim.kernels.common.magnitudes import each_scaled, elements, odd_ones
from imsim.kernels.common.pixel_blocks import BLOCK, count, floats, scratch
from imsim.kernels.common.planes import Planes
from imsim.kernels.common.window_moments import (
    SUM_X,
    SUM_XX,
    SUM_XY,
    SUM_Y,
    SUM_YY,
    TINY,
    WEIGHT,
    find_moments,
    is_lost,
    moments_workspace,
)
from imsim.kernels.common.window_strips import Pixels, Positions, limits, pixels_of, taps_of
from imsim.kernels.common.window_sums import (
    TILE,
    filter_moments,
    filter_products,
    filter_row,
    filter_rows,
    find_scored,
    load,
    load_mask,
    local_offset,
    not_finite,
    row_total,
    workspace,
)
from imsim.portable.pair import Local, Scores
from imsim.portable.windows import least_weight, uniform
from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST, Images

MOMENTS = 8
"""Pixels, means of x and y, and the sums of squares and products about these means; and the
values of x and y from which the means are counted, so that they keep their digits far from 0."""


def zncc(
    images: Images, mask: Array | None, window_size: int | None, min_coverage: float
) -> Scores:
    """Correlation of the whole images, or its mean over windows."""
    if window_size is not None:
        return mean_local_correlation(images, mask, window_size, min_coverage)
    r, n, xx, yy, witness = _whole(images, mask)
    odd = odd_ones(images, xx, yy)
    if odd is not None:
        odd = odd.any(axis=-1)
        for index, element, valid in elements(odd, images, mask):
            r[index] = _whole(each_scaled(element), valid)[0]
    return Scores(r, n, witness)


def _whole(images: Images, mask: Array | None) -> Array:
    """Correlation, number of pixels, sums of squares about the means, and the sum of these."""
    planes = Planes(images, mask, in_order=False)
    runs = planes.runs(_moments, MOMENTS, ease=4)
    scores = np.empty((5, *planes.shape))
    _correlations(runs.reshape(len(runs), -1, MOMENTS), scores.reshape(5, -1))
    return scores


@kernel
def _moments(x, y, mask, out):  # type: ignore[no-untyped-def]
    """Moments of a run, block by block, each about the means of the block before.

    These are near enough: what rounding makes of their distance from the block's own mean is
    of the size of what that distance adds to the variance of the run.
    """
    room = scratch(x)
    block = np.empty(MOMENTS)
    centre_x, centre_y = 0.0, 0.0
    for start in range(0, x.size, BLOCK):
        p = floats(x[start : start + BLOCK], room[0])
        q = floats(y[start : start + BLOCK], room[1])
        n, first = p.size, 0
        inside: Any = None if mask is None else mask[start : start + BLOCK]
        if mask is not None:
            n = count(inside)
            if n == 0:
                continue
            while inside[first] == 0:
                first += 1
        if out[0] == 0:  # with a pixel as its centre, a constant image has moments of 0
            centre_x, centre_y = np.float64(p[first]), np.float64(q[first])
            _block_moments(p, q, inside, n, centre_x, centre_y, block)
            centre_x, centre_y = block[6] + block[1], block[7] + block[2]
        _block_moments(p, q, inside, n, centre_x, centre_y, block)
        centre_x, centre_y = block[6] + block[1], block[7] + block[2]
        _merge(out, block)


@kernel
def _block_moments(p, q, inside, n, centre_x, centre_y, out):  # type: ignore[no-untyped-def]
    # A full block takes the way of a block without a mask, which adds in the same order.
    if inside is None or n == p.size:
        dx, dy, xx, yy, xy = _centred_sums(p, q, centre_x, centre_y)
    else:
        dx, dy, xx, yy, xy = _centred_sums_inside(p, q, inside, centre_x, centre_y)
    out[0] = n
    out[1], out[2] = dx / n, dy / n
    out[6], out[7] = centre_x, centre_y
    xx -= dx * dx / n
    yy -= dy * dy / n
    out[3] = 0.0 if xx < 0 else xx
    out[4] = 0.0 if yy < 0 else yy
    out[5] = xy - dx * dy / n


@kernel
def _centred_sums(p, q, centre_x, centre_y):  # type: ignore[no-untyped-def]
    dx, dy, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(p.size):
        u = np.float64(p[i]) - centre_x
        v = np.float64(q[i]) - centre_y
        dx += u
        dy += v
        xx += u * u
        yy += v * v
        xy += u * v
    return dx, dy, xx, yy, xy


@kernel
def _centred_sums_inside(p, q, inside, centre_x, centre_y):  # type: ignore[no-untyped-def]
    dx, dy, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(p.size):
        use = inside[i] != 0
        u = np.float64(p[i]) - centre_x
        v = np.float64(q[i]) - centre_y
        u = u if use else 0.0
        v = v if use else 0.0
        dx += u
        dy += v
        xx += u * u
        yy += v * v
        xy += u * v
    return dx, dy, xx, yy, xy


@exact
def _merge(total, part):  # type: ignore[no-untyped-def]
    """Add the moments of further pixels; of equal constants to the last bit."""
    if part[0] == 0:
        return
    if total[0] == 0:
        total[:] = part
        return
    n = total[0] + part[0]
    weight = part[0] / n
    dx = (part[6] - total[6]) + (part[1] - total[1])
    dy = (part[7] - total[7]) + (part[2] - total[2])
    between = total[0] * weight
    total[0] = n
    total[1] += dx * weight
    total[2] += dy * weight
    total[3] += part[3] + dx * dx * between
    total[4] += part[4] + dy * dy * between
    total[5] += part[5] + dx * dy * between


@exact
def _correlations(runs, scores):  # type: ignore[no-untyped-def]
    """Correlation, by the rules of `imsim.metrics.zncc.correlation`, and the rest of `_whole`."""
    total = np.empty(MOMENTS)
    for plane in range(runs.shape[1]):
        total[:] = 0
        for run in range(runs.shape[0]):
            _merge(total, runs[run, plane])
        xx, yy, xy = total[3:6]
        # Powers of two, exact, keep the product from the ends of float64; its root is exact for
        # equal images, where the product of two roots is not.
        a, b = math.frexp(xx)[1] // 2, math.frexp(yy)[1] // 2
        product = math.ldexp(xx, -2 * a) * math.ldexp(yy, -2 * b)
        r = math.ldexp(math.ldexp(xy, -a), -b) / math.sqrt(product)
        r = -1.0 if r < -1 else 1.0 if r > 1 else r
        if (xx == 0 or yy == 0) and not math.isnan(xx + yy):
            r = 1.0 if xx == yy else 0.0
        scores[0, plane] = r
        scores[1, plane] = total[0]
        scores[2, plane], scores[3, plane], scores[4, plane] = xx, yy, xx + yy


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
        r = 1.0 if variance_x <= 0 and variance_y <= 0 else 0.0
    # NaN if a variance is not finite; a maximum, and the bounds of r, drop it.
    return r + 0.0 * (variance_x + variance_y)


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
    tile = TILE // 8
    planes = 5 if mask is None else 6
    rows, ring, slots, sums, flat_sums, found = workspace(size, planes, np.zeros(0))
    p, q, inside, pixels = rows[0], rows[1], rows[2], sums[planes - 1]
    scored = np.ones(tile, np.bool_)
    moments = moments_workspace(1, 0)

    columns = x.shape[1] - size + 1
    for left in range(0, columns, tile):
        count = min(tile, columns - left)
        right = left + count + size - 1
        offset_x = local_offset(x, mask, left, right, 16)
        offset_y = local_offset(y, mask, left, right, 16)
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
            total, number = row_total(found, None if mask is None else scored, count)
            if limits is not None and np.isnan(total):
                if moments[2].size == 0:
                    moments = moments_workspace(size, tile)
                known = find_moments(x, y, mask, row, left, count, precise, order, known, moments)
                _correlation_again(moments[2], scored, count, found)
                total, number = row_total(found, None if mask is None else scored, count)
            out[0] += total
            out[1] += number
            if values.size > 0:
                values[row, left : left + count] = found[:count]
            if valid.size > 0:
                valid[row, left : left + count] = scored[:count]


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
    positions = Positions(images, mask, window_size)
    return positions, _constants(pixels_of(images), window_size, min_coverage)


@kept
def _constants(pixels: Pixels, window_size: int, min_coverage: float) -> tuple[Any, ...]:
    # Without a constant that steadies the quotient, float32 would not do.
    window = uniform(window_size)
    least = least_weight(window, min_coverage, float(np.finfo(np.float64).eps))
    return *taps_of(window), limits(pixels, window, np.float64), least
