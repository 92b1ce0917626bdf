"""The input and the results of a formula, and large batches and volumes in parts.

A formula takes tens of times the memory of its input.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from imsim.portable import arrays
from imsim.portable.units import scaling_unit
from imsim.typing import Array


class Pair(NamedTuple):
    """Two images, or volumes, in canonical form.

    Leading axes are batch axes. Those of `x`, `y` and `mask` broadcast against each other, so that
    each image is stored and transformed once. A formula gets floats, which are 0 outside the mask.
    """

    xp: ModuleType
    """The array namespace."""
    x: Array
    """Reference, shape (*batch, channels, height, width)."""
    y: Array
    """Test image, likewise."""
    dtype: Any
    """Arithmetic of the metrics: float32 or float64."""
    data_range: float | Array
    """Largest possible minus smallest possible value, a number, or an array without axes whose
    value is not known yet; NaN if unknown and not needed."""
    has_channels: bool
    """True if the user named the channel axis; False if it was added, with length 1."""
    depth: int | None = None
    """Planes of a volume, which lie below each other: its height is that of all planes together.
    None: images."""
    weights: Array | None = None
    """Weights of the pixels, (*batch, 1, height, width), floats; positive inside the mask, else 0.
    Formulas do not depend on their unit. None: those inside have equal ones."""
    weight_unit: Array | float = 1.0
    """What the given weights were divided by, a number or (*batch, 1)."""
    even_weights: Array | None = None
    """Which of the batch, (*batch, 1), have equal weights inside; None: none, all or no NumPy."""
    are_unchecked: bool = False
    """Whether weights are as given: a kernel that reads them checks them, no formula sees them."""
    mask: Array | None = None
    """True = use, shape (*batch, 1, height, width); None: every pixel. Kernels get it apart."""

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The broadcast shape of the batch axes of the two images."""
        own, other = self.x.shape[:-3], self.y.shape[:-3]
        return own if own == other else arrays.broadcast(own, other)

    @property
    def frame(self) -> tuple[int, int]:
        """Height, which is that of all planes of a volume together, and width."""
        height, width = self.x.shape[-2:]
        return height, width

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width, or depth, height and width."""
        return self.frame if self.depth is None else arrays.unstacked_shape(self.frame, self.depth)


class Scores(NamedTuple):
    """Scores of a batch, one per channel or one for all of them."""

    values: Array
    """Shape (*batch, channels) or (*batch, 1); the engine averages over the last axis."""
    scored: Array
    """Number, or weight, of positions that each score averages, broadcastable to `values`; 0 makes
    it NaN."""
    witness: Array | None = None
    """Numbers, such as sums over all pixels, that are all finite only if every pixel inside the
    mask is. They spare the engine a pass over the pixels; None: it makes this pass."""
    left: Array | None = None
    """Which elements of the batch a kernel leaves to the formula; None: no element."""


class Local(NamedTuple):
    """A metric's values on its own grid of positions."""

    values: Array
    """Shape (*batch, channels or 1, rows, columns)."""
    valid: Array | None
    """Where `values` count; None: everywhere."""
    margin: int | tuple[int, ...] = 0
    """Row, and column, of the pixel of the first position; or its place along each axis."""
    step: int = 1
    """Pixels from one position to the next."""
    reach: tuple[int, int] | tuple[tuple[int, int], ...] | None = None
    """Pixels before and after its own that a position reads along every axis, or along each; NaN
    or an infinity there makes it NaN. None: a position reads the whole image."""
    witness: Array | None = None
    """See `Scores`."""
    left: Array | None = None
    """See `Scores`."""
    depth: int | None = None
    """Planes of positions in a volume, which lie below each other."""
    weights: Array | None = None
    """Weights of the positions in their mean; 0 where they do not count. None: all are 1."""

    def as_volume(self) -> Local:
        """Return the values of images as those of volumes of one plane."""
        margin = (0, self.margin_along(-2), self.margin_along(-1))
        reach = None
        if self.reach is not None:
            reach = ((0, 0), self.reach_along(-2), self.reach_along(-1))
        return self._replace(margin=margin, reach=reach, depth=1)

    def margin_along(self, axis: int) -> int:
        """Place of the pixel of the first position along an axis, counted from the last, -1."""
        return self.margin if isinstance(self.margin, int) else self.margin[axis]

    def reach_along(self, axis: int) -> tuple[int, int]:
        """Pixels before and after its own that a position reads along an axis."""
        reach: Any = self.reach
        before, after = reach if isinstance(reach[0], int) else reach[axis]
        return before, after


def laid_out(
    values: Array,
    valid: Array | None,
    lengths: tuple[int, ...],
    *,
    step: int = 1,
    is_padded: bool = False,
    weights: Array | None = None,
) -> Local:
    """Return the values of windows of some lengths; planes of volumes are stacked."""
    reach = tuple(window_reach(length, step) for length in lengths)
    margin = tuple(0 if is_padded else step * (length // 2) for length in lengths)
    depth = None
    if len(lengths) == 3:
        depth = values.shape[-3]
        values, *others = (
            None if v is None else arrays.stacked(v) for v in (values, valid, weights)
        )
        valid, weights = others
    return Local(values, valid, margin, step, reach, depth=depth, weights=weights)


def window_reach(size: int, step: int = 1) -> tuple[int, int]:
    """Pixels that a window of cells of `step` pixels a side reads before and after its centre."""
    first, last = (step - 1) // 2, step // 2
    return size // 2 * step + first, (size - 1 - size // 2) * step + last


def average(local: Local) -> Scores:
    """Mean of the local values over the valid positions, by weight."""
    parts = local.values, local.valid, local.weights
    return Scores(arrays.mean(*parts), arrays.count(*parts))


def deviation(local: Local) -> Scores:
    """Standard deviation, with n - 1, over the valid positions; one position has none."""
    if local.weights is not None:
        return _weighted_deviation(local, local.weights)
    if local.valid is None and arrays.is_tensor(local.values):  # whose derivative at 0 is 0
        flat = arrays.to_widest_float(local.values).reshape(*local.values.shape[:-2], -1)
        return Scores(flat.std(-1), arrays.count(local.values, None))
    mu = arrays.as_image(
        arrays.mean(local.values, local.valid), arrays.to_widest_float(local.values)
    )
    residual = arrays.where_valid(local.valid, arrays.to_widest_float(local.values) - mu)
    n = arrays.count(local.values, local.valid)
    several = n > 1
    variance = arrays.total(residual * residual) / arrays.where_valid(several, n - 1, 1.0)
    return Scores(arrays.root(variance), arrays.where_valid(several, n))


def _weighted_deviation(local: Local, weights: Array) -> Scores:
    """Standard deviation by weights of reliability: n - 1 becomes V1 - V2 / V1.

    V1 and V2 are the sums of the weights and of their squares. With weights of 1 alone, the result
    is that without weights to the bit.
    """
    xp = arrays.array_namespace(weights)
    weights = weights / scaling_unit(weights)  # in float32, squares of small ones are 0
    values = arrays.to_widest_float(arrays.where_valid(local.valid, local.values))
    apart = values - arrays.as_image(arrays.at_largest(values, weights), values)
    residual = apart - arrays.as_image(arrays.mean(apart, local.valid, weights), apart)
    is_largest = arrays.first_largest(weights)
    largest, others = arrays.total(weights, is_largest), arrays.where_valid(~is_largest, weights)
    rest = arrays.total(others)
    whole = largest + rest
    # V1^2 - V2, without a difference of nearly equal numbers.
    pairs = 2 * largest * rest + (rest * rest - arrays.total(others * others))
    several = pairs > 0
    variance = (
        arrays.total(residual * residual, None, weights)
        * whole
        / arrays.where_valid(several, pairs, 1.0)
    )
    plain = deviation(local._replace(weights=None))
    is_even = xp.all((weights == 0) | (weights == arrays.as_image(largest, weights)), axis=(-2, -1))
    return Scores(
        xp.where(is_even, plain.values, arrays.root(variance)),
        xp.where(is_even, plain.scored, arrays.where_valid(several, whole)),
    )


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
    leading = arrays.broadcast(*(tuple(v.shape[:-2]) for v in images))
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
        part = pair._replace(x=x, y=y, mask=mask, weights=weights)
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
    return arrays.is_compiling() or (
        arrays.is_of_jax(values) and isinstance(values, sys.modules["jax"].core.Tracer)
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
                None if v is None else arrays.unstacked(v, local.depth)[..., own, :, :]
                for v in (local.values, local.valid, local.weights)
            ]
        )
    depth = sum(part[0].shape[-3] for part in parts if part[0] is not None)
    values, valid, weights = map(_joined, zip(*parts, strict=True))
    return found[0]._replace(values=values, valid=valid, weights=weights, depth=depth)


def _joined(parts: Sequence[Array | None]) -> Array | None:
    """Join the planes of all slabs, unless there are none."""
    some = [part for part in parts if part is not None]
    return arrays.stacked(arrays.array_namespace(*some).concat(some, axis=-3)) if some else None


def _slabs(pair: Pair, reach: int, step: int) -> list[tuple[int, int]]:
    """Return the first and last planes of the slabs."""
    depth = pair.depth
    if depth is None or pair.xp.__name__ != "numpy":
        return []
    pixels = math.prod(arrays.broadcast(pair.x.shape, pair.y.shape))
    planes = max(PIXELS * depth // pixels, 2 * (reach + 1))
    number = -(-depth // planes)
    ends = [depth * k // number // step * step for k in range(number)]
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
    return pair._replace(x=x, y=y, mask=mask, weights=weights, depth=last - first)


def _places(local: Local, plane: int, step: int) -> int:
    """Return the place of the first position whose plane is not before a given one."""
    return max(0, -((local.margin_along(-3) - plane) // step))
