"""SAM: the angle between whole images, or between the spectra of pixels."""

from __future__ import annotations

import math

import numpy as np

from imsim.kernels import surveying, weighing
from imsim.kernels.common.jit import exact, exact_part, inline, kernel, part
from imsim.kernels.common.pair_moments import (
    N_GRAM,
    grams_of_runs,
    merge_gram,
    weighted_grams_of_runs,
)
from imsim.kernels.common.planes import BLOCK, NO_BYTES, RUN_PIXELS, Planes, flat_rows, sum_parts
from imsim.kernels.common.rescaling import (
    check_usual,
    find_lost_sums,
    lost_elements,
    refuse_unchecked,
    scale_images,
    scaling_unit,
)
from imsim.portable.pair import Local, Scores
from imsim.typing import Array
from imsim.validation import LARGEST, SMALLEST, Images
from imsim.workers import parallel


@surveying
def sam(images: Images, mask: Array | None, mode: str, degrees: bool) -> Scores:
    """Angle between the images, or mean of the angles of the pixels."""
    unit = 180 / math.pi if degrees else 1.0
    return _image_angle(images, mask, unit) if mode == "image" else mean_angle(images, mask, unit)


def _image_angle(images: Images, mask: Array | None, unit: float) -> Scores:
    """Angle between the two images, each as one vector."""
    theta, n, xx, yy = _whole(images, mask)
    odd = find_lost_sums(images, xx, yy)
    if odd is not None:
        refuse_unchecked(images)
        for index, element, valid in lost_elements(odd, images, mask):
            theta[index] = _whole(scale_images(element), valid)[0]
    return Scores(theta if unit == 1.0 else theta * unit, n, witness=xx + yy)


def _whole(images: Images, mask: Array | None) -> Array:
    """Angle, number of pixels, and sums of squares."""
    planes = Planes(images, mask, in_order=False)
    if images.weights is None:
        runs = grams_of_runs(planes)
    else:
        runs = weighted_grams_of_runs(planes)
        check_usual(images, runs[..., N_GRAM + 1], sum_parts(runs[..., N_GRAM]))
    *batch, channels = planes.shape
    scores = np.empty((4, *batch, 1))
    runs = runs.reshape(len(runs), -1, channels, runs.shape[-1])
    _angles(runs, np.empty(N_GRAM), scores.reshape(4, -1))
    return scores


def scaled_grams(images: Images, mask: Array | None) -> tuple[Array, Array, Array]:
    """Gram matrices, (*batch, N_GRAM), numbers of pixels, and units of x and y, (*batch, 2).

    The units are 1 where sums of squares stay within float64.
    """
    found, n = _grams(images, mask)
    units = np.ones((*n.shape, 2))
    odd = find_lost_sums(images, found[..., 0], found[..., 1])
    if odd is not None:
        for index, element, valid in lost_elements(odd, images, mask):
            units[index] = scaling_unit(element.x), scaling_unit(element.y)
            found[index] = _grams(scale_images(element), valid)[0]
    return found, n, units


def _grams(images: Images, mask: Array | None) -> tuple[Array, Array]:
    planes = Planes(images, mask, in_order=False)
    runs = grams_of_runs(planes)
    *batch, channels = planes.shape
    found, n = np.zeros((*batch, N_GRAM)), np.zeros(tuple(batch))
    runs = runs.reshape(len(runs), -1, channels, N_GRAM + 1)
    _merge_runs(runs, found.reshape(-1, N_GRAM), n.reshape(-1))
    return found, n


@exact
def _merge_runs(runs, found, n):  # type: ignore[no-untyped-def]
    for image in range(runs.shape[1]):
        for channel in range(runs.shape[2]):
            for run in range(runs.shape[0]):
                merge_gram(found[image], runs[run, image, channel])
                n[image] += runs[run, image, channel, 4] if channel == 0 else 0.0


@exact
def _angles(runs, total, scores):  # type: ignore[no-untyped-def]
    """Angle and number of pixels, by the rules of `imsim.metrics.sam.image_angle`."""
    for image in range(runs.shape[1]):
        for k in range(total.size):
            total[k] = 0
        n = 0.0
        for channel in range(runs.shape[2]):
            for run in range(runs.shape[0]):
                merge_gram(total, runs[run, image, channel])
                n += runs[run, image, channel, 4] if channel == 0 else 0.0
        xx, yy = total[0], total[1]
        theta = math.atan2(math.sqrt(total[3]), total[2] / (math.sqrt(xx) * math.sqrt(yy)))
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


@weighing  # which do not change the angle of a pixel
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
    refuse_unchecked(images)
    theta, n, pixels = _Spectra(images, mask).sums(unit)
    if not n.all():
        n = np.where((n == 0) & (pixels > 0), 1.0, n)
    # The angle of a pixel that is not finite is NaN.
    return Scores(np.minimum(theta / n, math.pi * unit), n, witness=theta)


class _Spectra:
    """The spectra of the pixels of a batch, in any memory layout."""

    def __init__(self, images: Images, mask: Array | None) -> None:
        self._planes = Planes(images, mask, in_order=False)
        self._is_weighted = images.weights is not None
        self.batch = self._planes.shape[:-1]
        self.count = math.prod(self.batch)

    def sums(self, unit: float, theta: Array | None = None, coloured: Array | None = None) -> Array:
        """Return the sum of angles, their number and the number of pixels; (3, *batch, 1).

        Weights weigh the first two.
        """
        height, width = self._planes.frame
        rows = max(1, RUN_PIXELS // width)
        runs = -(-height // rows)
        found = np.zeros((self.count, runs, 3))

        def task(i: int) -> None:
            element, run = divmod(i, runs)
            part = slice(run * rows, (run + 1) * rows)
            x, y, mask = self._planes.spectra(element, part)
            inside, room = NO_BYTES if mask is None else mask, np.empty((6, max(BLOCK, len(x))))
            is_kept = self._is_weighted or theta is not None
            angles = np.empty(x.shape[1] if is_kept else BLOCK)
            has_angle = np.empty(angles.shape, np.bool_)
            if coloured is not None:
                has_angle = coloured[element, part].reshape(-1)
            _spectral_angles(x, y, inside, unit, room, angles, has_angle, found[element, run])
            if self._is_weighted:
                weights = self._planes.weights(element * self._planes.shape[-1])[part]
                _weigh_angles(angles, has_angle, flat_rows(weights), found[element, run])
            if theta is not None:
                theta[element, part] = angles.reshape(-1, width)

        parallel(task, self.count * runs, self.count * height * width)
        return sum_parts(found.transpose(1, 2, 0)).reshape(3, *self.batch, 1)


@kernel
def _spectral_angles(x, y, mask, unit, room, angles, has_angle, out):  # type: ignore[no-untyped-def]
    """Angles of pixels, 2 atan2(|u - v|, |u + v|) of unit vectors u, v: precise if small.

    `angles` and `has_angle` keep all pixels of the run, or one block after the other.
    """
    channels, pixels = x.shape
    xx, yy, minus, plus = room[0], room[1], room[2], room[3]
    for start in range(0, pixels, BLOCK):
        size = min(BLOCK, pixels - start)
        for i in range(size):
            xx[i], yy[i], minus[i], plus[i] = 0, 0, 0, 0
        for channel in range(channels):
            p, q = x[channel, start : start + size], y[channel, start : start + size]
            for i in range(size):
                u, v = np.float64(p[i]), np.float64(q[i])
                xx[i] += u * u
                yy[i] += v * v
        for i in range(size):
            xx[i], yy[i] = 1 / math.sqrt(xx[i]), 1 / math.sqrt(yy[i])
        for channel in range(channels):
            p, q = x[channel, start : start + size], y[channel, start : start + size]
            for i in range(size):
                u, v = np.float64(p[i]) * xx[i], np.float64(q[i]) * yy[i]
                minus[i] += (u - v) * (u - v)
                plus[i] += (u + v) * (u + v)
        at = start if angles.size >= pixels else 0
        block, known = angles[at : at + size], has_angle[at : at + size]
        if _write_angles(room, unit, block, known) > 0:
            for i in range(size):
                if not known[i]:
                    for channel in range(channels):
                        room[4, channel] = x[channel, start + i]
                        room[5, channel] = y[channel, start + i]
                    angle = _odd_angle(room[4], room[5], channels)
                    block[i], known[i] = unit * angle, not angle < 0
        _add_angles(block, known, mask[start : start + size], out)


@part
def _write_angles(room, unit, angles, has_angle):  # type: ignore[no-untyped-def]
    """Write angles; count the pixels where a vector is 0 or its square leaves float64."""
    xx, yy, minus, plus = room[0], room[1], room[2], room[3]
    most = math.pi * unit
    odd = 0
    for i in range(angles.size):
        angle = 2 * unit * _arctangent(math.sqrt(minus[i]), math.sqrt(plus[i]))
        angles[i] = most if angle > most else angle
    for i in range(angles.size):
        usual = SMALLEST < xx[i] < LARGEST and SMALLEST < yy[i] < LARGEST
        has_angle[i] = usual
        odd += not usual
    return odd


@exact_part
def _odd_angle(p, q, channels):  # type: ignore[no-untyped-def]
    """Angle where a vector is 0 or its square leaves float64; -1 if both vectors are 0."""
    longest_p, longest_q, rest = 0.0, 0.0, 0.0
    for i in range(channels):
        longest_p, longest_q = max(longest_p, abs(p[i])), max(longest_q, abs(q[i]))
        rest += 0 * (p[i] + q[i])  # NaN if one is not finite
    if rest != 0:
        return rest
    if longest_p == 0 or longest_q == 0:
        return -1.0 if longest_p == longest_q else math.pi / 2
    xx, yy, minus, plus = 0.0, 0.0, 0.0, 0.0
    for i in range(channels):
        u, v = p[i] / longest_p, q[i] / longest_q
        xx += u * u
        yy += v * v
    xx, yy = math.sqrt(xx), math.sqrt(yy)
    for i in range(channels):
        u, v = p[i] / longest_p / xx, q[i] / longest_q / yy
        minus += (u - v) * (u - v)
        plus += (u + v) * (u + v)
    return 2 * math.atan2(math.sqrt(minus), math.sqrt(plus))


@part
def _add_angles(angles, has_angle, mask, out):  # type: ignore[no-untyped-def]
    """Add the sum of angles, their number, and the number of pixels."""
    total, n, inside = 0.0, 0, 0
    for i in range(mask.size):
        use = mask[i] != 0
        has_angle[i] &= use
        inside += use
    for i in range(angles.size):
        total += angles[i] if has_angle[i] else 0.0
        n += has_angle[i]
    out[0] += total
    out[1] += n
    out[2] += inside if mask.size > 0 else angles.size


@kernel
def _weigh_angles(angles, has_angle, weights, out):  # type: ignore[no-untyped-def]
    """Put sums by weights in the place of the sum of angles and of their number."""
    total, whole = 0.0, 0.0
    for i in range(angles.size):
        weight = np.float64(weights[i]) if has_angle[i] else 0.0
        total += weight * (angles[i] if has_angle[i] else 0.0)
        whole += weight
    out[0], out[1] = total, whole


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
