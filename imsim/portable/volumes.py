"""Volumes: their planes lie below each other, as one image, and one behind the other for windows.

A sum over pixels does not ask where these are: metrics that are such sums take a volume for the
image of its planes.
"""

from __future__ import annotations

from imsim.portable.arrays import array_namespace
from imsim.typing import Array


def stacked(values: Array) -> Array:
    """From (..., depth, height, width) to (..., depth * height, width)."""
    *others, depth, height, width = values.shape
    return array_namespace(values).reshape(values, (*others, depth * height, width))


def unstacked(values: Array, depth: int | None) -> Array:
    """From (..., depth * height, width) to (..., depth, height, width).

    Images stay as they are, and so does None, where there is no mask.
    """
    if depth is None or values is None:
        return values
    *others, rows, width = values.shape
    shape = (*others, depth, rows // depth, width)
    return array_namespace(values).reshape(values, shape)


def is_one_plane(depth: int | None, border: str, sample_covariance: bool) -> bool:
    """Whether a volume is one plane, repeated to both sides.

    Its population moments are then those of the plane, which has them to the bit.
    """
    return depth == 1 and border == "replicate" and not sample_covariance


def unstacked_shape(frame: tuple[int, int], depth: int | None) -> tuple[int, ...]:
    """Return the sides of an image, or of a volume."""
    rows, width = frame
    return (rows, width) if depth is None else (depth, rows // depth, width)
