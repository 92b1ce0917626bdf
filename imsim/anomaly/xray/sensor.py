"""The X-ray sensor: pixels and lines that never tell the truth, outliers, and gains that drift."""

from __future__ import annotations

from typing import Any

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
deviations of all, and in this share of its length."""
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
    """Find pixels, rows and columns that stand alone in the median of good images.

    Items lie in many places, or have no structure of single pixels: what stays alone is the sensor.
    """
    middle = np.median(images, axis=0)[None]
    found: Booleans = lone(middle)[0]
    found |= _lines(middle[0])[None, :]
    found |= _lines(middle[0].T)[:, None]
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


def _lines(image: Floats) -> Booleans:
    """Find columns that are above, or below, both their neighbours all along, and far."""
    result = np.zeros(image.shape[1], np.bool_)
    if image.shape[1] < 3:
        return result
    left, here, right = image[:, :-2], image[:, 1:-1], image[:, 2:]
    apart = np.median(here - (left + right) / 2, axis=0)
    deviation = ROBUST * float(np.median(np.abs(apart)))
    above, below = (here > np.maximum(left, right)), (here < np.minimum(left, right))
    throughout = np.maximum(above.mean(axis=0), below.mean(axis=0)) > _THROUGHOUT
    result[1:-1] = throughout & (np.abs(apart) > _LINE * deviation)
    return result


def without_gains(absorbed: Floats) -> Floats:
    """Return absorbance relative to the frame's border, without the gains of columns and rows."""
    absorbed = np.ascontiguousarray(absorbed)  # sums depend on the order in memory
    columns, rows = gains_of(absorbed)
    flat = absorbed - columns[:, None, :]
    flat -= rows[:, :, None]
    # The strength of good texture depends on the absorbance: its zero must stay where it was.
    flat -= np.median(border(flat), axis=1)[:, None, None]
    return flat


def gains_of(absorbed: Floats) -> tuple[Floats, Floats]:
    r"""Find what columns (n, width) and rows (n, height) add to the absorbance of each image.

    A gain multiplies the transmission, so that its logarithm is added. It is relative to the mean.
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
    columns, rows = map(_summed, passes.steps(absorbed, beam, _LARGEST_STEP))
    return columns, rows


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
