"""Large batches and volumes in parts: a formula takes tens of times the memory of its input."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from imsim.portable.arrays import (
    array_namespace,
    broadcast,
    is_compiling,
    is_of_jax,
    stacked,
    unstacked,
)
from imsim.portable.pair import Local, Pair
from imsim.typing import Array

Parts = tuple[Array | None, ...]


def in_chunks(
    function: Callable[[Pair], Parts], pair: Pair, planes: int, trailing: int, unit: int = 1
) -> Parts:
    """Call a function with at most `planes` planes of each image; join what it returns.

    Its results have the batch axes, one axis for the channels and `trailing` further ones. The
    `unit` last channels stay together: 1, or all of them. A traced batch is computed at once, to
    keep its graph small. A recorded gradient holds the intermediate values of all chunks.
    """
    given = (pair.x, pair.y, pair.mask, pair.weights)
    images = [v for v in given if v is not None]
    if any(map(_is_traced, images)):  # sizes may be symbols
        return function(pair)
    leading = broadcast(*(tuple(v.shape[:-2]) for v in images))
    axis = next((k for k, n in enumerate(leading) if n > 1), len(leading) - 1)
    is_whole = axis == len(leading) - 1 and unit > 1
    if is_whole or math.prod(leading) <= planes:
        return function(pair)
    n, place = leading[axis], axis - len(leading)
    step = max(1, planes // math.prod(leading[axis + 1 :]))
    parts = []
    for start in range(0, n, step):
        x, y, mask, weights = (
            None if v is None else _part(v, start, start + step, place - 2) for v in given
        )
        part = replace(pair, x=x, y=y, mask=mask, weights=weights)
        parts.append(in_chunks(function, part, planes, trailing, unit))
    joined = []
    for results in zip(*parts, strict=True):
        found = [v for v in results if v is not None]  # all of them, or none
        joined.append(pair.xp.concat(found, axis=place - trailing) if found else None)
    return tuple(joined)


def _part(values: Array, start: int, stop: int, axis: int) -> Array:
    """Return a part along an axis, counted from the last, unless it repeats one plane."""
    if values.ndim < -axis or values.shape[axis] == 1:
        return values
    return values[(..., slice(start, stop), *[slice(None)] * (-axis - 1))]


def _is_traced(values: Array) -> bool:
    return is_compiling() or (
        is_of_jax(values) and isinstance(values, sys.modules["jax"].core.Tracer)
    )


PIXELS = 1 << 21
"""Pixels of a slab, about: a formula then takes 0.5 GB at a time."""


def in_slabs(formula: Callable[[Pair], Local], pair: Pair, reach: int, *, step: int = 1) -> Local:
    """Return the local values that a formula finds, slab by slab where a volume of NumPy is large.

    A position reads at most `reach` planes before and after its own. Cells are `step` planes deep.
    """
    slabs = _slabs(pair, reach, step)
    if len(slabs) < 2:
        return formula(pair)
    found, parts = [], []
    for start, stop in slabs:
        first = max(start - reach, 0) // step * step
        local = formula(_planes(pair, first, stop + reach))
        # Positions beside a cut lack the planes beyond it; they belong to another slab.
        own = slice(*(_places(local, plane - first, step) for plane in (start, stop)))
        found.append(local)
        parts.append(
            [
                None if v is None else unstacked(v, local.depth)[..., own, :, :]
                for v in (local.values, local.valid, local.weights)
            ]
        )
    depth = sum(part[0].shape[-3] for part in parts if part[0] is not None)
    values, valid, weights = map(_joined, zip(*parts, strict=True))
    return found[0]._replace(values=values, valid=valid, weights=weights, depth=depth)


def _joined(parts: Sequence[Array | None]) -> Array | None:
    """Join the planes of all slabs, unless there are none."""
    some = [part for part in parts if part is not None]
    return stacked(array_namespace(*some).concat(some, axis=-3)) if some else None


def _slabs(pair: Pair, reach: int, step: int) -> list[tuple[int, int]]:
    """Return the first and last planes of the slabs."""
    depth = pair.depth
    if depth is None or pair.xp.__name__ != "numpy":
        return []
    pixels = math.prod(broadcast(pair.x.shape, pair.y.shape))
    planes = max(PIXELS * depth // pixels, 2 * (reach + 1))
    count = -(-depth // planes)
    ends = [depth * k // count // step * step for k in range(count)]
    return list(zip(ends, [*ends[1:], depth], strict=True))


def _planes(pair: Pair, first: int, last: int) -> Pair:
    """Return some planes of a pair of volumes."""
    depth = pair.depth or 1
    rows = pair.x.shape[-2] // depth
    last = min(last, depth)

    x, y, mask, weights = (
        None if v is None else v[..., first * rows : last * rows, :]
        for v in (pair.x, pair.y, pair.mask, pair.weights)
    )
    return replace(pair, x=x, y=y, mask=mask, weights=weights, depth=last - first)


def _places(local: Local, plane: int, step: int) -> int:
    """Return the place of the first position whose plane is not before a given one."""
    return max(0, -((local.margin_along(-3) - plane) // step))
