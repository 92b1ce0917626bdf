"""ZNCC: Pearson's correlation of whole images, and in every square window.

Longer than most files: the moments of floats, of bytes and by weights are merged in one way.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.caches import kept
from imsim.kernels import surveying, weighing
from imsim.kernels.common.byte_sums import BYTE_BLOCK, sums_of_bytes
from imsim.kernels.common.jit import allocating, allocating_exact, exact, exact_part, kernel, part
from imsim.kernels.common.pixel_blocks import BLOCK, NO_BYTES, load_block
from imsim.kernels.common.planes import Planes, sum_parts
from imsim.kernels.common.rescaling import (
    channels_of,
    find_lost_sums,
    lost_elements,
    scale_images,
    scaling_unit,
)
from imsim.kernels.common.window_limits import PixelTypes, limits, pixel_types, weighed
from imsim.kernels.common.window_moments import (
    SUM_X,
    SUM_XX,
    SUM_XY,
    SUM_Y,
    SUM_YY,
    WEIGHT,
    is_lost,
)
from imsim.kernels.common.window_rows import correlation, correlation_row
from imsim.kernels.common.window_strips import Positions, Strips, taps_of
from imsim.kernels.common.window_sums import (
    add_row,
    digits_of,
    filter_moments,
    filter_products,
    filter_row,
    filter_two_rows,
    find_scored,
    load,
    load_mask,
    local_offset,
    may_be_broken,
    nan_if_broken,
    rows_to_sum,
)
from imsim.kernels.weighted.survey import (
    check_usual,
    is_unusual,
    refuse_unchecked,
)
from imsim.portable.pair import Local, Scores
from imsim.portable.windows import Window, least_weight, uniform
from imsim.typing import Array
from imsim.validation import Images

LEAST_SPREAD = 1e-6
"""Least share of all products of weights that those of different pixels make up. Where one weight
exceeds all others by more, variances about the mean lose digits."""
CHEAPNESS, CHEAPNESS_OF_BYTES = 4, 16
"""See `Planes.runs`."""
N_MOMENTS = 8
"""Numbers of a run: its pixels; means of x and y; sums of squares of x, of y, and of products,
about these means; centres of x and y, from which the means are counted to keep their digits."""


@surveying
def zncc(
    images: Images, mask: Array | None, lengths: tuple[int, ...] | None, min_coverage: float
) -> Scores | None:
    """Correlation of the whole images, or its mean over windows; None, unless these are square."""
    if lengths is not None:
        refuse_unchecked(images)
        return mean_local_correlation(images, mask, lengths, min_coverage)
    if images.weights is not None:
        return _weighted(images, mask)
    r, n, xx, yy, witness = _whole(images, mask)
    odd = find_lost_sums(images, xx, yy)
    if odd is not None:
        odd = odd.any(axis=-1)
        for index, element, valid in lost_elements(odd, images, mask):
            channels = channels_of(element)
            r[index] = [_whole(scale_images(one), valid)[0].item() for one in channels]
    return Scores(r, n, witness)


def _weighted(images: Images, mask: Array | None) -> Scores:
    """Correlation by weights; pairs for which the sums may not be precise are left."""
    planes = Planes(images, mask, in_order=False)
    runs = planes.runs(_weighted_run, N_MOMENTS + 2, cheapness=CHEAPNESS)
    squares = sum_parts(runs[..., N_MOMENTS])
    moments = np.ascontiguousarray(runs[..., :N_MOMENTS]).reshape(len(runs), -1, N_MOMENTS)
    scores = np.empty((5, *planes.shape))
    _correlations(moments, scores.reshape(5, -1))
    r, n, xx, yy, witness = scores
    check_usual(images, runs[..., N_MOMENTS + 1], n)
    odd = n * n - squares < LEAST_SPREAD * n * n
    lost = find_lost_sums(images, xx, yy)
    odd |= False if lost is None else lost
    odd &= n > 0
    if odd.any():
        refuse_unchecked(images)
    r[odd] = witness[odd] = math.nan
    return Scores(r, n, witness, odd.any(axis=-1) if odd.any() else None)


def _whole(images: Images, mask: Array | None) -> Array:
    """Correlation, number of pixels, the two sums of squares about the means, and their sum."""
    planes = Planes(images, mask, in_order=False)
    runs = _runs(planes)
    scores = np.empty((5, *planes.shape))
    _correlations(runs.reshape(len(runs), -1, N_MOMENTS), scores.reshape(5, -1))
    return scores


def scaled_moments(images: Images, mask: Array | None) -> tuple[Array, Array]:
    """Moments of each channel, (*shape, N_MOMENTS), and the units of x and y, (*shape, 2).

    The units are 1 where sums of squares stay within float64.
    """
    planes = Planes(images, mask, in_order=False)
    runs = _runs(planes)
    found, units = np.zeros((*planes.shape, N_MOMENTS)), np.ones((*planes.shape, 2))
    _merge_runs(runs.reshape(len(runs), -1, N_MOMENTS), found.reshape(-1, N_MOMENTS))
    odd = find_lost_sums(images, found[..., 3], found[..., 4])
    if odd is not None:
        for index, element, valid in lost_elements(odd.any(axis=-1), images, mask):
            for k, channel in enumerate(channels_of(element)):
                place = (*index, k)
                units[place] = scaling_unit(channel.x), scaling_unit(channel.y)
                own = _runs(Planes(scale_images(channel), valid))
                found[place] = 0
                _merge_runs(own.reshape(len(own), 1, N_MOMENTS), found[place].reshape(1, -1))
    return found, units


@exact
def _merge_runs(runs, found):  # type: ignore[no-untyped-def]
    for plane in range(runs.shape[1]):
        for run in range(runs.shape[0]):
            merge(found[plane], runs[run, plane])


def moments_of_run(x: Array, y: Array, mask: Array | None, out: Array) -> None:
    """Write the moments of a run, see `N_MOMENTS`."""
    inside = NO_BYTES if mask is None else mask
    if x.dtype == np.uint8:
        _moments_of_bytes(x, y, inside, np.empty(N_MOMENTS), out)
    else:
        _moments(x, y, inside, np.empty((3, BLOCK)), out)


def _runs(planes: Planes) -> Array:
    """Return the moments of the runs of all planes."""
    cheapness = CHEAPNESS_OF_BYTES if planes.dtype == np.uint8 else CHEAPNESS
    return planes.runs(moments_of_run, N_MOMENTS, cheapness=cheapness)


@kernel
def _moments_of_bytes(x, y, mask, block, out):  # type: ignore[no-untyped-def]
    """Moments of a run; sums of squares and of products about the means of a block are exact."""
    for start in range(0, x.size, BYTE_BLOCK):
        stop = start + BYTE_BLOCK
        n, sum_x, sum_y, xx, yy, xy = sums_of_bytes(x[start:stop], y[start:stop], mask[start:stop])
        if n == 0:
            continue
        centre_x, centre_y = sum_x // n, sum_y // n
        block[0] = n
        block[1], block[2] = (sum_x - n * centre_x) / n, (sum_y - n * centre_y) / n
        block[3], block[4] = (n * xx - sum_x * sum_x) / n, (n * yy - sum_y * sum_y) / n
        block[5] = (n * xy - sum_x * sum_y) / n
        block[6], block[7] = centre_x, centre_y
        merge(out, block)


@allocating
def _moments(x, y, mask, room, out):  # type: ignore[no-untyped-def]
    """Moments of a run; those of each block are taken about the means of the block before.

    These are near enough: where they are far from the block's own mean, the distance itself makes
    the variance of the run large against the rounding error.
    """
    centre_x, centre_y, block = 0.0, 0.0, room[2]
    for start in range(0, x.size, BLOCK):
        p, q, inside, n = load_block(x, y, mask, start, room)
        if n == 0:
            continue
        first = 0
        while mask.size > 0 and inside[first] == 0:
            first += 1
        is_first = out[0] == 0
        if is_first:  # about one of its pixels, the moments of a constant image are 0
            centre_x, centre_y = np.float64(p[first]), np.float64(q[first])
        for _ in range(2 if is_first else 1):
            # A full block is added in the order of a block without a mask.
            if n == p.size:
                sums = _centred_sums(p, q, None, centre_x, centre_y)
            else:
                sums = _centred_sums(p, q, inside, centre_x, centre_y)
            set_moments(sums, n, centre_x, centre_y, block)
            centre_x, centre_y = block[6] + block[1], block[7] + block[2]
        merge(out, block)


@part
def set_moments(sums, n, centre_x, centre_y, out):  # type: ignore[no-untyped-def]
    """Write the moments of a block from its sums about the centres."""
    dx, dy, xx, yy, xy = sums
    out[0] = n
    out[1], out[2] = dx / n, dy / n
    out[6], out[7] = centre_x, centre_y
    xx -= dx * dx / n
    yy -= dy * dy / n
    out[3] = 0.0 if xx < 0 else xx
    out[4] = 0.0 if yy < 0 else yy
    out[5] = xy - dx * dy / n


@part
def _centred_sums(p, q, inside, centre_x, centre_y):  # type: ignore[no-untyped-def]
    dx, dy, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(p.size):
        u = np.float64(p[i]) - centre_x
        v = np.float64(q[i]) - centre_y
        if inside is not None:
            use = inside[i] != 0
            u = u if use else 0.0
            v = v if use else 0.0
        dx += u
        dy += v
        xx += u * u
        yy += v * v
        xy += u * v
    return dx, dy, xx, yy, xy


def _weighted_run(x: Array, y: Array, mask: Array | None, out: Array, weights: Array) -> None:
    """Moments of a run by weights, sum of the squared weights, whether one is unusual."""
    _weighted_moments(x, y, weights, np.empty(N_MOMENTS), out)


@kernel
def _weighted_moments(x, y, weights, block, out):  # type: ignore[no-untyped-def]
    """Moments about the means of the block before; those of the first one about its pixels."""
    centres = (0.0, 0.0)
    for start in range(0, x.size, BLOCK):
        p, q, w = x[start : start + BLOCK], y[start : start + BLOCK], weights[start : start + BLOCK]
        centres = _merge_weighted(p, q, w, centres, block, out)


@part
def _merge_weighted(p, q, w, centres, block, out):  # type: ignore[no-untyped-def]
    """Merge the moments of a block about centres; return its means."""
    first = 0
    while first < w.size and w[first] == 0:
        first += 1
    if first == w.size:
        return centres
    centre_x, centre_y = centres
    is_first = out[0] == 0
    if is_first:
        centre_x, centre_y = np.float64(p[first]), np.float64(q[first])
    unusual = False
    for _ in range(2 if is_first else 1):
        sums, whole, squares, unusual = _weighted_sums(p, q, w, centre_x, centre_y)
        set_moments(sums, whole, centre_x, centre_y, block)
        centre_x, centre_y = block[6] + block[1], block[7] + block[2]
    merge(out, block)
    out[8] += squares
    out[9] += unusual
    return centre_x, centre_y


@part
def _weighted_sums(p, q, w, centre_x, centre_y):  # type: ignore[no-untyped-def]
    dx, dy, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    whole, squares, unusual = 0.0, 0.0, False
    for i in range(p.size):
        weight = np.float64(w[i])
        u = np.float64(p[i]) - centre_x if weight != 0 else 0.0
        v = np.float64(q[i]) - centre_y if weight != 0 else 0.0
        whole += weight
        squares += weight * weight
        unusual |= is_unusual(weight)
        a, b = weight * u, weight * v
        dx += a
        dy += b
        xx += a * u
        yy += b * v
        xy += a * v
    return (dx, dy, xx, yy, xy), whole, squares, unusual


@exact_part
def merge(total, part):  # type: ignore[no-untyped-def]
    """Add the moments of further pixels; for equal constants without an error."""
    if part[0] == 0:
        return
    if total[0] == 0:
        for k in range(N_MOMENTS):
            total[k] = part[k]
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


@allocating_exact
def _correlations(runs, scores):  # type: ignore[no-untyped-def]
    """Write the five numbers of `_whole`; see `imsim.metrics.zncc.correlation`."""
    total = np.empty(N_MOMENTS)
    for plane in range(runs.shape[1]):
        total[:] = 0
        for run in range(runs.shape[0]):
            merge(total, runs[run, plane])
        xx, yy, xy = total[3:6]
        # Scaling by powers of two is exact, and keeps the product within float64. The root of the
        # product is exact for equal images; a product of two roots is not.
        a, b = math.frexp(xx)[1] // 2, math.frexp(yy)[1] // 2
        product = math.ldexp(xx, -2 * a) * math.ldexp(yy, -2 * b)
        r = math.ldexp(math.ldexp(xy, -a), -b) / math.sqrt(product)
        r = -1.0 if r < -1 else 1.0 if r > 1 else r
        if (xx == 0 or yy == 0) and not math.isnan(xx + yy):
            r = 1.0 if xx == yy else 0.0
        scores[0, plane] = r
        scores[1, plane] = total[0]
        scores[2, plane], scores[3, plane], scores[4, plane] = xx, yy, xx + yy


@exact
def _correlation_again(moments, found):  # type: ignore[no-untyped-def]
    """Compute the doubtful positions of some rows, from moments about their own pixels."""
    for i in range(found.shape[0]):
        sums = moments[i]
        for j in range(found.shape[1]):
            if not np.isnan(found[i, j]):
                continue
            if is_lost(sums[SUM_X, j], sums[SUM_XX, j]) or is_lost(sums[SUM_Y, j], sums[SUM_YY, j]):
                continue
            n, sum_x, sum_y = sums[WEIGHT, j], sums[SUM_X, j], sums[SUM_Y, j]
            found[i, j] = correlation(
                n * sums[SUM_XY, j] - sum_x * sum_y,
                n * sums[SUM_XX, j] - sum_x * sum_x,
                n * sums[SUM_YY, j] - sum_y * sum_y,
            )


@kernel
def _correlation_strip(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    first,
    last,
    keeps,
    out,
    values,
    valid,
    doubtful,
    memory,
    taps,
    unrolled,
    limits,
    least,
):
    """Correlation at the positions of some columns of a strip."""
    rows, slots, both_sums, flat_sums, found, scored, _, _ = memory
    size, tile = taps.size, found.size
    full = float(size**2)
    p, q, inside = rows[0], rows[1], rows[2]
    digits, scale = digits_of(taps), 1.0

    for left in range(first, last, tile):
        count = min(tile, last - left)
        right = left + count + size - 1
        offset_x = local_offset(x, mask, left, right, digits)
        offset_y = local_offset(y, mask, left, right, digits)
        for i in range(x.shape[0]):
            slot = slots[i % slots.shape[0]]
            load(x, mask, i, left, right, offset_x, scale, p)
            load(y, mask, i, left, right, offset_y, scale, q)
            filter_moments(p, taps, unrolled, slot[:tile], slot[2 * tile : 3 * tile])
            filter_moments(q, taps, unrolled, slot[tile : 2 * tile], slot[3 * tile : 4 * tile])
            filter_products(p, q, taps, unrolled, slot[4 * tile : 5 * tile])
            if mask is not None:
                if may_be_broken(p, right - left):
                    out[0] += nan_if_broken(x, mask, i, left, right)
                if may_be_broken(q, right - left):
                    out[0] += nan_if_broken(y, mask, i, left, right)
                load_mask(mask, i, left, right, inside)
                filter_row(inside, taps, unrolled, slot[5 * tile :])
            top, end = rows_to_sum(i, size, x.shape[0])
            if top == end:
                continue
            filter_two_rows(slots, top, taps, unrolled, flat_sums[0], flat_sums[1])
            for row in range(top, end):
                sums = both_sums[row - top]
                if mask is None:
                    correlation_row(sums, None, full, limits, found)
                else:
                    pixels = sums[5]
                    correlation_row(sums, pixels, full, limits, found)
                    find_scored(pixels, pixels, least, least, mask, row, left, count, size, scored)
                use = None if mask is None else scored
                add_row(found, use, row, left, count, keeps, out, values, valid, doubtful)


@weighing
def zncc_map(
    images: Images, mask: Array | None, *, lengths: tuple[int, ...], min_coverage: float
) -> Local | None:
    """Correlation in every window; None, for the formula, unless these are square."""
    window = uniform(*lengths)
    if not window.is_square:
        return None
    strips = zncc_strips(pixel_types(images), window, min_coverage)
    return Positions(images, mask, strips).local()[1]


def mean_local_correlation(
    images: Images, mask: Array | None, lengths: tuple[int, ...], min_coverage: float
) -> Scores | None:
    """Mean of the correlation over all windows."""
    window = uniform(*lengths)
    if not window.is_square:
        return None
    return Positions(images, mask, zncc_strips(pixel_types(images), window, min_coverage)).scores()


@kept
def zncc_strips(pixels: PixelTypes, window: Window, min_coverage: float) -> Strips:
    """Return the kernel with its arguments."""
    # Without a constant in the quotient, float32 has too few digits.
    real = np.float64
    least = least_weight(window, min_coverage, float(np.finfo(real).eps))
    constants = (*taps_of(window), limits(pixels, window, real), least)
    weighted = (*taps_of(window), *weighed(pixels, window, real, least))
    again = _correlation_again, ()
    return Strips(window, real, 5, _correlation_strip, constants, *again, _weighted_strip, weighted)


def _weighted_strip() -> Any:
    from imsim.kernels.weighted.windows import correlation_strip

    return correlation_strip
