"""Angle between whole images in one pass: SAM in image mode."""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.blocks import BLOCK, count, floats, scratch
from imsim.kernels.jit import exact, kernel
from imsim.kernels.magnitudes import are_odd, each_scaled, elements
from imsim.kernels.planes import Planes
from imsim.kernels.spectra import mean_angle
from imsim.portable.pair import Scores
from imsim.typing import Array
from imsim.validation import Images

GRAM = 4
"""Sums of x^2, y^2 and x y, and the square of the sine: that part of y^2 which x does not explain.

From the first three alone, the sine of a small angle would be lost to cancellation. Where x or y
is 0 throughout, x explains nothing of y, and the square is 1.
"""


def sam(images: Images, mask: Array | None, mode: str, degrees: bool) -> Scores:
    """Angle between the images, or mean of the angles of the pixels."""
    unit = 180 / math.pi if degrees else 1.0
    return _image_angle(images, mask, unit) if mode == "image" else mean_angle(images, mask, unit)


def _image_angle(images: Images, mask: Array | None, unit: float) -> Scores:
    """Angle between the two images, each as one vector."""
    theta, n, xx, yy = _whole(images, mask)
    odd = are_odd(xx, images) | are_odd(yy, images)
    if odd.any():
        for index, element, valid in elements(odd, images, mask):
            theta[index] = _whole(each_scaled(element), valid)[0]
    return Scores(theta * unit, n, witness=xx + yy)


def _whole(images: Images, mask: Array | None) -> Array:
    """Angle, number of pixels, and sums of squares."""
    planes = Planes(images, mask, in_order=False)
    runs = planes.runs(_gram, GRAM + 1, ease=4)
    *batch, channels = planes.shape
    scores = np.empty((4, *batch, 1))
    _angles(runs.reshape(len(runs), -1, channels, GRAM + 1), scores.reshape(4, -1))
    return scores


@kernel
def _gram(x, y, mask, out):  # type: ignore[no-untyped-def]
    """Gram matrix of a run, block by block, and the number of pixels."""
    room = scratch(x)
    block = np.empty(GRAM)
    out[3] = 1.0
    for start in range(0, x.size, BLOCK):
        p = floats(x[start : start + BLOCK], room[0])
        q = floats(y[start : start + BLOCK], room[1])
        n = p.size
        if mask is not None:
            inside = mask[start : start + BLOCK]
            n = count(inside)
        if mask is None or n == p.size:
            xx, yy, xy = _products(p, q)
            _fit(p, q, xx, yy, xy, block)
        elif n > 0:
            u, v = room[2, : p.size], room[3, : p.size]
            xx, yy, xy = _products_inside(p, q, inside, u, v)
            _fit(u, v, xx, yy, xy, block)
        if n > 0:
            _merge(out, block)
        out[4] += n


@kernel
def _products(p, q):  # type: ignore[no-untyped-def]
    xx, yy, xy = 0.0, 0.0, 0.0
    for i in range(p.size):
        u, v = np.float64(p[i]), np.float64(q[i])
        xx += u * u
        yy += v * v
        xy += u * v
    return xx, yy, xy


@kernel
def _products_inside(p, q, inside, u, v):  # type: ignore[no-untyped-def]
    """Copy p and q to u and v, with 0 outside a mask of bytes, and sum their products."""
    zero = u.dtype.type(0)
    xx, yy, xy = 0.0, 0.0, 0.0
    for i in range(p.size):
        a, b, use = p[i], q[i], inside[i] != 0
        a, b = (a if use else zero), (b if use else zero)
        u[i], v[i] = a, b
        a, b = np.float64(a), np.float64(b)
        xx += a * a
        yy += b * b
        xy += a * b
    return xx, yy, xy


@kernel
def _fit(p, q, xx, yy, xy, out):  # type: ignore[no-untyped-def]
    """Fit the weaker vector by the stronger one, and square what remains."""
    out[0], out[1], out[2], out[3] = xx, yy, xy, 1.0
    if xx == 0 or yy == 0:
        return
    if _comes_first(xx, yy, p, q):
        out[3] = _unexplained(p, q, xy / xx, xx) / yy
    else:
        out[3] = _unexplained(q, p, xy / yy, yy) / xx


@kernel
def _unexplained(p, q, slope, pp):  # type: ignore[no-untyped-def]
    """Sum of the squares of q - slope p, and what a better slope would leave of it."""
    ee, pe = 0.0, 0.0
    for i in range(p.size):
        u = np.float64(p[i])
        e = np.float64(q[i]) - slope * u
        ee += e * e
        pe += u * e
    return max(ee - pe * (pe / pp), 0.0)


@kernel
def _comes_first(xx, yy, p, q):  # type: ignore[no-untyped-def]
    """Decide which vector explains the other, in the same way when they are swapped."""
    if xx != yy:
        return xx > yy
    for i in range(p.size):
        if p[i] != q[i]:
            return p[i] > q[i]
    return True


@exact
def _merge(total, part):  # type: ignore[no-untyped-def]
    """Add the Gram matrix of further pixels; that of multiples of a vector without an error."""
    by_y = total[1] > total[0] or (total[1] == total[0] and part[1] > part[0])
    a, b = (1, 0) if by_y else (0, 1)
    aa, bb = total[a] + part[a], total[b] + part[b]
    rest = 1.0 if bb == 0 else (total[3] * total[b] + part[3] * part[b]) / bb
    if total[a] != 0 and part[a] != 0 and bb != 0:
        turn = total[2] / total[a] - part[2] / part[a]
        rest += turn * turn * total[a] * (part[a] / aa) / bb
    total[a], total[b] = aa, bb
    total[2] += part[2]
    total[3] = rest


@exact
def _angles(runs, scores):  # type: ignore[no-untyped-def]
    """Angle and number of pixels, by the rules of `imsim.metrics.sam.image_angle`."""
    total = np.empty(GRAM)
    for image in range(runs.shape[1]):
        total[:] = 0
        n = 0.0
        for channel in range(runs.shape[2]):
            for run in range(runs.shape[0]):
                _merge(total, runs[run, image, channel])
                n += runs[run, image, channel, 4] if channel == 0 else 0.0
        xx, yy, xy, rest = total
        theta = math.atan2(math.sqrt(rest), xy / (math.sqrt(xx) * math.sqrt(yy)))
        if (xx == 0 or yy == 0) and not math.isnan(xx + yy):
            theta = 0.0 if xx == yy else math.pi / 2
        scores[0, image] = theta
        scores[1, image] = n
        scores[2, image], scores[3, image] = xx, yy
