"""The options on how files are read and which pixels count, which `compare` and `report` share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from imsim._images import Picture, Reading, where_equal
from imsim.cli.outputs import check_data_range
from imsim.errors import DataRangeError, OptionError
from imsim.pages import share

Array = np.ndarray[Any, Any]

MASK_HELP = (
    "image of two values: 0 leaves a pixel out, and the other, as 255 or 1, has it scored; any "
    "other is refused"
)
RANGE_HELP = (
    "largest possible minus smallest possible pixel value; 255 for 8-bit images, which need not "
    "say so; 65535 for full 16-bit images, 4095 for those of a 12-bit camera. For files of several "
    "types one of each: uint8=255,uint16=4095"
)
NEEDS_RANGE = "--data-range (65535 for full 16-bit images, 4095 for those of a 12-bit camera)"
_TYPES = ["bool", *(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64))]
_TYPES += ["float16", "float32", "float64"]


def add_reading(parser: argparse.ArgumentParser, more_on_masks: str = "") -> None:
    """Add the options."""
    add = parser.add_argument
    add("--mask", metavar="M", help=MASK_HELP + more_on_masks)
    add("--data-range", metavar="L", help=RANGE_HELP)
    add(
        "--ignore-value",
        metavar="V",
        type=_number,
        action="append",
        default=[],
        help="leave out the pixels that have this value in any channel of either image, such as "
        "-9999 for no data; can be repeated. What a TIFF file declares as no data is left out "
        "without it",
    )
    add(
        "--ignore-nan",
        action="store_true",
        help="leave out the pixels that are NaN in any channel of either image",
    )
    add(
        "--background",
        metavar="COLOUR",
        default="white",
        help="the colour behind transparent parts: a name, or #rrggbb; white by default",
    )
    add(
        "--max-pixels",
        metavar="N",
        type=count,
        help="refuse larger images; by default those that take more than an eighth of the memory",
    )
    add(
        "--channel-axis",
        metavar="N",
        type=int,
        help="the axis of .npy, .npz and undescribed TIFF arrays that holds channels, e.g. -1 for "
        "the last",
    )


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def _number(text: str) -> float:
    # An int where it is one: 2**60 + 1 is no float. No pixel has more than 64 bits.
    try:
        value = int(text)
    except ValueError:
        number = float(text)
        if math.isinf(number) and "inf" not in text.lower():
            raise  # beyond every type, and not the infinity that it would become
        return number
    return value if abs(value) < 2**64 else _number(f"{text}.0")


def reading_of(arguments: argparse.Namespace) -> Reading:
    """Return how the files of a run are read."""
    return Reading(
        background=arguments.background,
        max_pixels=arguments.max_pixels,
        channel_axis=arguments.channel_axis,
    )


def score_options(
    arguments: argparse.Namespace, data_ranges: DataRanges, reading: Reading
) -> dict[str, Any]:
    """Return the options that decide scores, as JSON holds them: two runs mix only if they agree.

    The names of the images and the metrics are in the rows.
    """
    return {
        "mask": arguments.mask,
        "data_range": data_ranges.plain,
        "ignore_value": sorted(set(arguments.ignore_value), key=str),
        "ignore_nan": arguments.ignore_nan,
        "background": "#{:02x}{:02x}{:02x}".format(*reading.rgb),
        "channel_axis": reading.channel_axis,
    }


def changed_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those that are not what they are by default."""
    defaults = {"ignore_value": [], "ignore_nan": False, "background": "#ffffff"}
    return {name: value for name, value in options.items() if value != defaults.get(name)}


class DataRanges:
    """What `--data-range` says: one number for all images, or one for each type of pixels.

    Parameters
    ----------
    text : str, optional
        ``4095``, or ``uint8=255,uint16=4095``; a number without a type is for all the others.

    Raises
    ------
    DataRangeError
        If a number is not positive, or beyond what the type can hold.
    """

    def __init__(self, text: str | None) -> None:
        self._of: dict[str | None, float] = {}
        for part in [] if text is None else text.split(","):
            kind, equals, number = part.rpartition("=")
            kind = kind.strip()
            try:
                value = float(number)
            except ValueError:
                value = math.nan
            check_data_range(value, part)
            if equals and kind not in _TYPES:
                raise OptionError(
                    f"--data-range {part}: there is no type {kind!r} of pixels; expected one of "
                    f"{', '.join(_TYPES)}"
                )
            key = kind if equals else None
            if key in self._of:
                raise OptionError(
                    f"--data-range {text}: {key or 'the number without a type'} comes twice; "
                    "give one for each type"
                )
            self._of[key] = value
            if equals and value > _capacity(np.dtype(kind)):
                raise DataRangeError(f"--data-range {part} {_beyond(np.dtype(kind))}")

    @property
    def plain(self) -> float | Mapping[str, float] | None:
        """What JSON says of it."""
        if set(self._of) <= {None}:
            return self._of.get(None)
        return {kind or "other": value for kind, value in self._of.items()}

    @property
    def one(self) -> float | None:
        """The data range of all images, if there is one."""
        return next(iter(self._of.values())) if len(self._of) == 1 else None

    def of(self, picture: Picture) -> float | None:
        """Return the data range to score an image with, or None if nothing is said of its type.

        Raises
        ------
        DataRangeError
            If it is beyond what the pixels of this type can hold.
        """
        kind = picture.pixels.dtype
        value = self._of.get(kind.name, self._of.get(None))
        if value is not None and value > _capacity(kind):
            raise DataRangeError(
                f"{picture.path}: --data-range {value:g} {_beyond(kind)}; for files of several "
                f"types, give one of each: --data-range {kind.name}={_capacity(kind):.0f},..."
            )
        return value

    def missing(self, picture: Picture) -> bool:
        """Tell whether metrics that need a data range have none for this image."""
        return self.of(picture) is None and picture.pixels.dtype not in ("uint8", "bool")


def _capacity(kind: np.dtype[Any]) -> float:
    if kind.kind == "f":
        return math.inf
    return 1.0 if kind.kind == "b" else float(2 ** (8 * kind.itemsize) - 1)


def _beyond(kind: np.dtype[Any]) -> str:
    bits = 1 if kind.kind == "b" else 8 * kind.itemsize
    return f"is beyond what {bits}-bit pixels hold ({_capacity(kind):.0f})"


class Ignored(NamedTuple):
    """What `--ignore-value` and `--ignore-nan` say."""

    values: tuple[float, ...] = ()
    nan: bool = False

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Ignored:
        """Return what the arguments say."""
        return cls(tuple(arguments.ignore_value), arguments.ignore_nan)

    def _options(self) -> Iterable[tuple[str, float]]:
        yield from ((f"--ignore-value {value:.15g}", value) for value in self.values)
        if self.nan:
            yield "--ignore-nan", math.nan

    def used(
        self, reference: Picture, test: Picture, mask: Array | None
    ) -> tuple[Array | None, list[tuple[str, str]]]:
        """Return the pixels to score, None for all, and notes on what is left out.

        A pixel is left out if it is in either image: whatever one image does not show, the other
        cannot be compared with. Both are as the files have them, not widened to one type.
        """
        notes = []
        for picture in (reference, test):
            if picture.valid is not None:  # the picture has a note on that
                mask = picture.valid if mask is None else mask & picture.valid
            for option, value in self._options():
                found = _at(picture.pixels, value)
                if found.any():
                    number = int(np.count_nonzero(found))
                    said = f"{number} of {found.size} pixels ({share(number, found.size)})"
                    notes.append((picture.path, f"{said} are left out by {option}"))
                    mask = ~found if mask is None else mask & ~found
        return mask, notes


def _at(pixels: Array, value: float) -> Array:
    """Tell which pixels have a value in any channel."""
    found = where_equal(pixels, value)
    return np.asarray(found.any(axis=-1) if pixels.ndim == 3 else found)
