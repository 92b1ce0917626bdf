"""Scores of images that are not in memory, block after block that fits: all metrics in one pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from imsim.checking import warn_of_rounding
from imsim.masks import check_mask
from imsim.portable.pair import Scores
from imsim.registry import Metric
from imsim.scenes.pieces import Block, Part, Pieces, Reach
from imsim.scenes.sources import Place, Source, lengths_of, within
from imsim.typing import Array
from imsim.validation import Images, check_images

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

    def region(self, own: Place, sides: tuple[int, ...]) -> Place:
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


def blocks(sides: tuple[int, ...], extent: tuple[int, ...]) -> Iterator[Place]:
    """Yield the pixels that each block owns, along each axis; the first axis changes fastest.

    A block then shares with the one before all that it reads above its own pixels.
    """
    ranges = [
        [slice(k, min(k + n, side)) for k in range(0, side, n)]
        for side, n in zip(sides, extent, strict=True)
    ]
    return (place[::-1] for place in itertools.product(*ranges[::-1]))


def divided(own: Place, most: int) -> Iterator[Place]:
    """Divide what a block owns into parts of at most `most` pixels, mostly along the first axis."""
    sides = lengths_of(own)
    others = math.prod(sides[1:])
    rows = min(max(most // others, LEAST_ROWS), sides[0])
    lengths = [rows, *sides[1:]]
    for axis in range(1, len(sides)):
        lengths[axis] = min(sides[axis], max(1, most * lengths[axis] // math.prod(lengths)))
    for part in blocks(sides, tuple(lengths)):
        yield tuple(
            slice(one.start + place.start, one.start + place.stop)
            for one, place in zip(own, part, strict=True)
        )


WORKING_BYTES = 24
"""Bytes that metrics take for each pixel and channel that they compute, besides the images."""
COPIES = 4
"""Blocks in memory: the one that is computed, the next one, what a store returns, its chunks."""
WORKING_SHARE = 3
"""One part of so many of the memory is for these; the others hold images."""


class Job(NamedTuple):
    """One metric, checked and ready to be computed in blocks."""

    facts: Metric
    pieces: Pieces
    images: Images
    """Stand-ins of the images, which hold no pixels."""
    batch: tuple[int, ...]
    """Shape of the batch, also that of the mask."""
    finish: Any
    """Turns scores, and which of the batch are finite, into what the user gets; None
    for a map alone."""


class Scene(NamedTuple):
    """Two images and a mask that are read in parts."""

    a: Source
    b: Source
    mask: Source | None
    channel_axis: int | None
    ndim: int
    data_range: Any

    @property
    def sources(self) -> list[Source]:
        """All that is read."""
        return [v for v in (self.a, self.b, self.mask) if v is not None]

    def chunks(self) -> tuple[int, ...]:
        """Sides of the parts in which the images are stored."""
        found = [1] * self.ndim
        for source in self.sources:
            _, own = self.axes_of(source)
            found = [max(n, source.chunks[axis]) for n, axis in zip(found, own, strict=True)]
        return tuple(found)

    def batch_of(self, array: Array, k: int) -> tuple[int, ...]:
        """Return the batch shape of a part of the k-th source."""
        return tuple(array.shape[axis] for axis in self.axes_of(self.sources[k])[0])

    def index_of(self, source: Source, group: Place, region: Place) -> list[slice]:
        """Return where a source holds a region of a group of the batch."""
        index = [slice(0, side) for side in source.shape]
        leading, own = self.axes_of(source)
        for axis, one in zip(leading, group[len(group) - len(leading) :], strict=True):
            if source.shape[axis] > 1:
                index[axis] = one
        for axis, one in zip(own, region, strict=True):
            index[axis] = one
        return index

    def cut(self, arrays: Sequence[Array], region: Place, wanted: Place) -> list[Array]:
        """Cut some pixels from a region of all sources."""
        found = []
        for source, array in zip(self.sources, arrays, strict=True):
            index: list[slice] = [slice(None)] * array.ndim
            for axis, one in zip(self.axes_of(source)[1], within(wanted, region), strict=True):
                index[axis] = one
            found.append(array[tuple(index)])
        return found

    def block(self, arrays: Sequence[Array], region: Place, own: Place, pieces: Pieces) -> Block:
        """Cut what a metric reads from a region, and check it."""
        wanted = pieces.read(own)
        x, y, *masks = self.cut(arrays, region, wanted)
        images = check_images(
            x, y, data_range=self.data_range, channel_axis=self.channel_axis, ndim=self.ndim
        )
        valid = check_mask(masks[0], images) if masks else None
        if not pieces.whole.of_differences:
            warn_of_rounding(images, valid)
        return Block(images, valid, wanted, own)

    def outline(self) -> Scene:
        """Return a scene whose sources hold nothing."""
        mask = None if self.mask is None else self.mask.outline()
        return self._replace(a=self.a.outline(), b=self.b.outline(), mask=mask)

    def axes_of(self, source: Source) -> tuple[list[int], list[int]]:
        """Return the axes of the batch, and those of an image."""
        axes = list(range(len(source.shape)))
        if self.channel_axis is not None and source.name != "mask":
            del axes[self.channel_axis]
        return axes[: -self.ndim], axes[-self.ndim :]


def scores(jobs: Sequence[Job], scene: Scene, memory: int) -> list[Any]:
    """Compute all jobs in one pass over the pixels."""
    batch, pieces = jobs[0].batch, [job.pieces for job in jobs]
    groups = list(parts_of_groups(pieces, scene, batch, plan(jobs, scene, memory)))
    return [
        _finished(job, [(group, parts[k]) for group, parts in groups], batch)
        for k, job in enumerate(jobs)
    ]


def _finished(job: Job, groups: list[tuple[Any, Part]], batch: tuple[int, ...]) -> Any:
    """Finish the groups of a batch, and join them."""
    values: Any = None
    scored: Any = None
    finite = np.empty(batch, np.bool_)
    for group, part in groups:
        result = job.pieces.finish(part)
        if values is None:
            values, scored = np.empty((2, *batch, np.shape(result.values)[-1]))
        values[group], scored[group], finite[group] = result.values, result.scored, part.finite
    return job.finish(Scores(values, scored), finite)


class Layout(NamedTuple):
    """How images are divided."""

    sides: tuple[int, ...]
    extent: tuple[int, ...]
    """Sides of the blocks, without what they read around them."""
    needs: Needs
    together: int
    """Elements of the batch that are read at once, where these are small."""
    at_once: int
    """Pixels that are computed at once."""

    def blocks(self) -> Iterator[tuple[Place, Place]]:
        """Yield the pixels that each block owns, and those that it reads."""
        for own in blocks(self.sides, self.extent):
            yield own, self.needs.region(own, self.sides)

    def parts(self, own: Place, group: Place) -> Iterator[Place]:
        """Yield the parts of a block that are computed at once, of a group of the batch."""
        return divided(own, max(1, self.at_once // math.prod(lengths_of(group))))


def plan(jobs: Sequence[Job], scene: Scene, memory: int, *, further: int = 0) -> Layout:
    """Divide images so that the blocks of all jobs fit into the memory.

    `further` are bytes that are kept for each pixel of a block besides the images.
    """
    sides = jobs[0].images.sides
    needs = Needs.of([one.pieces for one in jobs], len(sides))
    channels = jobs[0].images.x.shape[-3]
    of_pixel = sum(
        source.dtype.itemsize * (1 if source is scene.mask else channels)
        for source in scene.sources
    )
    at_once = memory // WORKING_SHARE // (WORKING_BYTES * channels)
    most = max((memory - memory // WORKING_SHARE) // (COPIES * of_pixel + further), 1)
    extent = extents(sides, scene.chunks(), needs, most)
    return Layout(sides, extent, needs, max(1, most // math.prod(sides)), max(1, at_once))


def parts_of_batch(batch: tuple[int, ...], together: int) -> Iterator[Place]:
    """Yield places in the batch that hold at most so many elements."""
    lengths = list(batch)
    for axis in range(len(lengths)):
        others = math.prod(lengths[axis + 1 :])
        lengths[axis] = min(lengths[axis], max(1, together // max(1, others)))
        if lengths[axis] > 1:
            break
    yield from blocks(batch, tuple(max(1, n) for n in lengths))


def regions(
    scene: Scene, batch: tuple[int, ...], layout: Layout
) -> Iterator[tuple[Place, Place, Place, list[Array]]]:
    """Yield a group of the batch, what a block owns, the region around it, and what is read there.

    The next region is read while the caller computes.
    """

    def steps() -> Iterator[tuple[Any, ...]]:
        for group in parts_of_batch(batch, layout.together):
            readers = [Rolling(source, scene, group) for source in scene.sources]
            for own, region in layout.blocks():
                yield group, own, region, readers

    def read(group: Place, own: Place, region: Place, readers: list[Rolling]) -> list[Array]:
        return [one.read(region) for one in readers]

    with ThreadPoolExecutor(1, "imsim-reader") as reader:
        last: Any = None
        for step in chain(steps(), [None]):
            arrays = last and last[1].result()
            coming = step and (step, reader.submit(read, *step))
            if last:
                group, own, region, _ = last[0]
                yield group, own, region, arrays
            last = coming


def parts_of_groups(
    pieces: list[Pieces], scene: Scene, batch: tuple[int, ...], layout: Layout
) -> Iterator[tuple[Place, list[Part]]]:
    """Yield groups of the batch, and the merged parts of all blocks of each metric."""
    for group, steps in groupby(regions(scene, batch, layout), itemgetter(0)):
        merged: list[Any] = [None] * len(pieces)
        for _, whole, region, arrays in steps:
            for own in layout.parts(whole, group):
                for k, metric in enumerate(pieces):
                    part = metric.part(scene.block(arrays, region, own, metric))
                    merged[k] = part if merged[k] is None else metric.merge(merged[k], part)
        yield group, merged


class Rolling:
    """Reads regions of one array, one after the other, and what two of them share once."""

    def __init__(self, source: Source, scene: Scene, group: Place) -> None:
        self._source, self._scene, self._group = source, scene, group
        self._last: tuple[Place, Array] | None = None

    def read(self, region: Place) -> Array:
        """Read a region of the spatial axes."""
        index = self._scene.index_of(self._source, self._group, region)
        axis = self._scene.axes_of(self._source)[1][0]
        room = np.empty(lengths_of(tuple(index)), self._source.dtype)

        def rows(start: int, stop: int, first: int) -> tuple[slice, ...]:
            """Return the place of some rows in an array whose rows begin with `first`."""
            return (*[slice(None)] * axis, slice(start - first, stop - first))

        begin, end = region[0].start, region[0].stop
        if self._last is not None:
            before, array = self._last
            if before[1:] == region[1:] and before[0].start <= begin < before[0].stop:
                start, begin = begin, min(before[0].stop, end)
                room[rows(start, begin, start)] = array[rows(start, begin, before[0].start)]
        if begin < end:
            index[axis] = slice(begin, end)
            self._source.read_into(room[rows(begin, end, region[0].start)], tuple(index))
        self._last = region, room
        return room
