"""A pair of volumes: what they come to, three cuts, and small copies of them to slide through.

What they come to and the copies are found plane after plane, so that nothing of the size of a
volume is made besides. The cuts are whole through the worst place, by blocks elsewhere.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np

from imsim import METRICS, ShapeError
from imsim.differing import changes
from imsim.pages import blocks
from imsim.pages.colour import BROKEN, MISSING, MapScale, Scale, map_scale, small_png
from imsim.pages.content import deflated, finest, packed, text_size
from imsim.pages.layers import (
    ImagePair,
    difference_layer,
    image_layer,
    known_range,
    map_layer,
    scale_between,
)
from imsim.typing import Array
from imsim.validation import usual_data_range

Place = tuple[int, int, int]
MAP = "ssim"
"""The metric whose map tells the worst place."""


class Survey(NamedTuple):
    """What two volumes come to inside the mask."""

    used: int
    differ: int
    unknown: int
    """Voxels that differ by NaN or infinity."""
    largest: float
    """The largest finite difference."""
    ends: tuple[float, float] | None
    """The least and the largest finite value of both."""


class Worst(NamedTuple):
    """The least alike place, by a map or by the difference."""

    place: Place
    by: str
    """``ssim``, or ``difference``."""
    profiles: tuple[Array, ...]
    """For each axis, what the worst voxel of each plane across it has, from 0 on."""


class VolumePair:
    """Two checked volumes, with channels last, as they are drawn.

    `local` is the map of `MAP`, if that can be had, and `ends` says where its scale ends.
    """

    def __init__(
        self,
        reference: Array,
        test: Array,
        mask: Any,
        data_range: Any,
        local: Array | None,
        directions: Array | None,
        ends: MapScale = "fixed",
    ) -> None:
        self.world: list[int] | None = None
        """Along which of x, y and z each axis goes most, if that is known."""
        self.flips = (False, False, False)
        """Which axes are drawn from their ends: head, front and right come first."""
        if directions is not None:
            self.world = np.abs(directions).argmax(axis=1).tolist()
            depth, height, width = (
                bool(way[world] > 0) for way, world in zip(directions, self.world, strict=True)
            )
            self.flips = depth, height, width
        turn = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        self.reference, self.test = reference[turn], test[turn]
        self.sides: Place = reference.shape[:3]
        self.channels = reference.shape[3]
        self.mask = np.ones((1, 1, 1), bool) if mask is None else np.asarray(mask).astype(bool)
        if self.mask.ndim != 3:
            raise ShapeError(f"mask has shape {self.mask.shape}", "expected (depth, height, width)")
        self.mask = np.broadcast_to(self.mask, self.sides)[turn]
        self.data_range = known_range(reference, test, data_range)
        self.survey, by_difference = _surveyed(self)
        known = local is not None and not np.isnan(local).all()
        self.local = local[turn] if local is not None and known else None
        self.ends_here = ends == "auto"
        self.worst = by_difference
        if self.local is not None and by_difference is not None:
            self.worst = _worst_of_map(self.local) or by_difference
        few = tuple(slice(None, None, 1 + side // 101) for side in self.sides)
        some = np.concatenate(
            [image[few][self.mask[few]].ravel() for image in (self.reference, self.test)]
        )
        self.scale, self.scaled_to = scale_between(
            self.survey.ends,
            some[np.isfinite(some)],
            self.data_range,
            usual_data_range([test.dtype]),
        )


def _surveyed(pair: VolumePair) -> tuple[Survey, Worst | None]:
    used = differ = unknown = 0
    largest, low, high = 0.0, np.inf, -np.inf
    peak = _Peak(pair.sides)
    for depth in range(pair.sides[0]):
        mask = pair.mask[depth]
        used += int(np.count_nonzero(mask))
        for image in (pair.reference[depth], pair.test[depth]):
            values = image[mask]
            values = values[np.isfinite(values)]
            if values.size:
                low, high = min(low, float(values.min())), max(high, float(values.max()))
        size = np.where(mask, changes(pair.reference[depth], pair.test[depth])[1], 0)
        known = np.where(np.isfinite(size), size, 0)
        differ += int(np.count_nonzero(size))
        unknown += int(np.count_nonzero(np.isinf(size)))
        largest = max(largest, float(known.max()))
        peak.add(depth, size)
    survey = Survey(used, differ, unknown, largest, (low, high) if low <= high else None)
    return survey, peak.worst("difference")


def _worst_of_map(local: Array) -> Worst | None:
    far, peak = METRICS[MAP].map_dissimilarity, _Peak(local.shape)
    for depth, plane in enumerate(local):
        values = np.asarray(far(plane), dtype=np.float64)
        peak.add(depth, np.where(np.isnan(values), 0, values))
    return peak.worst(MAP)


class _Peak:
    """Where voxels are largest, and the largest of each plane across an axis."""

    def __init__(self, sides: tuple[int, ...]) -> None:
        self._largest = 0.0
        self._place: Place | None = None
        self._profiles = tuple(np.zeros(side) for side in sides)

    def add(self, depth: int, values: Array) -> None:
        """Look at a plane."""
        largest = float(values.max())
        if largest > self._largest:
            row, column = np.unravel_index(int(values.argmax()), values.shape)
            self._largest, self._place = largest, (depth, int(row), int(column))
        self._profiles[0][depth] = largest
        np.maximum(self._profiles[1], values.max(axis=1), out=self._profiles[1])
        np.maximum(self._profiles[2], values.max(axis=0), out=self._profiles[2])

    def worst(self, by: str) -> Worst | None:
        """Return the place, unless all voxels are 0."""
        return None if self._place is None else Worst(self._place, by, self._profiles)


class Small(NamedTuple):
    """Volumes of blocks: a mean of the images, the worst value of difference and map."""

    reference: Array
    test: Array
    difference: Array
    local: Array | None
    used: Array
    """Where any voxel of a block is inside the mask."""


def small(pair: VolumePair, step: Place) -> Small:
    """Reduce a pair by blocks of voxels, one layer of them after the other."""
    parts: list[list[Array]] = [[] for _ in range(5)]
    for start in range(0, pair.sides[0], step[0]):
        slab = slice(start, start + step[0])
        mask = pair.mask[slab]
        reference, test = pair.reference[slab], pair.test[slab]
        parts[0].append(blocks.mean(reference, mask, step))
        parts[1].append(blocks.mean(test, mask, step))
        signed = np.where(mask, changes(reference, test)[0], 0)
        with np.errstate(invalid="ignore"):
            high, low = (
                blocks.folded(np.maximum, signed, step),
                blocks.folded(np.minimum, signed, step),
            )
            parts[2].append(np.where(high >= -low, high, low) + 0 * (high + low))
        if pair.local is not None:
            least = np.where(np.isnan(pair.local[slab]), np.inf, pair.local[slab])
            least = blocks.folded(np.minimum, least, step)
            parts[3].append(np.where(np.isinf(least), np.nan, least))
        parts[4].append(blocks.inside(mask, step))
    reference, test, difference, local, used = (
        np.concatenate(part) if part else None for part in parts
    )
    return Small(reference, test, difference, local, used)


def scales_of(pair: VolumePair) -> dict[str, tuple[Scale, tuple[str, str] | None]]:
    """Return the scale of each picture and the meaning of its ends."""
    difference = Scale(-pair.data_range, pair.data_range, root=True, colours="difference")
    found: dict[str, tuple[Scale, tuple[str, str] | None]] = {
        "reference": (pair.scale, None),
        "test": (pair.scale, None),
        "difference": (difference, ("darker", "brighter")),
    }
    if pair.local is not None:
        local = pair.local if pair.ends_here else None
        found[MAP] = (map_scale(MAP, pair.data_range, local), ("alike", "different"))
    return found


CUT_BYTES = 3_500_000
"""Most bytes of a page for the pictures of three cuts."""
COPY_BYTES = 3_500_000
"""Most bytes of a page for the small copy."""
MOST_BLOCKS = 2**21
"""Most blocks of the small copy."""


class Cuts(NamedTuple):
    """The pictures and the numbers of a page."""

    pictures: list[dict[str, bytes]]
    """For each axis, the PNG of each layer, of the plane across it."""
    side: int
    """The side of the blocks of `pictures`."""
    step: Place
    """The sides of the blocks of the small copy."""
    data: str
    """The copy as JSON."""


def cuts_of(pair: VolumePair, place: Place, lengths: tuple[float, ...], facts: Any) -> Cuts:
    """Draw the three cuts through a place, and make a copy of a size that fits.

    `lengths` are the sides of a voxel: longer ones are put together less. `facts` are what else the
    script is to know.
    """
    side, pictures = finest(
        lambda side: _pictures(pair, place, side), CUT_BYTES, 1, max(pair.sides)
    )
    few = max(1, math.ceil((math.prod(pair.sides) / MOST_BLOCKS) ** (1 / 3)))
    while math.prod(map(math.ceil, np.divide(pair.sides, _step(lengths, few)))) > MOST_BLOCKS:
        few += 1
    size, copy = finest(
        lambda side: _copy(pair, _step(lengths, side)), COPY_BYTES, few, max(pair.sides)
    )
    step = _step(lengths, size)
    data = {"sides": pair.sides, "step": step, "place": place, **facts, **(copy or {})}
    return Cuts(pictures or [], side, step, json.dumps(data).replace("<", "\\u003c"))


def _step(lengths: tuple[float, ...], side: int) -> Place:
    least = min(lengths)
    depth, height, width = (max(1, round(side * least / length)) for length in lengths)
    return depth, height, width


def _pictures(pair: VolumePair, place: Place, side: int) -> tuple[list[dict[str, bytes]], int]:
    found = []
    for axis in range(3):
        plane: list[Any] = [slice(None)] * 3
        plane[axis] = place[axis]
        at = tuple(plane)
        images = ImagePair(
            pair.reference[at],
            pair.test[at],
            pair.mask[at],
            pair.data_range,
            (pair.scale, pair.scaled_to),
        )
        both = image_layer(images, "reference"), image_layer(images, "test")
        layers = [*both, difference_layer(images)]
        if pair.local is not None:
            layers.append(map_layer(images, MAP, pair.local[at], scales_of(pair)[MAP][0]))
        found.append({layer.name: small_png(layer.draw((side, side))) for layer in layers})
    size = sum(text_size(len(png)) for cut in found for png in cut.values())
    return found, size


def _copy(pair: VolumePair, step: Place) -> tuple[dict[str, Any], int]:
    found = small(pair, step)
    layers: dict[str, Any] = {}
    scales = scales_of(pair)
    coloured = pair.channels == 3
    before = None
    for name, values in (("reference", found.reference), ("test", found.test)):
        codes = _codes_of_image(values, pair.scale, coloured=coloured)
        layers[name] = {
            "values": packed(codes, before),
            "like": None if before is None else "reference",
            "palette": None if coloured else deflated(pair.scale.palette(BROKEN)),
        }
        before = codes
    for name, values, nothing in (
        ("difference", found.difference, BROKEN),
        (MAP, found.local, MISSING),
    ):
        if values is not None:
            scale = scales[name][0]
            codes = scale.codes_of(np.where(np.isfinite(values), values, np.nan))
            layers[name] = {
                "values": packed(_flat(codes)),
                "like": None,
                "palette": deflated(scale.palette(nothing)),
            }
    mask = None
    if not found.used.all():
        mask = deflated(np.packbits(found.used, bitorder="little"))
    content = {"layers": layers, "mask": mask}
    return content, len(json.dumps(content))


def _codes_of_image(values: Array, scale: Scale, *, coloured: bool) -> Array:
    broken = ~np.isfinite(values).all(axis=-1)
    if not coloured:
        grey = np.where(broken, np.nan, values.mean(axis=-1))
        return _flat(scale.codes_of(grey))
    colours = scale.steps_of(np.where(broken[..., None], 0, values), 256)[0].astype(np.uint8)
    colours[broken] = BROKEN
    return colours.reshape(-1, *colours.shape[2:])


def _flat(codes: Array) -> Array:
    """Lay the planes below each other, as one image of one channel."""
    return codes.reshape(-1, codes.shape[-1], 1)
