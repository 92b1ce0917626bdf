"""Pixelwise differences."""

from __future__ import annotations

from imsim.portable.arrays import count, over_channels, total
from imsim.portable.pair import Pair, Scores
from imsim.typing import Array


def squared_difference(pair: Pair) -> Array:
    """(x - y)^2 for every pixel and channel."""
    difference = pair.x - pair.y
    return difference * difference


def mean_squared_error(pair: Pair) -> Scores:
    """Mean of (x - y)^2 over the scored pixels and all channels."""
    squares = squared_difference(pair)
    n = count(squares, pair.mask)
    channels = squares.shape[-3]
    return Scores(over_channels(total(squares, pair.mask)) / (n * channels), n)
