"""The pictures of a pair of images, and the numbers behind them."""

from __future__ import annotations

import base64
import json
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from imsim import METRICS, DataRangeError, EmptyMaskWarning, ImsimError, ShapeError
from imsim.pages.colour import Scale, map_scale
from imsim.typing import Array, ImageLike

PICTURE_PIXELS = 2**20
"""Pictures of more pixels show every k-th one in both directions."""
NUMBER_PIXELS = 2**19
"""Numbers under the pointer are embedded for every k-th pixel in both directions beyond this."""
_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


class Pair:
    """The checked images, with their channels last."""

    def __init__(self, reference: Array, test: Array, mask: Any, data_range: Any) -> None:
        self.reference, self.test = reference, test
        self.height, self.width, self.channels = reference.shape
        self.mask = np.ones((self.height, self.width), dtype=bool)
        if mask is not None:
            self.mask = np.asarray(mask).astype(bool)
            if self.mask.ndim != 2:
                raise ShapeError(f"mask has shape {self.mask.shape}; expected (height, width)")
        both = {reference.dtype.name, test.dtype.name}
        defaults = {"uint8": 255.0, "bool": 1.0}
        if data_range is None and (len(both) > 1 or not both <= defaults.keys()):
            raise DataRangeError(
                f"the report shows images on a fixed scale, which has no default for "
                f"{' and '.join(sorted(both))}: pass the largest possible minus the smallest "
                "possible value as data_range, e.g. 4095 for a 12-bit detector"
            )
        self.data_range = float(defaults[both.pop()] if data_range is None else data_range)
        with np.errstate(invalid="ignore", over="ignore"):
            self.difference = test.astype(np.float64) - reference.astype(np.float64)
        finite = [x[np.isfinite(x)].min(initial=0) for x in (reference, test)]
        low = 0.0 if min(finite) >= 0 else -self.data_range / 2
        self.scale = Scale(low, low + self.data_range, colours="grey")
        self.picture_step = _step(self.height * self.width, PICTURE_PIXELS)
        self.number_step = _step(self.height * self.width, NUMBER_PIXELS)


@dataclass(frozen=True)
class Layer:
    """One picture, and the numbers behind it."""

    name: str
    title: str
    pixels: Array
    """What is seen: uint8, shape (height, width, 3), thinned out."""
    numbers: Array | None
    """At every pixel; None for the difference, which follows from the images."""
    scale: Scale
    ends: tuple[str, str] | None
    """What the ends of the scale mean."""
    worst: tuple[int, int] | None = None
    """Row and column of the largest difference."""


def _step(pixels: int, most: int) -> int:
    return max(1, math.ceil(math.sqrt(pixels / most)))


def pixels_of(name: str, image: ImageLike, channel_axis: int | None) -> Array:
    """Return one image with its channels last; refuse a batch."""
    pixels = np.asarray(image)
    if pixels.ndim != (2 if channel_axis is None else 3):
        raise ShapeError(
            f"{name} has shape {pixels.shape}; a report shows one pair of images: pass one image "
            "of a batch, and name the axis that holds channels, e.g. channel_axis=-1"
        )
    return pixels[..., None] if channel_axis is None else np.moveaxis(pixels, channel_axis, -1)


def _thin(values: Array, step: int) -> Array:
    return values[::step, ::step]


def _hatched(pair: Pair, pixels: Array) -> Array:
    """Dark and bright stripes over what the mask leaves out, which shows faintly."""
    step = pair.picture_step
    rows, columns = np.indices(pixels.shape[:2])
    width = max(1, min(pixels.shape[:2]) // 100)
    stripes = (rows + columns) // width % 4 < 2
    masked = pixels // 3 + np.where(stripes[..., None], 150, 20)
    result: Array = np.where(_thin(pair.mask, step)[..., None], pixels, masked).astype(np.uint8)
    return result


def image_layer(pair: Pair, name: str, title: str, image: Array) -> Layer:
    """Show an image; three channels are red, green and blue."""
    shown = _thin(image, pair.picture_step).astype(np.float64)
    if pair.channels == 3:
        channels = [pair.scale.colours_of(shown[..., i])[..., 0] for i in range(3)]
        pixels = np.stack(channels, axis=-1)
    else:
        pixels = pair.scale.colours_of(shown.mean(axis=-1))
    return Layer(name, title, _hatched(pair, pixels), image, pair.scale, None)


def difference_layer(pair: Pair) -> Layer:
    """Show test less reference, of the channel that differs most."""
    scale = Scale(-pair.data_range, pair.data_range, root=True, colours="difference")
    largest = np.abs(np.nan_to_num(pair.difference, posinf=np.inf, neginf=-np.inf))
    channel = largest.argmax(axis=-1)[..., None]
    signed = np.take_along_axis(pair.difference, channel, axis=-1)[..., 0]
    pixels = _hatched(pair, scale.colours_of(_thin(signed, pair.picture_step)))
    where = np.where(pair.mask, largest.max(axis=-1), 0)
    worst = _place(where) if where.any() else None
    title = "difference (test - reference)"
    return Layer("difference", title, pixels, None, scale, ("darker", "brighter"), worst)


def map_layers(pair: Pair, reference: Any, test: Any, options: dict[str, Any]) -> list[Layer]:
    """Show the map of every metric that has one for these images."""
    layers = []
    for name, metric in METRICS.items():
        if metric.map_function is None:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EmptyMaskWarning)  # the scores have said so
                local = np.asarray(metric.map_function(reference, test, **options))
        except ImsimError:  # the table of scores gives the reason, save for that of `sam`
            continue
        scale = map_scale(name, pair.data_range)
        pixels = scale.colours_of(_thin(local, pair.picture_step))
        far = np.nan_to_num(np.where(np.isnan(local), scale.low, local) - scale.low)
        far = far if scale.high > scale.low else -far
        worst = _place(far) if far.max() > 0 else None
        title = f"{name}: {'Gradient similarity' if name == 'gmsd' else metric.title}"
        layers.append(Layer(name, title, pixels, local, scale, ("alike", "different"), worst))
    return layers


def _place(values: Array) -> tuple[int, int]:
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(row), int(column)


def embedded(pair: Pair, layers: list[Layer]) -> str:
    """Return the numbers as JSON, arrays in base64 of little-endian bytes."""
    step = pair.number_step
    kept = _thin(pair.mask, step)
    content = {
        "width": pair.width,
        "height": pair.height,
        "channels": pair.channels,
        "step": step,
        "rows": kept.shape[0],
        "columns": kept.shape[1],
        "mask": _base64(np.packbits(kept, bitorder="little")),
        "layers": [
            _numbers(layer, step, maps=index > 1)
            for index, layer in enumerate(layer for layer in layers if layer.numbers is not None)
        ],
    }
    return json.dumps(content).replace("<", "\\u003c")


def _numbers(layer: Layer, step: int, *, maps: bool) -> dict[str, str]:
    values = _thin(np.asarray(layer.numbers), step)
    if maps or values.dtype.name == "float16":
        values = values.astype(np.float32)
    elif values.dtype.kind == "b":
        values = values.astype(np.uint8)
    elif values.dtype.name not in _TYPES:
        values = values.astype(np.float64)
    return {
        "name": layer.name,
        "dtype": values.dtype.name,
        "values": _base64(values.astype(values.dtype.newbyteorder("<"))),
    }


def _base64(values: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
