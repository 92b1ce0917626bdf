"""Between the calls of users and the blocks: what is stored, and what is done with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from imsim.checking import check, check_for
from imsim.errors import (
    DTypeError,
    EmptyMaskWarning,
    ImsimError,
    OptionError,
    ShapeError,
    silent,
    warn,
)
from imsim.inputs import as_array, kind
from imsim.portable.arrays import is_tensor
from imsim.portable.pair import Scores
from imsim.registry import Metric
from imsim.scenes.ends import ValueEnds
from imsim.scenes.pieces import Part
from imsim.scenes.scoring import Job, Scene, group_of, job, parts_of_batch, plan, regions, scores
from imsim.scenes.sources import Source, in_memory, is_stored
from imsim.typing import Array
from imsim.validation import Images, check_memory

SHARE_READ_AT_ONCE = 4
"""One part of so many of the memory holds images that are simply read as a whole."""


class Planned(NamedTuple):
    """Marks an argument of a metric that is to be prepared, and not yet computed; see `compare`."""

    value: Any


class Given(NamedTuple):
    """The stored images of a call."""

    a: Any
    b: Any
    mask: Any
    is_planned: bool


def stored(a: Any, b: Any, mask: Any, weights: Any) -> Given | None:
    """Return the arguments if any of them is stored, or planned; else None."""
    if (
        type(a) is np.ndarray
        and type(b) is np.ndarray
        and (mask is None or type(mask) is np.ndarray)
    ):
        return None
    is_planned = isinstance(a, Planned)
    if is_planned:
        a, b, mask = a.value, b.value, None if mask is None else mask.value
    elif is_tensor(a) or is_tensor(b) or not any(map(is_stored, (a, b, mask))):
        return None
    if weights is not None:
        raise OptionError(
            "weights= are not taken for images that are read in blocks",
            "pass images that fit into memory, e.g. numpy.asarray(a), or mask=",
        )
    return Given(a, b, mask, is_planned)


def read_at_once(given: Given, memory: Any) -> tuple[Any, Any, Any] | None:
    """Read images that are small against the memory as a whole; None: they are not."""
    values = [v for v in (given.a, given.b, given.mask) if v is not None]
    size = sum(Source("a", v).nbytes for v in values if is_stored(v))
    if given.is_planned or SHARE_READ_AT_ONCE * size > check_memory(memory):
        return None
    found = []
    for name, value in zip(("a", "b", "mask"), given[:3], strict=True):
        found.append(_read(name, value) if is_stored(value) else value)
    return found[0], found[1], found[2]


def refuse(facts: Metric) -> tuple[Any, Any, Any]:
    """Refuse images that do not fit into memory."""
    raise ImsimError(
        f"{facts.name} has no value for images that are read in blocks: {facts.no_pieces}",
        "pass images that fit into memory, e.g. numpy.asarray(a), or a larger memory=",
    )


def _read(name: str, value: Any) -> Array:
    """Read the whole of a stored array, with the checks of its parts."""
    if isinstance(value, np.ndarray):
        return in_memory(value)
    source = Source(name, value)
    room = np.empty(source.shape, source.dtype)
    source.read_into(room, tuple(slice(0, side) for side in source.shape))
    return room


def scene_of(given: Given, data_range: Any, channel_axis: int | None, ndim: int) -> Scene:
    """Return the sources of the arguments."""
    sources = []
    for name, value in zip(("a", "b", "mask"), given[:3], strict=True):
        if value is not None and not is_stored(value):
            value = as_array(name, value)
            if not isinstance(value, np.ndarray):
                raise DTypeError(
                    f"{name} is a {kind(value)}, and is compared with what is read in blocks",
                    f"pass numpy.asarray({name})",
                )
        sources.append(None if value is None else Source(name, value))
    a, b, mask = sources
    if a is None or b is None:
        raise ImsimError("a or b is None", "pass two images")
    if channel_axis is not None and channel_axis >= 0 and len(a.shape) != len(b.shape):
        channel_axis = channel_axis - len(a.shape)  # refused by the check of the stand-ins
    return Scene(a, b, mask, channel_axis, int(ndim), data_range)


def checked(
    facts: Metric,
    scene: Scene,
    least: Any,
    needs_data_range: bool | None,
    by_kernel: bool,
) -> tuple[Images, Array | None]:
    """Check shapes, dtypes and options by arrays that take no memory."""
    return check_for(
        facts,
        (*_stand_ins(scene), scene.data_range),
        scene.channel_axis,
        scene.ndim,
        needs_data_range,
        least,
        by_kernel=by_kernel,
    )


def checked_for_all(scene: Scene) -> tuple[Images, Array | None]:
    """Check what is wrong for every metric."""
    a, b, mask = _stand_ins(scene)
    return check(
        a,
        b,
        mask=mask,
        weights=None,
        data_range=scene.data_range,
        channel_axis=scene.channel_axis,
        ndim=scene.ndim,
    )


def _stand_ins(scene: Scene) -> tuple[Any, Any, Any]:
    """Return arrays of the shapes and dtypes of the sources."""
    a, b = scene.a.stand_in(), scene.b.stand_in()
    mask = None
    if scene.mask is not None:
        mask = scene.mask.stand_in()
        if mask.dtype.kind in "iu":  # the numbers are checked as they are read
            mask = np.broadcast_to(np.zeros((), np.bool_), mask.shape)
    return a, b, mask


def score_of_scene(
    facts: Metric,
    given: Given,
    data_range: Any,
    memory: Any,
    by_kernel: bool,
    finished: Callable[[str, Scores, Images, Array | None, Array], Any],
    *,
    channel_axis: int | None,
    ndim: int = 2,
    needs_data_range: bool | None = None,
    least_side: Any = None,
    weight_power: float = 0,
    **options: Any,
) -> Any:
    """Score images in blocks; those that are `Planned` are prepared only."""
    scene = scene_of(given, data_range, channel_axis, ndim)
    least = facts.least_side if least_side is None else least_side
    images, valid = checked(facts, scene, least, needs_data_range, by_kernel)

    def finish(result: Scores, finite: Array) -> Any:
        return finished(facts.name, result, images, valid, finite)

    prepared = job(facts, images, valid, by_kernel, options, finish)
    if given.is_planned:
        return prepared
    return scores([prepared], scene, check_memory(memory))[0]


def map_of_scene(
    facts: Metric,
    mapped: Callable[..., Array],
    given: Given,
    data_range: Any,
    memory: Any,
    out: Any,
    by_kernel: bool,
    *,
    channel_axis: int | None,
    ndim: int = 2,
    needs_data_range: bool | None = None,
    least_side: Any = None,
    weight_power: float = 0,
    **options: Any,
) -> Any:
    """Write the map of images block by block, into `out` or an array in memory."""
    scene = scene_of(given, data_range, channel_axis, ndim)
    least = facts.map_least_side if least_side is None else least_side
    images, valid = checked(facts, scene, least, needs_data_range, by_kernel)
    prepared = job(facts, images, valid, by_kernel, options, lambda result, _: result)
    room = check_memory(memory)
    batch = images.batch_shape
    if valid is not None:
        batch = np.broadcast_shapes(batch, valid.shape[:-3])
    shape = (*batch, *images.sides)
    target = _target(out, shape, images.dtype, room)
    if callable(least):
        least = least(*images.frame)
    sides = least if isinstance(least, tuple) else (least,) * len(images.sides)
    if _is_coarse(prepared):
        any_scored = _write_coarse(prepared, scene, mapped, batch, room, target)
    else:
        any_scored = _write_local(prepared, scene, mapped, sides, batch, room, target)
    if not any_scored.all():
        warn(
            f"{facts.name}: of some image no position could be scored, which is NaN in the map; "
            "widen the mask, or leave such images out",
            EmptyMaskWarning,
        )
    return target


def _is_coarse(one: Job) -> bool:
    """Whether the map is that of a coarser grid, which needs all pixels first."""
    from imsim.scenes.cells import Coarse

    return isinstance(one.pieces, Coarse)


def written(found: Array, out: Any) -> Any:
    """Write a map into what the user gives for it."""
    target = _target(out, tuple(found.shape), found.dtype, None)
    target[...] = found if isinstance(target, np.ndarray) else np.asarray(found)
    return target


def _target(out: Any, shape: tuple[int, ...], dtype: Any, room: int | None) -> Any:
    """Return where to write a map; refuse what does not take it."""
    if out is None:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if room is not None and size > room:
            raise OptionError(
                f"a map of {'x'.join(map(str, shape))} numbers takes {size / 1e6:.0f} MB, memory= "
                f"allows {room / 1e6:.0f} MB",
                "pass out=, an array of Zarr or numpy.lib.format.open_memmap, or a larger memory=",
            )
        return np.full(shape, np.nan, dtype)
    given = getattr(out, "shape", None)
    if given is None or tuple(given) != shape or not hasattr(out, "__setitem__"):
        raise ShapeError(
            f"out is a {kind(out)} of shape {given}", f"expected an array of shape {shape}"
        )
    if np.dtype(out.dtype).kind != "f":
        raise DTypeError(f"out has dtype {out.dtype}", "expected float32 or float64")
    return out


def _write_local(
    one: Job,
    scene: Scene,
    mapped: Callable[..., Array],
    least: tuple[int, ...],
    batch: tuple[int, ...],
    memory: int,
    target: Any,
) -> Array:
    """Write the map of each block; return of which of the batch some position is scored."""
    layout = plan([one], scene, memory)
    any_scored = np.zeros(batch, np.bool_)
    with ThreadPoolExecutor(1, "imsim-reader") as reader:
        for group in parts_of_batch(batch, layout.together):
            for own, region, arrays in regions(scene, batch, group, layout, reader):
                found = map_of_block(one, scene, mapped, least, arrays, region, own)
                place = (*group_of(group, batch), *own)
                target[place] = found
                any_scored[group] |= ~np.isnan(found).all(axis=tuple(range(-scene.ndim, 0)))
    return any_scored if scene.mask is not None else np.ones(batch, np.bool_)


def map_of_block(
    one: Job,
    scene: Scene,
    mapped: Callable[..., Array],
    least: tuple[int, ...],
    arrays: list[Array],
    region: tuple[slice, ...],
    own: tuple[slice, ...],
) -> Array:
    """Return the map of the pixels that a block owns, from all those that it reads."""
    wanted = one.pieces.read(own)
    cut = scene.cut(arrays, region, wanted)
    sides = [part.stop - part.start for part in wanted]
    if any(side < needed for side, needed in zip(sides, least, strict=True)):
        batch = [scene.batch_of(array, k) for k, array in enumerate(cut)]
        lengths = [part.stop - part.start for part in own]
        return np.full((*np.broadcast_shapes(*batch), *lengths), np.nan, one.images.dtype)
    mask = cut[2] if len(cut) > 2 else None
    with silent(EmptyMaskWarning):
        found = mapped(*cut[:2], mask, scene.data_range, None, least_side=1)
    within = tuple(
        slice(part.start - whole.start, part.stop - whole.start)
        for part, whole in zip(own, wanted, strict=True)
    )
    index: Any = (..., *within)
    return np.asarray(found)[index]


def _write_coarse(
    one: Job,
    scene: Scene,
    mapped: Callable[..., Array],
    batch: tuple[int, ...],
    memory: int,
    target: Any,
) -> Array:
    """Write the map of the cells, each over its block of pixels."""
    layout = plan([one], scene, memory)
    any_scored = np.zeros(batch, np.bool_)
    with ThreadPoolExecutor(1, "imsim-reader") as reader:
        for group in parts_of_batch(batch, layout.together):
            part: Part | None = None
            for own, region, arrays in regions(scene, batch, group, layout, reader):
                more = one.pieces.part(scene.block(arrays, region, own, one.pieces))
                part = more if part is None else one.pieces.merge(part, more)
            if part is None:
                continue
            cells, step = coarse_map(one, mapped, part)
            any_scored[group] |= ~np.isnan(cells).all(axis=(-2, -1))
            for own, _, _ in layout.blocks():
                target[(*group_of(group, batch), *own)] = spread(cells, step, own)
    return any_scored if scene.mask is not None else np.ones(batch, np.bool_)


def coarse_map(one: Job, mapped: Callable[..., Array], part: Part) -> tuple[Array, int]:
    """Return the map of the cells, and their size."""
    found = one.pieces.coarse(part)
    if found is None:
        raise ImsimError(f"{one.facts.name} has no cells")
    images, valid, step = found
    x, y = (v if images.has_channels else v[..., 0, :, :] for v in (images.x, images.y))
    mask = None if valid is None else valid[..., 0, :, :]
    axis = -3 if images.has_channels else None
    with silent(EmptyMaskWarning):
        cells = mapped(
            x, y, mask, images.data_range, None, channel_axis=axis, **one.pieces.coarse_options
        )
    cells = np.where(part.finite[..., None, None] | (~one.pieces.is_global), cells, np.nan)
    return cells.astype(one.images.dtype, copy=False), step


def spread(cells: Array, step: int, own: tuple[slice, ...]) -> Array:
    """Repeat each cell over its pixels, of which a block owns some."""
    for axis, one in zip((-2, -1), own, strict=True):
        cells = np.take(cells, np.arange(one.start, one.stop) // step, axis=axis)
    return cells


def planned(values: tuple[Any, ...]) -> list[Any]:
    """Mark arguments, which are then prepared only."""
    return [None if value is None else Planned(value) for value in values]


def scene_scores(jobs: list[Job], scene: Scene, memory: Any) -> list[Any]:
    """Compute prepared metrics in one pass."""
    return scores(jobs, scene, check_memory(memory))


def value_ends(like: Job) -> Job:
    """Prepare the search for the least and the largest value, in the pass of other metrics."""
    pieces = ValueEnds(like.pieces.whole)

    def finish(result: Scores, _: Array) -> tuple[float, float]:
        return float(result.values.min()), float(result.scored.max())

    return like._replace(pieces=pieces, finish=finish)
