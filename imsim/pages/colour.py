"""Colours of values, on scales that do not depend on the picture."""

from __future__ import annotations

import io
import math
import sys
from typing import Any, Literal, NamedTuple

import numpy as np

from imsim import METRICS, ImsimError, OptionError, ShapeError
from imsim.inputs import as_array, check_real
from imsim.pages.blocks import bands
from imsim.portable.arrays import is_of_jax, is_tensor, to_host
from imsim.tensors import as_numpy
from imsim.typing import Array
from imsim.validation import check_choice, check_data_range, check_number

Colours = Literal["viridis", "grey", "difference"]
MapScale = Literal["fixed", "auto"]
MAP_SCALES: tuple[MapScale, ...] = ("fixed", "auto")
"""A map ends at the bound of its metric, or at its own worst value."""

MISSING = (150, 150, 150)
"""The neutral grey of NaN: red, green, blue."""
LEVEL = 4
"""Level of zlib: it takes half the time of the usual 6, and 2 % more bytes."""
BROKEN = (214, 0, 147)
"""The magenta of pixels of an image that are not finite."""

# Equally spaced anchors. Viridis by N. Smith and S. van der Walt (2015), released under CC0: even
# steps of value are even steps of lightness, also for most of the colour-blind and in print.
# The difference runs from blue over near-white to brown, with both arms of one lightness.
_ANCHORS: dict[Colours, str] = {
    "viridis": "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1f9f88 27ad81 "
    "3dbc74 5cc863 81d34d aadc32 d5e21a fde725",
    "grey": "000000 ffffff",
    "difference": "10407f 4f86c6 f4f4f4 cf7a3c 7a3703",
}
# With the grey of NaN, a picture has few enough colours for a palette; grey has all its levels.
CODES = 255
"""Of a picture with a palette; the last of its 256 colours is that of what is not scored."""
_EQUAL = 1e-6
"""What a map that is alike everywhere may differ by rounding, as a part of its scale."""
_STEPS: dict[Colours, int] = {"viridis": 255, "grey": 256, "difference": 255}


def colour_table(name: Colours, number: int) -> Array:
    """Return so many colours from the first to the last, shape (number, 3)."""
    anchors = _ANCHORS[name].split()
    colours = np.array([list(bytes.fromhex(anchor)) for anchor in anchors], dtype=float)
    where = np.linspace(0, len(colours) - 1, number)
    channels = [np.interp(where, np.arange(len(colours)), channel) for channel in colours.T]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


TABLES = {name: colour_table(name, number) for name, number in _STEPS.items()}


class Scale(NamedTuple):
    """How values become colours.

    Attributes
    ----------
    low, high : float
        The values with the first and the last colour; values beyond get these colours too.
        `low` may be the larger one.
    root : bool
        Colours follow the square root of the distance from 0 (with its sign), which shows small
        errors next to large ones.
    colours : {"viridis", "grey", "difference"}
        The colours in their order.

    Examples
    --------
    >>> from imsim.pages import Scale
    >>> Scale(1.0, -1.0).colours_of([[1.0, -1.0]]).tolist()  # the best score is dark
    [[[68, 1, 84], [253, 231, 37]]]
    """

    low: float
    high: float
    root: bool = False
    colours: Colours = "viridis"

    def colours_of(self, values: Array) -> Array:
        """Give every value its colour.

        Parameters
        ----------
        values : array_like, shape (height, width)
            Numbers; NaN becomes neutral grey.

        Returns
        -------
        numpy.ndarray of uint8, shape (height, width, 3)
            Red, green and blue.
        """
        table, values = TABLES[self.colours], np.asarray(values)
        picture = np.empty((*values.shape, 3), np.uint8)
        for rows in bands(len(values), values.size // max(len(values), 1)):
            steps, nothing = self.steps_of(values[rows], len(table))
            picture[rows] = table[steps]
            picture[rows][nothing] = MISSING
        return picture

    @np.errstate(over="ignore", invalid="ignore")  # beyond the scale, or NaN, at any size
    def steps_of(self, values: Array, number: int) -> tuple[Array, Array]:
        """Return the step of each value on a scale of so many, and where the values are NaN."""
        values = np.asarray(values, dtype=np.float64)
        low, high = (self.low, self.high) if not self.root else _root((self.low, self.high))
        place = ((_root(values) if self.root else values) - low) / (high - low)
        nothing = np.isnan(place)
        steps = np.clip(np.where(nothing, 0, place), 0, 1) * (number - 1)
        return np.rint(steps).astype(np.intp), nothing

    def codes_of(self, values: Array) -> Array:
        """Return the steps on a scale of `CODES`, and the number behind the last one for NaN."""
        steps, nothing = self.steps_of(values, CODES)
        return np.where(nothing, CODES, steps).astype(np.uint8)

    def palette(self, nothing: tuple[int, int, int] = MISSING) -> Array:
        """Return the colours of all codes, shape (codes, 3)."""
        return np.vstack([colour_table(self.colours, CODES), [nothing]]).astype(np.uint8)

    def value_at(self, place: float) -> float:
        """Return the value with the colour at `place`, from 0 (first) to 1 (last)."""
        if not self.root:
            return self.low + place * (self.high - self.low)
        low, high = _root((self.low, self.high))
        root = low + place * (high - low)
        return math.copysign(root * root, root)


def _root(values: Any) -> Any:
    return np.copysign(np.sqrt(np.abs(values)), values)


def colour_map(values: Array, low: float, high: float) -> Array:
    """Show numbers as colours of viridis, on a given scale.

    Parameters
    ----------
    values : array_like, shape (height, width)
        Numbers; NaN becomes neutral grey, values beyond the scale get the colour of its end.
    low, high : float
        The values that are darkest and brightest. `low` may be the larger one, as for a
        similarity where bright is to mean "differs".

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 3)
        Red, green and blue.

    Raises
    ------
    ShapeError
        If `values` is not one picture.
    DTypeError
        If `values` are not real numbers.
    OptionError
        If `low` and `high` are equal, or not finite.

    Examples
    --------
    >>> from imsim.pages import colour_map
    >>> colour_map([[0.0, 1.0, float("nan")]], 0.0, 1.0).tolist()
    [[[68, 1, 84], [253, 231, 37], [150, 150, 150]]]
    """
    values = numbers_of(values)
    if values.ndim != 2:
        raise ShapeError(
            f"values has shape {values.shape}",
            "expected one picture, (height, width): pass the pictures of a batch one by one",
        )
    return checked_scale(Scale(low, high)).colours_of(values)


def numbers_of(values: Any) -> Array:
    """Return real numbers to be drawn, NaN where they are masked; axes may have names."""
    if isinstance(values, np.ma.MaskedArray):
        check_real("values", values.data)
        values = np.ma.filled(values.astype(np.float64), np.nan)
    if is_tensor(values) or is_of_jax(values):  # of dtypes that NumPy lacks, too
        return as_numpy("values", values)
    found: Array = to_host(values if hasattr(values, "shape") else as_array("values", values))
    check_real("values", found)
    return found


def checked_scale(scale: Scale) -> Scale:
    """Return a scale with floats for its ends; refuse one that has no colours."""
    if not isinstance(scale, Scale):
        raise OptionError(f"scale={scale!r}", "expected a Scale, such as Scale(1.0, 0.9)")
    check_choice("colours", scale.colours, _STEPS)
    low = check_number("low", scale.low, -math.inf, math.inf)
    high = check_number("high", scale.high, -math.inf, math.inf)
    if not (math.isfinite(low) and math.isfinite(high) and low != high):
        raise OptionError(f"low={low!r}, high={high!r}", "expected two different finite numbers")
    return scale._replace(low=low, high=high)


def map_scale(name: str, data_range: float, local: Array | None = None) -> Scale:
    """Choose the scale of a metric's map: dark where alike, bright where different.

    The scale follows from the bounds of the values and not from the map, so that pictures of
    different pairs compare. Squared errors have no bound: their scale ends at the square of
    `data_range`, and their colours follow the square root.

    Differences that are small against the bounds are all dark then. Given the map, the scale ends
    at its worst value; such pictures show where, and do not compare with each other.

    Parameters
    ----------
    name : str
        A metric with a map, see `imsim.METRICS`.
    data_range : float
        Largest possible minus smallest possible value of the images.
    local : numpy.ndarray, optional
        The map at hand, of any shape, to end the scale at its worst value. If nothing in it
        differs, the scale stays fixed.

    Returns
    -------
    Scale
        Its ``colours_of(local)`` makes the picture.

    Raises
    ------
    OptionError
        If there is no metric of that name, or it has no map.
    DataRangeError
        If `data_range` is not a positive finite number.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.pages import map_scale
    >>> map_scale("ssim", 255)
    Scale(low=1.0, high=-1.0, root=False, colours='viridis')
    >>> map_scale("ssim", 255, np.array([1.0, 0.75, np.nan])).high
    0.75
    """
    with_map = [metric.name for metric in METRICS.values() if metric.map_function]
    if name not in with_map:
        raise OptionError(f"name={name!r}", f"expected a metric with a map: {', '.join(with_map)}")
    metric = METRICS[name]
    alike, different = metric.map_bounds
    if metric.map_higher_is_better:
        alike, different = different, alike
    alike = alike if math.isfinite(alike) else 0.0
    root = math.isinf(different)
    span = float(check_data_range(data_range, (), None, np))
    scale = Scale(alike, min(span * span, sys.float_info.max) if root else different, root)
    return scale if local is None else _ending_at_worst(scale, local)


def _ending_at_worst(scale: Scale, local: Array) -> Scale:
    known = local[np.isfinite(local)]
    if not known.size:
        return scale
    worst = float(known.max() if scale.high > scale.low else known.min())
    differs = (worst - scale.low) / (scale.high - scale.low)
    return scale._replace(high=worst) if differs > (_EQUAL**2 if scale.root else _EQUAL) else scale


def png(pixels: Array) -> bytes:
    """Encode a picture as PNG: grey, or red, green and blue, of uint8."""
    from PIL import Image

    pixels = np.ascontiguousarray(pixels)
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)) or pixels.ndim < 2:
        raise ImsimError(
            f"pixels has dtype {pixels.dtype} and shape {pixels.shape}",
            "expected uint8 of shape (height, width) or (height, width, 3), as colour_map returns",
        )
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG", compress_level=LEVEL)
    return content.getvalue()


def small_png(pixels: Array) -> bytes:
    """Encode colours as PNG, with a palette if there are at most 256 of them."""
    from PIL import Image

    found = Image.fromarray(pixels).getcolors(256)
    if found is None:
        return png(pixels)
    palette = np.array(sorted(colour for _, colour in found), dtype=np.uint8)
    known = _numbers(palette)
    steps = np.empty(pixels.shape[:2], np.uint8)
    index = np.zeros(1 << 24, np.uint8)
    index[known] = np.arange(len(palette))
    for rows in bands(*steps.shape):
        steps[rows] = index[_numbers(pixels[rows])]
    picture = Image.fromarray(steps)
    picture.putpalette(palette.tobytes())
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=False, compress_level=LEVEL)
    return content.getvalue()


def _numbers(colours: Array) -> Array:
    """Return one number of red, green and blue."""
    red, green, blue = (colours[..., i].astype(np.uint32) for i in range(3))
    return np.asarray(red << 16 | green << 8 | blue)
