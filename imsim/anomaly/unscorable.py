"""The warning for images of which nothing could be compared."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray


class UnscorableImageWarning(UserWarning):
    """Some images have no score: nothing of them could be compared."""


def warn_unscorable(where: NDArray[np.bool_], what: str) -> None:
    """Warn the caller of the public method about the images that are marked."""
    found = np.flatnonzero(where)
    shown = ", ".join(map(str, found[:10])) + (", ..." if len(found) > 10 else "")
    warnings.warn(
        f"{len(found)} of {len(where)} images {what}: index {shown}; nothing of them could be "
        "compared (an empty frame, a mask without room, or NaN)",
        UnscorableImageWarning,
        stacklevel=3,
    )
