"""An item alone: whatever else is near it is replaced by background."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imsim.anomaly.pieces import Piece
from imsim.anomaly.stacks import Booleans, Floats
from imsim.caches import kept

MARGIN = 3
"""Pixels around a neighbour that are replaced with it: its blur ends there. It is as wide as the
strip of a frame that shows the open beam."""
_TILE = 256
"""Side in pixels of the noise, which repeats beyond; crops lie anywhere on it."""


def alone(
    piece: Piece,
    own: Booleans,
    middle: tuple[int, int],
    shape: tuple[int, int],
    background: tuple[float, float],
) -> NDArray[Any]:
    """Cut an item out of the window of its piece.

    The crop holds the item's own pixels, and the background around it but for pixels within the
    margin of anything else that is marked. These, and what lies beyond the frame, have the median
    of the background that the crop does hold, with white noise that depends on their place only.

    Parameters
    ----------
    piece : Piece
        With a window that reaches as far as the crop, and the margin.
    own : bool array
        The item's pixels in the window.
    middle : (int, int)
        Row and column of the window that come into the middle of the crop.
    shape : (int, int)
        Height and width of the crop.
    background : (float, float)
        Level of the background, if the crop holds none, and standard deviation of its noise.
    """
    sound = own | ~_grown(piece.marked & ~own)
    source, target, places = [], [], []
    for place, most, side, start in zip(middle, own.shape, shape, (piece.y, piece.x), strict=True):
        shift = place - side // 2
        first, last = max(shift, 0), min(shift + side, most)
        source.append(slice(first, last))
        target.append(slice(first - shift, last - shift))
        places.append((start + shift + np.arange(side)) % _TILE)
    values, taken = piece.values[*source], sound[*source]
    around = values[taken & ~own[*source]].astype(np.float64)
    level, noise = background
    level = float(np.median(around)) if around.size else level
    fill = level + noise * _noise()[np.ix_(*places)]
    crop: NDArray[Any] = _as_type(fill, values.dtype)
    crop[*target][taken] = values[taken]
    return crop


def _grown(mask: Booleans) -> Booleans:
    """Return a mask and the pixels within the margin around it."""
    found: Any = ndimage.maximum_filter(mask.view(np.uint8), 2 * MARGIN + 1, mode="constant")
    result: Booleans = found.view(np.bool_)
    return result


@kept
def _noise() -> Floats:
    return np.random.default_rng(0).standard_normal((_TILE, _TILE), np.float32)


def _as_type(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
    if dtype.kind == "f":
        return values.astype(dtype)
    if dtype.kind == "b":
        return values > 0.5
    most = np.iinfo(dtype)
    result: NDArray[Any] = np.clip(np.rint(values), most.min, most.max).astype(dtype)
    return result
