"""Sums over windows, row by row of a tile: the building blocks of windowed kernels.

Taps of None stand for a uniform window. Its sums take the same few additions for each pixel,
whatever its size: none is ever subtracted again, which would leave the rounding errors of bright
pixels in the sums of dark ones.
"""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import contracting_part, exact, exact_part, inline, part
from imsim.kernels.common.planes import count as number_inside

UNROLLED = (7, 8, 9, 11)
"""The usual sides of windows, whose taps are also passed as a tuple.

The compiler unrolls loops over a tuple and vectorises along the row, but must compile for each
length. For all other windows, the tuple is None.
"""


# Rows are sliced before the loops over them: the compiler then knows that no index is negative, and
# omits a check at every pixel.
#
# Taps in a tuple are symmetric: the two values that share a tap are added first, which saves half
# of the multiplications.


@exact_part
def load(image, mask, i, left, right, offset, scale, row):  # type: ignore[no-untyped-def]
    """Copy pixels of row i, centred and scaled; 0 outside the mask."""
    pixels = image[i, left:right]
    if mask is None:
        for j in range(pixels.size):
            row[j] = (row.dtype.type(pixels[j]) - offset) * scale
    else:
        inside = mask[i, left:right]
        nothing = row.dtype.type(0)
        for j in range(pixels.size):
            value = (row.dtype.type(pixels[j]) - offset) * scale
            row[j] = value if inside[j] else nothing


@exact_part
def load_mask(mask, i, left, right, row):  # type: ignore[no-untyped-def]
    """Copy pixels of row i of a mask, as ones and zeros."""
    inside = mask[i, left:right]
    for j in range(inside.size):
        row[j] = inside[j]


@part
def fill_zeros(row):  # type: ignore[no-untyped-def]
    """What filters make of a row of which no pixel is inside the mask."""
    for j in range(row.size):
        row[j] = 0


@exact_part
def sum_neighbours(row, size, spare, out):  # type: ignore[no-untyped-def]
    """Write sums of `size` neighbours along a row, each from two sums of half as many.

    An odd number takes one more pixel. `spare` is memory for the sums on the way.
    """
    length, digits = out.size + size - 1, 0
    while size >> digits + 1:
        digits += 1
    source, width = row, 1
    if digits == 0:
        for j in range(out.size):
            out[j] = row[j]
    for k in range(digits - 1, -1, -1):
        is_odd = size >> k & 1
        target = spare[k % 2] if k else out
        count = length - 2 * width - is_odd + 1
        near, far, sums = source[:count], source[width : width + count], target[:count]
        if is_odd:
            last = row[2 * width : 2 * width + count]
            for j in range(sums.size):
                sums[j] = (near[j] + far[j]) + last[j]
        else:
            for j in range(sums.size):
                sums[j] = near[j] + far[j]
        source, width = target, 2 * width + is_odd


@part
def filter_row(row, size, taps, unrolled, spare, out):  # type: ignore[no-untyped-def]
    """Write weighted sums along a row."""
    if unrolled is None:
        if taps is None:
            sum_neighbours(row, size, spare, out)
        else:
            few = taps.size % 4
            for j in range(out.size):
                out[j] = 0
            for k in range(few):
                for j in range(out.size):
                    out[j] += taps[k] * row[j + k]
            for k in range(few, taps.size, 4):
                a, b, c, d = row[k:], row[k + 1 :], row[k + 2 :], row[k + 3 :]
                for j in range(out.size):
                    total = taps[k] * a[j] + taps[k + 1] * b[j]
                    out[j] += total + (taps[k + 2] * c[j] + taps[k + 3] * d[j])
    else:
        half, last = len(unrolled) // 2, len(unrolled) - 1
        for j in range(out.size):
            total = row.dtype.type(0)
            if last % 2 == 0:
                total = unrolled[half] * row[j + half]
            for k in range(half):
                total += unrolled[k] * (row[j + k] + row[j + last - k])
            out[j] = total


@contracting_part  # or products, and the squares of equal images, might be added in another order
def filter_products(p, q, size, taps, unrolled, spare, out):  # type: ignore[no-untyped-def]
    """Write weighted sums of p q along a row."""
    if unrolled is None:
        products = spare[2]
        for j in range(out.size + size - 1):
            products[j] = p[j] * q[j]
        filter_row(products, size, taps, None, spare, out)
    elif taps is None:
        for j in range(out.size):
            total = p[j] * q[j]
            for k in range(1, len(unrolled)):
                total += p[j + k] * q[j + k]
            out[j] = total
    else:
        half, last = len(unrolled) // 2, len(unrolled) - 1
        for j in range(out.size):
            total = p.dtype.type(0)
            if last % 2 == 0:
                total = unrolled[half] * (p[j + half] * q[j + half])
            for k in range(half):
                far = j + last - k
                total += unrolled[k] * (p[j + k] * q[j + k] + p[far] * q[far])
            out[j] = total


@contracting_part
def filter_moments(p, size, taps, unrolled, spare, out, squares):  # type: ignore[no-untyped-def]
    """Write weighted sums of p and of p^2 along a row."""
    if unrolled is None:
        filter_row(p, size, taps, None, spare, out)
        filter_products(p, p, size, taps, None, spare, squares)
    elif taps is None:
        for j in range(out.size):
            total, square = p[j], p[j] * p[j]
            for k in range(1, len(unrolled)):
                total += p[j + k]
                square += p[j + k] * p[j + k]
            out[j] = total
            squares[j] = square
    else:
        half, last = len(unrolled) // 2, len(unrolled) - 1
        for j in range(out.size):
            total = p.dtype.type(0)
            square = total
            if last % 2 == 0:
                total = unrolled[half] * p[j + half]
                square = unrolled[half] * (p[j + half] * p[j + half])
            for k in range(half):
                near, far = p[j + k], p[j + last - k]
                total += unrolled[k] * (near + far)
                square += unrolled[k] * (near * near + far * far)
            out[j] = total
            squares[j] = square


@inline
def _slot(oldest, k, ring):  # type: ignore[no-untyped-def]
    """Place of the k-th row of a window in a ring buffer of `ring` slots."""
    return oldest + k - ring if oldest + k >= ring else oldest + k


@part
def filter_rows(slots, row, taps, unrolled, sums):  # type: ignore[no-untyped-def]
    """Write weighted sums of the slots of a ring buffer, from that of `row`.

    The planes of a slot are one row.
    """
    ring = slots.shape[0]
    oldest = row % ring
    if unrolled is None:
        few = taps.size % 4
        for j in range(sums.size):
            sums[j] = 0
        for k in range(few):
            slot = slots[_slot(oldest, k, ring)]
            for j in range(sums.size):
                sums[j] += taps[k] * slot[j]
        for k in range(few, taps.size, 4):
            a, b = slots[_slot(oldest, k, ring)], slots[_slot(oldest, k + 1, ring)]
            c, d = slots[_slot(oldest, k + 2, ring)], slots[_slot(oldest, k + 3, ring)]
            for j in range(sums.size):
                total = taps[k] * a[j] + taps[k + 1] * b[j]
                sums[j] += total + (taps[k + 2] * c[j] + taps[k + 3] * d[j])
    else:
        half, last = len(unrolled) // 2, len(unrolled) - 1
        middle = slots[_slot(oldest, half, ring)]
        for j in range(sums.size):
            total = sums.dtype.type(0)
            if last % 2 == 0:
                total = unrolled[half] * middle[j]
                for k in range(half):
                    near, far = _slot(oldest, k, ring), _slot(oldest, last - k, ring)
                    total += unrolled[k] * (slots[near, j] + slots[far, j])
            else:  # for windows of an even size, the written order is faster
                for k in range(len(unrolled)):
                    total += unrolled[k] * slots[_slot(oldest, k, ring), j]
            sums[j] = total


@inline
def rows_to_sum(i, size, height):  # type: ignore[no-untyped-def]
    """First and end of the rows of positions to sum once row i of pixels is filtered: two, or none.

    The last one of an odd number is summed alone.
    """
    row = i - size + 1
    waits = row < 0 or (row % 2 == 0 and i + 1 < height)
    first = row - row % 2
    return first, (first if waits else row + 1)


@exact_part
def sum_rows(slots, row, size, running, out):  # type: ignore[no-untyped-def]
    """Write the sums of `size` slots from that of `row`; callers ask for all rows, in order.

    Of every `size` rows, each slot takes over the sum of those below it, once all are known. A
    window that begins there needs this sum, and the running one of the rows that follow.
    """
    ring = slots.shape[0]
    oldest = row % ring
    if row % size == 0:
        for k in range(size - 2, -1, -1):
            sums, below = slots[_slot(oldest, k, ring)], slots[_slot(oldest, k + 1, ring)]
            for j in range(out.size):
                sums[j] += below[j]
        sums = slots[oldest]
        for j in range(out.size):
            out[j] = sums[j]
            running[j] = 0
    else:
        sums, newest = slots[oldest], slots[_slot(oldest, size - 1, ring)]
        for j in range(out.size):
            total = running[j] + newest[j]
            running[j] = total
            out[j] = sums[j] + total


@part
def filter_two_rows(slots, row, size, taps, unrolled, running, upper, lower):  # type: ignore[no-untyped-def]
    """Write weighted sums of the slots from that of `row`, and of those from the next row.

    The two share most slots, and to load these is what filtering along columns waits for. The ring
    buffer has one slot more than a window has rows. Running sums take every row in turn.
    """
    ring = slots.shape[0]
    oldest = row % ring
    if unrolled is None:
        if taps is None:
            sum_rows(slots, row, size, running, upper)
            sum_rows(slots, row + 1, size, running, lower)
        else:
            few = taps.size % 4
            for j in range(upper.size):
                upper[j], lower[j] = 0, 0
            for k in range(few):
                a, b = slots[_slot(oldest, k, ring)], slots[_slot(oldest, k + 1, ring)]
                for j in range(upper.size):
                    upper[j] += taps[k] * a[j]
                    lower[j] += taps[k] * b[j]
            for k in range(few, taps.size, 4):
                a, b = slots[_slot(oldest, k, ring)], slots[_slot(oldest, k + 1, ring)]
                c, d = slots[_slot(oldest, k + 2, ring)], slots[_slot(oldest, k + 3, ring)]
                e = slots[_slot(oldest, k + 4, ring)]
                for j in range(upper.size):
                    total = taps[k] * a[j] + taps[k + 1] * b[j]
                    next_total = taps[k] * b[j] + taps[k + 1] * c[j]
                    upper[j] += total + (taps[k + 2] * c[j] + taps[k + 3] * d[j])
                    lower[j] += next_total + (taps[k + 2] * d[j] + taps[k + 3] * e[j])
    else:
        half, last = len(unrolled) // 2, len(unrolled) - 1
        for j in range(upper.size):
            total, next_total = upper.dtype.type(0), lower.dtype.type(0)
            if last % 2 == 0:
                total = unrolled[half] * slots[_slot(oldest, half, ring), j]
                next_total = unrolled[half] * slots[_slot(oldest, half + 1, ring), j]
                for k in range(half):
                    near, far = _slot(oldest, k, ring), _slot(oldest, last - k, ring)
                    total += unrolled[k] * (slots[near, j] + slots[far, j])
                    near, far = _slot(oldest, k + 1, ring), _slot(oldest, last - k + 1, ring)
                    next_total += unrolled[k] * (slots[near, j] + slots[far, j])
            else:  # for windows of an even size, the written order is faster
                for k in range(len(unrolled)):
                    total += unrolled[k] * slots[_slot(oldest, k, ring), j]
                    next_total += unrolled[k] * slots[_slot(oldest, k + 1, ring), j]
            upper[j], lower[j] = total, next_total


@part
def may_be_broken(row, count):  # type: ignore[no-untyped-def]
    """Whether a loaded row holds NaN or an infinity, or values that add up to one."""
    total = 0.0
    for j in range(count):
        total += row[j]
    # A compiler that may reorder takes x - x for 0, and so `isfinite` for true.
    return np.isnan(total * 0.0)


@exact_part
def nan_if_broken(image, mask, i, left, right):  # type: ignore[no-untyped-def]
    """Return NaN if a row of an image holds NaN or an infinity inside the mask, else 0."""
    for j in range(left, right):
        if mask[i, j] and not np.isfinite(image[i, j]):
            return np.nan
    return 0.0


@part
def find_scored(weights, pixels, least, fewest, mask, i, left, count, size, scored):  # type: ignore[no-untyped-def]
    """Find which positions of row i are scored; see `imsim.portable.windows.support_of`."""
    half = size // 2
    for j in range(count):
        scored[j] = weights[j] >= least and pixels[j] >= fewest
    if size % 2:
        centre = mask[i + half, left + half :]
        for j in range(count):
            scored[j] &= centre[j]


@part
def row_total(found, scored, count):  # type: ignore[no-untyped-def]
    """Put 0 where a row is not scored; return its sum and the number of scored positions.

    NaN marks a position to be computed again. The sum is NaN if there is one.
    """
    row, number = found[:count], count
    nothing = found.dtype.type(0)
    total = nothing
    if scored is not None:
        use = scored[:count]
        number = number_inside(use)
        if number < count:
            for j in range(row.size):
                row[j] = row[j] if use[j] else nothing
    for j in range(row.size):
        total += row[j]
    return total, number


@inline
def clipped(value, bound):  # type: ignore[no-untyped-def]
    """Clip to the bounds, which rounding may exceed; NaN stays."""
    return bound if value > bound else (-bound if value < -bound else value)


@inline
def add_row(found, scored, row, left, count, keeps, out, values, valid, doubtful):  # type: ignore[no-untyped-def]
    """Add a row of results of a tile to what is found in its strip.

    The arrays are those of `imsim.kernels.common.window_strips.Found`; `keeps` says whether values
    are written of all rows, or of doubtful ones only.
    """
    total, number = row_total(found, scored, count)
    is_doubtful = np.isnan(total)
    if is_doubtful:
        doubtful[row, left // found.size] = True
        out[2] += 1
        total = _total_of_numbers(found, count)
    out[0] += total
    out[1] += number
    if keeps or is_doubtful:
        _write_row(found, scored, row, left, count, values, valid)


@part
def _total_of_numbers(found, count):  # type: ignore[no-untyped-def]
    """Sum a row without its NaN; in float32, equal values would round alike."""
    total = 0.0
    for j in range(count):
        if not np.isnan(found[j]):
            total += np.float64(found[j])
    return total


@part
def _write_row(found, scored, row, left, count, values, valid):  # type: ignore[no-untyped-def]
    """Write results, from -1 to 1, and which are scored, into a row of maps.

    A loop, since Numba compiles the assignment of an array to a slice for seconds.
    """
    one = found.dtype.type(1)
    here = values[row, left : left + count]
    for j in range(here.size):
        here[j] = clipped(found[j], one)
    if valid.size > 0:
        here = valid[row, left : left + count]
        for j in range(here.size):
            here[j] = scored is None or scored[j] != 0


@exact  # values that are all 1 add up to the sum of the weights
def add_weighted(values, weights, doubtful, tile, out):  # type: ignore[no-untyped-def]
    """Add the values of rows that were doubtful by their weights, and the weights."""
    for i in range(doubtful.shape[0]):
        for k in range(doubtful.shape[1]):
            if doubtful[i, k]:
                row, own = (
                    values[i, k * tile : (k + 1) * tile],
                    weights[i, k * tile : (k + 1) * tile],
                )
                for j in range(row.size):
                    out[0] += own[j] * np.float64(row[j])
                    out[1] += own[j]
