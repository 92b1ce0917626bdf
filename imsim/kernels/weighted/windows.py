"""Strips of windows whose pixels have weights: SSIM, UIQ and the windowed ZNCC.

``strip(x, y, mask, weights, first, last, is_whole, keeps, *found, memory, *constants)`` fills the
`Found` of `imsim.kernels.common.window_strips`: with the values, 0 where none is scored, and the
weights of all rows of positions if it ``keeps`` them, and else of those with a doubtful value; with
the sums of the others by weight, and of their weights. ``is_whole`` says that no pixel lies outside
the mask. Moments are sums of pixels times tap times weight.
"""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import allocating, exact_part, part
from imsim.kernels.common.window_rows import (
    correlation_row,
    load_sum_and_difference,
    quality_row,
)
from imsim.kernels.common.window_sums import (
    clipped,
    digits_of,
    filter_row,
    filter_rows,
    filter_two_rows,
    load,
    load_mask,
    local_offset,
    may_be_broken,
    nan_if_broken,
    rows_to_sum,
)


@allocating
def quality_strip(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    weights,
    first,
    last,
    is_whole,
    keeps,
    out,
    values,
    valid,
    doubtful,
    memory,
    taps,
    unrolled,
    counted,
    limits,
    least,
    constants,
    rounding,
):
    """Quality; the constants are those of `imsim.kernels.ssim`."""
    rows, slots, both_sums, flat_sums, found, _, count_slots, counts = memory
    size, tile = taps.size, found.size
    scale, c1, c2 = constants[0], constants[1], constants[2]
    full = constants.dtype.type(1)
    u, d, own, squares = rows[0], rows[1], rows[2], rows[3]
    digits = digits_of(taps)
    positions, is_counted = np.empty(tile), counted and not is_whole
    for j in range(tile):
        counts[0, j] = size * size

    for left in range(first, last, tile):
        count = min(tile, last - left)
        right = left + count + size - 1
        offsets = (
            constants.dtype.type(local_offset(x, mask, left, right, digits)),
            constants.dtype.type(local_offset(y, mask, left, right, digits)),
        )
        shift = ((offsets[0] + offsets[1]) * scale, (offsets[0] - offsets[1]) * scale)
        for i in range(x.shape[0]):
            slot, count_slot = slots[i % slots.shape[0]], count_slots[i % slots.shape[0]]
            load_sum_and_difference(x, y, mask, i, left, right, offsets, scale, u, d)
            if may_be_broken(u, right - left):
                out[0] += nan_if_broken(x, mask, i, left, right)
                out[0] += nan_if_broken(y, mask, i, left, right)
            if is_counted:
                load_mask(mask, i, left, right, own)
                filter_row(own, taps, unrolled, count_slot)
            _load_weights(weights, i, left, right, own)
            filter_row(own, taps, unrolled, slot[4 * tile :])
            _weigh(u, own, squares)
            filter_row(u, taps, unrolled, slot[:tile])
            filter_row(squares, taps, unrolled, slot[2 * tile : 3 * tile])
            _weigh(d, own, squares)
            filter_row(d, taps, unrolled, slot[tile : 2 * tile])
            filter_row(squares, taps, unrolled, slot[3 * tile : 4 * tile])
            top, end = rows_to_sum(i, size, x.shape[0])
            if top == end:
                continue
            filter_two_rows(slots, top, taps, unrolled, flat_sums[0], flat_sums[1])
            for row in range(top, end):
                sums = both_sums[row - top]
                quality_row(sums, sums[4], None, full, shift, c1, c2, limits, rounding, found)
                if is_counted:
                    filter_rows(count_slots, row, taps, unrolled, counts[0])
                _find_positions(
                    weights, sums[4], counts[0], counted, least, row, left, count, size, positions
                )
                _add_row(found, positions, row, left, count, keeps, out, values, valid, doubtful)


@allocating
def correlation_strip(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    weights,
    first,
    last,
    is_whole,
    keeps,
    out,
    values,
    valid,
    doubtful,
    memory,
    taps,
    unrolled,
    counted,
    limits,
    least,
):
    """Correlation."""
    rows, slots, both_sums, flat_sums, found, _, count_slots, counts = memory
    size, tile = taps.size, found.size
    p, q, own, products = rows[0], rows[1], rows[2], rows[3]
    digits, scale, full = digits_of(taps), 1.0, 1.0
    positions, is_counted = np.empty(tile), counted and not is_whole
    for j in range(tile):
        counts[0, j] = size * size

    for left in range(first, last, tile):
        count = min(tile, last - left)
        right = left + count + size - 1
        offset_x = local_offset(x, mask, left, right, digits)
        offset_y = local_offset(y, mask, left, right, digits)
        for i in range(x.shape[0]):
            slot, count_slot = slots[i % slots.shape[0]], count_slots[i % slots.shape[0]]
            load(x, mask, i, left, right, offset_x, scale, p)
            load(y, mask, i, left, right, offset_y, scale, q)
            if may_be_broken(p, right - left):
                out[0] += nan_if_broken(x, mask, i, left, right)
            if may_be_broken(q, right - left):
                out[0] += nan_if_broken(y, mask, i, left, right)
            if is_counted:
                load_mask(mask, i, left, right, own)
                filter_row(own, taps, unrolled, count_slot)
            _load_weights(weights, i, left, right, own)
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
            top, end = rows_to_sum(i, size, x.shape[0])
            if top == end:
                continue
            filter_two_rows(slots, top, taps, unrolled, flat_sums[0], flat_sums[1])
            for row in range(top, end):
                sums = both_sums[row - top]
                correlation_row(sums, sums[5], full, limits, found)
                if is_counted:
                    filter_rows(count_slots, row, taps, unrolled, counts[0])
                _find_positions(
                    weights, sums[5], counts[0], counted, least, row, left, count, size, positions
                )
                _add_row(found, positions, row, left, count, keeps, out, values, valid, doubtful)


@exact_part
def _load_weights(weights, i, left, right, row):  # type: ignore[no-untyped-def]
    """Copy weights of row i."""
    own = weights[i, left:right]
    for j in range(own.size):
        row[j] = row.dtype.type(own[j])


@exact_part  # of equal images, moments must be equal
def _weigh(pixels, weights, squares):  # type: ignore[no-untyped-def]
    """Write weighted squares of pixels, and replace these by their weighted values."""
    for j in range(pixels.size):
        product = weights[j] * pixels[j]
        squares[j] = product * pixels[j]
        pixels[j] = product


@part
def _find_positions(weights, sums, counts, counted, least, row, left, count, size, positions):  # type: ignore[no-untyped-def]
    """Write the weights of a row of positions; see `imsim.portable.windows.support_of`."""
    here = positions[:count]
    half = size // 2
    if size % 2:
        own = weights[row + half, left + half : left + half + count]
        for j in range(here.size):
            here[j] = own[j]
        if counted:
            for j in range(here.size):
                here[j] = here[j] if counts[j] >= least else 0.0
    else:
        for j in range(here.size):
            mean = np.float64(sums[j]) / np.float64(counts[j])
            here[j] = mean if counts[j] >= least else 0.0


@part
def _add_row(found, positions, row, left, count, keeps, out, values, valid, doubtful):  # type: ignore[no-untyped-def]
    """Add a row of results, 0 where none is scored, or keep it if one is doubtful, NaN."""
    own, results = positions[:count], found[:count]
    one, nothing = found.dtype.type(1), found.dtype.type(0)
    total, whole = 0.0, 0.0
    for j in range(own.size):
        value = results[j] if own[j] > 0 else nothing
        results[j] = value
        total += own[j] * np.float64(value)
        whole += own[j]
    is_doubtful = np.isnan(total)
    if is_doubtful:
        doubtful[row, left // found.size] = True
        out[2] += 1
    else:
        out[0] += total
        out[1] += whole
    if keeps or is_doubtful:
        here, weights = values[row, left : left + count], valid[row, left : left + count]
        for j in range(here.size):
            here[j] = clipped(results[j], one)
            weights[j] = own[j]
