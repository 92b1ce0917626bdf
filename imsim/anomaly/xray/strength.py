"""How strong the texture of good images is, by how much the item absorbs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly.products import Floats

_ROBUST = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_VARIED, _HEAVY = 1 / 3, 2.0
"""Deviation that a tenth of the pixels exceed, over the absorbance of the item and over the robust
standard deviation (1.64 in noise): beyond both it is a pattern, as photographs have."""
_LEVELS = 12
"""Classes of absorbance for which the strength is learned."""


def deviation(values: NDArray[Any]) -> float:
    """Return a robust standard deviation about zero."""
    return float(_ROBUST * np.median(np.abs(values))) if values.size else 0.0


def is_varied(texture: Floats, trend: Floats) -> bool:
    """Tell whether absorbance varies within an item like brightness within a photograph."""
    most = float(np.quantile(np.abs(texture), 0.9))
    return most > _VARIED * float(np.median(trend)) and most > _HEAVY * deviation(texture)


def strength(texture: Floats, trend: Floats) -> tuple[Floats, Floats]:
    """Return levels of absorbance, and the standard deviation of the texture at each of them.

    Parameters
    ----------
    texture, trend : float32 array, shape (pixels,)
        Absorbance without its trend, and the trend, of the pixels of good images.

    Returns
    -------
    levels, sigmas : float32 array, shape (12,), or fewer where levels coincide

    Raises
    ------
    ImsimError
        If the texture is constant.
    """
    edges = np.quantile(trend, np.linspace(0, 1, _LEVELS + 1))
    which = np.clip(np.searchsorted(edges, trend, side="right") - 1, 0, _LEVELS - 1)
    classes = [which == k for k in range(_LEVELS) if (which == k).any()]
    sigmas = np.array([deviation(texture[c]) for c in classes])
    if not sigmas.max() > 0:
        raise imsim.ImsimError(
            "the good images have no texture and no noise at all, so that there is no scale: "
            "pass images as they were taken"
        )
    # A class without noise, such as an opaque one, must not blow up what others call small.
    sigmas = np.maximum(sigmas, 0.1 * np.median(sigmas[sigmas > 0]))
    levels = np.array([np.median(trend[c]) for c in classes], dtype=np.float32)
    return levels, sigmas.astype(np.float32)
