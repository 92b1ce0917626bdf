"""Scores of many small regions of one pair of images.

A kernel here is a function of the images, (channels, height, width), the places of the regions,
whose pixels are finite, and the options of the formula. It returns `Scores` of shape (regions,
channels), or None. Regions that it leaves are scored by the kernel of the metric, in batches of
crops.

For windows, regions of nearly equal heights are copied side by side onto a shelf, which lies in the
cache, with gaps that keep the windows of one region from its neighbours. The kernel of the metric
computes the values on the whole shelf, and those of each region are pooled. The cells of GMSD need
no copies: one that is scored sees no other region.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from imsim.typing import Array
from imsim.workers import divided, parallel

CHUNK = 128
"""Most regions that a thread scores at a time."""


class Places(NamedTuple):
    """Where regions lie."""

    codes: Array
    """The code of each pixel, int32, (height, width)."""
    wanted: Array
    """The codes of the regions."""
    boxes: Array
    """Their boxes, (regions, 2 axes, begin and end)."""


def pooled(
    score: Callable[[int, Places, Array], None], places: Places, channels: int, width: int
) -> Array:
    """Return what a function finds of each region and channel, (regions, channels, width).

    ``score(channel, places, out)`` gets some regions, of ascending heights.
    """
    sizes = places.boxes[..., 1] - places.boxes[..., 0]
    order = np.argsort(sizes[:, 0], kind="stable")
    found = np.zeros((channels, len(order), width))
    parts = divided(len(order), CHUNK)

    def task(i: int) -> None:
        channel, k = divmod(i, len(parts))
        part = parts[-1 - k]  # the largest ones first, so that all threads end at about one time
        rows = order[part]
        some = Places(places.codes, places.wanted[rows], places.boxes[rows])
        score(channel, some, found[channel, part])

    parallel(task, channels * len(parts), channels * int(sizes.prod(axis=1).sum()))
    in_rows = np.empty_like(found)
    in_rows[:, order] = found
    return in_rows.transpose(1, 0, 2)
