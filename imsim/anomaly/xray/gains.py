"""Gains of the detector's columns and rows, which drift after the flat field was taken."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from imsim.anomaly.stacks import Booleans, Floats, batch_images
from imsim.anomaly.xray.frames import border, eroded, halfway, mean_of_neighbours
from imsim.workers import divided

LARGEST = 0.2
"""Largest difference in absorbance between neighbours that counts as one of gains, which change by
a few per cent. What differs by more is a body or a fault, and must stay to be seen."""
LEAST = 8
"""Least pairs of pixels that a difference is measured from: the error of their mean is half the
noise of a pixel in the open beam."""
AWAY = 2
"""Pixels between what absorbs and the open beam that is used: the reach of the blur."""
_ENOUGH = 32
"""Rows and columns of which the threshold between item and open beam is found."""
_PIECES = 4
"""Parts of a piece of work, which stay in the cache: 8 images of 128x128 pixels."""


class Gains(NamedTuple):
    """What columns and rows add to the absorbance, relative to their mean."""

    columns: Floats
    """Shape (n, width)."""
    rows: Floats
    """Shape (n, height)."""


def removed(absorbed: Floats) -> Floats:
    """Return absorbance relative to the frame's border, without the gains of columns and rows."""
    result = np.empty_like(absorbed)
    for part in divided(len(absorbed), max(1, batch_images(absorbed) // _PIECES)):
        columns, rows = found_in(absorbed[part])
        flat = absorbed[part] - columns[:, None, :]
        flat -= rows[:, :, None]
        # The strength of good texture depends on the absorbance: its zero must stay where it was.
        np.subtract(flat, np.median(border(flat), axis=1)[:, None, None], out=result[part])
    return result


def found_in(absorbed: Floats) -> Gains:
    r"""Find the gains of columns and rows in the open beam of each image, by itself.

    A gain multiplies the transmission, so that its logarithm is added to the absorbance A of the
    open beam and of the item alike. Between neighbouring columns it differs by

    .. math:: d_x = \frac{1}{n_x} \sum_y (A_{y,x} - A_{y,x-1})

    over the :math:`n_x` rows y in which both are in the open beam; the gain is the sum of these
    differences. The gain of the row cancels in each of them; scatter and shading, which vary
    slowly, nearly so. Of a column without open beam nothing is known, and its difference stays:
    what spans an item may be a wire. Rows likewise.

    Open beam is found twice, the second time without the gains found first: then it hardly depends
    on them. An image with NaN has no gains.
    """
    finite = np.asarray(np.isfinite(absorbed).all(axis=(1, 2)))
    if not finite.all():
        absorbed = np.where(finite[:, None, None], absorbed, np.float32(0))
    smooth = mean_of_neighbours(absorbed)
    every = max(1, min(absorbed.shape[1:]) // _ENOUGH)
    threshold = halfway(smooth[:, ::every, ::every]).astype(np.float32)[:, None, None] / 2
    across, down = _differences(absorbed), _differences(absorbed.swapaxes(1, 2))
    beam = _open_beam(smooth < threshold)
    columns, rows = _summed(across, beam), _summed(down, beam.swapaxes(1, 2))
    smooth -= _mean_of_three(columns)[:, None, :]
    smooth -= _mean_of_three(rows)[:, :, None]
    beam = _open_beam(smooth < threshold)
    return Gains(_summed(across, beam), _summed(down, beam.swapaxes(1, 2)))


def _open_beam(below: Booleans) -> Booleans:
    """Return the pixels away from what absorbs; beyond the frame the beam goes on."""
    padded = np.pad(below, ((0, 0), (AWAY, AWAY), (AWAY, AWAY)), mode="edge")
    return eroded(padded, AWAY)[:, AWAY:-AWAY, AWAY:-AWAY]


def _mean_of_three(gains: Floats) -> Floats:
    around: Any = np.pad(gains, ((0, 0), (1, 1)), mode="edge")
    mean: Floats = (around[:, :-2] + gains + around[:, 2:]) / 3
    return mean


def _differences(absorbed: Floats) -> tuple[Floats, Booleans]:
    """Return the differences of neighbouring columns, and where gains may be their reason."""
    apart: Floats = absorbed[..., 1:] - absorbed[..., :-1]
    return apart, np.abs(apart) < LARGEST


def _summed(differences: tuple[Floats, Booleans], beam: Booleans) -> Floats:
    """Return the gains of the columns: the sums of their mean differences in the open beam."""
    apart, small = differences
    both = (beam[..., 1:] & beam[..., :-1] & small).astype(np.float32)
    pairs = both.sum(axis=1)
    steps: Any = np.einsum("nyx,nyx->nx", apart, both) / np.maximum(pairs, 1)
    steps[pairs < LEAST] = 0
    gains = np.zeros((len(beam), beam.shape[2]), np.float32)
    np.cumsum(steps, axis=1, out=gains[:, 1:])
    gains -= gains.mean(axis=1, keepdims=True)
    return gains
