"""The pictures and numbers of a page, as many as keep it within `MOST_BYTES`, and notes on them."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from imsim import METRICS
from imsim.differing import difference_of
from imsim.finite import broken_pixels
from imsim.pages import blocks
from imsim.pages.colour import LEVEL, MISSING, TABLES, small_png
from imsim.pages.layers import ImagePair, Layer, differing, overview_step
from imsim.pages.page import number, share
from imsim.typing import Array

Made = TypeVar("Made")
NUMBER_BITS = 12
"""Bits of the mantissa that are kept for values of blocks, of which the page shows 4 digits."""


def text_size(content: int) -> int:
    """Return how many characters of base64 so many bytes take."""
    return (content + 2) // 3 * 4


def plain(image: Array, other: Array) -> Array:
    """Convert an image to the type common to both images, and to one that JavaScript has."""
    dtype = np.result_type(image, other)
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    elif dtype.kind == "f":
        dtype = np.dtype(np.float32 if dtype.itemsize <= 4 else np.float64)
    return image.astype(dtype)


def rounded(values: Array) -> Array:
    """Keep the leading bits of float32, which compress better."""
    last = np.uint32(1 << (23 - NUMBER_BITS))
    words = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    up = np.where(np.isfinite(values), last >> 1, np.uint32(0))  # an infinity must not become NaN
    return ((words + up) & ~(last - np.uint32(1))).view(np.float32)


def packed(image: Array, like: Array | None = None) -> str:
    """Pack an image without loss: `packed.js` has the way back.

    Numbers are read as unsigned words. With `like`, the difference from its words is stored;
    without it, the difference from the channel before and from the pixel to the left. Bytes of
    equal weight stand together, which compresses well.

    The image, (rows, columns, channels), has a type that `plain` returns, and so has `like`. The
    result is deflated, in base64.
    """
    words = _words(image)
    if like is not None:
        left = words - _words(like)
    else:
        stride = words.shape[-1] // image.shape[-1]
        left = words.copy()
        left[..., stride:] -= words[..., :-stride]
        left[:, 1:] -= left[:, :-1].copy()
    planes = np.moveaxis(left, -1, 0)[..., None].view(np.uint8)
    return deflated(np.moveaxis(planes, -1, 1))


def deflated(values: Array) -> str:
    """Return bytes in base64 of their zlib stream."""
    return base64.b64encode(zlib.compress(values.tobytes(), LEVEL)).decode("ascii")


def _words(image: Array) -> Array:
    little = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<"))
    return little.view(f"<u{min(image.dtype.itemsize, 4)}")


def finest(
    make: Callable[[int], tuple[Made | None, int]], budget: int, first: int, last: int
) -> tuple[int, Made | None]:
    """Find the smallest blocks whose content fits; return their side, and the content.

    ``make(side)`` returns the content and its size. It may stop early, and return None, once the
    size is beyond the budget. Sides from `first` to `last` are tried, and the last one is taken if
    none fits.
    """
    side = first
    while True:
        content, size = make(side)
        if size <= budget or side >= last:
            return side, content
        side = min(max(side + 1, int(side * (size / max(budget, 1)) ** 0.5)), last)


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
    seen = sum(text_size(len(png)) for png in overviews)
    room = MOST_BYTES - FRAME_BYTES - seen
    whole = max(pair.height, pair.width)
    few = math.ceil(math.sqrt(pair.height * pair.width / MOST_PIXELS))
    pixel_side, pixels = finest(
        lambda side: _pixels(pair, layers, side), room - MAP_BYTES, few, whole
    )
    room -= len(json.dumps(pixels))
    budget = room * 2 // 5
    map_side, maps = finest(lambda side: _maps(layers, side, budget), budget, few, whole)
    room -= len(json.dumps(maps))
    coarse = max(first)
    # What the page has all numbers of, it draws itself.
    drawn = pixel_side == 1 < coarse and _can_be_drawn(pair)
    own = [layer for layer in layers if drawn and (layer.map is None or map_side == 1)]
    others = layers[len(own) :]  # maps come last
    hopeful = min(max(1, int(coarse * math.sqrt(seen / max(room, 1))) - 1), coarse)
    detail_side, details = finest(lambda side: _details(others, side, room), room, hopeful, coarse)
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
    names = dict.fromkeys(layer.scale.colours for layer in layers)
    tables = {name: TABLES[name].ravel().tolist() for name in names}
    scales = {layer.name: layer.scale._asdict() for layer in layers}
    return {"scales": scales, "colours": tables, "missing": MISSING}


def _details(layers: list[Layer], side: int, room: int) -> tuple[list[bytes] | None, int]:
    pictures: list[bytes] = []
    size = 0
    for layer in layers:
        pictures.append(small_png(layer.draw((side, side))))
        size += text_size(len(pictures[-1]))
        if size > room:
            return None, size
    return pictures, size


def _pixels(pair: ImagePair, layers: list[Layer], side: int) -> tuple[dict[str, Any] | None, int]:
    """Keep of each block the pixel that differs most."""
    step = (side, side)
    reference = plain(pair.reference, pair.test)
    test = plain(pair.test, pair.reference)
    content: dict[str, Any] = {"side": side, "dtype": reference.dtype.name}
    if side > 1:
        row, column = differing(pair, step)
        place = row % side * side + column % side
        content["place"] = packed(place.astype(np.uint32)[..., None])
        at = sorted({layer.worst for layer in layers if layer.worst is not None})
        rows, columns = (np.array([place[i] for place in at], dtype=int)[None] for i in (0, 1))
        content["links"] = {
            "at": [[x, y] for y, x in at],
            **_packed(reference[rows, columns], test[rows, columns]),
        }
        reference, test = reference[row, column], test[row, column]
    used = blocks.inside(pair.mask, step)
    content["mask"] = deflated(np.packbits(used, bitorder="little"))
    content.update(_packed(reference, test))
    return content, len(json.dumps(content))


def _packed(reference: Array, test: Array) -> dict[str, str]:
    return {"reference": packed(reference), "test": packed(test, reference)}


def _maps(layers: list[Layer], side: int, budget: int) -> tuple[dict[str, Any] | None, int]:
    """Keep of each block the value that is least alike."""
    step = (side, side)
    maps = {layer.name: layer.map for layer in layers if layer.map is not None}
    values: dict[str, str] = {}
    size = 0
    for name, (local, dissimilarity) in maps.items():
        kept = local[blocks.worst(dissimilarity, step)].astype(np.float32)
        values[name] = packed((kept if side == 1 else rounded(kept))[..., None])
        size += len(values[name])
        if size > budget and len(values) < len(maps):
            return None, size * len(maps) // len(values)  # an estimate: the others take as much
    return {"side": side, "values": values}, size


THIN = 4
"""An image is thin if one side is more than this many times the other."""

SCALES = {
    False: "The scales of the difference and the maps are fixed by the data range and the bounds "
    "of the metric, not by the pixels, so that reports compare.",
    True: "The scale of each map ends at its own worst value (map scale: auto): bright is the "
    "worst place of this pair, however little differs there, and reports do not compare. The scale "
    "of the difference is fixed by the data range.",
}
"""What a page says of its scales, by whether maps end at their own worst values."""


def notes_on(
    pair: ImagePair, layers: list[Layer], content: Content, wanted: Iterable[str] = METRICS
) -> list[str]:
    """Say how the pictures are to be read, and what they cannot show of the `wanted` metrics."""
    low, high = number(pair.scale.low), number(pair.scale.high)
    notes = [
        f"Both images are shown from {low} to {high}: {pair.scaled_to}. {_beyond(pair, layers)}",
        f"{SCALES[any(layer.ends_here for layer in layers)]} Colours that follow the square root "
        "show small errors too. Grey in a map: not scored.",
        f"A map has the scores of the window, block or pixel at each place.{_other_maps(layers)}",
    ]
    if not pair.canvas.one_size:
        notes.append(
            "Green stripes: what only the reference has. Violet stripes: what only the test has. "
            "Grey chequers: the image has no pixels there."
        )
    if not pair.mask[pair.canvas.common].all():
        notes.append("Striped pixels are masked: they influence no score.")
    notes += channel_notes(pair.channels)
    notes += _sizes(pair, content)
    missing = [name for name in wanted if METRICS[name].map_function]
    missing = [name for name in missing if name not in {layer.name for layer in layers}]
    if missing:
        notes.append(f"Not available for these images: the map of {', '.join(missing)}.")
    return notes


def answer(
    things: str, unit: str, used: int, differ: int, unknown: int, largest: float, *, masked: bool
) -> str:
    """Say at how many pixels or voxels, the unit, two things differ, and by how much.

    At the `unknown` ones of them a value is not finite; `largest` is of the others.
    """
    where = " that the mask uses" if masked else ""
    if not used:
        return f"There is nothing inside the mask: no {unit} was compared."
    if not differ:
        return f"The {things} are equal at every {unit}{where}."
    return (
        f"The {things} differ at {differ} of {used} {unit}s{where} ({share(differ, used)})"
        + (f", by at most {number(largest)}." if unknown < differ else ".")
        + (f" At {unknown} of them a value is NaN or infinite." if unknown else "")
    )


def kinds(reference: Array, test: Array, channels: int, data_range: float) -> str:
    """Name the dtypes, the channels and the data range."""
    names = dict.fromkeys((reference.dtype.name, test.dtype.name))
    said = "grey" if channels == 1 else f"{channels} channels"
    return f"{' and '.join(names)}, {said}, data range {data_range:g}. "


def channel_notes(channels: int) -> list[str]:
    """Say how channels are shown."""
    notes = []
    if channels not in (1, 3):
        notes.append(f"The pictures show the mean of the {channels} channels.")
    if channels > 1:
        notes.append("The difference shows the channel that differs most.")
    return notes


def _other_maps(layers: list[Layer]) -> str:
    """Say of which metrics the map holds something else than local scores."""
    said = ""
    for layer in layers:
        metric = METRICS.get(layer.name)
        if metric is None:
            continue
        if metric.map_title != metric.title:
            said += f" That of {layer.name} holds another quantity: {metric.map_title.lower()}."
        elif metric.map_least_side > metric.least_side:
            side = metric.map_least_side
            said += f" That of {layer.name} takes windows of {side} × {side} pixels."
    return said


def _beyond(pair: ImagePair, layers: list[Layer]) -> str:
    """Say how many values inside the mask have no colour of their own."""
    said = []
    for which, image in (("reference", pair.reference), ("test", pair.test)):
        values = image[pair.mask]
        finite = np.isfinite(values)
        broken = int(np.count_nonzero(~finite.all(axis=-1)))
        below = int(np.count_nonzero(finite & (values < pair.scale.low)))
        above = int(np.count_nonzero(finite & (values > pair.scale.high)))
        for count, what in (
            (below, f"lie below this scale ({share(below, values.size)}) and are black"),
            (above, f"lie above it ({share(above, values.size)}) and are white"),
        ):
            if count:
                said.append(f"Of the {which}, {count} values {what}.")
        if broken:
            said.append(f"Of the {which}, {broken} pixels are NaN or infinite, shown in magenta.")
    beyond = 0
    for rows in pair.bands():
        difference = difference_of(pair.reference[rows], pair.test[rows])
        sizes = np.abs(difference[pair.mask[rows]])
        beyond += int(np.count_nonzero(sizes[np.isfinite(sizes)] > pair.data_range))
    if beyond:
        said.append(f"{beyond} differences are larger than the data range, the end of their scale.")
    for layer in layers:
        if layer.map is not None and layer.scale.root:
            beyond = int(np.count_nonzero(layer.map.values > layer.scale.high))
            if beyond:
                said.append(f"{beyond} values of {layer.name} lie beyond the end of their scale.")
    return " ".join(said)


def _sizes(pair: ImagePair, content: Content) -> list[str]:
    """Say which pictures and numbers stand for blocks of pixels."""
    notes = []
    rows, columns = overview_step(pair.height, pair.width)
    if rows * columns > 1:
        side = content.detail_side
        finer = "every pixel" if side == 1 else f"blocks of {side} × {side} pixels"
        notes.append(
            f"The pictures show blocks of {columns} × {rows} pixels, the images by their mean, the "
            "difference and the maps by their worst value"
            + (f"; zoomed in, {finer}." if side < max(rows, columns) else ".")
        )
    if content.pixel_side > 1:
        notes.append(
            f"To keep the page small, it holds one pixel of each {content.pixel_side} × "
            f"{content.pixel_side}, the one that differs most, with its true place and values."
        )
    if content.map_side > 1:
        notes.append(
            "To keep the page small, the values of maps are the worst of each block of "
            f"{content.map_side} × {content.map_side} pixels, with four digits."
        )
    if max(pair.height, pair.width) > THIN * min(pair.height, pair.width):
        notes.append("The images are thin; their pictures may be stretched across.")
    return notes
