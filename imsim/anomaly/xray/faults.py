"""Faults of the detector: pixels and columns that never tell the truth, and lone outliers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imsim.anomaly.stacks import ROBUST, Booleans, Floats, nearest
from imsim.caches import kept
from imsim.kernels import xray as passes

LONE = 0.1
"""A pixel is a lone outlier if its neighbours differ by less than this part of its own distance
from them. The blur of a detector spreads even the smallest body: for a Gaussian of half a pixel
the neighbours of a point differ by 0.14."""
COLUMN, THROUGHOUT = 10.0, 0.9
"""A row or column is faulty if it differs from its neighbours by this many robust standard
deviations of all, and in this share of its length."""
MOST_IMAGES = 64
"""Good images from whose median the faults are learned."""


def faults_of(images: Floats) -> Booleans:
    """Find pixels, rows and columns that stand alone in the median of good images.

    Items lie in many places, or have no structure of single pixels. What stays alone in the median
    belongs to the detector.
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
    result: Floats = passes.without_lone(images, LONE)
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
    throughout = np.maximum(above.mean(axis=0), below.mean(axis=0)) > THROUGHOUT
    result[1:-1] = throughout & (np.abs(apart) > COLUMN * deviation)
    return result
