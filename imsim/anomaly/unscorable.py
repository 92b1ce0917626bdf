"""The warning for images of which nothing could be compared."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

import imsim

FEWEST = 3
"""Good images to learn from: one is held out, and two can differ."""


class UnscorableImageWarning(UserWarning):
    """Some images have no score: nothing of them could be compared."""


def warn_unscorable(
    where: NDArray[np.bool_], what: str, reasons: dict[int, str], stacklevel: int = 3
) -> None:
    """Warn the caller of the public method about the images that are marked."""
    found = np.flatnonzero(where)
    shown = ", ".join(map(str, found[:10])) + (", ..." if len(found) > 10 else "")
    warnings.warn(
        f"{len(found)} of {len(where)} images {what}: index {shown}; images[{found[0]}] "
        f"{reasons[int(found[0])]}",
        UnscorableImageWarning,
        stacklevel=stacklevel,
    )


def check_usable(usable: NDArray[np.bool_], reasons: dict[int, str]) -> None:
    """Warn of good images that cannot be used, and refuse if too few are left."""
    if usable.sum() < FEWEST:
        why = "".join(f"; images[{i}] {reason}" for i, reason in [*reasons.items()][:1])
        raise imsim.ImsimError(
            f"{usable.sum()} of {len(usable)} good images can be used; expected at least {FEWEST}: "
            f"pass more images{why}"
        )
    if not usable.all():
        warn_unscorable(~usable, "are left out of the training", reasons, stacklevel=4)
