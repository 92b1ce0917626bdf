"""A seeded X-ray generator: potatoes and chocolate bars with contaminants and defects.

`potatoes`, `bars` and `dataset` return `Samples`: raw counts, transmission images and their ground
truth. `Beam` and `Detector` hold the physics, `KINDS` the kinds of defect.

A tube's spectrum passes path lengths of tabulated materials, bin of energy by bin; scatter, blur
and photon noise follow, then the detector's gains, dark signal and read noise. The images show
what is hard about such images; they do not replace those of a real line.
"""

from imsim.anomaly.simulate.generate import KINDS, Samples, bars, dataset, potatoes
from imsim.anomaly.simulate.physics import Beam, Detector

__all__ = ["KINDS", "Beam", "Detector", "Samples", "bars", "dataset", "potatoes"]
