"""Strips of windows whose pixels have weights: SSIM, UIQ and the windowed ZNCC.

``strip(x, y, mask, weights, first, last, *found, memory, *constants)`` fills the `Found` of
`imsim.kernels.common.window_strips` with the values of all positions, 0 where none is scored, and
with their weights. Moments are sums of pixels times tap times weight.
"""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import exact, kernel
from imsim.kernels.common.window_sums import (
    clipped,
    digits_of,
    filter_row,
    filter_rows,
    load,
    load_mask,
    local_offset,
    may_be_broken,
    nan_if_broken,
)
from imsim.kernels.ssim import load_sum_and_difference, quality_row
from imsim.kernels.zncc import correlation_row


@kernel
def quality_strip(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    weights,
    first,
    last,
    out,
    values,
    positions,
    doubtful,
    memory,
    taps,
    unrolled,
    ones,
    limits,
    least,
    constants,
    rounding,
):
    """Quality; the constants are those of `imsim.kernels.ssim`."""
    rows, slots, sums, flat_sums, found, _, count_slots, counts = memory
    size, tile = taps.size, found.size
    scale, c1, c2 = constants[0], constants[1], constants[2]
    full = constants.dtype.type(1)
    u, d, own, squares = rows[0], rows[1], rows[2], rows[3]
    digits = digits_of(taps)

    for left in range(first, last, tile):
        count = min(tile, last - left)
        right = left + count + size - 1
        offsets = (
            constants.dtype.type(local_offset(x, mask, left, right, digits)),
            constants.dtype.type(local_offset(y, mask, left, right, digits)),
        )
        shift = ((offsets[0] + offsets[1]) * scale, (offsets[0] - offsets[1]) * scale)
        for i in range(x.shape[0]):
            oldest, row = (i + 1) % size, i - size + 1
            slot = slots[i % size]
            load_sum_and_difference(x, y, mask, i, left, right, offsets, scale, u, d)
            if may_be_broken(u, right - left):
                out[0] += nan_if_broken(x, mask, i, left, right)
                out[0] += nan_if_broken(y, mask, i, left, right)
            if ones.size > 0:
                load_mask(mask, i, left, right, own)
                filter_row(own, ones, None, count_slots[i % size])
            _load_weights(weights, mask, i, left, right, own)
            filter_row(own, taps, unrolled, slot[4 * tile :])
            _weigh(u, own, squares)
            filter_row(u, taps, unrolled, slot[:tile])
            filter_row(squares, taps, unrolled, slot[2 * tile : 3 * tile])
            _weigh(d, own, squares)
            filter_row(d, taps, unrolled, slot[tile : 2 * tile])
            filter_row(squares, taps, unrolled, slot[3 * tile : 4 * tile])
            if row < 0:
                continue
            filter_rows(slots, oldest, taps, unrolled, flat_sums)
            quality_row(sums, sums[4], None, full, shift, c1, c2, limits, rounding, found)
            if ones.size > 0:
                filter_rows(count_slots, oldest, ones, None, counts[0])
            _find_positions(
                weights,
                mask,
                sums[4],
                counts[0],
                ones.size,
                least,
                row,
                left,
                count,
                size,
                positions,
            )
            _write(found, row, left, count, out, values, positions, doubtful)


@kernel
def correlation_strip(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    weights,
    first,
    last,
    out,
    values,
    positions,
    doubtful,
    memory,
    taps,
    unrolled,
    ones,
    limits,
    least,
):
    """Correlation."""
    rows, slots, sums, flat_sums, found, _, count_slots, counts = memory
    size, tile = taps.size, found.size
    p, q, own, products = rows[0], rows[1], rows[2], rows[3]
    digits, scale, full = digits_of(taps), 1.0, 1.0

    for left in range(first, last, tile):
        count = min(tile, last - left)
        right = left + count + size - 1
        offset_x = local_offset(x, mask, left, right, digits)
        offset_y = local_offset(y, mask, left, right, digits)
        for i in range(x.shape[0]):
            oldest, row = (i + 1) % size, i - size + 1
            slot = slots[i % size]
            load(x, mask, i, left, right, offset_x, scale, p)
            load(y, mask, i, left, right, offset_y, scale, q)
            if may_be_broken(p, right - left):
                out[0] += nan_if_broken(x, mask, i, left, right)
            if may_be_broken(q, right - left):
                out[0] += nan_if_broken(y, mask, i, left, right)
            if ones.size > 0:
                load_mask(mask, i, left, right, own)
                filter_row(own, ones, None, count_slots[i % size])
            _load_weights(weights, mask, i, left, right, own)
            filter_row(own, taps, unrolled, slot[5 * tile :])
            for j in range(products.size):
                products[j] = own[j] * p[j] * q[j]
            filter_row(products, taps, unrolled, slot[4 * tile : 5 * tile])
            _weigh(p, own, products)
            filter_row(p, taps, unrolled, slot[:tile])
            filter_row(products, taps, unrolled, slot[2 * tile : 3 * tile])
            _weigh(q, own, products)
            filter_row(q, taps, unrolled, slot[tile : 2 * tile])
            filter_row(products, taps, unrolled, slot[3 * tile : 4 * tile])
            if row < 0:
                continue
            filter_rows(slots, oldest, taps, unrolled, flat_sums)
            correlation_row(sums, sums[5], full, limits, found)
            if ones.size > 0:
                filter_rows(count_slots, oldest, ones, None, counts[0])
            _find_positions(
                weights,
                mask,
                sums[5],
                counts[0],
                ones.size,
                least,
                row,
                left,
                count,
                size,
                positions,
            )
            _write(found, row, left, count, out, values, positions, doubtful)


@exact
def _load_weights(weights, mask, i, left, right, row):  # type: ignore[no-untyped-def]
    """Copy weights of row i; 0 outside the mask."""
    own, inside = weights[i, left:right], mask[i, left:right]
    nothing = row.dtype.type(0)
    for j in range(own.size):
        weight = row.dtype.type(own[j])
        row[j] = weight if inside[j] else nothing


@exact  # of equal images, moments must be equal
def _weigh(pixels, weights, squares):  # type: ignore[no-untyped-def]
    """Write weighted squares of pixels, and replace these by their weighted values."""
    for j in range(pixels.size):
        product = weights[j] * pixels[j]
        squares[j] = product * pixels[j]
        pixels[j] = product


@kernel
def _find_positions(  # type: ignore[no-untyped-def]
    weights, mask, sums, counts, counted, least, row, left, count, size, positions
):
    """Write the weights of a row of positions; see `imsim.portable.windows.support_of`."""
    here = positions[row, left : left + count]
    half = size // 2
    if size % 2:
        own, inside = weights[row + half, left + half :], mask[row + half, left + half :]
        for j in range(here.size):
            here[j] = own[j] if inside[j] else 0.0
        if counted > 0:
            for j in range(here.size):
                here[j] = here[j] if counts[j] >= least else 0.0
    else:
        for j in range(here.size):
            here[j] = np.float64(sums[j]) / counts[j] if counts[j] >= least else 0.0


@kernel
def _write(found, row, left, count, out, values, positions, doubtful):  # type: ignore[no-untyped-def]
    """Write a row of results, 0 where none is scored; NaN is doubtful."""
    one, nothing = found.dtype.type(1), found.dtype.type(0)
    here, own = values[row, left : left + count], positions[row, left : left + count]
    total = nothing
    for j in range(here.size):
        value = found[j] if own[j] > 0 else nothing
        total += value
        here[j] = clipped(value, one)
    if np.isnan(total):
        doubtful[row, left // found.size] = True
        out[2] += 1
