"""Local values of large volumes, some planes at a time: a formula takes tens of times its input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from imsim.portable.arrays import array_namespace, broadcast
from imsim.portable.pair import Local, Pair
from imsim.portable.volumes import stacked, unstacked
from imsim.typing import Array

PIXELS = 1 << 21
"""Pixels of a slab, about: then a formula takes 0.5 GB at a time."""


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

    def part(values: Array) -> Array:
        return values[..., first * rows : last * rows, :]

    x, y, mask, weights = (
        None if v is None else part(v) for v in (pair.x, pair.y, pair.mask, pair.weights)
    )
    return replace(pair, x=x, y=y, mask=mask, weights=weights, depth=last - first)


def _places(local: Local, plane: int, step: int) -> int:
    """Return the place of the first position whose plane is not before a given one."""
    return max(0, -((local.margin_along(-3) - plane) // step))
