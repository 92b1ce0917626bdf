"""Pearson's correlation of whole images in one pass: global ZNCC."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.kernels.blocks import BLOCK, count, floats, scratch
from imsim.kernels.jit import exact, kernel
from imsim.kernels.local_correlation import mean_local_correlation
from imsim.kernels.magnitudes import are_odd, each_scaled, elements
from imsim.kernels.planes import Planes
from imsim.portable.pair import Scores
from imsim.typing import Array
from imsim.validation import Images

MOMENTS = 8
"""Pixels, means of x and y, and the sums of squares and products about these means; and the
values of x and y from which the means are counted, so that they keep their digits far from 0."""


def zncc(
    images: Images, mask: Array | None, window_size: int | None, min_coverage: float
) -> Scores:
    """Correlation of the whole images, or its mean over windows."""
    if window_size is not None:
        return mean_local_correlation(images, mask, window_size, min_coverage)
    r, n, xx, yy = _whole(images, mask)
    odd = are_odd(xx, images) | are_odd(yy, images)
    if odd.any():
        odd = odd.any(axis=-1)
        for index, element, valid in elements(odd, images, mask):
            r[index] = _whole(each_scaled(element), valid)[0]
    return Scores(r, n, witness=xx + yy)


def _whole(images: Images, mask: Array | None) -> Array:
    """Correlation, number of pixels, and sums of squares about the means."""
    planes = Planes(images, mask, in_order=False)
    runs = planes.runs(_moments, MOMENTS, ease=4)
    scores = np.empty((4, *planes.shape))
    _correlations(runs.reshape(len(runs), -1, MOMENTS), scores.reshape(4, -1))
    return scores


@kernel
def _moments(x, y, mask, out):  # type: ignore[no-untyped-def]
    """Moments of a run, block by block, each about the means of the block before.

    These are near enough: what rounding makes of their distance from the block's own mean is
    of the size of what that distance adds to the variance of the run.
    """
    room = scratch(x)
    block = np.empty(MOMENTS)
    centre_x, centre_y = 0.0, 0.0
    for start in range(0, x.size, BLOCK):
        p = floats(x[start : start + BLOCK], room[0])
        q = floats(y[start : start + BLOCK], room[1])
        n, first = p.size, 0
        inside: Any = None if mask is None else mask[start : start + BLOCK]
        if mask is not None:
            n = count(inside)
            if n == 0:
                continue
            while inside[first] == 0:
                first += 1
        if out[0] == 0:  # with a pixel as its centre, a constant image has moments of 0
            centre_x, centre_y = np.float64(p[first]), np.float64(q[first])
            _block_moments(p, q, inside, n, centre_x, centre_y, block)
            centre_x, centre_y = block[6] + block[1], block[7] + block[2]
        _block_moments(p, q, inside, n, centre_x, centre_y, block)
        centre_x, centre_y = block[6] + block[1], block[7] + block[2]
        _merge(out, block)


@kernel
def _block_moments(p, q, inside, n, centre_x, centre_y, out):  # type: ignore[no-untyped-def]
    # A full block takes the way of a block without a mask, which adds in the same order.
    if inside is None or n == p.size:
        dx, dy, xx, yy, xy = _centred_sums(p, q, centre_x, centre_y)
    else:
        dx, dy, xx, yy, xy = _centred_sums_inside(p, q, inside, centre_x, centre_y)
    out[0] = n
    out[1], out[2] = dx / n, dy / n
    out[6], out[7] = centre_x, centre_y
    xx -= dx * dx / n
    yy -= dy * dy / n
    out[3] = 0.0 if xx < 0 else xx
    out[4] = 0.0 if yy < 0 else yy
    out[5] = xy - dx * dy / n


@kernel
def _centred_sums(p, q, centre_x, centre_y):  # type: ignore[no-untyped-def]
    dx, dy, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(p.size):
        u = np.float64(p[i]) - centre_x
        v = np.float64(q[i]) - centre_y
        dx += u
        dy += v
        xx += u * u
        yy += v * v
        xy += u * v
    return dx, dy, xx, yy, xy


@kernel
def _centred_sums_inside(p, q, inside, centre_x, centre_y):  # type: ignore[no-untyped-def]
    dx, dy, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(p.size):
        use = inside[i] != 0
        u = np.float64(p[i]) - centre_x
        v = np.float64(q[i]) - centre_y
        u = u if use else 0.0
        v = v if use else 0.0
        dx += u
        dy += v
        xx += u * u
        yy += v * v
        xy += u * v
    return dx, dy, xx, yy, xy


@exact
def _merge(total, part):  # type: ignore[no-untyped-def]
    """Add the moments of further pixels; of equal constants to the last bit."""
    if part[0] == 0:
        return
    if total[0] == 0:
        total[:] = part
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


@exact
def _correlations(runs, scores):  # type: ignore[no-untyped-def]
    """Correlation and number of pixels, by the rules of `imsim.metrics.zncc.correlation`."""
    total = np.empty(MOMENTS)
    for plane in range(runs.shape[1]):
        total[:] = 0
        for run in range(runs.shape[0]):
            _merge(total, runs[run, plane])
        xx, yy, xy = total[3:6]
        # Powers of two, exact, keep the product from the ends of float64; its root is exact for
        # equal images, where the product of two roots is not.
        a, b = math.frexp(xx)[1] // 2, math.frexp(yy)[1] // 2
        product = math.ldexp(xx, -2 * a) * math.ldexp(yy, -2 * b)
        r = math.ldexp(math.ldexp(xy, -a), -b) / math.sqrt(product)
        r = -1.0 if r < -1 else 1.0 if r > 1 else r
        if (xx == 0 or yy == 0) and not math.isnan(xx + yy):
            r = 1.0 if xx == yy else 0.0
        scores[0, plane] = r
        scores[1, plane] = total[0]
        scores[2, plane], scores[3, plane] = xx, yy
