"""The pictures of a pair of images, on one canvas if their sizes differ, and their numbers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from imsim import METRICS, DataRangeError, EmptyMaskWarning, ImsimError, ShapeError
from imsim.differing import changes, distances
from imsim.errors import silent
from imsim.pages import blocks
from imsim.pages.blocks import Step
from imsim.pages.colour import BROKEN, MapScale, Scale, map_scale
from imsim.typing import Array
from imsim.validation import usual_data_range

Which = Literal["reference", "test"]
ONLY: dict[Which, tuple[int, int, int]] = {"reference": (38, 138, 76), "test": (136, 84, 208)}
"""Red, green and blue of the stripes on what only one image has: no colour of any scale."""
ABSENT = (104, 152)
"""The two greys of the chequers where an image has no pixels."""


@dataclass(frozen=True)
class Canvas:
    """The heights and widths of two images, and the extent of both together."""

    reference: tuple[int, int]
    test: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the canvas."""
        (a, b), (c, d) = self.reference, self.test
        return max(a, c), max(b, d)

    @property
    def common(self) -> tuple[slice, slice]:
        """The rows and columns that both images have."""
        (a, b), (c, d) = self.reference, self.test
        return slice(min(a, c)), slice(min(b, d))

    @property
    def one_size(self) -> bool:
        """Whether there is nothing that only one image has."""
        return self.reference == self.test

    @property
    def said(self) -> str:
        """Say both sizes, width first, as in ``size 97x128 against 96x128``."""
        (a, b), (c, d) = self.reference, self.test
        return f"size {d}x{c} against {b}x{a}"

    def padded(self, values: Array, nothing: float = 0) -> Array:
        """Put an image, or what belongs to its upper left part, on the canvas."""
        if values.shape[:2] == self.size:
            return values
        canvas = np.full((*self.size, *values.shape[2:]), nothing, values.dtype)
        canvas[: values.shape[0], : values.shape[1]] = values
        return canvas

    def has(self, which: Which) -> Array:
        """Tell where an image has pixels."""
        height, width = getattr(self, which)
        found = np.zeros(self.size, dtype=bool)
        found[:height, :width] = True
        return found

    def only(self, which: Which) -> Array:
        """Tell where this image alone has pixels."""
        return self.has(which) & ~self.has("test" if which == "reference" else "reference")


MOST_RANGES = 16
"""Most data ranges that one scale spans: beyond, pixels would hide each other."""


class ImagePair:
    """A pair of checked images, with channels last, their mask, difference and scale.

    Images of different sizes lie on one canvas, and the mask leaves out what only one has.
    `scaled` is the scale and its description of what the images are part of, if that is known.
    """

    def __init__(
        self,
        reference: Array,
        test: Array,
        mask: Any,
        data_range: Any,
        scaled: tuple[Scale, str] | None = None,
    ) -> None:
        (a, b), (c, d) = reference.shape[:2], test.shape[:2]
        self.canvas = Canvas((a, b), (c, d))
        self.reference = reference = self.canvas.padded(reference)
        self.test = test = self.canvas.padded(test)
        self.height, self.width, self.channels = reference.shape
        self.mask = self.canvas.has("reference") & self.canvas.has("test")
        if mask is not None:
            mask = np.asarray(mask).astype(bool)
            if mask.ndim != 2:
                raise ShapeError(f"mask has shape {mask.shape}", "expected (height, width)")
            self.mask &= self.canvas.padded(mask)
        self.data_range = known_range(reference, test, data_range)
        self.differ = (reference != test).any(axis=-1)
        self.scale, self.scaled_to = scaled or image_scale(self)

    @cached_property
    def distance(self) -> Array:
        """The largest absolute difference over the channels."""
        return np.concatenate(
            [distances(self.reference[rows], self.test[rows]) for rows in self.bands()]
        )

    def bands(self, rows: int = 1) -> Iterator[slice]:
        """Yield the rows, few at a time and in multiples of `rows`."""
        return blocks.bands(self.height, self.width * self.channels, rows)


def known_range(reference: Array, test: Array, data_range: Any) -> float:
    """Return the data range, or the usual one of the dtypes; refuse images without."""
    dtypes = {reference.dtype, test.dtype}
    known = usual_data_range(dtypes) if data_range is None else data_range
    if known is None:
        kinds = " and ".join(sorted(dtype.name for dtype in dtypes))
        raise DataRangeError(
            f"the report shows differences on a fixed scale, which has no default for "
            f"{kinds}: pass the largest possible minus the smallest "
            "possible value as data_range, e.g. 4095 for a 12-bit detector"
        )
    return float(known)


def image_scale(pair: ImagePair) -> tuple[Scale, str]:
    """Choose the scale of both images, and say what it is."""
    used = np.concatenate([image[pair.mask].ravel() for image in (pair.reference, pair.test)])
    used = used[np.isfinite(used)]
    ends = (float(used.min()), float(used.max())) if used.size else None
    some = used[:: 1 + used.size // 2**20]
    return scale_between(ends, some, pair.data_range, usual_data_range([pair.test.dtype]))


def scale_between(
    ends: tuple[float, float] | None, some: Array, data_range: float, usual: float | None
) -> tuple[Scale, str]:
    """Choose a scale for pixels between these ends, of which `some` are given, and say what it is.

    Where all pixels lie between 0 and the data range, it is the data range, so that reports
    compare; else it is the span of the pixels inside the mask. Where that exceeds `MOST_RANGES`
    data ranges, as with -9999 for no data, it is the stretch of one data range with most pixels.
    """
    nominal = usual or data_range
    low, high = ends or (0.0, nominal)
    what = "the smallest and the largest pixel of both"
    if ends is not None and high - low > MOST_RANGES * data_range:
        low, high = _fullest(some, data_range)
        what = "the stretch of one data range that holds most pixels"
    if low >= 0 and high <= nominal:
        low, high = 0.0, nominal
        what = "the data range" if nominal == data_range else "the range of 8 bits"
    if low == high:
        high = low + data_range
    if low == high:  # of pixels next to which the data range is lost
        low, high = sorted((low, math.nextafter(low, 0)))
    return Scale(low, high, colours="grey"), what


def _fullest(values: Array, length: float) -> tuple[float, float]:
    """Return the ends of the stretch of this length that holds most values."""
    ordered = np.sort(values.astype(np.float64))
    ends = np.searchsorted(ordered, ordered + length, side="right")
    first = int((ends - np.arange(ordered.size)).argmax())
    return float(ordered[first]), float(ordered[ends[first] - 1])


class Map(NamedTuple):
    """The map of a metric, shape (height, width)."""

    values: Array
    dissimilarity: Array
    """Larger where the images are less alike; NaN where the map has no value."""


@dataclass(frozen=True)
class Layer:
    """One picture, and the numbers behind it."""

    name: str
    title: str
    draw: Callable[[Step], Array]
    """Draws one colour per block: uint8, shape (rows, columns, 3)."""
    scale: Scale
    ends: tuple[str, str] | None
    """Meaning of the ends of the scale."""
    worst: tuple[int, int] | None = None
    """Row and column of the largest difference."""
    map: Map | None = None
    ends_here: bool = False
    """Whether the scale ends at the worst value of this very map."""


def pixels_of(name: str, pixels: Array, channel_axis: int | None, ndim: int = 2) -> Array:
    """Return one image, or one volume, with its channels last; refuse a batch."""
    if pixels.ndim != ndim + (channel_axis is not None):
        word = "image" if ndim == 2 else "volume"
        raise ShapeError(
            f"{name} has shape {pixels.shape}",
            f"a report shows one pair of {word}s: pass one {word} of a batch, and name the axis "
            "that holds channels, e.g. channel_axis=-1",
        )
    return pixels[..., None] if channel_axis is None else np.moveaxis(pixels, channel_axis, -1)


def _marked(pair: ImagePair, pixels: Array, step: Step, which: Which | None = None) -> Array:
    """Mark what is masked, what only one image has, and where the image `which` has nothing."""
    if pair.mask.all():
        return pixels
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    rows, columns = rows.astype(np.int32), columns.astype(np.int32)
    width = max(1, min(pixels.shape[:2]) // 100)
    stripes = ((rows + columns) // width % 4 < 2)[..., None]
    stay = np.where(stripes, np.uint8(150), np.uint8(20))
    used = blocks.inside(pair.mask, step)[..., None]
    result: Array = np.where(used, pixels, pixels // 3 + stay)  # faintly visible
    if pair.canvas.one_size:
        return result
    for image, colour in ONLY.items():
        if which in (image, None):
            here = blocks.inside(pair.canvas.only(image), step)[..., None] & ~used
            shown = pixels if which else np.uint8(225)
            result = np.where(here, np.where(stripes, np.array(colour, np.uint8), shown), result)
    if which:
        chequers = (rows // (2 * width) + columns // (2 * width)) % 2
        absent = ~blocks.inside(pair.canvas.has(which), step)
        result[absent] = np.array(ABSENT, np.uint8)[chequers][absent][:, None]
    return result


def image_layer(pair: ImagePair, name: Which, title: str = "") -> Layer:
    """Show an image; three channels are red, green and blue."""
    image: Array = getattr(pair, name)

    def drawn(step: Step, rows: slice) -> Array:
        shown = blocks.mean(image[rows], pair.mask[rows], step)
        broken = ~np.isfinite(shown).all(axis=-1)
        if pair.channels != 3:
            shown = shown.mean(axis=-1, keepdims=True)
        channels = [pair.scale.colours_of(shown[..., i])[..., 0] for i in range(shown.shape[-1])]
        pixels = np.stack(channels if pair.channels == 3 else channels * 3, axis=-1)
        pixels[broken] = BROKEN
        return pixels

    def draw(step: Step) -> Array:
        pixels = np.concatenate([drawn(step, rows) for rows in pair.bands(step[0])])
        return _marked(pair, pixels, step, name)

    return Layer(name, title, draw, pair.scale, None)


def difference_layer(pair: ImagePair) -> Layer:
    """Show test less reference, of the channel that differs most."""
    scale = Scale(-pair.data_range, pair.data_range, root=True, colours="difference")
    signed = np.empty(pair.mask.shape)
    for rows in pair.bands():
        signed[rows], _ = changes(pair.reference[rows], pair.test[rows])

    def draw(step: Step) -> Array:
        shown = signed[differing(pair, step)]
        pixels = scale.colours_of(shown)
        pixels[~np.isfinite(shown)] = BROKEN
        return _marked(pair, pixels, step)

    where = np.where(pair.mask, pair.distance, 0)
    worst = _place(where) if where.any() else None
    title = "difference (test - reference)"
    return Layer("difference", title, draw, scale, ("darker", "brighter"), worst)


def differing(pair: ImagePair, step: Step) -> tuple[Array, Array]:
    """Find the pixel of each block that differs most, inside the mask if any of it is."""
    return blocks.worst(np.where(pair.mask, pair.distance, -1), step)


def map_layers(
    pair: ImagePair,
    reference: Any,
    test: Any,
    options: dict[str, Any],
    names: Iterable[str] = METRICS,
    ends: MapScale = "fixed",
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Layer]:
    """Show the map of every metric of these names that has one for these images and options."""
    layers = []
    for name in names:
        local = local_map(name, reference, test, {**options, **(own or {}).get(name, {})})
        if local is None:  # the notes list maps that are not available
            continue
        local = pair.canvas.padded(local, np.nan)
        scale = map_scale(name, pair.data_range, local if ends == "auto" else None)
        layers.append(map_layer(pair, name, local, scale, ends_here=ends == "auto"))
    return layers


def local_map(name: str, reference: Any, test: Any, options: Mapping[str, Any]) -> Array | None:
    """Return the map of a metric; None if it has none for these images and options."""
    function = METRICS[name].map_function
    if function is None or options.keys() - inspect.signature(function).parameters:
        return None
    try:
        with silent(EmptyMaskWarning):  # the scores have already warned
            return np.asarray(function(reference, test, **options))
    except ImsimError:
        return None


def map_layer(
    pair: ImagePair, name: str, local: Array, scale: Scale, *, ends_here: bool = False
) -> Layer:
    """Show the map of a metric, whose scale may end at its own worst value."""
    far = np.asarray(METRICS[name].map_dissimilarity(local), dtype=np.float64)

    def draw(step: Step) -> Array:
        return _marked(pair, scale.colours_of(local[blocks.worst(far, step)]), step)

    known = np.where(np.isnan(far), -np.inf, far)
    differ = known.max() > 0 and (pair.differ & pair.mask).any()
    worst = _place(known) if differ else None
    title, ends = f"{name}: {METRICS[name].map_title}", ("alike", "different")
    return Layer(name, title, draw, scale, ends, worst, Map(local, far), ends_here)


def _place(values: Array) -> tuple[int, int]:
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(row), int(column)


def overview_step(height: int, width: int) -> Step:
    """Choose the blocks of the picture that is seen first.

    It has about as many pixels as its place on the screen. A browser would average a larger one,
    and hide a line of one pixel.
    """
    side = math.ceil(math.sqrt(height * width / 2**17))
    return max(side, math.ceil(height / 700)), max(side, math.ceil(width / 1400))
