"""The rim of an item: how strong the texture of good items is at each distance from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imsim.anomaly.stacks import Booleans, Floats
from imsim.kernels import xray as passes

REACH = 16
"""Distances in pixels that are told apart; all beyond count as the last one."""
QUANTILE, NORMAL = 0.999, 3.29
"""The strength is this quantile of the absolute texture, over that of a normal distribution."""
LEAST = 0.1
"""Least strength, as a part of the median one: flat parts must not be amplified to noise."""


def distances(masks: Booleans) -> NDArray[np.int32]:
    """Return the chessboard distance of each pixel of masks from the rim, 1 to `REACH`; 0 outside.

    The frame is no rim: beyond it an item goes on.
    """
    result: NDArray[np.int32] = passes.distances(masks, REACH)
    return result


def learned(textures: list[Floats], masks: list[Booleans]) -> Floats:
    """Return the strength of the texture inside the masks at distances 1 to `REACH`.

    Nearer to the rim it is never taken for weaker than farther in: of the first pixels, half of
    what the filter sees is missing, and that must not amplify them.
    """
    values = [np.abs(texture[mask]) for texture, mask in zip(textures, masks, strict=True)]
    places = [distances(mask[None])[0][mask] for mask in masks]
    value, place = np.concatenate(values), np.concatenate(places)
    known = [k for k in range(1, REACH + 1) if (place == k).any()]
    strength = [float(np.quantile(value[place == k], QUANTILE)) / NORMAL for k in known]
    least = max(LEAST * float(np.median(strength)), float(np.finfo(np.float32).tiny))
    every = np.interp(np.arange(1, REACH + 1), known, np.maximum(strength, least))
    return np.maximum.accumulate(every[::-1])[::-1].astype(np.float32)


def divided(textures: Floats, masks: Booleans, strength: Floats) -> Floats:
    """Return textures divided by their strength at each distance; 0 outside the masks."""
    factors = np.concatenate([np.zeros(1, np.float32), 1 / strength])
    result: Floats = textures * factors[distances(masks)]
    return result
