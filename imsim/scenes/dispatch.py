"""Between the calls of users and the blocks: what is stored, and what is done with it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from imsim.checking import check_for
from imsim.errors import DTypeError, ImsimError, OptionError, PrecisionWarning, each_once
from imsim.inputs import as_array, kind
from imsim.masks import batch_of
from imsim.portable.arrays import is_tensor
from imsim.portable.pair import Scores
from imsim.registry import Metric
from imsim.scenes import lazy, maps
from imsim.scenes.moments import ValueEnds
from imsim.scenes.pieces import Whole
from imsim.scenes.scoring import Job, Scene, scores
from imsim.scenes.sources import Source, is_stored
from imsim.typing import Array
from imsim.validation import MEMORY_HINT, check_channel_axis, check_memory, warn_of_width

SHARE_READ_AT_ONCE = 4
"""Images that take at most one part of so many of the memory are read as a whole."""


class Planned(NamedTuple):
    """Marks an argument of a metric that is to be prepared, and not yet computed; see `compare`."""

    value: Any


class Given(NamedTuple):
    """The stored images of a call."""

    a: Any
    b: Any
    mask: Any
    is_planned: bool
    weights: Any = None


def are_bare(a: Any, b: Any, mask: Any, weights: Any) -> bool:
    """Whether all are NumPy's own arrays, whose axes have no names; the last two may be None."""
    return (
        type(a) is np.ndarray
        and type(b) is np.ndarray
        and (mask is None or type(mask) is np.ndarray)
        and (weights is None or type(weights) is np.ndarray)
    )


def read(a: Any, b: Any, mask: Any, weights: Any, memory: Any) -> Given | tuple[Any, Any, Any, Any]:
    """Return a, b, mask and weights in memory, or as `Given` where these are read in blocks."""
    if are_bare(a, b, mask, weights):
        return a, b, mask, weights
    is_planned = isinstance(a, Planned)
    if is_planned:
        a, b, mask = a.value, b.value, None if mask is None else mask.value
    elif is_tensor(a) or is_tensor(b) or not any(map(_is_read, (a, b, mask))):
        return a, b, mask, weights
    given = Given(a, b, mask, is_planned, weights)
    values = {"a": a, "b": b, "mask": mask, "weights": weights}
    is_masked = mask is not None or weights is not None
    stored = {k: Source(k, v, is_masked=is_masked) for k, v in values.items() if is_stored(v)}
    size = sum(source.nbytes for source in stored.values())
    is_small = SHARE_READ_AT_ONCE * size <= check_memory(memory)
    if is_small and not (is_lazy(given) or is_planned):
        for key, source in stored.items():
            if not isinstance(source.value, np.ndarray):
                values[key] = source[(slice(None),) * source.ndim]
        return values["a"], values["b"], values["mask"], values["weights"]
    if weights is not None:
        raise OptionError(
            "weights= with images that are read in blocks", f"{_in_memory(given)}, or mask="
        )
    return given


def is_lazy(given: Given) -> bool:
    """Whether any of the arguments is an array of Dask."""
    return any(map(lazy.is_lazy, given[:3]))


def _is_read(value: Any) -> bool:
    """Whether a value is not in memory."""
    return is_stored(value) or lazy.is_lazy(value)


def _in_memory(given: Given) -> str:
    """Say how the images come to be read as a whole."""
    return "compute a and b first, e.g. a.compute()" if is_lazy(given) else MEMORY_HINT


def scene_of(given: Given, data_range: Any, channel_axis: int | None, ndim: int) -> Scene:
    """Return the sources of the arguments."""
    check_channel_axis(channel_axis)
    sources = []
    for name, value in zip(("a", "b", "mask"), given[:3], strict=True):
        if value is not None and not _is_read(value):
            value = as_array(name, value)
            if not isinstance(value, np.ndarray):
                raise DTypeError(
                    f"{name} is a {kind(value)}, and is compared with what is read in blocks",
                    f"pass numpy.asarray({name})",
                )
        is_masked = given.mask is not None
        sources.append(None if value is None else Source(name, value, is_masked=is_masked))
    a, b, mask = sources
    if a is None or b is None:
        raise ImsimError("a or b is None", "pass two images")
    if channel_axis is not None and channel_axis >= 0 and len(a.shape) != len(b.shape):
        channel_axis = channel_axis - len(a.shape)  # refused by the check of the stand-ins
    return Scene(a, b, mask, channel_axis, int(ndim), data_range)


def stand_ins(scene: Scene) -> tuple[Any, Any, Any]:
    """Return arrays of the shapes and dtypes of the sources."""
    a, b = scene.a.stand_in(), scene.b.stand_in()
    mask = None
    if scene.mask is not None:
        mask = scene.mask.stand_in()
        if mask.dtype.kind in "iu":  # the numbers are checked as they are read
            mask = np.broadcast_to(np.zeros((), np.bool_), mask.shape)
    return a, b, mask


def _prepared(
    facts: Metric,
    given: Given,
    data_range: Any,
    by_kernel: bool,
    usual_side: Any,
    finish: Callable[[Scores, Array], Any] | None,
    *,
    channel_axis: int | None,
    ndim: int = 2,
    needs_data_range: bool | None = None,
    least_side: Any = None,
    **options: Any,
) -> tuple[Scene, Job, Any]:
    """Check a call; return the sources, the metric, and the pixels that a side needs."""
    scene = scene_of(given, data_range, channel_axis, ndim)
    least = usual_side if least_side is None else least_side
    others = scene.channel_axis, ndim, needs_data_range, least
    images, valid = check_for(facts, (*stand_ins(scene), data_range), *others, by_kernel=by_kernel)
    if facts.pieces is None:
        raise ImsimError(
            f"{facts.name} has no value for images that are read in blocks: {facts.no_pieces}",
            _in_memory(given),
        )
    known = images.sides, images.x.shape[-3], images.has_channels, images.dtype, images.data_range
    pieces = facts.pieces(Whole(*known, by_kernel, facts.of_differences), **options)
    if not given.is_planned:
        warn_of_width(images)
    return scene, Job(facts, pieces, images, batch_of(images, valid), finish), least


def score_of_scene(
    facts: Metric,
    given: Given,
    data_range: Any,
    memory: Any,
    by_kernel: bool,
    finished: Callable[[str, Scores, Array], Any],
    **arguments: Any,
) -> Any:
    """Score images in blocks; those that are `Planned` are prepared only."""
    finish = functools.partial(finished, facts.name)
    call = facts, given, data_range, by_kernel, facts.least_side, finish
    scene, prepared, _ = _prepared(*call, **arguments)
    return prepared if given.is_planned else scene_scores([prepared], scene, memory)[0]


def map_of_scene(
    facts: Metric,
    mapped: Callable[..., Array],
    given: Given,
    data_range: Any,
    memory: Any,
    out: Any,
    by_kernel: bool,
    **arguments: Any,
) -> Any:
    """Write the map of images block by block, into `out` or an array in memory."""
    call = facts, given, data_range, by_kernel, facts.map_least_side, None
    scene, prepared, least = _prepared(*call, **arguments)
    images, room = prepared.images, check_memory(memory)
    if callable(least):
        least = least(*images.frame)
    sides = least if isinstance(least, tuple) else (least,) * len(images.sides)
    of_blocks = maps.Mapped(prepared.pieces, mapped, sides, images.dtype)
    if is_lazy(given):
        if out is not None:
            raise OptionError(
                "out= with arrays of Dask, whose map is lazy", "leave it out, and store the map"
            )
        return lazy.mapped(prepared, scene, of_blocks)
    for source in scene.sources:
        if out is not None and source.is_same_as(out):
            raise OptionError(
                f"out is {source.name}, of which pixels would still be read when they are replaced",
                "pass another array",
            )
    target = maps.target(out, (*prepared.batch, *images.sides), images.dtype, room)
    job = prepared, scene, of_blocks, room, target
    maps.check_scored(facts.name, each_once(PrecisionWarning, lambda: maps.write(*job)))
    return target


def planned(values: tuple[Any, ...]) -> list[Any]:
    """Mark arguments, which are then prepared only."""
    return [None if value is None else Planned(value) for value in values]


def scene_scores(
    jobs: list[Job],
    scene: Scene,
    memory: Any,
    told_ends: Callable[[float, float], None] | None = None,
) -> list[Any]:
    """Compute prepared metrics in one pass, or prepare it for arrays of Dask.

    `told_ends` is called with the least and the largest value, which are found in the same pass.
    """
    ends = []
    if told_ends is not None:
        finish = functools.partial(_tell_ends, told_ends)
        ends = [jobs[0]._replace(pieces=ValueEnds(jobs[0].pieces.whole), finish=finish)]
    if any(lazy.is_lazy(source.value) for source in scene.sources):
        return lazy.scores(jobs, scene, ends)
    room, all_jobs = check_memory(memory), [*jobs, *ends]
    found: list[Any] = each_once(PrecisionWarning, lambda: scores(all_jobs, scene, room))
    return found[: len(jobs)]


def _tell_ends(told: Callable[[float, float], None], found: Scores, _: Array) -> None:
    told(float(found.values.min()), float(found.scored.max()))
