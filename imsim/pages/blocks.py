"""Large pictures reduced by blocks, without losing a defect of a single pixel."""

from __future__ import annotations

import math

import numpy as np

from imsim.typing import Array

Step = tuple[int, int]
"""The rows and columns of a block; those at the lower and right edge may be smaller."""


def shape(height: int, width: int, step: Step) -> tuple[int, int]:
    """Return how many rows and columns of blocks there are."""
    return math.ceil(height / step[0]), math.ceil(width / step[1])


def worst(dissimilarity: Array, step: Step) -> tuple[Array, Array]:
    """Find the row and the column of the least alike pixel of each block, the first of several.

    NaN counts as less than every number. Both results have the shape of the blocks.
    """
    height, width = dissimilarity.shape
    rows, columns = shape(height, width, step)
    padded = np.full((rows * step[0], columns * step[1]), -np.inf)
    padded[:height, :width] = np.where(np.isnan(dissimilarity), -np.inf, dissimilarity)
    blocks = padded.reshape(rows, step[0], columns, step[1]).swapaxes(1, 2)
    within = blocks.reshape(rows, columns, -1).argmax(axis=-1)
    row = np.arange(rows)[:, None] * step[0] + within // step[1]
    column = np.arange(columns) * step[1] + within % step[1]
    return row, column


def total(values: Array, step: Step) -> Array:
    """Add the values of each block, along the first two axes."""
    for axis in (0, 1):
        if step[axis] > 1:
            starts = np.arange(0, values.shape[axis], step[axis])
            values = np.add.reduceat(values, starts, axis=axis)
    return values


def mean(image: Array, mask: Array, step: Step) -> Array:
    """Average each block over its pixels inside the mask, or over all where none is inside.

    The channels come last, in float64.
    """
    values = image.astype(np.float64)
    if step == (1, 1):
        return values
    used = mask | ~_repeat(inside(mask, step), mask.shape, step)
    values[~used] = 0
    with np.errstate(invalid="ignore", over="ignore"):
        return total(values, step) / total(used.astype(np.float64), step)[..., None]


def inside(mask: Array, step: Step) -> Array:
    """Tell for each block whether any of its pixels is True."""
    return total(mask.astype(np.intp), step) > 0


def _repeat(blocks: Array, size: tuple[int, ...], step: Step) -> Array:
    """Give every pixel the value of its block."""
    return blocks.repeat(step[0], axis=0).repeat(step[1], axis=1)[: size[0], : size[1]]
