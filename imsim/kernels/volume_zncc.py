"""ZNCC of volumes: of the whole, and in every window in one pass; see `volume_ssim`."""

from __future__ import annotations

from imsim.kernels import surveying
from imsim.kernels import zncc as of_images
from imsim.kernels.common.jit import kernel
from imsim.kernels.common.volume_slabs import VolumePositions, centre_of, slab_offset
from imsim.kernels.common.weight_survey import refuse_unchecked
from imsim.kernels.common.window_doubts import pixel_types
from imsim.kernels.common.window_rows import correlation_row
from imsim.kernels.common.window_sums import add_row, filter_rows, find_scored
from imsim.kernels.common.window_tiles import digits_of, span_of
from imsim.kernels.zncc import filter_pair
from imsim.portable.pair import Local, Scores
from imsim.portable.windows import uniform
from imsim.typing import Array
from imsim.validation import Images


@surveying
def zncc(
    images: Images, mask: Array | None, lengths: tuple[int, ...] | None, min_coverage: float
) -> Scores | None:
    """Correlation of whole volumes, or its mean over windows; None, for the formula, by weights."""
    if lengths is None:
        return of_images.zncc(images, mask, None, min_coverage)
    refuse_unchecked(images)
    if images.weights is not None:
        return None
    return _positions(images, mask, lengths, min_coverage).scores()


def zncc_map(
    images: Images, mask: Array | None, *, lengths: tuple[int, ...], min_coverage: float
) -> Local:
    """Correlation in every window."""
    return _positions(images, mask, lengths, min_coverage).local()


def _positions(
    images: Images, mask: Array | None, lengths: tuple[int, ...], min_coverage: float
) -> VolumePositions:
    strips = of_images.zncc_strips(pixel_types(images), uniform(*lengths), min_coverage)
    return VolumePositions(images, mask, strips._replace(fast=_correlation_slab))


@kernel
def _correlation_slab(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    first_plane,
    last_plane,
    first_row,
    last_row,
    first,
    last,
    out,
    values,
    valid,
    doubtful,
    memory,
    rings,
    keeps,
    taps_of_planes,
    taps_of_rows,
    taps,
    unrolled,
    limits,
    least,
):
    """Correlation at the positions of some columns of a slab; see `imsim.kernels.zncc`."""
    rows, slots, both_sums, both_flat_sums, found, scored, _, _ = memory
    sums, flat_sums = both_sums[0], both_flat_sums[0]
    ring, _ = rings
    deep, high, wide, tile = taps_of_planes.size, taps_of_rows.size, taps.size, found.size
    full, digits = float(deep * high * wide), digits_of(taps)
    bottom = last_row + high - 1
    centred, above = centre_of(deep, high, wide)

    for left in range(first, last, tile):
        count, right = span_of(left, last, tile, wide)
        span = (first_plane, last_plane + deep - 1, first_row, bottom, left, right, digits)
        offsets, columns = (slab_offset(x, mask, *span), slab_offset(y, mask, *span)), (left, right)
        for k in range(first_plane, last_plane + deep - 1):
            within = None if mask is None else mask[k]
            for i in range(first_row, bottom):
                row = i - high + 1 - first_row
                slot = slots[i % slots.shape[0]]
                filter_pair(
                    x[k], y[k], within, i, columns, offsets, rows, taps, unrolled, slot, tile, out
                )
                if row >= 0:
                    filter_rows(
                        slots, i - high + 1, taps_of_rows, unrolled, ring[row, k % ring.shape[1]]
                    )
            plane = k - deep + 1 - first_plane
            if plane < 0:
                continue
            for row in range(last_row - first_row):
                filter_rows(ring[row], k - deep + 1, taps_of_planes, unrolled, flat_sums)
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
