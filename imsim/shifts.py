"""The shift between two images, from what both show inside their masks; and images moved by one."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from imsim.errors import AlignmentError
from imsim.typing import Array

TAPS = 6
"""Pixels in a row that a fraction of a pixel reads."""


def translated(image: Array, shift: Any, frame: tuple[int, ...], *, fill: Any) -> Array:
    """Move (..., height, width) by whole pixels into a frame; fill what is not covered."""
    moved = np.full((*image.shape[:-2], *frame), fill, image.dtype)
    to: list[Any] = [...]
    of: list[Any] = [...]
    for side, own, step in zip(frame, image.shape[-2:], shift, strict=True):
        first, last = max(0, step), min(side, own + step)
        if first >= last:
            return moved
        to.append(slice(first, last))
        of.append(slice(first - step, last - step))
    moved[tuple(to)] = image[tuple(of)]
    return moved


def interpolated(image: Array, shift: Any, frame: tuple[int, ...]) -> Array:
    """Move floats, (..., height, width), by a shift that need not be whole, into a frame.

    Cubic convolution of fourth order, by Keys 1981. It continues the image by its rim; the frame
    beyond is 0.
    """
    from scipy import ndimage  # slow to import

    whole = np.floor(shift).astype(np.int64)
    # What a window of even size reads around a pixel, in SciPy: one more before it.
    offsets = np.arange(-TAPS // 2, TAPS // 2)
    for axis, rest in enumerate(shift - whole):
        if rest:
            s = np.abs(offsets + rest)
            near = 1 - 7 / 3 * s**2 + 4 / 3 * s**3
            middle = 5 / 2 - 59 / 12 * s + 3 * s**2 - 7 / 12 * s**3
            far = -3 / 2 + 7 / 4 * s - 2 / 3 * s**2 + 1 / 12 * s**3
            weights = np.where(s < 1, near, np.where(s < 2, middle, far))
            image = ndimage.correlate1d(image, weights, axis=axis - 2, mode="nearest")
    return translated(image, whole, frame, fill=0.0)


def moved(image: Array, inside: Array, shift: Any, frame: tuple[int, ...]) -> tuple[Array, Array]:
    """Move (channels, height, width) into a frame; say where its place lies between pixels inside.

    A whole-pixel shift copies. Any other keeps the dtype too: integers are rounded. Where the
    place lies between pixels inside, no other has any influence.
    """
    nothing = math.nan if image.dtype.kind == "f" else 0
    whole = np.floor(shift).astype(np.int64)
    fraction = shift - whole
    if fraction.any():
        image, inside = _between(image, inside, fraction)
    return (
        translated(image, whole, frame, fill=nothing),
        translated(inside, whole, frame, fill=False),
    )


def _between(image: Array, inside: Array, fraction: Array) -> tuple[Array, Array]:
    from scipy import ndimage  # slow to import

    sides = image.shape[-2:]
    values = image.astype(np.float64)
    usable = ndimage.minimum_filter(
        inside, [2 if rest else 1 for rest in fraction], mode="constant", cval=False
    )
    with np.errstate(invalid="ignore", over="ignore"):  # of infinities
        found = interpolated(values, fraction, sides)
        if usable.any() and not inside.all():
            # What lies outside is continued from inside, as the frame is.
            nearest = ndimage.distance_transform_edt(
                ~inside, return_distances=False, return_indices=True
            )
            values = values[:, *nearest]
            found = np.where(usable, interpolated(values, fraction, sides), found)
        return _in_dtype(found, image.dtype), usable


def _in_dtype(image: Array, dtype: Any) -> Array:
    """Convert floats to the dtype; round to integers, or to the nearer boolean."""
    if dtype.kind == "f":
        return image.astype(dtype)
    if dtype.kind == "b":
        return image >= 0.5
    ends = np.iinfo(dtype)
    rounded = np.rint(image)
    above = rounded >= float(ends.max)  # which, of 64 bits, is one more than the largest integer
    found = np.where(above, 0, np.maximum(rounded, ends.min)).astype(dtype)
    found[above] = ends.max
    return found


REACH = 64
"""Pixels within which shifts are compared at least, so that one beyond the limit is noticed."""
AS_GOOD = 0.95
"""Share of the best peak's significance from which on another one counts as equal to it."""
CERTAIN = 5.0
"""Standard deviations by which correlations must exceed chance."""
ROUNDING = 1e-9
"""Of correlations and variances by way of the Fourier transform, with room to spare."""
CLOSE = 1e-4
"""Pixels: the last step of the refinement."""
REMEDY = "widen the mask, or compare the images as they are"


class Scene(NamedTuple):
    """An image of which a shift is told."""

    values: Array
    """(channels, height, width), around the mean of each channel, of largest value 1; 0 where not
    used."""
    used: Array
    """The pixels inside the mask that are finite, (height, width)."""

    @classmethod
    def of(cls, name: str, image: Array, inside: Array) -> Scene:
        """Take what is inside the mask; refuse what is constant there."""
        if image.dtype.kind in "iu" and inside.any():
            # Exact differences: those of 64 bits are lost in floats.
            own = image.astype(image.dtype.newbyteorder("="))
            image = (own - own[:, inside].min()).view(f"u{own.dtype.itemsize}")
        with np.errstate(over="ignore"):  # of floats wider than float64
            values = image.astype(np.float64)
        used = inside & np.isfinite(values).all(axis=0)
        seen = _pixels(values, used)
        if seen.size == 0:
            raise AlignmentError(
                f"no shift can be told: {name} has no finite pixel inside the mask", REMEDY
            )
        if (seen.min(axis=1) == seen.max(axis=1)).all():
            raise AlignmentError(
                f"no shift can be told: {name} is constant inside the mask", REMEDY
            )
        seen /= np.abs(seen).max()
        seen -= seen.mean(axis=1, keepdims=True)
        values = np.zeros_like(values)
        values[:, used] = seen / np.abs(seen).max()
        return cls(values, used)

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.used.shape
        return height, width


def find_shift(a: Scene, b: Scene, max_shift: int) -> Array:
    """Return the shift of `b` onto `a`, (dy, dx); refuse one that is not certain, or too large."""
    sides = [max(pair) for pair in zip(a.frame, b.frame, strict=True)]
    reach = [min(max(REACH, 4 * max_shift), side - 1) for side in sides]
    correlation, counts = _correlations(a, b, reach)
    place = _best_peak(correlation, counts)
    whole = place - reach
    is_copy = bool(correlation[tuple(place)] > 1 - ROUNDING)
    planes = _Planes.of(a), _Planes.of(b)
    for _ in range(3):
        _check_size(whole, max_shift)
        fraction = _fraction(*planes, whole, is_copy=is_copy)
        if np.abs(fraction).max() <= 0.6:
            shift: Array = whole + fraction
            return shift
        # Smooth images may fit a little better one pixel away.
        whole = whole + np.rint(fraction).astype(np.int64)
    raise _too_little()


def _check_size(whole: Array, max_shift: int) -> None:
    """Refuse a shift that is larger than the user expects."""
    largest = int(np.abs(whole).max())
    if largest > max_shift:
        dy, dx = map(int, whole)
        raise AlignmentError(
            f"b fits a best when moved by (dy, dx) = {dy, dx} pixels, beyond max_shift={max_shift}",
            f"pass max_shift={largest} or more if the images may be shifted so far; otherwise they "
            "do not show the same",
            shift=(float(dy), float(dx)),
        )


def _too_little(where: str = "") -> AlignmentError:
    return AlignmentError(
        f"no shift can be told: a and b have too little structure in common{where}", REMEDY
    )


def _correlations(a: Scene, b: Scene, reach: list[int]) -> tuple[Array, Array]:
    """Correlate what lies on each other at all shifts within reach; count the pixels.

    The correlation is 0 where nothing lies on each other, or what does is constant.
    """
    from scipy import fft  # slow to import

    sides = zip(a.frame, b.frame, reach, strict=True)
    size = [fft.next_fast_len(max(p, q) + r, real=True) for p, q, r in sides]
    window = np.ix_(*[np.arange(-r, r + 1) % n for r, n in zip(reach, size, strict=True)])

    def transformed(values: Array) -> Array:
        return fft.rfft2(values, size)

    def sums(of_a: Array, of_b: Array) -> Array:
        """Sum products over the pixels that lie on each other, at every shift."""
        return fft.irfft2(of_a * of_b.conj(), size)[(..., *window)]

    mask_a, mask_b = transformed(a.used), transformed(b.used)
    counts = np.rint(sums(mask_a, mask_b))
    n = np.maximum(counts, 1)
    covariance, variance_a, variance_b = np.zeros((3, *counts.shape))
    for x, y in zip(a.values, b.values, strict=True):
        own_a, own_b = transformed(x), transformed(y)
        sum_a, sum_b = sums(own_a, mask_b), sums(mask_a, own_b)
        covariance += sums(own_a, own_b) - sum_a * sum_b / n
        variance_a += sums(transformed(x**2), mask_b) - sum_a**2 / n
        variance_b += sums(mask_a, transformed(y**2)) - sum_b**2 / n
    defined = counts > 1
    for variance in (variance_a, variance_b):
        defined &= variance > ROUNDING * variance.max()
    correlation = np.zeros(counts.shape)
    correlation[defined] = covariance[defined] / np.sqrt(variance_a[defined] * variance_b[defined])
    return np.clip(correlation, -1, 1), counts


def _best_peak(correlation: Array, counts: Array) -> Array:
    """Find the place of the best correlation; of several alike, the one nearest to the middle."""
    from scipy import ndimage  # slow to import

    heights = np.maximum(correlation, 0)
    # Fisher's z in units of its deviation: of two peaks alike, the one of more pixels is better.
    score = np.arctanh(np.minimum(heights, 1 - ROUNDING)) * np.sqrt(np.maximum(counts - 3, 0))
    score[heights < ndimage.maximum_filter(heights, 3)] = 0
    places = np.argwhere(score >= AS_GOOD * score.max())
    middle = np.array(counts.shape) // 2
    nearest: Array = places[np.argmin(((places - middle) ** 2).sum(axis=1))]
    return nearest


class _Planes(NamedTuple):
    """A plane fitted to the surroundings of each pixel: what holes and rims change least."""

    values: Array
    """Height and slopes, (3, channels, height, width)."""
    known: Array
    """Where there is anything to fit, (height, width)."""
    central: Array
    """Where the pixels used lie around the place, and not to one side of it."""

    @classmethod
    def of(cls, scene: Scene) -> _Planes:
        """Fit by least squares, with the weights of a Gaussian of one pixel."""
        from scipy import ndimage  # slow to import

        offsets = np.arange(-4, 5)
        # By the power of the offset; along an axis of one pixel, there is nothing else to see.
        kernels = [offsets**power * np.exp(-(offsets**2) / 2) for power in range(3)]

        def moment(values: Array, powers: tuple[int, int]) -> Array:
            for axis, power in zip((-2, -1), powers, strict=True):
                values = ndimage.correlate1d(values, kernels[power], axis=axis, mode="constant")
            return values

        used = scene.used.astype(np.float64)
        is_whole = bool(scene.used.all())

        def of_used(powers: tuple[int, int]) -> Array:
            if not is_whole:
                return moment(used, powers)
            # A column and a row tell it: across these, of one pixel, the weight is 1.
            down, along = powers
            found: Array = moment(used[:, :1], (down, 0)) * moment(used[:1], (0, along))
            return found

        weight = of_used((0, 0))
        known = weight > 1e-3
        divisor = np.where(known, weight, 1)
        y, x = (of_used(powers) / divisor for powers in ((1, 0), (0, 1)))
        yy = of_used((2, 0)) / divisor - y**2 + (scene.frame[0] == 1)
        xx = of_used((0, 2)) / divisor - x**2 + (scene.frame[1] == 1)
        yx = of_used((1, 1)) / divisor - y * x
        determinant = yy * xx - yx**2
        sloped = known & (determinant > 0.05)
        determinant[~sloped] = np.inf
        values = np.empty((3, *scene.values.shape))
        for channel, image in enumerate(scene.values):
            mean = moment(image, (0, 0)) / divisor
            with_y = moment(image, (1, 0)) / divisor - y * mean
            with_x = moment(image, (0, 1)) / divisor - x * mean
            height, slope_y, slope_x = values[:, channel]  # views
            slope_y[...] = (with_y * xx - with_x * yx) / determinant
            slope_x[...] = (with_x * yy - with_y * yx) / determinant
            height[...] = mean - slope_y * y - slope_x * x
        central = sloped & (np.abs(y) < 0.25) & (np.abs(x) < 0.25)
        return cls(values, known, central)


def _fraction(a: _Planes, b: _Planes, whole: Array, *, is_copy: bool) -> Array:
    """Find the rest of the shift, (dy, dx), up to one pixel.

    It is where the slopes of `a` are uncorrelated with what is left of the moved `b` besides `a`,
    by Huber's weights.
    """
    from scipy import ndimage  # slow to import

    frame = a.known.shape
    axes = [k for k in (0, 1) if min(frame[k], b.known.shape[k]) > 1]
    # What any fraction reads is known, so that the places compared are always the same.
    window = [TAPS + 1 if k in axes else 1 for k in (0, 1)]
    around = ndimage.minimum_filter(b.known, window, mode="nearest")
    where = a.central & translated(b.central & around, whole, frame, fill=False)
    if not where.any():
        raise _too_little(" (no pixel has neighbours that both use)")
    rows = [0, *[1 + k for k in axes]]
    of_a, of_b = np.empty((2, len(rows), a.values.shape[1], np.count_nonzero(where)))
    for k, row in enumerate(rows):
        of_a[k] = _pixels(a.values[row], where)
        of_b[k] = _pixels(translated(b.values[row], whole, frame, fill=0.0), where)
    weight = np.ones(of_a.shape[1:])
    _check_slopes(of_a[1:], of_b[1:], axes)
    if is_copy:  # next to rims, the planes fitted to it are not quite the same
        return np.zeros(2)
    steepness = np.einsum("rcn,rcn->cn", of_a[1:], of_a[1:])
    steep = steepness >= steepness.mean()
    fraction = np.zeros(2)
    for _ in range(50):
        # a = gain * (b - slopes of b * step), told by the height and slopes of a, whose noise is
        # not that of b.
        told, height = _products(of_a, of_b, weight), _products(of_a, of_a[:1], weight)
        try:
            factors = np.linalg.solve(told, height[:, 0])
        except np.linalg.LinAlgError:  # an exponential, whose slope is its height
            break
        if factors[0] <= 0:
            break
        step = -factors[1:] / factors[0]
        fraction[axes] += step
        if np.abs(fraction).max() >= 1:
            return np.clip(fraction, -1, 1)
        if np.abs(step).max() < CLOSE:
            return fraction
        # Defects are no part of this: what is far from the rest where images are steep.
        rest = of_a[0] - np.einsum("r,rcn->cn", factors, of_b)
        rest = np.abs(rest - _means(rest, weight)[:, None])
        usual = max(2 * float(np.median(rest[steep])), 1e-12)
        weight = usual / np.maximum(rest, usual)
        of_b[0] = _pixels(interpolated(b.values[0], whole + fraction, frame), where)
    raise _too_little()


def _pixels(values: Array, where: Array) -> Array:
    """Take some pixels of (..., height, width); one plane after the other, unlike by an index."""
    return np.compress(where.ravel(), values.reshape(*values.shape[:-2], -1), axis=-1)


def _means(values: Array, weight: Array) -> Array:
    """Return the means of (..., channels, n) by weight."""
    means: Array = np.einsum("...cn,cn->...c", values, weight) / weight.sum(axis=-1)
    return means


BLOCK = 1 << 14
"""Pixels whose products are added at a time, within the cache."""


def _products(x: Array, y: Array, weight: Array) -> Array:
    """Add up products by weight, of (rows, channels, n) around the mean of each channel."""
    mean_x, mean_y = _means(x, weight), _means(y, weight)
    found = np.zeros((len(x), len(y)))
    channels, n = weight.shape
    for channel, start in itertools.product(range(channels), range(0, n, BLOCK)):
        place = slice(None), channel, slice(start, start + BLOCK)
        p, q = x[place] - mean_x[:, channel, None], y[place] - mean_y[:, channel, None]
        found += (p * weight[place[1:]]) @ q.T
    return found


def _check_slopes(a: Array, b: Array, axes: list[int]) -> None:
    """Refuse images whose slopes do not correlate, along one direction or all.

    Noise has slopes too, but those of two images have nothing in common.
    """
    from scipy import linalg  # slow to import

    weight = np.ones(a.shape[1:])
    of_a, of_b, of_both = (_products(*pair, weight) for pair in ((a, a), (b, b), (a, b)))
    for slopes, own in ((a, of_a), (b, of_b)):  # of ramps, rounding alone makes them differ
        if np.trace(own) <= ROUNDING**2 * np.einsum("rcn,rcn->", slopes, slopes):
            raise _too_little()
    size_a, size_b = (max(math.sqrt(np.trace(v)), 1e-100) for v in (of_a, of_b))
    common = (of_both + of_both.T) / (2 * size_a * size_b)
    all_of = (of_a / size_a**2 + of_b / size_b**2) / 2
    # Along stripes, there is nothing but what rims and rounding leave.
    correlations, directions = linalg.eigh(common, all_of + 1e-3 * np.eye(len(axes)))
    # By chance, slopes of smoothed noise correlate by 2.2 over the root of their number.
    least = math.tanh(CERTAIN * 2.2 / math.sqrt(a.shape[-1]))
    if correlations[-1] < least:
        raise _too_little()
    if correlations[0] < least:
        axis = axes[int(np.argmax(np.abs(directions[:, 0])))]
        raise _too_little((" along the height", " along the width")[axis])
