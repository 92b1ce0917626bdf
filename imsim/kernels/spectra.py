"""Angles between the spectra of pixels: SAM in spectral mode, and its map."""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels.blocks import BLOCK
from imsim.kernels.jit import exact, inline, kernel
from imsim.kernels.planes import RUN, Planes, added
from imsim.portable.pair import Local, Scores
from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST, Images
from imsim.workers import parallel

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
"""(arctan(r) - r) / r^3 as a polynomial in r^2: interpolated at the Chebyshev nodes of the interval
up to tan(22.5 deg)^2, it errs by less than 7e-18 of the arctangent."""


def sam_map(images: Images, mask: Array | None, degrees: bool) -> Local:
    """Angle of each pixel; those black in both images have none."""
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
    # A pixel that is not finite has an angle, which is NaN.
    return Scores(np.minimum(theta / n, math.pi * unit), n, witness=theta)


class _Spectra:
    """The spectra of the pixels of a batch, which lie in memory one after the other, or not."""

    def __init__(self, images: Images, mask: Array | None) -> None:
        self._planes = Planes(images, mask, in_order=False)
        self.batch = self._planes.shape[:-1]
        self.count = math.prod(self.batch)

    def sums(self, unit: float, theta: Array | None = None, coloured: Array | None = None) -> Array:
        """Sum angles, count them, and count pixels; (3, *batch, 1)."""
        height, width = self._planes.frame
        rows = max(1, RUN // width)
        runs = -(-height // rows)
        found = np.zeros((runs, 3, self.count))

        def task(i: int) -> None:
            element, run = divmod(i, runs)
            part = slice(run * rows, (run + 1) * rows)
            x, y, mask = self._planes.spectra(element, part)
            maps = [m if m is None else m[element, part].reshape(-1) for m in (theta, coloured)]
            _spectral_angles(x, y, mask, unit, *maps, found[run, :, element])

        parallel(task, self.count * runs, self.count * height * width)
        return added(found).reshape(3, *self.batch, 1)


@kernel
def _spectral_angles(x, y, mask, unit, theta, coloured, out):  # type: ignore[no-untyped-def]
    """Angles of pixels from unit vectors u, v: 2 atan2(|u - v|, |u + v|), also where small."""
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
    """Angle where a vector is 0, so long or so short that its square is lost; -1 if both are 0."""
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
    """Arctangent of a quotient of numbers >= 0, to an ulp.

    Unlike that of the C library it takes eight numbers at a time.
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
