"""Gradients of windowed scores, block by block: fields at the positions, spread to the pixels.

The value q of a window depends on its pixels through weighted means, variances and a covariance.
With weights w_i that sum to 1,

    dq/dx_i = w_i (A + B x_i + C y_i),

where A, B and C are fields of the window's moments. The sum over all windows that hold a pixel is
the filter of the forward pass again, applied to each field: taps are symmetric.

Quality is written in u = x + y and d = x - y, see `imsim.kernels.ssim`: its derivatives are then
products without a difference, exactly 0 for equal images and precise for nearly equal ones.
"""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.common.jit import kernel
from imsim.kernels.common.window_sums import (
    digits_of,
    filter_moments,
    filter_products,
    filter_row,
    filter_rows,
    find_scored,
    load,
    load_mask,
    local_offset,
)
from imsim.kernels.ssim import load_sum_and_difference
from imsim.validation import LARGEST, SMALLEST

EPSILON = float(np.finfo(np.float64).eps)
FIELDS = 4
"""Planes of fields, in the order A, B and C, and the A of d where that of u stands first."""


@kernel
def _quality_fields(sums, weights, unbiased, full, shift, constants, limits, fields):  # type: ignore[no-untyped-def]
    """Fields A_u, B_u, B_d and A_d at a row of positions; A_u is NaN where they are doubtful."""
    one, nothing = fields.dtype.type(1), fields.dtype.type(np.nan)
    two, four, beyond = fields.dtype.type(2), fields.dtype.type(4), fields.dtype.type(np.inf)
    is_narrow = fields.dtype.type(1 + EPSILON) == one  # known to the compiler, unlike the size
    c1, c2 = constants[1], constants[2]
    share, share_d, least = limits
    for j in range(fields.shape[1]):
        inverse = one / (full if weights is None else weights[j])
        c = c2 if unbiased is None else c2 * unbiased[j]
        mean_u, mean_d = sums[0, j] * inverse, sums[1, j] * inverse
        u, d = mean_u + shift[0], mean_d + shift[1]
        power_u, power_d = sums[2, j] * inverse, sums[3, j] * inverse
        squares_u, squares_d = mean_u * mean_u, mean_d * mean_d
        variance_u, variance_d = power_u - squares_u, power_d - squares_d
        brightness, variances = u * u + d * d + c1, variance_u + variance_d + c
        scale = brightness * variances
        by_scale = one / scale
        by_brightness, by_variances = by_scale * variances, by_scale * brightness
        luminance = (u * u - d * d + c1) * by_brightness
        similarity = (variance_u - variance_d + c) * by_variances
        mean_part = four * similarity * d * by_brightness * by_brightness
        variance_part = four * luminance * by_variances * by_variances * inverse
        of_u, of_d = variance_part * variance_d, -variance_part * (variance_u + c)
        if is_narrow:
            sound = (share * power_u < variances) & (share_d * power_d < variances)
        else:
            sound = share * (power_u + power_d) < variances
            sound &= share_d * (squares_u + squares_d) < brightness
            sound &= least < scale
        a = mean_part * u * d * inverse - of_u * mean_u
        fields[0, j] = a if sound & (scale < beyond) else nothing
        fields[1, j] = of_u
        fields[2, j] = of_d
        fields[3, j] = -mean_part * (u * u + c1) * inverse - of_d * mean_d


@kernel
def _correlation_fields(sums, weights, full, limits, fields):  # type: ignore[no-untyped-def]
    """Fields A, B and C of x at a row of positions; A is NaN where they are doubtful."""
    share, _, tiny = limits
    for j in range(fields.shape[1]):
        inverse = 1.0 / (full if weights is None else weights[j])
        mean_x, mean_y = sums[0, j] * inverse, sums[1, j] * inverse
        power_x, power_y = sums[2, j] * inverse, sums[3, j] * inverse
        variance_x, variance_y = power_x - mean_x * mean_x, power_y - mean_y * mean_y
        covariance = sums[4, j] * inverse - mean_x * mean_y
        product = variance_x * variance_y
        sound = (share * power_x < variance_x) & (share * power_y < variance_y)
        sound &= (variance_x > tiny) & (variance_y > tiny)
        sound &= (product > SMALLEST) & (product < LARGEST)
        c = inverse / math.sqrt(product if sound else 1.0)
        b = -c * covariance / (variance_x if sound else 1.0)
        fields[0, j] = -(b * mean_x + c * mean_y) if sound else np.nan
        fields[1, j] = b
        fields[2, j] = c


@kernel
def _settle_row(fields, scored, row, lead, count, marks):  # type: ignore[no-untyped-def]
    """Put 0 where a row of fields does not count; mark doubtful positions, return their number."""
    nothing = fields.dtype.type(0)
    for k in range(FIELDS):
        field = fields[k]
        for j in range(lead):
            field[j] = nothing
        for j in range(lead + count, field.size):
            field[j] = nothing
        if scored is not None:
            here = field[lead : lead + count]
            for j in range(here.size):
                here[j] = here[j] if scored[j] else nothing
    total, number = nothing, 0
    here = fields[0, lead : lead + count]
    for j in range(here.size):
        total += here[j] * nothing
    if np.isnan(total):
        for j in range(lead, lead + count):
            if np.isnan(fields[0, j]):
                marks[row, j] = 1
                number += 1
                for k in range(FIELDS):
                    fields[k, j] = nothing
    return number


@kernel
def _find_fields(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    place,
    offsets,
    both,
    fields,
    marks,
    numbers,
    memory,
    taps,
    unrolled,
    ones,
    limits,
    is_sample,
    least,
    fewest,
    constants,
):
    """Write the fields of all positions whose windows fit into x, row by row."""
    rows, slots, sums, flat_sums, _, scored, count_slots, counts = memory
    size, columns = taps.size, sums.shape[1]
    real = taps.dtype.type
    top, left, above, lead, first, width, _, _ = place
    height, end = x.shape[0], first + width
    count = width - size + 1
    full = real(size**2 if taps[0] == 1 else 1)
    p, q, inside = rows[0], rows[1], rows[2]
    inner_p, inner_q, inner_inside = p[lead:], q[lead:], inside[lead:]
    unbiased = counts[1]
    for j in range(columns):
        unbiased[j] = real((size**2 - 1) / size**2) if is_sample else real(1)
    for j in range(inside.size):  # beyond the frame, no window is to be divided by 0
        inside[j] = 1
    for i in range(height):
        oldest, row = (i + 1) % size, i - size + 1
        slot = slots[i % size]
        if constants is None:
            load(x, mask, i, first, end, offsets[0], 1.0, inner_p)
            load(y, mask, i, first, end, offsets[1], 1.0, inner_q)
            filter_products(p, q, taps, unrolled, slot[4 * columns : 5 * columns])
        else:
            scale = constants[0]
            load_sum_and_difference(x, y, mask, i, first, end, offsets, scale, inner_p, inner_q)
        filter_moments(p, taps, unrolled, slot[:columns], slot[2 * columns : 3 * columns])
        filter_moments(
            q, taps, unrolled, slot[columns : 2 * columns], slot[3 * columns : 4 * columns]
        )
        if mask is not None:
            load_mask(mask, i, first, end, inner_inside)
            filter_row(inside, taps, unrolled, slot[(sums.shape[0] - 1) * columns :])
            if ones.size > 0:
                filter_row(inside, ones, None, count_slots[i % size])
        if row < 0:
            continue
        filter_rows(slots, oldest, taps, unrolled, flat_sums)
        weights = None if mask is None else sums[sums.shape[0] - 1]
        found = fields[above + row]
        if mask is not None:
            if ones.size > 0:
                filter_rows(count_slots, oldest, ones, None, counts[0])
                if is_sample:
                    for j in range(columns):
                        unbiased[j] = (counts[0, j] - real(1)) / counts[0, j]
                numbers_inside = counts[0, lead:]
                find_scored(
                    weights[lead:],
                    numbers_inside,
                    least,
                    fewest,
                    mask,
                    row,
                    first,
                    count,
                    size,
                    scored,
                )
            else:
                find_scored(
                    weights[lead:], None, least, fewest, mask, row, first, count, size, scored
                )
        use = None if mask is None else scored
        if constants is None:
            _correlation_fields(sums, weights, full, limits, found)
        else:
            scale = constants[0]
            shift = ((offsets[0] + offsets[1]) * scale, (offsets[0] - offsets[1]) * scale)
            _quality_fields(sums, weights, unbiased, full, shift, constants, limits, found)
            if not both:  # the fields of u and d are spread to x alone
                for j in range(columns):
                    found[0, j] += found[3, j]
        numbers[1] += _settle_row(found, use, row, lead, count, marks)
        if row >= top and mask is not None:
            for j in range(left, count):
                numbers[0] += scored[j]


@kernel
def _combine(sums, p, q, taps, unrolled, factor, out_x, out_y):  # type: ignore[no-untyped-def]
    """Filter rows of fields along the row, and combine them at the pixels p and q.

    Without `out_y`, p and q are those of the fields; with it, they are u and d.
    """
    a, b, c = sums[0], sums[1], sums[2]
    nothing = sums.dtype.type(0)
    if unrolled is None:
        for j in range(out_x.size):
            out_x[j] = 0
            if out_y is not None:
                out_y[j] = 0
        for k in range(taps.size):
            for j in range(out_x.size):
                of_p = taps[k] * (a[j + k] + p[j] * b[j + k])
                of_q = taps[k] * (q[j] * c[j + k])
                if out_y is None:
                    out_x[j] += factor * (of_p + of_q)
                else:
                    of_q += taps[k] * sums[3, j + k]
                    out_x[j] += factor * (of_p + of_q)
                    out_y[j] += factor * (of_p - of_q)
    else:
        half, last = len(unrolled) // 2, len(unrolled) - 1
        for j in range(out_x.size):
            total_a, total_b, total_c, other = nothing, nothing, nothing, nothing
            if last % 2 == 0:
                total_a = unrolled[half] * a[j + half]
                total_b = unrolled[half] * b[j + half]
                total_c = unrolled[half] * c[j + half]
                if out_y is not None:
                    other = unrolled[half] * sums[3, j + half]
            for k in range(half):
                far = j + last - k
                total_a += unrolled[k] * (a[j + k] + a[far])
                total_b += unrolled[k] * (b[j + k] + b[far])
                total_c += unrolled[k] * (c[j + k] + c[far])
                if out_y is not None:
                    other += unrolled[k] * (sums[3, j + k] + sums[3, far])
            of_p, of_q = total_a + p[j] * total_b, other + q[j] * total_c
            out_x[j] = factor * (of_p + of_q)
            if out_y is not None:
                out_y[j] = factor * (of_p - of_q)


@kernel
def block_gradient(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    place,
    factor,
    out_x,
    out_y,
    marks,
    numbers,
    memory,
    fields,
    taps,
    unrolled,
    ones,
    limits,
    is_sample,
    least,
    fewest,
    constants,
):
    """Gradient of the values of all windows, times `factor`, with respect to a block of pixels.

    The rows of x, y and `mask` are those of the windows that reach into the block. `place` tells
    where the block begins in these windows, as (row, column); where their positions begin in
    `fields`; the first column of the windows in x, and their number of columns; and both of the
    block in `out_x`. `marks` are set at doubtful positions, which
    are left out; `numbers` are those of scored positions inside the block, and of doubtful ones.
    `constants` are scale, C1 and C2 of quality; None asks for correlation. None for `out_y` asks
    for the gradient with respect to x only.
    """
    rows, _, sums, flat_sums, _, _, _, _ = memory
    size, columns = taps.size, sums.shape[1]
    real = taps.dtype.type
    top, left, above, _, first, width, column, columns_out = place
    digits = digits_of(taps)
    offsets = (
        real(local_offset(x, mask, first, first + width, digits)),
        real(local_offset(y, mask, first, first + width, digits)),
    )
    for i in range(fields.shape[0]):
        if i < above or i > above + x.shape[0] - size:
            for k in range(FIELDS):
                for j in range(columns):
                    fields[i, k, j] = 0
    _find_fields(
        x,
        y,
        mask,
        place,
        offsets,
        out_y is not None,
        fields,
        marks,
        numbers,
        memory,
        taps,
        unrolled,
        ones,
        limits,
        is_sample,
        least,
        fewest,
        constants,
    )
    flat = fields.reshape(fields.shape[0], FIELDS * columns)
    planes = FIELDS if out_y is not None else FIELDS - 1
    p, q = rows[0], rows[1]
    start = first + left
    stop = start + columns_out
    for i in range(out_x.shape[0]):
        filter_rows(flat[i : i + size], 0, taps, unrolled, flat_sums[: planes * columns])
        if constants is None:
            load(x, mask, top + i, start, stop, offsets[0], 1.0, p)
            load(y, mask, top + i, start, stop, offsets[1], 1.0, q)
        else:
            load_sum_and_difference(x, y, mask, top + i, start, stop, offsets, constants[0], p, q)
        of_x = out_x[i, column : column + columns_out]
        of_y = None if out_y is None else out_y[i, column : column + columns_out]
        _combine(sums, p, q, taps, unrolled, factor, of_x, of_y)
        if mask is not None:
            inside = mask[top + i, start:stop]
            for j in range(inside.size):
                of_x[j] = of_x[j] if inside[j] else real(0)
                if out_y is not None:
                    of_y[j] = of_y[j] if inside[j] else real(0)
