"""The pictures and numbers of a page, as many as keep it within `MOST_BYTES`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from imsim.finite import broken_pixels
from imsim.pages import blocks, numbers
from imsim.pages.colour import MISSING, colour_list, small_png
from imsim.pages.layers import ImagePair, Layer, differing, overview_step
from imsim.typing import Array

MOST_BYTES = 8_000_000
"""Largest size of a page."""
FRAME_BYTES = 150_000
"""Bytes of a page for text, style and script."""
MAP_BYTES = 1_200_000
"""Least bytes of a page for the values of maps and for the pictures to zoom into."""
MOST_PIXELS = 2**24
"""Most pixels that a page keeps: of larger images, it starts with blocks."""


MOST_DRAWN = 2**21
"""Most pixels that a page draws itself, in half a second. Larger images, if their numbers fit into
a page, have small pictures too."""


@dataclass(frozen=True)
class Content:
    """Pictures and numbers of all layers."""

    overviews: list[bytes]
    """One PNG per layer."""
    details: dict[str, bytes]
    """The same by name, finer, to zoom into; those that the page does not draw from its numbers."""
    detail_side: int
    """The side of the blocks of `details`."""
    pixel_side: int
    """The side of the blocks that keep one pixel of the images."""
    map_side: int
    """The side of the blocks that keep one value of each map."""
    data: str
    """The numbers as JSON."""


def content_of(pair: ImagePair, layers: list[Layer]) -> Content:
    """Choose the finest blocks that keep the page within its size."""
    first = overview_step(pair.height, pair.width)
    overviews = [small_png(layer.draw(first)) for layer in layers]
    seen = sum(numbers.text_size(len(png)) for png in overviews)
    room = MOST_BYTES - FRAME_BYTES - seen
    whole = max(pair.height, pair.width)
    few = math.ceil(math.sqrt(pair.height * pair.width / MOST_PIXELS))
    pixel_side, pixels = numbers.finest(
        lambda side: _pixels(pair, layers, side), room - MAP_BYTES, few, whole
    )
    room -= len(json.dumps(pixels))
    budget = room * 2 // 5
    map_side, maps = numbers.finest(lambda side: _maps(layers, side, budget), budget, few, whole)
    room -= len(json.dumps(maps))
    coarse = max(first)
    # What the page has all numbers of, it draws itself.
    drawn = pixel_side == 1 < coarse and _can_be_drawn(pair)
    own = [layer for layer in layers if drawn and (layer.map is None or map_side == 1)]
    others = layers[len(own) :]  # maps come last
    hopeful = min(max(1, int(coarse * math.sqrt(seen / max(room, 1))) - 1), coarse)
    detail_side, details = numbers.finest(
        lambda side: _details(others, side, room), room, hopeful, coarse
    )
    data = {
        "width": pair.width,
        "height": pair.height,
        "channels": pair.channels,
        "sizes": [[width, height] for height, width in (pair.canvas.reference, pair.canvas.test)],
        "pixels": pixels,
        "maps": maps,
        "drawn": _scales(own),
    }
    return Content(
        overviews,
        {layer.name: png for layer, png in zip(others, details or [], strict=True)}
        if detail_side < coarse
        else {},
        detail_side,
        pixel_side,
        map_side,
        json.dumps(data).replace("<", "\\u003c"),
    )


def _can_be_drawn(pair: ImagePair) -> bool:
    """Tell whether colours follow from the numbers alone, which JavaScript has."""
    images = (pair.reference, pair.test)
    dtype = np.result_type(*images)
    return (
        pair.height * pair.width <= MOST_DRAWN
        and (dtype.kind == "f" or dtype.itemsize <= 4)  # others are no numbers of JavaScript
        and pair.channels in (1, 3)
        and pair.canvas.one_size
        and bool(pair.mask.all())
        and not broken_pixels(*images).any()
    )


def _scales(layers: list[Layer]) -> dict[str, Any]:
    """Return what the page needs to draw the layers: their scales, and the colours of these."""
    tables = {layer.scale.colours: colour_list(layer.scale.colours) for layer in layers}
    scales = {layer.name: layer.scale._asdict() for layer in layers}
    return {"scales": scales, "colours": tables, "missing": MISSING}


def _details(layers: list[Layer], side: int, room: int) -> tuple[list[bytes] | None, int]:
    pictures: list[bytes] = []
    size = 0
    for layer in layers:
        pictures.append(small_png(layer.draw((side, side))))
        size += numbers.text_size(len(pictures[-1]))
        if size > room:
            return None, size
    return pictures, size


def _pixels(pair: ImagePair, layers: list[Layer], side: int) -> tuple[dict[str, Any] | None, int]:
    """Keep of each block the pixel that differs most."""
    step = (side, side)
    reference = numbers.plain(pair.reference, pair.test)
    test = numbers.plain(pair.test, pair.reference)
    content: dict[str, Any] = {"side": side, "dtype": reference.dtype.name}
    if side > 1:
        row, column = differing(pair, step)
        place = row % side * side + column % side
        content["place"] = numbers.packed(place.astype(np.uint32)[..., None])
        at = sorted({layer.worst for layer in layers if layer.worst is not None})
        rows, columns = (np.array([place[i] for place in at], dtype=int)[None] for i in (0, 1))
        content["links"] = {
            "at": [[x, y] for y, x in at],
            **_packed(reference[rows, columns], test[rows, columns]),
        }
        reference, test = reference[row, column], test[row, column]
    used = blocks.inside(pair.mask, step)
    content["mask"] = numbers.deflated(np.packbits(used, bitorder="little"))
    content.update(_packed(reference, test))
    return content, len(json.dumps(content))


def _packed(reference: Array, test: Array) -> dict[str, str]:
    return {"reference": numbers.packed(reference), "test": numbers.packed(test, reference)}


def _maps(layers: list[Layer], side: int, budget: int) -> tuple[dict[str, Any] | None, int]:
    """Keep of each block the value that is least alike."""
    step = (side, side)
    maps = {layer.name: layer.map for layer in layers if layer.map is not None}
    values: dict[str, str] = {}
    size = 0
    for name, (local, dissimilarity) in maps.items():
        kept = local[blocks.worst(dissimilarity, step)].astype(np.float32)
        values[name] = numbers.packed((kept if side == 1 else numbers.rounded(kept))[..., None])
        size += len(values[name])
        if size > budget and len(values) < len(maps):
            return None, size * len(maps) // len(values)  # an estimate: the others take as much
    return {"side": side, "values": values}, size
