"""ZNCC: Pearson's correlation of whole images and volumes, and in every window in one pass."""

from __future__ import annotations

import math

import numpy as np

from imsim.caches import kept
from imsim.kernels import surveying, weighing
from imsim.kernels.common.jit import allocating_exact, kernel, part
from imsim.kernels.common.pair_moments import (
    CHEAPNESS,
    N_MOMENTS,
    merge,
    moments_of_planes,
    moments_of_runs,
    weighted_moments_of_run,
)
from imsim.kernels.common.planes import Planes, sum_parts
from imsim.kernels.common.rescaling import (
    LEAST_SPREAD,
    channels_of,
    check_usual,
    find_lost_sums,
    lost_elements,
    refuse_unchecked,
    scale_images,
    scaling_unit,
)
from imsim.kernels.common.volume_slabs import VolumePositions, centre_of, slab_offset
from imsim.kernels.common.window_doubts import PixelTypes, limits, pixel_types, weighed
from imsim.kernels.common.window_rows import correlation_again, correlation_row
from imsim.kernels.common.window_strips import Positions, Strips, taps_of
from imsim.kernels.common.window_sums import (
    add_row,
    filter_moments,
    filter_products,
    filter_row,
    filter_two_rows,
    find_scored,
    load,
    load_mask,
    may_be_broken,
    nan_if_broken,
    rows_to_sum,
    sum_rows,
)
from imsim.kernels.common.window_tiles import digits_of, offsets_of, span_of
from imsim.portable.pair import Local, Scores
from imsim.portable.windows import Window, least_weight, uniform
from imsim.typing import Array
from imsim.validation import Images


@surveying
def zncc(
    images: Images, mask: Array | None, lengths: tuple[int, ...] | None, min_coverage: float
) -> Scores | None:
    """Correlation of the whole images, or its mean over windows; None, unless these are square."""
    if lengths is not None:
        refuse_unchecked(images)
        positions = _positions(images, mask, lengths, min_coverage)
        return None if positions is None else positions.scores()
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
    runs = planes.runs(weighted_moments_of_run, N_MOMENTS + 2, cheapness=CHEAPNESS)
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
    scores = np.empty((5, *planes.shape))
    _correlations(moments_of_runs(planes), scores.reshape(5, -1))
    return scores


def scaled_moments(images: Images, mask: Array | None) -> tuple[Array, Array]:
    """Moments of each channel, (*shape, N_MOMENTS), and the units of x and y, (*shape, 2).

    The units are 1 where sums of squares stay within float64.
    """
    planes = Planes(images, mask, in_order=False)
    found = moments_of_planes(planes).reshape(*planes.shape, N_MOMENTS)
    units = np.ones((*planes.shape, 2))
    odd = find_lost_sums(images, found[..., 3], found[..., 4])
    if odd is not None:
        for index, element, valid in lost_elements(odd.any(axis=-1), images, mask):
            for k, channel in enumerate(channels_of(element)):
                place = (*index, k)
                units[place] = scaling_unit(channel.x), scaling_unit(channel.y)
                found[place] = moments_of_planes(Planes(scale_images(channel), valid))[0]
    return found, units


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


@part
def filter_pair(  # type: ignore[no-untyped-def]
    x, y, mask, i, columns, offsets, rows, size, unrolled, spare, slot, tile, out
):
    """Filter row i of x, y, x^2, y^2, x y and the mask; add NaN to `out` for one inside."""
    p, q, inside = rows[0], rows[1], rows[2]
    (left, right), scale = columns, 1.0
    load(x, mask, i, left, right, offsets[0], scale, p)
    load(y, mask, i, left, right, offsets[1], scale, q)
    xx, yy = slot[2 * tile : 3 * tile], slot[3 * tile : 4 * tile]
    filter_moments(p, size, None, unrolled, spare, slot[:tile], xx)
    filter_moments(q, size, None, unrolled, spare, slot[tile : 2 * tile], yy)
    filter_products(p, q, size, None, unrolled, spare, slot[4 * tile : 5 * tile])
    if mask is not None:
        if may_be_broken(p, right - left):
            out[0] += nan_if_broken(x, mask, i, left, right)
        if may_be_broken(q, right - left):
            out[0] += nan_if_broken(y, mask, i, left, right)
        load_mask(mask, i, left, right, inside)
        filter_row(inside, size, None, unrolled, spare, slot[5 * tile :])


@kernel
def _correlation_strip(x, y, mask, span, results, memory, size, unrolled, limits, least):  # type: ignore[no-untyped-def]
    """Correlation at the positions of some columns of a strip."""
    (first, last, keeps), (out, values, valid, doubtful) = span, results
    rows, slots, both_sums, flat_sums, found, scored, _, _, spare, running, _ = memory
    tile, full, digits = found.size, float(size**2), digits_of(found)

    for left in range(first, last, tile):
        count, right = span_of(left, last, tile, size)
        columns, offsets = (left, right), offsets_of(x, y, mask, left, right, digits)
        for i in range(x.shape[0]):
            slot = slots[i % slots.shape[0]]
            filter_pair(
                x, y, mask, i, columns, offsets, rows, size, unrolled, spare, slot, tile, out
            )
            top, end = rows_to_sum(i, size, x.shape[0])
            if top < end:
                filter_two_rows(
                    slots, top, size, None, unrolled, running, flat_sums[0], flat_sums[1]
                )
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
    positions = _positions(images, mask, lengths, min_coverage)
    return None if positions is None else positions.local()


def _positions(
    images: Images, mask: Array | None, lengths: tuple[int, ...], min_coverage: float
) -> Positions | None:
    window = uniform(*lengths)
    if not window.is_square:
        return None
    return Positions(images, mask, zncc_strips(pixel_types(images), window, min_coverage))


@kept
def zncc_strips(pixels: PixelTypes, window: Window, min_coverage: float) -> Strips:
    """Return the kernel with its arguments."""
    # Without a constant in the quotient, float32 has too few digits.
    real = np.float64
    least = least_weight(window, min_coverage, float(np.finfo(real).eps))
    taps = taps_of(window)
    constants = (taps.size, taps.unrolled, limits(pixels, window, real), least)
    weighted = (*taps, *weighed(pixels, window, real, least), None, None)
    again = correlation_again, ()
    strips = Strips(window, real, 5, _correlation_strip, constants, *again, weighted)
    return strips._replace(beside_constant=0.0)


@surveying
def volume_zncc(
    images: Images, mask: Array | None, lengths: tuple[int, ...] | None, min_coverage: float
) -> Scores | None:
    """Correlation of whole volumes, or its mean over windows; None, for the formula, by weights."""
    if lengths is None:
        return zncc(images, mask, None, min_coverage)
    refuse_unchecked(images)
    if images.weights is not None:
        return None
    return _volume_positions(images, mask, lengths, min_coverage).scores()


def volume_zncc_map(
    images: Images, mask: Array | None, *, lengths: tuple[int, ...], min_coverage: float
) -> Local:
    """Correlation in every window."""
    return _volume_positions(images, mask, lengths, min_coverage).local()


def _volume_positions(
    images: Images, mask: Array | None, lengths: tuple[int, ...], min_coverage: float
) -> VolumePositions:
    strips = zncc_strips(pixel_types(images), uniform(*lengths), min_coverage)
    return VolumePositions(images, mask, strips._replace(fast=_correlation_slab))


@kernel
def _correlation_slab(x, y, mask, spans, results, work, wide, unrolled, limits, least):  # type: ignore[no-untyped-def]
    """Correlation at the positions of some columns of a slab; see `_correlation_strip`."""
    first_plane, last_plane, first_row, last_row, first, last = spans
    (out, values, valid, doubtful), (memory, rings, outer, keeps) = results, work
    taps_of_planes, taps_of_rows = outer
    rows, slots, both_sums, both_flat_sums, found, scored, _, _, spare, running, _ = memory
    sums, flat_sums = both_sums[0], both_flat_sums[0]
    ring, _, running_planes = rings
    deep, high, tile = taps_of_planes.size, taps_of_rows.size, found.size
    full, digits = float(deep * high * wide), digits_of(found)
    bottom = last_row + high - 1
    centred, above = centre_of(deep, high, wide)

    for left in range(first, last, tile):
        count, right = span_of(left, last, tile, wide)
        span = (first_plane, last_plane + deep - 1, first_row, bottom, left, right, digits)
        offsets, columns = (slab_offset(x, mask, *span), slab_offset(y, mask, *span)), (left, right)
        for k in range(first_plane, last_plane + deep - 1):
            within = None if mask is None else mask[k]
            slot_of_plane = (k - first_plane) % ring.shape[1]
            for i in range(first_row, bottom):
                row = i - high + 1 - first_row
                slot = slots[(i - first_row) % slots.shape[0]]
                p, q = x[k], y[k]
                filter_pair(
                    p, q, within, i, columns, offsets, rows, wide, unrolled, spare, slot, tile, out
                )
                if row >= 0:
                    sum_rows(slots, row, high, running, ring[row, slot_of_plane])
            plane = k - deep + 1 - first_plane
            if plane < 0:
                continue
            for row in range(last_row - first_row):
                sum_rows(ring[row], plane, deep, running_planes[row], flat_sums)
                if mask is None:
                    correlation_row(sums, None, full, limits, found)
                else:
                    pixels, centre = sums[5], mask[k - (deep - 1 - deep // 2)]
                    top = first_row + row + above
                    correlation_row(sums, pixels, full, limits, found)
                    find_scored(
                        pixels, pixels, least, least, centre, top, left, count, centred, scored
                    )
                use = None if mask is None else scored
                places, inner, doubts = values[plane], valid[plane], doubtful[plane]
                add_row(found, use, row, left, count, keeps, out, places, inner, doubts)
