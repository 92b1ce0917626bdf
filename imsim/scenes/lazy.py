"""Dask arrays: a task for each block, a tree that merges, and nothing computed.

A block is a chunk of the reference, or several neighbouring ones that are small: a task costs as
much time as thousands of pixels. It takes the chunks that its block reads, its own and those
beside it, and cuts them itself.
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from imsim.caches import SPARES
from imsim.errors import DTypeError, ShapeError
from imsim.inputs import as_array, kind
from imsim.scenes.local import Coarse
from imsim.scenes.maps import Mapped, check_scored, has_cells, spread
from imsim.scenes.pieces import Part, Pieces
from imsim.scenes.scoring import Job, Needs, Scene
from imsim.scenes.sources import Place, Source, lengths_of
from imsim.typing import Array
from imsim.workers import workers

Index = tuple[int, ...]


class Cut(NamedTuple):
    """The part of a region that lies in one chunk."""

    chunk: Index
    """Number of the chunk along each side."""
    source: Place
    """Where the part lies in the chunk."""
    target: Place
    """Where it lies in the region."""
    sides: Index
    """Lengths of the chunk."""


def bounds_of(chunks: Sequence[int]) -> tuple[int, ...]:
    """Return where the chunks along one side begin, and where the last one ends."""
    return (0, *itertools.accumulate(chunks))


def gathered(chunks: Sequence[Sequence[int]], most: int) -> list[tuple[int, ...]]:
    """Join neighbouring chunks, into blocks of at most `most` pixels that are rather square."""
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


def parts_of(region: Place, bounds: Sequence[Sequence[int]]) -> list[Cut]:
    """Cut a region along the bounds of the chunks."""
    found = [list(_along(*pair)) for pair in zip(region, bounds, strict=True)]
    return [Cut(*zip(*sides, strict=True)) for sides in itertools.product(*found)]


def _along(own: slice, bounds: Sequence[int]) -> Iterator[tuple[int, slice, slice, int]]:
    """Yield chunk, source, target and length along one side; empty chunks have no part."""
    for chunk in range(bisect_right(bounds, own.start) - 1, bisect_left(bounds, own.stop)):
        first, end = bounds[chunk : chunk + 2]
        start, stop = max(own.start, first), min(own.stop, end)
        if start < stop:
            source, target = (slice(start - n, stop - n) for n in (first, own.start))
            yield chunk, source, target, end - first


def joined(arrays: Sequence[Array], parts: Sequence[Cut], region: Place) -> Array:
    """Join the parts of a region; one that is a part of a single chunk is a view."""
    if len(arrays) == 1:
        return arrays[0][parts[0].source]
    found = SPARES.array(lengths_of(region), arrays[0].dtype)
    for array, part in zip(arrays, parts, strict=True):
        found[part.target] = array[part.source]
    return found


TOGETHER = 16
"""Parts that one task merges."""
TASK_VALUES = 1 << 20
"""Up to so many pixels, times channels, small chunks are scored by one task."""


def is_lazy(value: Any) -> bool:
    """Whether a value is an array of Dask."""
    dask = sys.modules.get("dask.array")
    return dask is not None and isinstance(value, dask.Array)


def computed(values: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Compute lazy values in one pass; `options` are those of `dask.compute`."""
    from dask.base import compute

    found: dict[str, Any] = compute(dict(values), **options)[0]
    return found


class BlockTask(NamedTuple):
    """What a task does with the chunks that a block reads."""

    pieces: list[Pieces]
    scene: Scene
    own: Place
    region: Place
    sources: list[tuple[Place, list[Cut]]]
    """What is read of each array, and in which parts."""

    def arrays(self, chunks: Iterable[Array]) -> list[Array]:
        """Join the chunks of each array; those of one array come before those of the next."""
        coming = iter(chunks)
        found = []
        for source, (region, parts) in zip(self.scene.sources, self.sources, strict=True):
            own = [_bare(source, part.sides, next(coming)) for part in parts]
            found.append(joined(own, parts, region))
        return found

    def score(self, *chunks: Array) -> list[Part]:
        """Return the part of each metric."""
        arrays = self.arrays(chunks)
        with workers(1):  # the scheduler has threads of its own
            return [
                pieces.part(self.scene.block(arrays, self.region, self.own, pieces))
                for pieces in self.pieces
            ]

    def map(self, mapped: Mapped, *chunks: Array) -> Array:
        """Return the map of the pixels that the block owns."""
        with workers(1):
            return mapped.block(self.scene, self.arrays(chunks), self.region, self.own)


def _bare(source: Source, sides: Index, chunk: Any) -> Array:
    """Return a chunk as an array; refuse one that is not what the Dask array says of it."""
    array = as_array(source.name, chunk)
    if not isinstance(array, np.ndarray):
        raise DTypeError(
            f"{source.name} has chunks of the type {kind(chunk)}",
            f"pass {source.name}.map_blocks(numpy.asarray)",
        )
    if (array.dtype.kind, array.dtype.itemsize) != (source.dtype.kind, source.dtype.itemsize):
        raise DTypeError(
            f"{source.name} has dtype {source.dtype}, a chunk of it has {array.dtype}",
            f"pass {source.name}.map_blocks(numpy.asarray, dtype={str(array.dtype)!r})",
        )
    if array.shape != sides:
        raise ShapeError(
            f"{source.name} has a chunk of shape {sides}, which is {array.shape} when it is "
            "computed",
            "say what it is, e.g. the chunks= of dask.array.map_blocks",
        )
    return array


class Ends(NamedTuple):
    """What the last tasks do: those that merge, and those that finish."""

    pieces: list[Pieces]
    finish: list[Callable[..., Any]]
    """Functions that finish the metrics, and then those that only tell what they find."""
    metric: str
    """The name of the first one."""
    is_masked: bool = False

    def merge(self, parts: list[list[Part]]) -> list[Part]:
        """Merge the parts of several blocks, metric by metric."""
        of_metrics = zip(*parts, strict=True)
        return [
            functools.reduce(pieces.merge, own)
            for pieces, own in zip(self.pieces, of_metrics, strict=True)
        ]

    def scores(self, k: int, parts: list[Part]) -> Array:
        """Return the scores of the k-th metric."""
        with workers(1):
            found = self.pieces[k].finish(parts[k])
        return np.asarray(self.finish[k](found, parts[k].finite), np.float64)[()]

    def told(self, first: int, parts: list[Part]) -> list[Part]:
        """Finish all from `first` on, which tell what they find; return the parts as they are."""
        for k in range(first, len(self.pieces)):
            self.finish[k](self.pieces[k].finish(parts[k]), parts[k].finite)
        return parts

    def cells(self, mapped: Mapped, parts: list[Part]) -> tuple[Array, int]:
        """Return the map of the cells, and their size."""
        with workers(1):
            cells, step = mapped.cells(parts[0])
        if self.is_masked:
            check_scored(self.metric, has_cells(cells, parts[0]))
        return cells, step


class Grid:
    """The chunks of a scene, those of the reference, and its blocks of one or several chunks."""

    def __init__(
        self, scene: Scene, batch: Index, sides: Index, pieces: list[Pieces], is_map: bool
    ) -> None:
        import dask.array

        self.scene = scene.outline()
        self._pieces, self.sides, self.batch = pieces, sides, batch
        self._needs = Needs.of(pieces, len(sides))
        lazy = [source for source in scene.sources if is_lazy(source.value)]
        self.chunks = self._chunks(lazy)
        self.arrays = []
        for source in scene.sources:
            array = source.value
            if not is_lazy(array):
                plain = array if type(array) is np.ndarray else source.unmapped()
                array = dask.array.from_array(plain, chunks=self._like(source), name=False)
            self.arrays.append(array)
        self._bounds = [[bounds_of(along) for along in array.chunks] for array in self.arrays]
        self.blocks = self._blocks(is_map)

    def _chunks(self, lazy: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
        """Return the chunks of the batch and of the sides: of the first array that has any."""
        chunks: list[tuple[int, ...] | None] = [None] * (len(self.batch) + len(self.sides))
        whole = [*self.batch, *self.sides]
        for source in lazy:
            leading, own = self.scene.axes_of(source)
            for place, axis in enumerate(reversed(leading + own), 1):
                along = source.value.chunks[axis]
                if chunks[-place] is None and sum(along) == whole[-place]:
                    chunks[-place] = tuple(n for n in along if n > 0)
        return tuple((n,) if c is None else c for c, n in zip(chunks, whole, strict=True))

    def _blocks(self, is_map: bool) -> tuple[tuple[int, ...], ...]:
        """Join small chunks, along the sides first; a map has the chunks of its batch."""
        n = len(self.batch)
        batch, images = self.chunks[:n], self.chunks[n:]
        values = TASK_VALUES // self._pieces[0].whole.channels
        joined = gathered(images, values // math.prod(map(max, batch)))
        if not is_map:
            batch = tuple(gathered(batch, values // math.prod(map(max, joined))))
        return (*batch, *joined)

    def _like(self, source: Source) -> tuple[Any, ...]:
        """Return chunks for an array that has none, those of the lazy ones where it has sides."""
        _, own = self.scene.axes_of(source)
        found = dict(zip(own, self.chunks[-len(own) :], strict=True))
        return tuple(found.get(axis, -1) for axis in range(source.ndim))

    def task(self, group: Place, own: Place) -> tuple[BlockTask, list[Any]]:
        """Return what a task does, and the keys of the chunks that it takes."""
        region = self._needs.region(own, self.sides)
        sources: list[tuple[Place, list[Cut]]] = []
        keys: list[Any] = []
        for source, array, bounds in zip(
            self.scene.sources, self.arrays, self._bounds, strict=True
        ):
            wanted = tuple(self.scene.index_of(source, group, region))
            parts = parts_of(wanted, bounds)
            sources.append((wanted, parts))
            keys += [(array.name, *part.chunk) for part in parts]
        return BlockTask(self._pieces, self.scene, own, region, sources), keys


def places(chunks: Sequence[Sequence[int]]) -> dict[Index, Place]:
    """Return what each chunk holds, by its place."""
    bounds = [bounds_of(along) for along in chunks]
    return {
        place: tuple(slice(b[k], b[k + 1]) for k, b in zip(place, bounds, strict=True))
        for place in itertools.product(*(range(len(along)) for along in chunks))
    }


def scores(jobs: Sequence[Job], scene: Scene, told: Sequence[Job]) -> list[Any]:
    """Return lazy scores of all jobs, which share the tasks of the chunks.

    Those of `told` say something as any of the scores is computed.
    """
    grid, ends, token = _prepared([*jobs, *told], scene, is_map=False)
    n = len(grid.batch)
    graph, merged = _merged(grid, ends, token)
    for place, key in merged.items() if told else ():
        merged[place] = (f"imsim-told-{token}", *place)
        graph[merged[place]] = (ends.told, len(jobs), key)
    found = []
    for k, job in enumerate(jobs):
        name = f"imsim-{job.facts.name}-{token}"
        own = {(name, *place): (ends.scores, k, key) for place, key in merged.items()}
        found.append(_array(name, {**graph, **own}, grid, grid.blocks[:n], np.float64))
    return found


def mapped(job: Job, scene: Scene, of_blocks: Mapped) -> Any:
    """Return a lazy map, whose chunks are those of the reference."""
    grid, ends, token = _prepared([job], scene, is_map=True)
    n = len(grid.batch)
    name = f"imsim-{job.facts.name}-map-{token}"
    graph: dict[Any, Any] = {}
    cells: dict[Index, Any] = {}
    if isinstance(job.pieces, Coarse):
        ends = ends._replace(is_masked=scene.mask is not None)
        graph, merged = _merged(grid, ends, token)
        for place, key in merged.items():
            cells[place] = (f"imsim-cells-{token}", *place)
            graph[cells[place]] = (functools.partial(ends.cells, of_blocks), key)
    images = places(grid.chunks[n:])
    for place, group in places(grid.chunks[:n]).items():
        for at, own in images.items():
            if cells:
                graph[(name, *place, *at)] = (functools.partial(spread, own), cells[place])
                continue
            block, keys = grid.task(group, own)
            graph[(name, *place, *at)] = (functools.partial(block.map, of_blocks), *keys)
    return _array(name, graph, grid, grid.chunks, job.images.dtype)


def _prepared(jobs: Sequence[Job], scene: Scene, *, is_map: bool) -> tuple[Grid, Ends, str]:
    import dask.base

    first = jobs[0]
    pieces = [job.pieces for job in jobs]
    grid = Grid(scene, first.batch, first.images.sides, pieces, is_map)
    names = [array.name for array in grid.arrays]
    metrics = [job.facts.name for job in jobs]
    others = scene.channel_axis, scene.ndim, grid.blocks
    token = dask.base.tokenize(names, metrics, pieces, *others)
    return grid, Ends(pieces, [job.finish for job in jobs], metrics[0]), token


def _merged(grid: Grid, ends: Ends, token: str) -> tuple[dict[Any, Any], dict[Index, Any]]:
    """Return the tasks of all parts, and the key of the merged one of each chunk of the batch."""
    n = len(grid.batch)
    graph: dict[Any, Any] = {}
    merged: dict[Index, Any] = {}
    images = places(grid.blocks[n:])
    for place, group in places(grid.blocks[:n]).items():
        keys: list[Any] = []
        for at, own in images.items():
            block, chunks = grid.task(group, own)
            keys.append((f"imsim-part-{token}", *place, *at))
            graph[keys[-1]] = (block.score, *chunks)
        level = 0
        while len(keys) > 1:
            parts = [keys[k : k + TOGETHER] for k in range(0, len(keys), TOGETHER)]
            above = [(f"imsim-merge-{token}", *place, level, k) for k in range(len(parts))]
            graph.update({key: (ends.merge, part) for key, part in zip(above, parts, strict=True)})
            keys, level = above, level + 1
        merged[place] = keys[0]
    return graph, merged


def _array(
    name: str, graph: dict[Any, Any], grid: Grid, chunks: Sequence[tuple[int, ...]], dtype: Any
) -> Any:
    import dask.array
    from dask.highlevelgraph import HighLevelGraph

    layers = HighLevelGraph.from_collections(name, graph, dependencies=grid.arrays)
    return dask.array.Array(layers, name, tuple(chunks), dtype=dtype)
