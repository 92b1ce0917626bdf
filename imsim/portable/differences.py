"""Pixelwise differences."""

from __future__ import annotations

from types import ModuleType

from imsim.portable.arrays import channel_sum, count, total
from imsim.portable.pair import Pair
from imsim.typing import Array


def squared_difference(pair: Pair) -> Array:
    """(x - y)^2 for every pixel and channel."""
    difference = pair.x - pair.y
    return difference * difference


def mean_squared_error(pair: Pair) -> tuple[Array, Array]:
    """Mean of (x - y)^2 over the scored pixels and all channels, and their number."""
    squares = squared_difference(pair)
    n = count(squares, pair.mask)
    channels = squares.shape[-3]
    return channel_sum(total(squares, pair.mask)) / (n * channels), n


def decibels(signal: Array | float, mse: Array, xp: ModuleType) -> Array:
    """10 log10(signal / MSE)."""
    return 10 * xp.log10(signal / mse)


def reconstruction_decibels(mean: Array, mse: Array, xp: ModuleType) -> Array:
    """10 log10(mean^2 / MSE); identical images are +inf even when black."""
    return decibels(xp.where(mse == 0, xp.ones_like(mse), mean**2), mse, xp)
