"""Gains of the detector's columns and rows, which drift after the flat field was taken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from imsim.anomaly.stacks import Booleans, Doubles, Floats
from imsim.anomaly.xray.frames import border, eroded, halfway, mean_of_neighbours
from imsim.kernels import xray as passes

LARGEST = 0.2
"""Largest difference in absorbance between neighbours that counts as one of gains, which change by
a few per cent. What differs by more is a body or a fault, and must stay to be seen."""
LEAST = 4
"""Least pairs of pixels that a difference is measured from: the error of their mean is 0.7 times
the noise of a pixel in the open beam, and a drift of 3 % is several times that noise."""
ROUGH = 0.1
"""Largest gain that a strip along the frame is believed; more is an item that touches it."""
AWAY = 2
"""Pixels between what absorbs and the open beam that is used: the reach of the blur."""
_ENOUGH = 32
"""Rows and columns of which the threshold between item and open beam is found."""


class Gains(NamedTuple):
    """What columns and rows add to the absorbance, relative to their mean."""

    columns: Floats
    """Shape (n, width)."""
    rows: Floats
    """Shape (n, height)."""


def removed(absorbed: Floats) -> Floats:
    """Return absorbance relative to the frame's border, without the gains of columns and rows."""
    absorbed = np.ascontiguousarray(absorbed)  # sums depend on the order in memory
    columns, rows = found_in(absorbed)
    flat = absorbed - columns[:, None, :]
    flat -= rows[:, :, None]
    # The strength of good texture depends on the absorbance: its zero must stay where it was.
    flat -= np.median(border(flat), axis=1)[:, None, None]
    return flat


def found_in(absorbed: Floats) -> Gains:
    r"""Find the gains of columns and rows in the open beam of each image, by itself.

    A gain multiplies the transmission, so that its logarithm is added to the absorbance A of the
    open beam and of the item alike. Between neighbouring columns it differs by

    .. math:: d_x = \frac{1}{n_x} \sum_y (A_{y,x} - A_{y,x-1})

    over the :math:`n_x` rows y in which both are in the open beam; the gain is the sum of these
    differences. The gain of the row cancels in each of them; scatter and shading, which vary
    slowly, nearly so. Of a column without open beam nothing is known, and its difference stays:
    what spans an item may be a wire. Rows likewise.

    The open beam is found after rough gains, those of the strips along the frame, were subtracted;
    so the result hardly depends on the gains. An image with NaN has none.
    """
    finite = np.asarray(np.isfinite(absorbed).all(axis=(1, 2)))
    if not finite.all():
        absorbed = np.where(finite[:, None, None], absorbed, np.float32(0))
    beam = _open_beam(absorbed)
    return Gains(*map(_summed, passes.steps(absorbed, beam, LARGEST)))


def _open_beam(absorbed: Floats) -> Booleans:
    """Return the pixels away from what absorbs; beyond the frame the beam goes on."""
    if min(absorbed.shape[1:]) < LEAST:
        return np.zeros(absorbed.shape, np.bool_)
    smooth = mean_of_neighbours(absorbed)
    columns = _rough(smooth[:, 1], smooth[:, -2])
    rows = _rough(smooth[:, :, 1], smooth[:, :, -2])
    smooth -= columns[:, None, :]
    smooth -= rows[:, :, None]
    smooth -= np.median(border(smooth), axis=1)[:, None, None]
    every = max(1, min(absorbed.shape[1:]) // _ENOUGH)
    threshold = halfway(smooth[:, ::every, ::every]).astype(np.float32)[:, None, None] / 2
    padded = np.pad(smooth < threshold, ((0, 0), (AWAY, AWAY), (AWAY, AWAY)), mode="edge")
    return eroded(padded, AWAY)[:, AWAY:-AWAY, AWAY:-AWAY]


def _rough(first: Floats, last: Floats) -> Floats:
    """Return the gains of strips along two opposite sides: the lesser, as an item only absorbs."""
    lesser = np.minimum(*(side - np.median(side, axis=1, keepdims=True) for side in (first, last)))
    result: Floats = np.where(np.abs(lesser) < ROUGH, lesser, np.float32(0))
    return result


def _summed(steps: Doubles) -> Floats:
    """Return gains: the sums of the mean differences, from their totals and numbers (2, n, m)."""
    totals, pairs = steps
    gains = np.zeros((totals.shape[0], totals.shape[1] + 1))
    np.cumsum(np.where(pairs < LEAST, 0, totals / np.maximum(pairs, 1)), axis=1, out=gains[:, 1:])
    gains -= gains.mean(axis=1, keepdims=True)
    return gains.astype(np.float32)
