"""Where the voxels of a volume lie, and whether two volumes lie alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from imsim.typing import Array

SAME_SPACING = 1e-3
"""Relative difference of spacings that are taken for equal; NIfTI stores them as float32."""
SAME_DIRECTION = np.cos(np.radians(1.0))
"""Cosine of the largest angle between axes that are taken for parallel."""
SAME_PLACE = 0.1
"""Largest distance of first voxels that are taken for one place, in the smallest spacing."""
AXES = ("depth", "height", "width")
_WAYS = (("left", "right"), ("back", "front"), ("feet", "head"))
"""Where x, y and z begin and end."""


class Space(NamedTuple):
    """The geometry that a file gives its volume; None for what it does not tell.

    Lengths are in millimetres. x goes to the right of the patient, y to the front, z to the head,
    as in NIfTI; DICOM has x and y the other way.
    """

    spacing: tuple[float, float, float] | None = None
    """Distance of voxels along depth, height and width."""
    directions: Array | None = None
    """Shape (3, 3): for depth, height and width, the unit vector along which the index grows."""
    origin: Array | None = None
    """The middle of the first voxel."""

    def __str__(self) -> str:
        """Describe the spacing, width first, as sizes are: ``0.7 x 0.7 x 3 mm``."""
        if self.spacing is None:
            return "unknown"
        return " x ".join(f"{length:g}" for length in reversed(self.spacing)) + " mm"


def rounded(lengths: tuple[float, ...] | Array) -> tuple[float, float, float]:
    """Return lengths with six digits: float32 has no more, and 0.7 is then 0.7."""
    depth, height, width = (float(f"{length:.6g}") for length in lengths)
    return depth, height, width


def same_spacing(one: Space, other: Space) -> bool:
    """Tell whether two spacings, both known, are equal."""
    return bool(np.allclose(one.spacing or (), other.spacing or (), rtol=SAME_SPACING, atol=0))


def turned_axes(one: Space, other: Space) -> list[str]:
    """Name the axes that go another way in the second volume; none if a way is unknown."""
    if one.directions is None or other.directions is None:
        return []
    cosines = (one.directions * other.directions).sum(axis=1)
    return [
        f"its {axis} goes {way_of(second)}, not {way_of(first)}"
        if way_of(first) != way_of(second)
        else f"its {axis} is turned by {np.degrees(np.arccos(np.clip(cosine, -1, 1))):.1f} degrees"
        for axis, first, second, cosine in zip(
            AXES, one.directions, other.directions, cosines, strict=True
        )
        if cosine < SAME_DIRECTION
    ]


def way_of(direction: Array) -> str:
    """Say where a direction leads: to the right, front or head, or away from there."""
    axis = int(np.abs(direction).argmax())
    return f"to the {_WAYS[axis][int(direction[axis] > 0)]}"


def shift(one: Space, other: Space) -> float | None:
    """Return the distance of the first voxels in mm; None if it is small or unknown."""
    if one.origin is None or other.origin is None:
        return None
    distance = float(np.linalg.norm(one.origin - other.origin))
    return None if distance <= SAME_PLACE * min(one.spacing or (1.0,)) else distance
