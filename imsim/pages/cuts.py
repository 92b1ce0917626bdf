"""The cuts of a page on two volumes: whole through the worst place, by blocks elsewhere."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np

from imsim import METRICS
from imsim.pages import numbers
from imsim.pages.colour import BROKEN, MISSING, Scale, colour_table, small_png
from imsim.pages.layers import ImagePair, Map, difference_layer, image_layer, map_layer
from imsim.pages.voxels import MAP, Place, Small, VolumePair, scales_of, small
from imsim.typing import Array

CUT_BYTES = 3_500_000
"""Most bytes of a page for the pictures of three cuts."""
COPY_BYTES = 3_500_000
"""Most bytes of a page for the small copy."""
MOST_BLOCKS = 2**21
"""Most blocks of the small copy."""
STEPS = 255
"""Steps of a scale; the step behind the last is what has none."""


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
    side, pictures = numbers.finest(
        lambda side: _pictures(pair, place, side), CUT_BYTES, 1, max(pair.sides)
    )
    few = max(1, math.ceil((math.prod(pair.sides) / MOST_BLOCKS) ** (1 / 3)))
    while math.prod(_blocks(pair, _step(lengths, few))) > MOST_BLOCKS:
        few += 1
    size, copy = numbers.finest(
        lambda side: _copy(pair, _step(lengths, side)), COPY_BYTES, few, max(pair.sides)
    )
    step = _step(lengths, size)
    data = {"sides": pair.sides, "step": step, "place": place, **facts, **(copy or {})}
    return Cuts(pictures or [], side, step, json.dumps(data).replace("<", "\\u003c"))


def _step(lengths: tuple[float, ...], side: int) -> Place:
    least = min(lengths)
    depth, height, width = (max(1, round(side * least / length)) for length in lengths)
    return depth, height, width


def _blocks(pair: VolumePair, step: Place) -> Place:
    depth, height, width = (math.ceil(n / s) for n, s in zip(pair.sides, step, strict=True))
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
        layers = [
            image_layer(images, "reference", "", images.reference),
            image_layer(images, "test", "", images.test),
            difference_layer(images),
        ]
        if pair.local is not None:
            local = pair.local[at]
            far = np.asarray(METRICS[MAP].map_dissimilarity(local), dtype=np.float64)
            scale = scales_of(pair)[MAP][0]
            layers.append(map_layer(images, MAP, "", Map(local, far), scale))
        found.append({layer.name: small_png(layer.draw((side, side))) for layer in layers})
    size = sum(numbers.text_size(len(png)) for cut in found for png in cut.values())
    return found, size


def _copy(pair: VolumePair, step: Place) -> tuple[dict[str, Any], int]:
    found = small(pair, step)
    layers: dict[str, Any] = {}
    scales = scales_of(pair)
    coloured = pair.channels == 3
    before = None
    for name in ("reference", "test"):
        codes = _codes_of_image(found, name, pair.scale, coloured=coloured)
        layers[name] = {
            "values": numbers.packed(codes, before),
            "like": None if before is None else "reference",
            "palette": None if coloured else _palette(pair.scale, BROKEN),
        }
        before = codes
    for name, values, nothing in (
        ("difference", found.difference, BROKEN),
        (MAP, found.local, MISSING),
    ):
        if values is not None:
            scale = scales[name][0]
            codes = _codes(scale, np.where(np.isfinite(values), values, np.nan))
            layers[name] = {
                "values": numbers.packed(_flat(codes)),
                "like": None,
                "palette": _palette(scale, nothing),
            }
    mask = None
    if not found.used.all():
        mask = numbers.deflated(np.packbits(found.used, bitorder="little"))
    content = {"layers": layers, "mask": mask}
    return content, len(json.dumps(content))


def _codes_of_image(found: Small, name: str, scale: Scale, *, coloured: bool) -> Array:
    values: Array = found.reference if name == "reference" else found.test
    broken = ~np.isfinite(values).all(axis=-1)
    if not coloured:
        grey = np.where(broken, np.nan, values.mean(axis=-1))
        return _flat(_codes(scale, grey))
    colours = scale.steps_of(np.where(broken[..., None], 0, values), 256)[0].astype(np.uint8)
    colours[broken] = BROKEN
    return colours.reshape(-1, *colours.shape[2:])


def _codes(scale: Scale, values: Array) -> Array:
    steps, nothing = scale.steps_of(values, STEPS)
    return np.where(nothing, STEPS, steps).astype(np.uint8)


def _flat(codes: Array) -> Array:
    """Lay the planes below each other, as one image of one channel."""
    return codes.reshape(-1, codes.shape[-1], 1)


def _palette(scale: Scale, nothing: tuple[int, int, int]) -> str:
    """Return the colours of all codes."""
    colours = colour_table(scale.colours, STEPS)
    return numbers.deflated(np.vstack([colours, [nothing]]).astype(np.uint8))
