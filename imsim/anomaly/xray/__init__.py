"""X-ray images of food: from raw counts to the peeled texture of the item.

`correct` turns counts into transmission, `absorbance` transmission into attenuation along the
ray, `segment` finds the item, and `VirtualPeel` does all of this and takes the item's rim and its
smooth thickness away, so that texture and foreign bodies remain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imsim.anomaly.optional import loaded
from imsim.anomaly.xray.frames import (
    UnlikelyItemWarning,
    UnusableImageWarning,
    absorbance,
    correct,
    segment,
)

if TYPE_CHECKING:
    from imsim.anomaly.xray.peel import Peeled, VirtualPeel

__all__ = [
    "Peeled",
    "UnlikelyItemWarning",
    "UnusableImageWarning",
    "VirtualPeel",
    "absorbance",
    "correct",
    "segment",
]


def __getattr__(name: str) -> Any:
    """Load the peel, which needs scikit-learn, when it is asked for."""
    return loaded(__name__, name, {"Peeled": "peel", "VirtualPeel": "peel"})
