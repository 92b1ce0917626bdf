"""X-ray images of food: from raw counts to the peeled texture of the item.

`correct` turns counts into transmission, `absorbance` transmission into attenuation along the
ray, `segment` finds the item, and `VirtualPeel` does all of this and takes the item's rim and its
smooth thickness away, so that texture and foreign bodies remain.
"""

from imsim.anomaly.xray.beam import absorbance, correct
from imsim.anomaly.xray.peel import Peeled, VirtualPeel
from imsim.anomaly.xray.segmentation import (
    UnlikelyItemWarning,
    UnusableImageWarning,
    segment,
)

__all__ = [
    "Peeled",
    "UnlikelyItemWarning",
    "UnusableImageWarning",
    "VirtualPeel",
    "absorbance",
    "correct",
    "segment",
]
