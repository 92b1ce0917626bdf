"""Whether places mean something: they do if good images are aligned."""

from __future__ import annotations

import numpy as np

from imsim.anomaly.descriptions import by_place
from imsim.anomaly.energies import FILTERS, energies_of, level_and_spread
from imsim.anomaly.gaussians import FLOOR, Moments
from imsim.anomaly.stacks import Doubles, Floats


def has_places(shown: Floats) -> bool:
    """Whether good images are more likely with a Gaussian for each place than with one for all.

    Each half of the images is judged by what is learned from the other, in energies.
    """
    features = by_place(shown)[..., :FILTERS]
    return _surprise(features) <= _surprise(features, pooled=True)


def place_surprise(images: Floats) -> float:
    """Return how little one half of good images tells about the other, place by place.

    Of the logarithms of energies, so that images are not alike for being smoother.
    """
    energies = energies_of(images, None, *level_and_spread(images))[:, :FILTERS]
    return _surprise(np.log(by_place(energies) + FLOOR * max(float(np.median(energies)), 1e-6)))


def _surprise(features: Doubles, *, pooled: bool = False) -> float:
    """Return the mean negative log-likelihood of half of the images given the other half."""
    total = 0.0
    for learned, judged in ((features[::2], features[1::2]), (features[1::2], features[::2])):
        moments = Moments()
        moments.add(learned.reshape(-1, 1, features.shape[-1]) if pooled else learned)
        gaussian = moments.gaussian()
        total += sum(gaussian.surprise(image) for image in judged) / max(len(judged), 1)
    return total
