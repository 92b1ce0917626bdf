"""The X-ray sensor: pixels and lines that never tell the truth, outliers, and gains that drift."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imsim.anomaly.stacks import ROBUST, Booleans, Doubles, Floats, nearest
from imsim.anomaly.xray.frames import border, eroded, halfway
from imsim.caches import kept
from imsim.kernels import xray as passes

MOST_IMAGES = 64
"""Good images from whose median the faults are learned."""
_LONE = 0.1
"""A pixel is a lone outlier if its neighbours, less their slope, which is steep near the rim of an
item, differ by less than this part of its own distance from them. The blur of a sensor spreads even
the smallest body: for a Gaussian of half a pixel the neighbours of a point differ by 0.14."""
_LINE, _THROUGHOUT = 10.0, 0.9
"""A row or column is faulty if it differs from its neighbours by this many robust standard
deviations of all, and in this share of its length, which begins at the frame."""
_WIDEST = 5
"""Most rows and columns that are faulty together."""
_STILL = 1e-6
"""Least standard deviation of a pixel that counts, in absorbance."""
_ALIKE = 0.2
"""Pixels around a cluster differ by less than this part of its distance from them."""
_ROUNDING = np.float32(1e-6)
"""Part of a level that its differences may be off by."""
_LARGEST_STEP = 0.2
"""Largest difference in absorbance between neighbours that counts as one of gains, which change by
a few per cent. What differs by more is a body or a fault, and must stay to be seen."""
_LEAST_PAIRS = 4
"""Least pairs of pixels that a difference is measured from: the error of their mean is 0.7 times
the noise of a pixel in the open beam, and a drift of 3 % is several times that noise."""
_ROUGH = 0.1
"""Largest gain that a strip along the frame is believed; more is an item that touches it."""
_AWAY = 2
"""Pixels between what absorbs and the open beam that is used: the reach of the blur."""
_ENOUGH = 32
"""Rows and columns of which the threshold between item and open beam is found."""


def faults_of(images: Floats) -> Booleans:
    """Find pixels, clusters, rows and columns that stand alone among good images.

    Items lie in many places, or have no structure of single pixels: what stays alone is the sensor.
    Its level is seen in the median of the images; what is stuck at the level of items in how little
    it varies.
    """
    variation = np.log(np.maximum(np.std(images, axis=0), _STILL))
    middle = np.median(images, axis=0)
    found = lone(middle[None])[0] | _alone(middle) | _alone(variation)
    return found if found.mean() < 0.5 else np.zeros_like(found)


def repaired(images: NDArray[Any], faults: Booleans) -> NDArray[Any]:
    """Replace faulty pixels by the nearest sound ones."""
    if not faults.any():
        return images
    result = images.copy()
    result[..., faults] = images[..., *_sources(faults.shape, np.packbits(faults).tobytes())]
    return result


@kept
def _sources(shape: tuple[int, int], packed: bytes) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return row and column of the sound pixel that stands for each faulty one."""
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=shape[0] * shape[1])
    faults = bits.reshape(shape).astype(np.bool_)
    rows, columns = nearest(faults)
    return rows[faults], columns[faults]


def without_lone(images: Floats) -> Floats:
    """Replace lone outliers by the middle of their neighbours."""
    result: Floats = passes.without_lone(images, _LONE)
    return result


def lone(images: Floats) -> Booleans:
    """Find lone outliers: pixels far from eight neighbours that are alike."""
    result: Booleans = (without_lone(images) != images) & ~np.isnan(images)
    return result


def _alone(image: Floats) -> Booleans:
    """Find clusters, rows and columns that stand alone."""
    found = np.zeros(image.shape, np.bool_)
    for size in range(1, _WIDEST + 1):
        if size > 1:
            found |= _clusters(image, size)
        for turns in range(4):
            found |= np.rot90(_columns(np.rot90(image, turns), size), -turns)
    return found


def _clusters(image: Floats, size: int) -> Booleans:
    """Find pixels of a square that are far from those around it, which are alike but for a slope.

    Others of the square are like those around it: the edges of what is blurred are neither.
    """
    result = np.zeros(image.shape, np.bool_)
    if min(image.shape) < size + 2:
        return result
    windows = np.lib.stride_tricks.sliding_window_view(image, (size + 2, size + 2))
    steps = np.arange(size + 2, dtype=np.float32) - np.float32((size + 1) / 2)
    places = list(itertools.product(range(size + 2), repeat=2))
    ring = [(y, x) for y, x in places if {y, x} & {0, size + 1}]
    # The plane that fits best: the ring is symmetric, so that its terms are independent.
    level = sum(windows[..., y, x] for y, x in ring) / np.float32(len(ring))
    lever = sum(steps[y] ** 2 for y, _ in ring)
    down = sum(windows[..., y, x] * steps[y] for y, x in ring) / lever
    across = sum(windows[..., y, x] * steps[x] for y, x in ring) / lever

    def apart(y: int, x: int) -> Floats:
        found: Floats = windows[..., y, x] - level - down * steps[y] - across * steps[x]
        return found

    spread = np.ptp([apart(y, x) for y, x in ring], axis=0) + _ROUNDING * np.abs(level)
    inner = [place for place in places if place not in ring]
    distances = np.abs([apart(y, x) for y, x in inner])
    far = distances > spread / _ALIKE
    far &= (far | (distances <= spread)).all(axis=0)
    for (y, x), places_of in zip(inner, far, strict=True):
        result[y : y + len(places_of), x : x + places_of.shape[1]] |= places_of
    return result


def _columns(image: Floats, width: int) -> Booleans:
    """Find columns, so many side by side, that differ from those beside them from the top on.

    They are above, or below, both of them nearly all along a quarter of the image or more, and 16
    pixels. Beyond the frame, the image goes on straight.
    """
    result = np.zeros(image.shape, np.bool_)
    if image.shape[1] < width + 2:
        return result
    first, last = (
        side[:, width] + (side[:, width] - side[:, width + 1]) * np.float32(width + 1)
        for side in (image, image[:, ::-1])
    )
    image = np.column_stack([first, image, last])
    left, right = image[:, : -width - 1], image[:, width + 1 :]
    inner = np.stack([image[:, 1 + k : image.shape[1] - width + k] for k in range(width)])
    apart = inner.mean(axis=0) - (left + right) / 2
    deviation = ROBUST * float(np.median(np.abs(np.median(apart, axis=0))))
    above = inner.min(axis=0) > np.maximum(left, right)
    below = inner.max(axis=0) < np.minimum(left, right)
    lengths = np.arange(1, len(image) + 1)
    for side in (above, below):
        holds = side.cumsum(axis=0) > _THROUGHOUT * lengths[:, None]
        ends = (holds * lengths[:, None]).max(axis=0)
        for x in np.flatnonzero(ends >= min(len(image), max(len(image) / 4, 16))):
            if abs(np.median(apart[: ends[x], x])) > _LINE * deviation:
                result[: ends[x], x : x + width] = True
    return result


class Gains(NamedTuple):
    """What columns (n, width) and rows (n, height) add to the absorbance, relative to their mean.

    A gain multiplies the transmission, so that its logarithm is added to the absorbance.
    """

    columns: Floats
    rows: Floats


def without_gains(absorbed: Floats) -> Floats:
    """Return absorbance relative to the frame's border, without the gains of columns and rows."""
    absorbed = np.ascontiguousarray(absorbed)  # sums depend on the order in memory
    columns, rows = gains_of(absorbed)
    flat = absorbed - columns[:, None, :]
    flat -= rows[:, :, None]
    # The strength of good texture depends on the absorbance: its zero must stay where it was.
    flat -= np.median(border(flat), axis=1)[:, None, None]
    return flat


def gains_of(absorbed: Floats) -> Gains:
    r"""Find the gains of columns and rows in the open beam of each image, by itself.

    Between neighbouring columns the absorbance A of the open beam differs by

    .. math:: d_x = \frac{1}{n_x} \sum_y (A_{y,x} - A_{y,x-1})

    over the :math:`n_x` rows y in which both are in the open beam; the gain is the sum of these
    differences. The gain of the row cancels in each of them; scatter and shading, which vary
    slowly, nearly so. Of a column without open beam nothing is known, and its difference stays:
    what spans an item may be a wire. Rows likewise. An image with NaN has no gains.
    """
    finite = np.asarray(np.isfinite(absorbed).all(axis=(1, 2)))
    if not finite.all():
        absorbed = np.where(finite[:, None, None], absorbed, np.float32(0))
    beam = _open_beam(absorbed)
    return Gains(*map(_summed, passes.steps(absorbed, beam, _LARGEST_STEP)))


def _open_beam(absorbed: Floats) -> Booleans:
    """Return the pixels away from what absorbs; beyond the frame the beam goes on."""
    if min(absorbed.shape[1:]) < _LEAST_PAIRS:
        return np.zeros(absorbed.shape, np.bool_)
    smooth = passes.mean_of_neighbours(absorbed)
    # Without rough gains, those of the strips along the frame, so that gains hardly change it.
    columns = _rough(smooth[:, 1], smooth[:, -2])
    rows = _rough(smooth[:, :, 1], smooth[:, :, -2])
    smooth -= columns[:, None, :]
    smooth -= rows[:, :, None]
    smooth -= np.median(border(smooth), axis=1)[:, None, None]
    every = max(1, min(absorbed.shape[1:]) // _ENOUGH)
    threshold = halfway(smooth[:, ::every, ::every]).astype(np.float32)[:, None, None] / 2
    padded = np.pad(smooth < threshold, ((0, 0), (_AWAY, _AWAY), (_AWAY, _AWAY)), mode="edge")
    return eroded(padded, _AWAY)[:, _AWAY:-_AWAY, _AWAY:-_AWAY]


def _rough(first: Floats, last: Floats) -> Floats:
    """Return the gains of strips along two opposite sides: the lesser, as an item only absorbs."""
    lesser = np.minimum(*(side - np.median(side, axis=1, keepdims=True) for side in (first, last)))
    return np.where(np.abs(lesser) < _ROUGH, lesser, np.float32(0))


def _summed(steps: Doubles) -> Floats:
    """Return gains: the sums of the mean differences, from their totals and numbers (2, n, m)."""
    totals, pairs = steps
    gains = np.zeros((totals.shape[0], totals.shape[1] + 1))
    means = np.where(pairs < _LEAST_PAIRS, 0, totals / np.maximum(pairs, 1))
    np.cumsum(means, axis=1, out=gains[:, 1:])
    gains -= gains.mean(axis=1, keepdims=True)
    return gains.astype(np.float32)
