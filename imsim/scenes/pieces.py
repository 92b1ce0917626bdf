"""A metric in pieces: what a block reads, its part of the score, the sum of parts, and the score.

Parts of blocks that together own each pixel once, merged in any order, give the score of the whole
images. What a metric cannot say of one pixel alone, such as a mean over windows, it says of
positions; a position belongs to the block that owns its pixel, and reads pixels around it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from imsim import kernels
from imsim.finite import computed, finite_images
from imsim.masks import batch_of
from imsim.portable.arrays import stacked, unstacked
from imsim.portable.pair import Local, Scores
from imsim.scenes.sources import Place, lengths_of, within
from imsim.typing import Array
from imsim.validation import Images

Loader = Callable[[], Callable[..., Any]]
Reach = tuple[tuple[int, int], ...]


class Whole(NamedTuple):
    """What is known of two images before any pixel is read."""

    sides: tuple[int, ...]
    """Height and width, or depth, height and width."""
    channels: int
    has_channels: bool
    dtype: Any
    """Arithmetic of the metrics: float32 or float64."""
    data_range: Any
    by_kernel: bool
    """Whether kernels run where there are any."""
    of_differences: bool
    """Whether the metric depends on the differences only, which are exact for integers."""


class Block(NamedTuple):
    """Pixels of two images: those that a block owns, and those that its positions read besides."""

    images: Images
    valid: Array | None
    """The mask, (*batch, 1, height, width)."""
    region: Place
    """All these pixels, by their place in the whole images."""
    own: Place
    """Those that the block owns, likewise."""

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the batch, also that of the mask."""
        return batch_of(self.images, self.valid)

    def owned(self) -> tuple[Images, Array | None]:
        """Return the images and the mask without the pixels of other blocks."""
        own = within(self.own, self.region)
        if lengths_of(own) == self.images.sides:
            return self.images, self.valid
        depth = self.images.depth
        x, y, valid = (
            None if v is None else unstacked(v, depth)[(..., *own)]
            for v in (self.images.x, self.images.y, self.valid)
        )
        if depth is not None:
            x, y, valid = (None if v is None else stacked(v) for v in (x, y, valid))
            depth = lengths_of(own)[0]
        return self.images._replace(x=x, y=y, depth=depth), valid

    def finite(self, images: Images, valid: Array | None, found: Any = True) -> Array:
        """Return which elements of the batch are finite inside the mask.

        `found` is what `computed` says of the pixels; True: it has not been asked.
        """
        found = finite_images(images, valid) if found is True else found
        if found is None:
            return np.ones(self.batch, np.bool_)
        return np.broadcast_to(found.all(axis=(-3, -2, -1)), self.batch).copy()


class Part(NamedTuple):
    """What a block, or several, contribute to the scores of a batch; it travels by pickle."""

    values: tuple[Any, ...]
    finite: Array
    """Whether all pixels inside the mask are finite, (*batch)."""


class Pieces(ABC):
    """A metric with its options, for two images of which no pixel is read yet."""

    reach: Reach
    """Pixels before and after its own that a position reads, along each axis."""
    step: int = 1
    """Positions lie at multiples of it, in pixels: blocks are read from such a pixel on."""

    def __init__(self, whole: Whole, kernel: Loader | None = None) -> None:
        self.whole = whole
        self.reach = ((0, 0),) * len(whole.sides)
        self._kernel = kernel

    def read(self, own: Place) -> Place:
        """Return the pixels that a block reads."""
        found = []
        for one, (before, after), side in zip(own, self.reach, self.whole.sides, strict=True):
            first = max(one.start - before, 0)
            found.append(slice(first - first % self.step, min(one.stop + after, side)))
        return tuple(found)

    @abstractmethod
    def part(self, block: Block) -> Part:
        """Return the part of a block, which holds exactly the pixels that `read` names."""

    def merge(self, one: Part, other: Part) -> Part:
        """Add the parts of different blocks."""
        return Part(self._merge(one.values, other.values), one.finite & other.finite)

    def _merge(self, p: tuple[Any, ...], q: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(one + other for one, other in zip(p, q, strict=True))

    @abstractmethod
    def finish(self, part: Part) -> Scores:
        """Return the scores from the part of all blocks."""

    def _computed(
        self,
        images: Images,
        valid: Array | None,
        formula: Callable[..., Any],
        options: dict[str, Any],
    ) -> tuple[Any, Array | None]:
        """Run the kernel, or else the formula; return also which pixels are finite."""
        kernel = None
        if self.whole.by_kernel and self._kernel is not None:
            kernel = kernels.loaded(self._kernel)
        with np.errstate(all="ignore"):
            return computed(images, valid, formula, kernel, dict(options), False, None)


def own_positions(local: Local, block: Block) -> tuple[Array, Array | None]:
    """Return the values at the positions that a block owns, and where they are valid."""
    cuts = []
    for axis in range(-len(block.own), 0):
        offset = block.region[axis].start + local.margin_along(axis)
        own = block.own[axis]
        first, last = (-((offset - place) // local.step) for place in (own.start, own.stop))
        cuts.append(slice(max(first, 0), max(last, 0)))
    cut: Any = (..., *cuts)
    values, valid = (
        None if v is None else unstacked(v, local.depth)[cut] for v in (local.values, local.valid)
    )
    return values, valid


def repeated(shape: tuple[int, ...], *values: Any) -> tuple[Array, ...]:
    """Return copies of values, in float64, that are repeated to a shape."""
    return tuple(np.broadcast_to(v, shape).astype(np.float64) for v in values)


def sums_over(values: Array, valid: Array | None, axes: int) -> tuple[Array, Array]:
    """Return sums over the last axes, in float64, and how many values each adds up."""
    over = tuple(range(-axes, 0))
    if valid is None:
        n = np.full(values.shape[:-axes], float(np.prod(values.shape[-axes:])))
        return values.sum(axis=over, dtype=np.float64), n
    n = valid.sum(axis=over, dtype=np.float64)
    return np.where(valid, values, 0).sum(axis=over, dtype=np.float64), n


@dataclass(frozen=True, slots=True)
class Accurate:
    """A sum in a unit, and what rounding has left of it; whole numbers add up without an error."""

    high: Array
    low: Array
    unit: Array
    """A power of two, by which the sum is multiplied `power` times."""
    power: int

    @classmethod
    def of(cls, values: Array, unit: Array | None = None, power: int = 0) -> Accurate:
        """Begin with some values, in units of 1 by default."""
        one = np.broadcast_to(1.0 if unit is None else unit, values.shape)
        return cls(values, np.zeros_like(values), one, power)

    def __add__(self, other: Accurate) -> Accurate:
        """Add a sum whose unit counts as often."""
        empty, none = (v.high == 0 for v in (self, other))
        unit = np.maximum(self.unit, other.unit)
        # A sum of zero has no unit of its own: in it, small numbers would vanish.
        unit = np.where(empty, other.unit, np.where(none, self.unit, unit))
        with np.errstate(all="ignore"):
            a, b = (np.where(v.high == 0, 1.0, v.unit / unit) ** self.power for v in (self, other))
            p, q = self.high * a, other.high * b
            high = p + q
            back = high - p
            rest = (p - (high - back)) + (q - back)
            low = self.low * a + other.low * b + np.where(np.isfinite(rest), rest, 0.0)
        return Accurate(high, low, unit, self.power)

    @property
    def value(self) -> Array:
        """The sum, without its unit."""
        return self.high + self.low
