"""SAM: the angle between whole images, or between the spectra of pixels."""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.common.jit import exact, inline, kernel
from imsim.kernels.common.pixel_blocks import BLOCK, load_block, scratch
from imsim.kernels.common.planes import RUN_PIXELS, Planes, sum_parts
from imsim.kernels.common.rescaling import find_lost_sums, lost_elements, scale_images
from imsim.portable.pair import Local, Scores
from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST, Images
from imsim.workers import parallel

N_GRAM = 4
"""Numbers of a Gram matrix: sums of x^2, y^2 and x y, and the square of the sine of the angle.

The square is the part of y^2 that a fit by x leaves. From the sums alone, cancellation would lose
the sine of a small angle. Where x or y is 0 throughout, the square is 1.
"""


def sam(images: Images, mask: Array | None, mode: str, degrees: bool) -> Scores:
    """Angle between the images, or mean of the angles of the pixels."""
    unit = 180 / math.pi if degrees else 1.0
    return _image_angle(images, mask, unit) if mode == "image" else mean_angle(images, mask, unit)


def _image_angle(images: Images, mask: Array | None, unit: float) -> Scores:
    """Angle between the two images, each as one vector."""
    theta, n, xx, yy = _whole(images, mask)
    odd = find_lost_sums(images, xx, yy)
    if odd is not None:
        for index, element, valid in lost_elements(odd, images, mask):
            theta[index] = _whole(scale_images(element), valid)[0]
    return Scores(theta * unit, n, witness=xx + yy)


def _whole(images: Images, mask: Array | None) -> Array:
    """Angle, number of pixels, and sums of squares."""
    planes = Planes(images, mask, in_order=False)
    runs = planes.runs(_gram, N_GRAM + 1, cheapness=4)
    *batch, channels = planes.shape
    scores = np.empty((4, *batch, 1))
    _angles(runs.reshape(len(runs), -1, channels, N_GRAM + 1), scores.reshape(4, -1))
    return scores


@kernel
def _gram(x, y, mask, out):  # type: ignore[no-untyped-def]
    """Gram matrix of a run, merged from blocks, and the number of pixels."""
    room = scratch(x)
    block = np.empty(N_GRAM)
    out[3] = 1.0
    for start in range(0, x.size, BLOCK):
        p, q, inside, n = load_block(x, y, mask, start, room)
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
    """Copy p and q to u and v, with 0 outside a mask of bytes; sum their products."""
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


@exact  # a compiler that may reorder squares a square, which may leave float64
def _fit(p, q, xx, yy, xy, out):  # type: ignore[no-untyped-def]
    """Fit the shorter vector by the longer one, and square the residual."""
    out[0], out[1], out[2], out[3] = xx, yy, xy, 1.0
    if xx == 0 or yy == 0:
        return
    by_x = _comes_first(xx, yy, p, q)
    pp, qq = (xx, yy) if by_x else (yy, xx)
    ee, pe = _unexplained(p, q, xy / pp) if by_x else _unexplained(q, p, xy / pp)
    out[3] = max(ee - pe * (pe / pp), 0.0) / qq


@kernel
def _unexplained(p, q, slope):  # type: ignore[no-untyped-def]
    """Sum the squares of q - slope p, and its products with p, which correct the slope."""
    ee, pe = 0.0, 0.0
    for i in range(p.size):
        u = np.float64(p[i])
        e = np.float64(q[i]) - slope * u
        ee += e * e
        pe += u * e
    return ee, pe


@kernel
def _comes_first(xx, yy, p, q):  # type: ignore[no-untyped-def]
    """Decide which vector fits the other one; swapped vectors give the same fit."""
    if xx != yy:
        return xx > yy
    for i in range(p.size):
        if p[i] != q[i]:
            return p[i] > q[i]
    return True


@exact
def _merge(total, part):  # type: ignore[no-untyped-def]
    """Add the Gram matrix of further pixels; for multiples of one vector without an error."""
    by_y = total[1] > total[0] or (total[1] == total[0] and part[1] > part[0])
    a, b = (1, 0) if by_y else (0, 1)
    aa, bb = total[a] + part[a], total[b] + part[b]
    rest = 1.0 if bb == 0 else (total[3] * total[b] + part[3] * part[b]) / bb
    if total[a] != 0 and part[a] != 0 and bb != 0:
        turn = total[2] / total[a] - part[2] / part[a]
        # The square of the turn alone would underflow for images of unlike magnitudes.
        rest += (turn * total[a]) * (turn * (part[a] / aa)) / bb
    total[a], total[b] = aa, bb
    total[2] += part[2]
    total[3] = rest


@exact
def _angles(runs, scores):  # type: ignore[no-untyped-def]
    """Angle and number of pixels, by the rules of `imsim.metrics.sam.image_angle`."""
    total = np.empty(N_GRAM)
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


TAN_22_5 = math.sqrt(2) - 1
ARCTAN = (
    -0.019176887119047435,
    0.03923165829557509,
    -0.05085449737939841,
    0.058581489128021295,
    -0.06664511447381939,
    0.07692183190826087,
    -0.09090904578123901,
    0.11111111015256361,
    -0.14285714284666542,
    0.1999999999999552,
    -0.3333333333333333,
)
"""(arctan(r) - r) / r^3 as a polynomial in r^2, interpolated at the Chebyshev nodes of the interval
up to tan(22.5 deg)^2. The relative error of the arctangent is less than 7e-18."""


def sam_map(images: Images, mask: Array | None, degrees: bool) -> Local:
    """Angle of each pixel; a pixel that is black in both images has none."""
    spectra = _Spectra(images, mask)
    theta = np.empty((spectra.count, *images.frame), images.dtype)
    coloured = np.empty(theta.shape, np.bool_)
    spectra.sums(180 / math.pi if degrees else 1.0, theta, coloured)
    shape = (*spectra.batch, 1, *images.frame)
    return Local(theta.reshape(shape), coloured.reshape(shape), reach=(0, 0))


def mean_angle(images: Images, mask: Array | None, unit: float) -> Scores:
    """Mean angle; 0 if all pixels are black in both images."""
    theta, n, pixels = _Spectra(images, mask).sums(unit)
    if not n.all():
        n = np.where((n == 0) & (pixels > 0), 1.0, n)
    # The angle of a pixel that is not finite is NaN.
    return Scores(np.minimum(theta / n, math.pi * unit), n, witness=theta)


class _Spectra:
    """The spectra of the pixels of a batch, in any memory layout."""

    def __init__(self, images: Images, mask: Array | None) -> None:
        self._planes = Planes(images, mask, in_order=False)
        self.batch = self._planes.shape[:-1]
        self.count = math.prod(self.batch)

    def sums(self, unit: float, theta: Array | None = None, coloured: Array | None = None) -> Array:
        """Return the sum of angles, their number and the number of pixels; (3, *batch, 1)."""
        height, width = self._planes.frame
        rows = max(1, RUN_PIXELS // width)
        runs = -(-height // rows)
        found = np.zeros((runs, 3, self.count))

        def task(i: int) -> None:
            element, run = divmod(i, runs)
            part = slice(run * rows, (run + 1) * rows)
            x, y, mask = self._planes.spectra(element, part)
            maps = [m if m is None else m[element, part].reshape(-1) for m in (theta, coloured)]
            _spectral_angles(x, y, mask, unit, *maps, found[run, :, element])

        parallel(task, self.count * runs, self.count * height * width)
        return sum_parts(found).reshape(3, *self.batch, 1)


@kernel
def _spectral_angles(x, y, mask, unit, theta, coloured, out):  # type: ignore[no-untyped-def]
    """Angles of pixels, 2 atan2(|u - v|, |u + v|) of unit vectors u, v: precise if small."""
    channels, pixels = x.shape
    room = np.empty((4, BLOCK))
    has_angle = np.empty(BLOCK, np.bool_)
    most = math.pi * unit
    for start in range(0, pixels, BLOCK):
        size = min(BLOCK, pixels - start)
        xx, yy, minus, plus = room[0, :size], room[1, :size], room[2, :size], room[3, :size]
        room[:, :size] = 0
        for channel in range(channels):
            p, q = x[channel, start : start + size], y[channel, start : start + size]
            for i in range(size):
                u, v = np.float64(p[i]), np.float64(q[i])
                xx[i] += u * u
                yy[i] += v * v
        odd = 0
        for i in range(size):
            xx[i], yy[i] = 1 / math.sqrt(xx[i]), 1 / math.sqrt(yy[i])
            odd += not (SMALLEST < xx[i] < LARGEST and SMALLEST < yy[i] < LARGEST)
        for channel in range(channels):
            p, q = x[channel, start : start + size], y[channel, start : start + size]
            for i in range(size):
                u, v = np.float64(p[i]) * xx[i], np.float64(q[i]) * yy[i]
                minus[i] += (u - v) * (u - v)
                plus[i] += (u + v) * (u + v)
        has_angle[:size] = True
        for i in range(size):
            angle = 2 * unit * _arctangent(math.sqrt(minus[i]), math.sqrt(plus[i]))
            minus[i] = most if angle > most else angle
        if odd > 0:
            for i in range(size):
                if not (SMALLEST < xx[i] < LARGEST and SMALLEST < yy[i] < LARGEST):
                    angle = _odd_angle(x[:, start + i], y[:, start + i])
                    has_angle[i] = angle >= 0 or math.isnan(angle)
                    minus[i] = unit * angle
        n = size
        if mask is not None:
            n = 0
            for i in range(size):
                use = mask[start + i] != 0
                n += use
                has_angle[i] &= use
        out[2] += n
        _add_angles(minus, has_angle, out)
        if theta is not None:
            theta[start : start + size] = minus
            coloured[start : start + size] = has_angle[:size]


@exact
def _odd_angle(p, q):  # type: ignore[no-untyped-def]
    """Angle where a vector is 0 or its square leaves float64; -1 if both vectors are 0."""
    longest_p, longest_q = _longest(p), _longest(q)
    if longest_p == 0 and longest_q == 0:
        return -1.0
    if longest_p == 0 or longest_q == 0:
        return math.pi / 2 + 0 * (longest_p + longest_q)  # NaN if the other is not finite
    xx, yy, minus, plus = 0.0, 0.0, 0.0, 0.0
    for i in range(p.size):
        xx += (p[i] / longest_p) ** 2
        yy += (q[i] / longest_q) ** 2
    xx, yy = math.sqrt(xx), math.sqrt(yy)
    for i in range(p.size):
        u, v = p[i] / longest_p / xx, q[i] / longest_q / yy
        minus += (u - v) ** 2
        plus += (u + v) ** 2
    return 2 * math.atan2(math.sqrt(minus), math.sqrt(plus))


@exact
def _longest(values):  # type: ignore[no-untyped-def]
    """Largest magnitude; NaN if one is not finite."""
    most, rest = 0.0, 0.0
    for value in values:
        most = max(most, abs(np.float64(value)))
        rest += 0 * np.float64(value)
    return most + rest


@kernel
def _add_angles(angles, has_angle, out):  # type: ignore[no-untyped-def]
    total, n = 0.0, 0
    for i in range(angles.size):
        total += angles[i] if has_angle[i] else 0.0
        n += has_angle[i]
    out[0] += total
    out[1] += n


@inline
def _arctangent(opposite, adjacent):  # type: ignore[no-untyped-def]
    """Arctangent of a quotient of numbers >= 0, with an error of at most 1 ulp.

    It vectorises to eight numbers at a time; that of the C library does not.
    """
    steep = opposite > adjacent
    below, above = (adjacent, opposite) if steep else (opposite, adjacent)
    turn = below > TAN_22_5 * above
    r = (below - above) / (below + above) if turn else below / above
    s = r * r
    tail = 0.0
    for c in ARCTAN:
        tail = tail * s + c
    angle = r + r * s * tail + (math.pi / 4 if turn else 0.0)
    return math.pi / 2 - angle if steep else angle
