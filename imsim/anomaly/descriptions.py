"""Descriptions of images by their energies: of the whole image, of places, and of windows.

Places mean something if good images are aligned.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from imsim.anomaly.energies import CHANNELS, FILTERS, cell_means, energies_of, level_and_spread
from imsim.anomaly.gaussians import FLOOR, Moments
from imsim.anomaly.stacks import Doubles, Floats

QUANTILES = (0.5, 0.9, 0.99, 1.0)
"""Of the energies over all places, in the description of the whole image."""
LEVELS = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1.0)
"""The same of the brightness."""
WINDOW, STRIDE = 3, 2
"""Side of a window of places, and how far apart windows lie at most."""


def number_of_features(rows: int, columns: int) -> int:
    """Return how many features the description of a whole image has."""
    return CHANNELS * rows * columns + FILTERS * len(QUANTILES) + len(LEVELS)


def of_wholes(shown: Floats, grid: tuple[int, int], floor: float) -> Doubles:
    """Return logarithmic energies and brightness, by cells and their quantiles, (n, features)."""
    n = len(shown)
    coarse = cell_means(shown, *grid)
    places = shown.reshape(n, CHANNELS, -1)
    parts = [
        coarse[:, :FILTERS].reshape(n, -1),
        _quantiles(places[:, :FILTERS], QUANTILES),
        coarse[:, FILTERS:].reshape(n, -1),
        _quantiles(places[:, FILTERS:], LEVELS),
    ]
    logs = [np.log(part.astype(np.float64) + floor) for part in parts[:2]]
    return np.concatenate([*logs, *parts[2:]], axis=1)


def of_places(shown: Floats, floor: float, *, alike: bool) -> list[Doubles]:
    """Return descriptions of all places, shapes (n, places, features).

    The first has logarithmic energies and brightness. The second has the energies; where all places
    are `alike`, it has the roots of the energies, which are less skewed, and the brightness.
    """
    places = by_place(shown)
    energies, brightness = places[..., :FILTERS], places[..., FILTERS:]
    logs = np.concatenate([np.log(energies + floor), brightness], axis=2)
    if alike:
        return [logs, np.concatenate([np.sqrt(energies), brightness], axis=2)]
    return [logs, energies / floor]


def within(rows: int, columns: int) -> tuple[int, int]:
    """Return the rows and columns of a grid without its border, if more than a window is left."""
    rows, columns = (n - 2 if n > WINDOW + 2 else n for n in (rows, columns))
    return rows, columns


def of_windows(shown: Floats, floor: float) -> Doubles:
    """Return energies and brightness of overlapping windows of places, (n, windows, features)."""
    side = [min(WINDOW, n) for n in shown.shape[2:]]
    starts = [
        np.union1d(np.arange(0, n - k, STRIDE), n - k)
        for n, k in zip(shown.shape[2:], side, strict=True)
    ]
    scaled = shown.astype(np.float64)
    scaled[:, :FILTERS] /= floor
    windows = sliding_window_view(scaled, side, axis=(2, 3))[:, :, starts[0][:, None], starts[1]]
    n, channels, rows, columns = windows.shape[:4]
    return np.moveaxis(windows, 1, 3).reshape(n, rows * columns, channels * side[0] * side[1])


def energies_at(shown: Floats, floor: float) -> Doubles:
    """Return the energy of all filters at each place, shape (n, places)."""
    energies: Doubles = by_place(shown)[..., :FILTERS].sum(axis=2) / floor
    return energies


def energies_in(windows: Doubles) -> Doubles:
    """Return the energy in windows of `of_windows`, shape (n, windows)."""
    places = windows.shape[2] // CHANNELS
    energies: Doubles = windows[:, :, : FILTERS * places].sum(axis=2)
    return energies


def by_place(shown: Floats) -> Doubles:
    """Return what images show as features of places, shape (n, places, channels)."""
    return np.moveaxis(shown.reshape(*shown.shape[:2], -1), 1, 2).astype(np.float64)


def _quantiles(values: Floats, shares: tuple[float, ...]) -> Floats:
    """Return quantiles over the last axis of values (n, channels, places), (n, features)."""
    ranks = [round(share * (values.shape[2] - 1)) for share in shares]
    return np.partition(values, ranks, axis=2)[..., ranks].reshape(len(values), -1)


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
