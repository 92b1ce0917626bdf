"""Gradients of windowed scores, block by block: fields at the positions, spread to the pixels.

The value q of a window depends on its pixels through weighted means, variances and a covariance.
With weights w_i that sum to 1,

    dq/dx_i = w_i (A + B x_i + C y_i),

where A, B and C are fields of the window's moments. The sum over all windows that hold a pixel is
the filter of the forward pass again, applied to each field: taps are symmetric.

Quality is written in u = x + y and d = x - y, see `imsim.kernels.ssim`: its derivatives are then
products without a difference, exactly 0 for equal images and precise for nearly equal ones.

The few windows whose fields have lost digits to the offset of their block, and those without a
variance or a mean, are taken one by one, from moments about their own mean.
"""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.common.jit import exact, exact_part, kernel, part
from imsim.kernels.common.window_rows import EPSILON, correct_bias, load_sum_and_difference
from imsim.kernels.common.window_sums import (
    filter_moments,
    filter_products,
    filter_row,
    filter_rows,
    filter_two_rows,
    find_scored,
    load,
    load_mask,
    rows_to_sum,
)
from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST

(WEIGHT, PIXELS, PIXEL_X, PIXEL_Y, MEAN_X, MEAN_Y, XX, YY, XY, UU, DD) = range(11)
"""The moments: weight and number of pixels inside the mask; a pixel of the window; means about it;
variances of x and y, their covariance, and the variances of x + y and x - y."""
MOMENTS = 11


def moments_at(x: Array, y: Array, mask: Array, places: Array, taps: Array, order: Array) -> Array:
    """Return the moments, (MOMENTS, positions), of the windows at some places, (positions, 2).

    `order` lists the taps from the lightest to the heaviest. The images are float64.
    """
    found = np.zeros((MOMENTS, len(places)))
    _moments(x, y, mask, places, taps, order, found)
    return found


@exact
def _moments(x, y, mask, places, taps, order, found):  # type: ignore[no-untyped-def]
    size = taps.size
    for n in range(places.shape[0]):
        top, left = places[n]
        row, column = _heaviest(mask, top, left, order)
        pixel_x, pixel_y = x[row, column], y[row, column]
        weight, pixels, sum_x, sum_y = 0.0, 0.0, 0.0, 0.0
        for i in range(size):
            for j in range(size):
                if mask[top + i, left + j]:
                    w = taps[i] * taps[j]
                    weight += w
                    pixels += 1
                    sum_x += w * (x[top + i, left + j] - pixel_x)
                    sum_y += w * (y[top + i, left + j] - pixel_y)
        mean_x, mean_y = sum_x / weight, sum_y / weight
        for i in range(size):
            for j in range(size):
                if mask[top + i, left + j]:
                    w = taps[i] * taps[j] / weight
                    a = (x[top + i, left + j] - pixel_x) - mean_x
                    b = (y[top + i, left + j] - pixel_y) - mean_y
                    found[XX, n] += w * (a * a)
                    found[YY, n] += w * (b * b)
                    found[XY, n] += w * (a * b)
                    found[UU, n] += w * ((a + b) * (a + b))
                    found[DD, n] += w * ((a - b) * (a - b))
        found[WEIGHT, n], found[PIXELS, n] = weight, pixels
        found[PIXEL_X, n], found[PIXEL_Y, n] = pixel_x, pixel_y
        found[MEAN_X, n], found[MEAN_Y, n] = mean_x, mean_y


@exact_part
def _heaviest(mask, top, left, order):  # type: ignore[no-untyped-def]
    """Find the pixel that `imsim.portable.moments.local_moments` takes."""
    for i in order[::-1]:
        for j in order[::-1]:
            if mask[top + i, left + j]:
                return top + i, left + j
    return top, left


@exact  # without fused operations, equal images have a gradient of exactly 0
def spread_from(x, y, mask, places, taps, moments, coefficients, factor, place, both, out_x, out_y):  # type: ignore[no-untyped-def]
    """Add the gradient of the values at some places to a block, which lies at `place`.

    With the coefficients a, b and c of each value, it is a + b (x - mean) + c (y - mean) times the
    weight of a pixel, for each of the images.
    """
    top, left = place
    for n in range(places.shape[0]):
        a_x, a_y, b_x, b_y, c = coefficients[:, n]
        share = factor / moments[WEIGHT, n]
        row, column = places[n]
        for i in range(max(row, top), min(row + taps.size, top + out_x.shape[0])):
            for j in range(max(column, left), min(column + taps.size, left + out_x.shape[1])):
                if mask[i, j]:
                    w = share * (taps[i - row] * taps[j - column])
                    p = (x[i, j] - moments[PIXEL_X, n]) - moments[MEAN_X, n]
                    q = (y[i, j] - moments[PIXEL_Y, n]) - moments[MEAN_Y, n]
                    out_x[i - top, j - left] += w * (a_x + (b_x * p + c * q))
                    if both:
                        out_y[i - top, j - left] += w * (a_y + (b_y * q + c * p))


FIELDS = 4
"""Planes of fields, in the order A, B and C, and the A of d where that of u stands first."""


@part
def _quality_fields(sums, weights, unbiased, full, shift, constants, fields):  # type: ignore[no-untyped-def]
    """Fields A_u, B_u, B_d and A_d at a row of positions; A_u is NaN where they are doubtful."""
    one, nothing = fields.dtype.type(1), fields.dtype.type(np.nan)
    four, beyond = fields.dtype.type(4), fields.dtype.type(np.inf)
    is_narrow = fields.dtype.type(1 + EPSILON) == one  # known to the compiler, unlike the size
    _, c1, c2, share, share_d, least = constants  # read before the loop, to be vectorised
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
        mean_part = four * similarity * d * by_brightness * by_brightness * inverse
        variance_part = four * luminance * by_variances * by_variances * inverse
        of_u, of_d = variance_part * variance_d, -variance_part * (variance_u + c)
        if is_narrow:
            sound = (share * power_u < variances) & (share_d * power_d < variances)
        else:
            sound = share * (power_u + power_d) < variances
            sound &= share_d * (squares_u + squares_d) < brightness
            sound &= least < scale
        a = mean_part * u * d - of_u * mean_u
        fields[0, j] = a if sound & (scale < beyond) else nothing
        fields[1, j] = of_u
        fields[2, j] = of_d
        fields[3, j] = -mean_part * (u * u + c1) - of_d * mean_d


@part
def _correlation_fields(sums, weights, full, limits, fields):  # type: ignore[no-untyped-def]
    """Fields A, B and C of x at a row of positions; A is NaN where they are doubtful."""
    share, tiny = limits
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


@part
def _keep_scored(fields, scored):  # type: ignore[no-untyped-def]
    """Put 0 where a row of fields is not scored."""
    nothing = fields.dtype.type(0)
    for k in range(FIELDS):
        for j in range(scored.size):
            fields[k, j] = fields[k, j] if scored[j] else nothing


@part
def _settle_row(fields, lead, count, marks):  # type: ignore[no-untyped-def]
    """Put 0 beyond the frame; mark doubtful positions, and return their number."""
    nothing, total = fields.dtype.type(0), fields.dtype.type(0)
    for k in range(FIELDS):
        for j in range(lead):
            fields[k, j] = nothing
        for j in range(lead + count, marks.size):
            fields[k, j] = nothing
    for j in range(marks.size):
        total += fields[0, j] * nothing
    if not np.isnan(total):
        return 0
    number = 0
    for j in range(marks.size):
        if np.isnan(fields[0, j]):
            marks[j] = 1
            number += 1
            for k in range(FIELDS):
                fields[k, j] = nothing
    return number


@kernel
def find_fields(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    place,
    offsets,
    both,
    out,
    memory,
    size,
    taps,
    unrolled,
    ones,
    rules,
    constants,
    limits,
):
    """Write the fields of all windows that reach into a block.

    The rows of x, y and `mask` are those of these windows. `place` tells where the block begins in
    them, as (row, column); where their positions begin in `fields`; the first of their columns in
    x, and its number; and both of the block in the result. `marks` are set at doubtful positions,
    whose fields are 0; `numbers` are those of scored positions inside the block, with a mask, and
    of doubtful ones. `constants` are those of quality, `limits` those of a correlation: one of them
    is None. `both` asks for the fields of both images.
    """
    (fields, marks, numbers), (is_sample, least, fewest) = out, rules
    rows, slots, both_sums, flat_sums, _, scored, count_slots, counts, spare, running, _ = memory
    columns, real = both_sums.shape[2], fields.dtype.type
    top, left, above, lead, first, width, _, _ = place
    height, end, count = x.shape[0], first + width, width - size + 1
    full = real(size**2 if taps is None else 1)
    p, q, inside, unbiased = rows[0], rows[1], rows[2], counts[1]
    inner_p, inner_q, inner_inside = p[lead:], q[lead:], inside[lead:]
    for j in range(columns):
        unbiased[j] = real((size**2 - 1) / size**2) if is_sample else real(1)
    for j in range(inside.size):  # beyond the frame, no window is to be divided by 0
        inside[j] = 1
    for i in range(fields.shape[0]):
        for j in range(columns):
            marks[i, j] = 0
        if i < above or i > above + height - size:
            for k in range(FIELDS):
                for j in range(columns):
                    fields[i, k, j] = 0
    for i in range(height):
        slot, count_slot = slots[i % slots.shape[0]], count_slots[i % slots.shape[0]]
        if constants is not None:
            scale = constants[0]
            load_sum_and_difference(x, y, mask, i, first, end, offsets, scale, inner_p, inner_q)
        if limits is not None:
            load(x, mask, i, first, end, offsets[0], 1.0, inner_p)
            load(y, mask, i, first, end, offsets[1], 1.0, inner_q)
            products = slot[4 * columns : 5 * columns]
            filter_products(p, q, size, taps, unrolled, spare, products)
        pp, qq = slot[2 * columns : 3 * columns], slot[3 * columns : 4 * columns]
        filter_moments(p, size, taps, unrolled, spare, slot[:columns], pp)
        filter_moments(q, size, taps, unrolled, spare, slot[columns : 2 * columns], qq)
        if mask is not None:
            load_mask(mask, i, first, end, inner_inside)
            weights = slot[(both_sums.shape[1] - 1) * columns :]
            filter_row(inside, size, taps, unrolled, spare, weights)
            if ones.size > 0:
                filter_row(inside, size, None, None, spare, count_slot)
        begin, stop = rows_to_sum(i, size, height)
        if begin == stop:
            continue
        filter_two_rows(slots, begin, size, taps, unrolled, running, flat_sums[0], flat_sums[1])
        for row in range(begin, stop):
            sums, found, mark = both_sums[row - begin], fields[above + row], marks[row]
            if ones.size > 0 and mask is not None:
                filter_rows(count_slots, row, ones, None, counts[0])
                if is_sample:
                    correct_bias(counts[0], unbiased)
            if constants is not None:
                shift = ((offsets[0] + offsets[1]) * scale, (offsets[0] - offsets[1]) * scale)
                if mask is None:
                    _quality_fields(sums, None, unbiased, full, shift, constants, found)
                else:
                    _quality_fields(sums, sums[4], unbiased, full, shift, constants, found)
                if not both:  # the fields of u and d are spread to x alone
                    for j in range(columns):
                        found[0, j] += found[3, j]
            if limits is not None:
                if mask is None:
                    _correlation_fields(sums, None, full, limits, found)
                else:
                    _correlation_fields(sums, sums[5], full, limits, found)
            if mask is not None:
                weights = sums[sums.shape[0] - 1, lead:]
                pixels, enough = weights, least
                if ones.size > 0:
                    pixels, enough = counts[0, lead:], fewest
                find_scored(weights, pixels, least, enough, mask, row, first, count, size, scored)
                _keep_scored(found[:, lead:], scored[:count])
                if row >= top:
                    for j in range(left, count):
                        numbers[0] += scored[j]
            numbers[1] += _settle_row(found, lead, count, mark)


@exact_part
def _clear_outside(mask, row, first, out):  # type: ignore[no-untyped-def]
    """Put 0 outside the mask."""
    inside = mask[row, first:]
    nothing = out.dtype.type(0)
    for j in range(out.size):
        out[j] = out[j] if inside[j] else nothing


@kernel
def spread_fields(  # type: ignore[no-untyped-def]
    x,
    y,
    mask,
    place,
    offsets,
    both,
    fields,
    factor,
    out,
    memory,
    size,
    taps,
    unrolled,
    constants,
    limits,
):
    """Write the gradient with respect to the pixels of a block, times `factor`, from the fields.

    See `find_fields`. A uniform window overwrites the fields. For both images, p and q are u and d,
    and the fourth field is the A of d.
    """
    rows, slots, both_sums, flat_sums, _, _, _, _, spare, running, _ = memory
    out_x, out_y = out
    columns = both_sums.shape[2]
    top, left, _, _, first, _, column, width = place
    start = first + left
    stop = start + width
    flat = fields.reshape(fields.shape[0], FIELDS * columns)
    filtered = slots[0, : FIELDS * columns].reshape(FIELDS, columns)
    a, b, c, other = filtered[0], filtered[1], filtered[2], filtered[3]
    p, q, planes = rows[0], rows[1], FIELDS if both else FIELDS - 1
    for i in range(out_x.shape[0]):
        sums = both_sums[i % 2]
        if i % 2 == 0:  # two rows are summed at a time
            upper, lower = flat_sums[0, : planes * columns], flat_sums[1, : planes * columns]
            filter_two_rows(flat, i, size, taps, unrolled, running, upper, lower)
        for k in range(planes):
            filter_row(sums[k], size, taps, unrolled, spare, filtered[k, :width])
        if constants is not None:
            load_sum_and_difference(x, y, mask, top + i, start, stop, offsets, constants[0], p, q)
        if limits is not None:
            load(x, mask, top + i, start, stop, offsets[0], 1.0, p)
            load(y, mask, top + i, start, stop, offsets[1], 1.0, q)
        of_x = out_x[i, column : column + width]
        of_y = out_y[i, column : column + width]
        if both:
            for j in range(width):
                of_u, of_d = a[j] + p[j] * b[j], other[j] + q[j] * c[j]
                of_x[j] = factor * (of_u + of_d)
                of_y[j] = factor * (of_u - of_d)
        else:
            for j in range(width):
                of_x[j] = factor * (a[j] + p[j] * b[j] + q[j] * c[j])
        if mask is not None:
            _clear_outside(mask, top + i, start, of_x)
            if both:
                _clear_outside(mask, top + i, start, of_y)
