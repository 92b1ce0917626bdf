"""Notes on how to read the pictures of a report."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from imsim import METRICS
from imsim.pages.content import Content
from imsim.pages.layers import ImagePair, Layer, overview_step
from imsim.pages.page import number, share
from imsim.typing import Array

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
    for rows, difference in pair.differences():
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
