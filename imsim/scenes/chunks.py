"""The chunks of lazy arrays: which of them a region of the image lies in, and its pixels."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from imsim.caches import SPARES
from imsim.typing import Array

Index = tuple[int, ...]


class Cut(NamedTuple):
    """The part of a region that lies in one chunk."""

    chunk: Index
    """Place of the chunk along each side."""
    source: tuple[slice, ...]
    """Where the part lies in the chunk."""
    target: tuple[slice, ...]
    """Where it lies in the region."""
    sides: Index
    """Lengths of the chunk."""


class Region(NamedTuple):
    """A box of pixels."""

    begin: Index
    end: Index

    @property
    def sides(self) -> Index:
        """Its lengths."""
        return tuple(e - b for b, e in zip(self.begin, self.end, strict=True))


def bounds_of(chunks: Sequence[int]) -> tuple[int, ...]:
    """Return where the chunks along one side begin, and where the last one ends."""
    return (0, *itertools.accumulate(chunks))


def gathered(chunks: Sequence[Sequence[int]], most: int) -> list[tuple[int, ...]]:
    """Join neighbouring chunks, into blocks of at most `most` pixels that are rather square.

    A chunk that is larger remains as it is.
    """
    sides, lengths = [sum(along) for along in chunks], [max(along) for along in chunks]
    while 2 * math.prod(lengths) <= most and lengths != sides:
        _, axis = min((n, k) for k, n in enumerate(lengths) if n < sides[k])
        lengths[axis] = min(2 * lengths[axis], sides[axis])
    return [_together(along, n) for along, n in zip(chunks, lengths, strict=True)]


def _together(along: Sequence[int], most: int) -> tuple[int, ...]:
    """Add up neighbouring lengths."""
    found = [along[0]]
    for n in along[1:]:
        if found[-1] + n <= most:
            found[-1] += n
        else:
            found.append(n)
    return tuple(found)


def parts_of(region: Region, bounds: Sequence[Sequence[int]]) -> list[Cut]:
    """Cut a region along the bounds of the chunks."""
    found = [
        list(_along(begin, end, along))
        for begin, end, along in zip(region.begin, region.end, bounds, strict=True)
    ]
    return [Cut(*zip(*sides, strict=True)) for sides in itertools.product(*found)]


def _along(begin: int, end: int, bounds: Sequence[int]) -> Iterator[tuple[int, slice, slice, int]]:
    """Yield chunk, source, target and length along one side; empty chunks have no part."""
    place, chunk = begin, bisect_right(bounds, begin) - 1
    while place < end:
        stop = min(end, bounds[chunk + 1])
        if stop > place:
            first, length = bounds[chunk], bounds[chunk + 1] - bounds[chunk]
            source, target = (slice(place - n, stop - n) for n in (first, begin))
            yield chunk, source, target, length
            place = stop
        chunk += 1


def joined(arrays: Sequence[Array], parts: Sequence[Cut], sides: Index) -> Array:
    """Join the parts of a region; one that is a part of a single chunk is a view."""
    if len(arrays) == 1:
        return arrays[0][parts[0].source]
    found = SPARES.array(sides, arrays[0].dtype)
    for array, part in zip(arrays, parts, strict=True):
        found[part.target] = array[part.source]
    return found
