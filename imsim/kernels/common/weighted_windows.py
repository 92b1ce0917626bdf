"""Strips of windows whose pixels have weights: SSIM, UIQ and the windowed ZNCC.

``weighted_strip(x, y, mask, weights, (first, last, is_whole, keeps), found, memory, *constants)``
fills the `Found` of `imsim.kernels.common.window_strips`: with the values, 0 where none is scored,
and the weights of all rows of positions if it ``keeps`` them, and else of those with a doubtful
value; with the sums of the others by weight, and of their weights. ``is_whole`` says that no pixel
lies outside the mask. Moments are sums of pixels times tap times weight.
"""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import allocating, exact_part, part
from imsim.kernels.common.window_rows import (
    correlation_row,
    load_sum_and_difference,
    paired,
    quality_row,
)
from imsim.kernels.common.window_sums import (
    clipped,
    filter_row,
    filter_rows,
    filter_two_rows,
    load,
    load_mask,
    may_be_broken,
    nan_if_broken,
    rows_to_sum,
    sum_rows,
)
from imsim.kernels.common.window_tiles import digits_of, offsets_of, span_of


@allocating
def weighted_strip(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    weights,
    span,
    results,
    memory,
    size,
    taps,
    unrolled,
    rules,
    limits,
    constants,
    rounding,
):
    """Quality, whose constants are those of `imsim.kernels.ssim`; without these, correlation."""
    (first, last, is_whole, keeps), (out, values, valid, doubtful) = span, results
    counted, least = rules
    rows, slots, both_sums, flat_sums, found, _, count_slots, counts, spare, running, number = (
        memory
    )
    tile, plane = found.size, both_sums.shape[1] - 1
    p, q, own, products = rows[0], rows[1], rows[2], rows[3]
    full, digits = found.dtype.type(1), digits_of(found)
    positions, is_counted = np.empty(tile), counted and not is_whole
    for j in range(tile):
        counts[0, j] = size * size

    for left in range(first, last, tile):
        count, right = span_of(left, last, tile, size)
        here, offsets = positions[:count], offsets_of(x, y, mask, left, right, digits)
        for i in range(x.shape[0]):
            slot, count_slot = slots[i % slots.shape[0]], count_slots[i % slots.shape[0]]
            if constants is None:
                load(x, mask, i, left, right, offsets[0], full, p)
                load(y, mask, i, left, right, offsets[1], full, q)
            else:
                centred, shift = paired(offsets, constants)
                load_sum_and_difference(x, y, mask, i, left, right, centred, constants[0], p, q)
            if may_be_broken(p, right - left) or may_be_broken(q, right - left):
                out[0] += nan_if_broken(x, mask, i, left, right)
                out[0] += nan_if_broken(y, mask, i, left, right)
            _load_weights(weights, i, left, right, own)
            filter_row(own, size, taps, unrolled, spare, slot[plane * tile :])
            if constants is None:
                _weigh_products(own, p, q, products)
                sums = slot[4 * tile : 5 * tile]
                filter_row(products, size, taps, unrolled, spare, sums)
            _filter_moments(p, own, products, size, taps, unrolled, spare, slot, tile)
            _filter_moments(q, own, products, size, taps, unrolled, spare, slot[tile:], tile)
            if is_counted:
                load_mask(mask, i, left, right, own)
                filter_row(own, size, taps, unrolled, spare, count_slot)
            top, end = rows_to_sum(i, size, x.shape[0])
            if top < end:
                filter_two_rows(
                    slots, top, size, taps, unrolled, running, flat_sums[0], flat_sums[1]
                )
            for row in range(top, end):
                sums = both_sums[row - top]
                whole = sums[plane]
                if constants is None:
                    correlation_row(sums, whole, full, limits, found)
                else:
                    c1, c2 = constants[1], constants[2]
                    quality_row(sums, whole, None, full, shift, c1, c2, limits, rounding, found)
                if is_counted:
                    if taps is None:
                        sum_rows(count_slots, row, size, number, counts[0])
                    else:
                        filter_rows(count_slots, row, taps, unrolled, counts[0])
                _find_positions(weights, whole, counts[0], counted, least, row, left, size, here)
                _add_row(found, here, row, left, keeps, out, values, valid, doubtful)


@exact_part
def _load_weights(weights, i, left, right, row):  # type: ignore[no-untyped-def]
    """Copy weights of row i."""
    own = weights[i, left:right]
    for j in range(own.size):
        row[j] = row.dtype.type(own[j])


@exact_part  # of equal images, moments must be equal, and of swapped ones
def _weigh_products(weights, p, q, products):  # type: ignore[no-untyped-def]
    """Write weighted products of pixels."""
    for j in range(products.size):
        products[j] = weights[j] * (p[j] * q[j])


@exact_part
def _weigh(weights, pixels):  # type: ignore[no-untyped-def]
    """Replace pixels by their weighted values."""
    for j in range(pixels.size):
        pixels[j] *= weights[j]


@part
def _filter_moments(pixels, weights, squares, size, taps, unrolled, spare, slot, tile):  # type: ignore[no-untyped-def]
    """Write sums of a row of pixels by weight, and, two planes later, of their squares."""
    _weigh_products(weights, pixels, pixels, squares)
    _weigh(weights, pixels)
    filter_row(pixels, size, taps, unrolled, spare, slot[:tile])
    filter_row(squares, size, taps, unrolled, spare, slot[2 * tile : 3 * tile])


@part
def _find_positions(weights, sums, counts, counted, least, row, left, size, here):  # type: ignore[no-untyped-def]
    """Write the weights of a row of positions; see `imsim.portable.windows.support_of`."""
    half = size // 2
    if size % 2:
        own = weights[row + half, left + half : left + half + here.size]
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
def _add_row(found, own, row, left, keeps, out, values, valid, doubtful):  # type: ignore[no-untyped-def]
    """Add a row of results, 0 where none is scored, or keep it if one is doubtful, NaN.

    What they lack to 1 is added up: a loop may add each sum in an order of its own, and results
    that are all 1 must add up to the weights.
    """
    count, results = own.size, found[: own.size]
    one, nothing = found.dtype.type(1), found.dtype.type(0)
    lack, whole = 0.0, 0.0
    for j in range(own.size):
        value = results[j] if own[j] > 0 else nothing
        results[j] = value
        lack += own[j] * (1.0 - np.float64(value))
        whole += own[j]
    is_doubtful = np.isnan(lack)
    if is_doubtful:
        doubtful[row, left // found.size] = True
        out[2] += 1
    else:
        out[0] += whole - lack
        out[1] += whole
    if keeps or is_doubtful:
        here, weights = values[row, left : left + count], valid[row, left : left + count]
        for j in range(here.size):
            here[j] = clipped(results[j], one)
            weights[j] = own[j]
