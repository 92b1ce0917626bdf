"""Into which blocks images are divided, so that some of them fit into memory at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from imsim.scenes.pieces import Pieces, Reach

HALO_SHARE = 0.15
"""Most pixels that are read twice, as a share of all, unless memory allows no larger blocks."""
LEAST_ROWS = 256
"""Least rows that are computed at once: fewer would mostly read their surroundings."""
TARGET_PIXELS = 1 << 24
"""Pixels of a block that keep all threads busy; larger ones only take memory."""


class Needs(NamedTuple):
    """What the pieces of several metrics read together."""

    reach: Reach
    step: int

    @classmethod
    def of(cls, pieces: Sequence[Pieces], axes: int) -> Needs:
        """Join the needs of metrics."""
        reach = tuple(
            (
                max((one.reach[axis][0] + one.step - 1 for one in pieces), default=0),
                max((one.reach[axis][1] for one in pieces), default=0),
            )
            for axis in range(axes)
        )
        return cls(reach, math.lcm(*(one.step for one in pieces)))

    def region(self, own: tuple[slice, ...], sides: tuple[int, ...]) -> tuple[slice, ...]:
        """Return the pixels that the metrics read together for a block."""
        return tuple(
            slice(max(one.start - before, 0), min(one.stop + after, side))
            for one, (before, after), side in zip(own, self.reach, sides, strict=True)
        )


def extents(
    sides: tuple[int, ...], chunks: tuple[int, ...], needs: Needs, most: int
) -> tuple[int, ...]:
    """Return the sides of blocks of at most `most` pixels, with those read around them.

    Blocks are divided along the first axis, along further ones if they must. What counts most is
    the memory, then that blocks hold whole chunks, then that little is read twice.
    """
    found = list(sides)
    halo = [before + after for before, after in needs.reach]

    def fitting(axis: int, target: int) -> int:
        """Return the pixels along an axis, without those around, for which a block fits."""
        others = (min(n + h, side) for n, h, side in zip(found, halo, sides, strict=True))
        return target // (math.prod(others) // min(found[axis] + halo[axis], sides[axis]))

    for axis, side in enumerate(sides):
        if fitting(axis, most) >= side and axis > 0:
            break
        unit = min(chunks[axis] if chunks[axis] > 1 else needs.step, side)
        # What blocks below each other share is read once.
        least = max(math.ceil(halo[axis] / HALO_SHARE) if axis or chunks[axis] == 1 else 1, 1)
        least = -(-least // unit) * unit
        room = fitting(axis, most) - halo[axis]
        usual = max(fitting(axis, TARGET_PIXELS) - halo[axis], least)
        if axis and chunks[axis] > 1:
            usual = room  # chunks beside a tile are decoded again for what is around it
        found[axis] = min(side, max(least, min(room, usual) // unit * unit))
        if room >= least:
            break
    for axis, side in enumerate(sides):  # without regard to chunks and to what is read twice
        if fitting(axis, most) < min(found[axis] + halo[axis], side):
            found[axis] = max(1, min(found[axis], fitting(axis, most) - halo[axis]))
    return tuple(found)


def blocks(sides: tuple[int, ...], extent: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the pixels that each block owns, along each axis; the first axis changes fastest.

    A block then shares with the one before all that it reads above its own pixels.
    """
    ranges = [
        [slice(k, min(k + n, side)) for k in range(0, side, n)]
        for side, n in zip(sides, extent, strict=True)
    ]
    return (place[::-1] for place in itertools.product(*ranges[::-1]))


def divided(own: tuple[slice, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Divide what a block owns into parts of at most `most` pixels, mostly along the first axis."""
    sides = [one.stop - one.start for one in own]
    others = math.prod(sides[1:])
    rows = min(max(most // others, LEAST_ROWS), sides[0])
    lengths = [rows, *sides[1:]]
    for axis in range(1, len(sides)):
        lengths[axis] = min(sides[axis], max(1, most * lengths[axis] // math.prod(lengths)))
    for part in blocks(tuple(sides), tuple(lengths)):
        yield tuple(
            slice(one.start + place.start, one.start + place.stop)
            for one, place in zip(own, part, strict=True)
        )
