"""Moments and Gram matrices of two images, in runs or by weights, and how further pixels join."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import allocating, contracting_part, exact, exact_part, kernel, part
from imsim.kernels.common.planes import (
    BLOCK,
    BYTE_BLOCK,
    Planes,
    load_block,
    sums_of_bytes,
)
from imsim.kernels.common.rescaling import is_unusual
from imsim.typing import Array

CHEAPNESS, CHEAPNESS_OF_BYTES = 4, 16
"""See `Planes.runs`."""
N_MOMENTS = 8
"""Numbers of a run: its pixels; means of x and y; sums of squares of x, of y, and of products,
about these means; centres of x and y, from which the means are counted to keep their digits."""


def moments_of_runs(planes: Planes) -> Array:
    """Return the moments of the runs of all planes, (runs, planes, N_MOMENTS)."""
    cheapness = CHEAPNESS_OF_BYTES if planes.dtype == np.uint8 else CHEAPNESS
    runs = planes.runs(_moments_of_run, N_MOMENTS, cheapness=cheapness)
    return runs.reshape(len(runs), -1, N_MOMENTS)


def moments_of_planes(planes: Planes) -> Array:
    """Return the moments of all planes, (planes, N_MOMENTS)."""
    found = np.zeros((planes.count, N_MOMENTS))
    _merge_runs(moments_of_runs(planes), found)
    return found


@exact
def _merge_runs(runs, found):  # type: ignore[no-untyped-def]
    for plane in range(runs.shape[1]):
        for run in range(runs.shape[0]):
            merge(found[plane], runs[run, plane])


def _moments_of_run(x: Array, y: Array, mask: Array, out: Array) -> None:
    """Write the moments of a run, see `N_MOMENTS`."""
    if x.dtype == np.uint8:
        _moments_of_bytes(x, y, mask, np.empty(N_MOMENTS), out)
    else:
        _moments(x, y, mask, np.empty((3, BLOCK)), out)


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


@exact_part  # which keeps them alike for swapped images
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
    # Where neither varies, the sum of products is rounding, too, as large as theirs.
    out[5] = 0.0 if xx < 0 and yy < 0 else xy - dx * dy / n


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


def weighted_moments_of_run(x: Array, y: Array, _: Array, out: Array, weights: Array) -> None:
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


@contracting_part
def weighed(weight, a, b):  # type: ignore[no-untyped-def]
    """Weigh a product, with the same bits for b a as for a b."""
    return weight * (a * b)


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
        dx += weight * u
        dy += weight * v
        xx += weighed(weight, u, u)
        yy += weighed(weight, v, v)
        xy += weighed(weight, u, v)
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


GRAM_CHEAPNESS_OF_BYTES = 24
"""See `Planes.runs`."""
N_GRAM = 4
"""Numbers of a Gram matrix: sums of x^2, y^2 and x y, and the square of the sine of the angle.

The square is the part of y^2 that a fit by x leaves. From the sums alone, cancellation would lose
the sine of a small angle. Where x or y is 0 throughout, the square is 1.
"""


def grams_of_runs(planes: Planes) -> Array:
    """Return the Gram matrices of the runs of all planes, and their numbers of pixels."""
    cheapness = GRAM_CHEAPNESS_OF_BYTES if planes.dtype == np.uint8 else CHEAPNESS
    return planes.runs(_gram_of_run, N_GRAM + 1, cheapness=cheapness)


def _gram_of_run(x: Array, y: Array, mask: Array, out: Array) -> None:
    if x.dtype == np.uint8:
        _gram_of_bytes(x, y, mask, np.empty(N_GRAM), out)
        return
    # What is copied to leave out pixels stays in float32, half the memory, where both images are.
    narrow = x.dtype == np.float32 and y.dtype == np.float32
    copies = np.empty((2, BLOCK), np.float32 if narrow else np.float64)
    _gram(x, y, mask, np.empty((2, BLOCK)), copies, np.empty(N_GRAM), out)


def weighted_grams_of_runs(planes: Planes) -> Array:
    """Return the same by weights: the sums of these for numbers, and whether any is unusual."""
    return planes.runs(_weighted_gram_of_run, N_GRAM + 2, cheapness=CHEAPNESS)


def _weighted_gram_of_run(x: Array, y: Array, _: Array, out: Array, weights: Array) -> None:
    _weighted_gram(x, y, weights, np.empty((2, BLOCK)), np.empty(N_GRAM), out)


@kernel
def _gram_of_bytes(x, y, mask, block, out):  # type: ignore[no-untyped-def]
    """Gram matrix of a run, and the number of pixels; the sine of a block's angle is exact."""
    out[3] = 1.0
    for start in range(0, x.size, BYTE_BLOCK):
        stop = start + BYTE_BLOCK
        n, _, _, xx, yy, xy = sums_of_bytes(x[start:stop], y[start:stop], mask[start:stop])
        if n == 0:
            continue
        block[0], block[1], block[2], block[3] = xx, yy, xy, 1.0
        if xx > 0 and yy > 0:  # below 2^31 each
            block[3] = (xx * yy - xy * xy) / (np.float64(xx) * np.float64(yy))
        merge_gram(out, block)
        out[4] += n


@allocating
def _gram(x, y, mask, room, copies, block, out):  # type: ignore[no-untyped-def]
    """Gram matrix of a run, merged from blocks, and the number of pixels."""
    out[3] = 1.0
    for start in range(0, x.size, BLOCK):
        p, q, inside, n = load_block(x, y, mask, start, room)
        if n == 0:
            continue
        xx, yy, xy = 0.0, 0.0, 0.0
        # A full block is added in the order of a block without a mask.
        if n == p.size:
            for i in range(p.size):
                a, b = np.float64(p[i]), np.float64(q[i])
                xx += a * a
                yy += b * b
                xy += a * b
            fit(p, q, None, xx, yy, xy, block)
        else:
            u, v = copies[0, : p.size], copies[1, : p.size]
            xx, yy, xy = _products_inside(p, q, inside, u, v)
            fit(u, v, None, xx, yy, xy, block)
        merge_gram(out, block)
        out[4] += n


@part
def _products_inside(p, q, inside, u, v):  # type: ignore[no-untyped-def]
    """Copy p and q to u and v, with 0 outside a mask of bytes; sum their products."""
    xx, yy, xy = 0.0, 0.0, 0.0
    nothing = u.dtype.type(0)
    for i in range(p.size):
        use = inside[i] != 0
        s = u.dtype.type(p[i]) if use else nothing
        t = u.dtype.type(q[i]) if use else nothing
        u[i], v[i] = s, t
        a, b = np.float64(s), np.float64(t)
        xx += a * a
        yy += b * b
        xy += a * b
    return xx, yy, xy


@kernel
def _weighted_gram(x, y, weights, room, block, out):  # type: ignore[no-untyped-def]
    out[3] = 1.0
    for start in range(0, x.size, BLOCK):
        p, q = x[start : start + BLOCK], y[start : start + BLOCK]
        _merge_weighted_gram(p, q, weights[start : start + BLOCK], room, block, out)


@part
def _merge_weighted_gram(p, q, w, room, block, out):  # type: ignore[no-untyped-def]
    """Merge the Gram matrix of a block, whose products have weights."""
    u, v = room[0, : p.size], room[1, : p.size]
    whole, xx, yy, xy, unusual = 0.0, 0.0, 0.0, 0.0, False
    for i in range(p.size):
        weight = np.float64(w[i])
        a = np.float64(p[i]) if weight != 0 else 0.0
        b = np.float64(q[i]) if weight != 0 else 0.0
        u[i], v[i] = a, b
        whole += weight
        unusual |= is_unusual(weight)
        xx += weighed(weight, a, a)
        yy += weighed(weight, b, b)
        xy += weighed(weight, a, b)
    fit(u, v, w, xx, yy, xy, block)
    merge_gram(out, block)
    out[4] += whole
    out[5] += unusual


@exact_part  # a compiler that may reorder squares a square, which may leave float64
def fit(x, y, weights, xx, yy, xy, gram):  # type: ignore[no-untyped-def]
    """Fit the shorter vector by the longer one, and square the residual."""
    gram[0], gram[1], gram[2], gram[3] = xx, yy, xy, 1.0
    if xx == 0 or yy == 0:
        return
    by_x = xx > yy
    if xx == yy:  # swapped vectors give the same fit
        by_x = True
        for i in range(x.size):
            if x[i] != y[i]:
                by_x = x[i] > y[i]
                break
    p, q = (x, y) if by_x else (y, x)
    pp, qq = (xx, yy) if by_x else (yy, xx)
    ee, pe = _unexplained(p, q, weights, xy / pp)
    gram[3] = max(ee - pe * (pe / pp), 0.0) / qq


@part
def _unexplained(p, q, weights, slope):  # type: ignore[no-untyped-def]
    """Sum the squares of q - slope p, and its products with p, which correct the slope."""
    ee, pe = 0.0, 0.0
    for i in range(p.size):
        u = np.float64(p[i])
        e = np.float64(q[i]) - slope * u
        if weights is None:
            ee += e * e
            pe += u * e
        else:
            weight = np.float64(weights[i])
            ee += weight * (e * e)
            pe += weight * (u * e)
    return ee, pe


@exact_part
def merge_gram(total, part):  # type: ignore[no-untyped-def]
    """Add the Gram matrix of further pixels; for multiples of one vector without an error."""
    by_y = total[1] > total[0] or (total[1] == total[0] and part[1] > part[0])
    a, b = (1, 0) if by_y else (0, 1)
    aa, bb = total[a] + part[a], total[b] + part[b]
    rest = 1.0 if bb == 0 else (total[3] * total[b] + part[3] * part[b]) / bb
    if total[a] != 0 and part[a] != 0 and bb != 0:
        turn = total[2] / total[a] - part[2] / part[a]
        short, long = min(total[a], part[a]), max(total[a], part[a])
        # For parts or images of unlike magnitudes, other products would leave float64.
        rest += (turn * (short / (1 + short / long))) * (turn / bb)
    total[a], total[b] = aa, bb
    total[2] += part[2]
    total[3] = rest
