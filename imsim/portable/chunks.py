"""Large batches in parts, so that the memory of a formula does not grow with the batch."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable

from imsim.portable.arrays import broadcast, is_compiling, is_of_jax
from imsim.portable.pair import Pair
from imsim.typing import Array

Parts = tuple[Array | None, ...]


def in_chunks(
    function: Callable[[Pair], Parts], pair: Pair, planes: int, trailing: int, unit: int = 1
) -> Parts:
    """Call a function with at most `planes` planes of each image; join what it returns.

    Its results have the batch axes, one axis for the channels and `trailing` further ones. The
    `unit` last channels stay together: 1, or all of them. A traced batch is computed at once, for
    the sake of one small graph. A recorded gradient holds the intermediate values of all chunks.
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
        part = dataclasses.replace(pair, x=x, y=y, mask=mask, weights=weights)
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
