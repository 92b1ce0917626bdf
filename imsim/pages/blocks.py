"""Large pictures reduced by blocks, without losing a defect of a single pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from imsim.typing import Array

_AT_ONCE = 2**20
"""Pixels of a band."""
Step = tuple[int, int]
"""The rows and columns of a block; those at the lower and right edge may be smaller."""


def shape(height: int, width: int, step: Step) -> tuple[int, int]:
    """Return how many rows and columns of blocks there are."""
    return math.ceil(height / step[0]), math.ceil(width / step[1])


def bands(height: int, width: int, rows: int = 1) -> Iterator[slice]:
    """Yield the rows of a picture, few at a time and in multiples of `rows`.

    What is computed of them on the way takes many times their memory.
    """
    several = max(1, _AT_ONCE // (rows * max(width, 1))) * rows
    for top in range(0, height, several):
        yield slice(top, min(top + several, height))


def worst(dissimilarity: Array, step: Step) -> tuple[Array, Array]:
    """Find the row and the column of the least alike pixel of each block, the first of several.

    NaN counts as less than every number. Both results have the shape of the blocks.
    """
    height, width = dissimilarity.shape
    if step == (1, 1):
        row, column = np.broadcast_arrays(*np.ogrid[:height, :width])
        return row, column
    parts = [
        _worst(dissimilarity[rows], step, rows.start) for rows in bands(height, width, step[0])
    ]
    row, column = (np.concatenate(found) for found in zip(*parts, strict=True))
    return row, column


def _worst(dissimilarity: Array, step: Step, top: int) -> tuple[Array, Array]:
    height, width = dissimilarity.shape
    rows, columns = shape(height, width, step)
    padded = np.full((rows * step[0], columns * step[1]), -np.inf)
    padded[:height, :width] = np.where(np.isnan(dissimilarity), -np.inf, dissimilarity)
    blocks = padded.reshape(rows, step[0], columns, step[1]).swapaxes(1, 2)
    within = blocks.reshape(rows, columns, -1).argmax(axis=-1)
    row = top + np.arange(rows)[:, None] * step[0] + within // step[1]
    column = np.arange(columns) * step[1] + within % step[1]
    return row, column


def folded(function: np.ufunc, values: Array, step: tuple[int, ...]) -> Array:
    """Fold each block along the first axes, as `numpy.add` sums it.

    Strides are faster than `reduceat` where blocks are short.
    """
    for axis, length in enumerate(step):
        if length > 1:
            values = np.moveaxis(values, axis, 0)
            found = values[::length].copy()
            for start in range(1, min(length, len(values))):
                part = values[start::length]
                function(found[: len(part)], part, out=found[: len(part)])
            values = np.moveaxis(found, 0, axis)
    return values


def mean(image: Array, mask: Array, step: tuple[int, ...]) -> Array:
    """Average each block over its pixels inside the mask, or over all where none is inside.

    The channels come last, in float64.
    """
    values = image.astype(np.float64)
    if max(step) == 1:
        return values
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        every = folded(np.add, values, step) / folded(np.add, np.ones((*mask.shape, 1)), step)
        if mask.all():
            return every
        used = folded(np.add, np.where(mask[..., None], values, 0), step)
        count = folded(np.add, mask.astype(np.float64), step)[..., None]
        return np.where(count > 0, used / count, every)


def inside(mask: Array, step: tuple[int, ...]) -> Array:
    """Tell for each block whether any of its pixels is True."""
    return folded(np.logical_or, mask, step)
