"""Structural similarity of volumes in one pass, for SSIM and, without its constants, for UIQ.

The planes of a slab are filtered as images are, see `imsim.kernels.ssim`. A ring buffer keeps the
sums of the last planes, and these are filtered along the depth.
"""

from __future__ import annotations

from typing import Any

from imsim.kernels import ssim as of_images
from imsim.kernels.common.jit import kernel
from imsim.kernels.common.volume_slabs import VolumePositions, centre_of, slab_offset
from imsim.kernels.common.window_doubts import pixel_types
from imsim.kernels.common.window_rows import (
    correct_bias,
    load_sum_and_difference,
    paired,
    quality_row,
)
from imsim.kernels.common.window_sums import (
    add_row,
    clipped,
    filter_moments,
    filter_row,
    filter_rows,
    find_scored,
    load_mask,
    may_be_broken,
    nan_if_broken,
    sum_rows,
)
from imsim.kernels.common.window_tiles import digits_of, span_of
from imsim.kernels.ssim import ssim_strips, uiq_strips
from imsim.portable.arrays import is_one_plane, stacked, unstacked
from imsim.portable.pair import Local, Scores
from imsim.portable.structural_similarity import Options
from imsim.portable.windows import Window, replicated, uniform
from imsim.typing import Array
from imsim.validation import Images


def ssim(images: Images, mask: Array | None, **options: Any) -> Scores | None:
    """Mean structural similarity; None, for the formula, if K1 or K2 is 0."""
    if is_one_plane(images.depth, options["border"], options["sample_covariance"]):
        return of_images.ssim(images._replace(depth=None), mask, **_of_planes(options))
    found = _positions(images, mask, Options(**options))
    return None if found is None else found.scores()


def ssim_map(images: Images, mask: Array | None, **options: Any) -> Local | None:
    """Structural similarity at every position; None as for `ssim`."""
    if is_one_plane(images.depth, options["border"], options["sample_covariance"]):
        local = of_images.ssim_map(images._replace(depth=None), mask, **_of_planes(options))
        return None if local is None else local.as_volume()
    found = _positions(images, mask, Options(**options))
    if found is None:
        return None
    return found.local(is_padded=options["border"] == "replicate")


def _of_planes(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "window": options["window"].of_planes}


def _positions(images: Images, mask: Array | None, options: Options) -> VolumePositions | None:
    if options.K1 == 0 or options.K2 == 0:
        return None
    if options.border == "replicate":
        images, mask = _extended(images, mask, options.window)
    strips = ssim_strips(images, options, mask is not None and options.min_coverage == 1)
    wider = strips.wider and strips.wider._replace(fast=quality_slab)
    return VolumePositions(images, mask, strips._replace(fast=quality_slab, wider=wider))


def _extended(images: Images, mask: Array | None, window: Window) -> tuple[Images, Array | None]:
    """Repeat the pixels at the border, so that the window fits at each pixel."""

    def extended(values: Array) -> Array:
        return replicated(unstacked(values, images.depth), window)

    x = extended(images.x)
    mask = None if mask is None else stacked(extended(mask))
    y = stacked(extended(images.y))
    return images._replace(x=stacked(x), y=y, depth=x.shape[-3]), mask


def uiq(images: Images, mask: Array | None, *, block_size: int) -> Scores:
    """Mean quality over all blocks."""
    return _blocks(images, mask, block_size).scores()


def uiq_map(images: Images, mask: Array | None, *, block_size: int) -> Local:
    """Quality of every block."""
    return _blocks(images, mask, block_size).local()


def _blocks(images: Images, mask: Array | None, block_size: int) -> VolumePositions:
    strips = uiq_strips(pixel_types(images), uniform(*[block_size] * 3))
    return VolumePositions(images, mask, strips._replace(fast=quality_slab))


@kernel
def quality_slab(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    spans,
    results,
    work,
    wide,
    taps,
    unrolled,
    ones,
    limits,
    is_sample,
    constants,
    rounding,
):
    """Quality at the positions of some columns of a slab; see `quality_strip` of `kernels.ssim`."""
    first_plane, last_plane, first_row, last_row, first, last = spans
    (out, values, valid, doubtful), (memory, rings, outer, keeps) = results, work
    taps_of_planes, taps_of_rows = outer
    (
        rows,
        slots,
        both_sums,
        both_flat_sums,
        found,
        scored,
        count_slots,
        counts,
        spare,
        running,
        _,
    ) = memory
    sums, flat_sums = both_sums[0], both_flat_sums[0]
    ring, count_ring, running_planes = rings
    deep, high, tile = taps_of_planes.size, taps_of_rows.size, found.size
    pixels = deep * high * wide
    scale, c1, c2, least, fewest = constants
    full = constants.dtype.type(pixels if taps is None else 1)
    if is_sample and mask is None:
        c2 *= constants.dtype.type((pixels - 1) / pixels)
    u, d, inside = rows[0], rows[1], rows[2]
    unbiased = counts[1]
    for j in range(tile):
        unbiased[j] = 1
    digits = digits_of(found)
    bottom = last_row + high - 1
    centred, above = centre_of(deep, high, wide)

    for left in range(first, last, tile):
        count, right = span_of(left, last, tile, wide)
        span = (first_plane, last_plane + deep - 1, first_row, bottom, left, right, digits)
        near = slab_offset(x, mask, *span), slab_offset(y, mask, *span)
        offsets, shift = paired(near, constants)
        for k in range(first_plane, last_plane + deep - 1):
            p, q = x[k], y[k]
            within = None if mask is None else mask[k]
            slot_of_plane = (k - first_plane) % ring.shape[1]
            for i in range(first_row, bottom):
                row = i - high + 1 - first_row
                place = (i - first_row) % slots.shape[0]
                slot, count_slot = slots[place], count_slots[place]
                load_sum_and_difference(p, q, within, i, left, right, offsets, scale, u, d)
                uu, dd = slot[2 * tile : 3 * tile], slot[3 * tile : 4 * tile]
                filter_moments(u, wide, taps, unrolled, spare, slot[:tile], uu)
                filter_moments(d, wide, taps, unrolled, spare, slot[tile : 2 * tile], dd)
                if mask is not None:
                    if may_be_broken(u, right - left):
                        out[0] += nan_if_broken(p, within, i, left, right)
                        out[0] += nan_if_broken(q, within, i, left, right)
                    load_mask(within, i, left, right, inside)
                    filter_row(inside, wide, taps, unrolled, spare, slot[4 * tile :])
                    if ones.size > 0:
                        filter_row(inside, wide, None, None, spare, count_slot)
                if row < 0:
                    continue
                if taps is None:
                    sum_rows(slots, row, high, running, ring[row, slot_of_plane])
                else:
                    filter_rows(slots, row, taps_of_rows, unrolled, ring[row, slot_of_plane])
                if mask is not None and ones.size > 0:
                    filter_rows(count_slots, row, ones[:high], None, count_ring[row, slot_of_plane])
            plane = k - deep + 1 - first_plane
            if plane < 0:
                continue
            for row in range(last_row - first_row):
                if taps is None:
                    sum_rows(ring[row], plane, deep, running_planes[row], flat_sums)
                else:
                    filter_rows(ring[row], plane, taps_of_planes, unrolled, flat_sums)
                if mask is None:
                    quality_row(sums, None, None, full, shift, c1, c2, limits, rounding, found)
                else:
                    weights, pixels, enough = sums[4], sums[4], least
                    if ones.size > 0:
                        filter_rows(count_ring[row], plane, ones[:deep], None, counts[0])
                        pixels, enough = counts[0], fewest
                        if is_sample:
                            correct_bias(pixels, unbiased)
                    centre = mask[k - (deep - 1 - deep // 2)]
                    top = first_row + row + above
                    quality_row(
                        sums, weights, unbiased, full, shift, c1, c2, limits, rounding, found
                    )
                    find_scored(
                        weights, pixels, least, enough, centre, top, left, count, centred, scored
                    )
                use = None if mask is None else scored
                places, inner, doubts = values[plane], valid[plane], doubtful[plane]
                add_row(found, use, row, left, count, keeps, out, places, inner, doubts)
    out[0] = clipped(out[0], out[1])
