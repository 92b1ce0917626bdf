"""Options that several commands have, and what their texts mean."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np

from imsim._images import ORIENTATIONS, Picture, Reading
from imsim.errors import DataRangeError, ImsimError, OptionError
from imsim.pages import readable
from imsim.validation import (
    CHANNEL_HINT,
    MEMORY_HINT,
    SLICES_HINT,
    bits_of,
    capacity,
    usual_data_range,
)

MASK_HELP = (
    "image of two values: 0 leaves a pixel out, and the other, as 255 or 1, has it scored; any "
    "other is refused"
)
RANGE_HELP = (
    "largest possible minus smallest possible pixel value; 255 for 8-bit images, which need not "
    "say so; 65535 for full 16-bit images, 4095 for those of a 12-bit camera, 1 for floats from 0 "
    "to 1. For files of several types one of each: uint8=255,uint16=4095"
)
NEEDS_RANGE = (
    "--data-range (65535 for full 16-bit images, 4095 for those of a 12-bit camera, 1 for floats "
    "from 0 to 1)"
)
_ENDLESS = 10**18
"""Larger counts mean no other thing, and the standard library does not take any."""
_TYPES = ["bool", *(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64))]
_TYPES += ["float16", "float32", "float64"]


class _Name(str):
    """What stands after `--`, and so is no option, whatever it begins with."""

    __slots__ = ()


def _named(args: Sequence[str]) -> list[str]:
    """Return arguments without their first `--`, which argparse loses where files are divided."""
    if "--" not in args:
        return list(args)
    end = list(args).index("--")
    return [*args[:end], *map(_Name, args[end + 1 :])]


class Parser(argparse.ArgumentParser):
    """A parser whose complaints may quote any name, and whose options stand anywhere."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._is_inside = False
        # Before Python 3.14, a number with an exponent, such as a no-data value, is no number.
        self._negative_number_matcher = re.compile(r"-((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|inf)$", re.I)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, with options before, between and after the files.

        argparse does that in another method, which it never calls for a command of a command,
        which calls this one.
        """
        if self._subparsers is not None or self._is_inside:
            return super().parse_known_args(args, namespace)
        self._is_inside = True
        try:
            found, unknown = self.parse_known_intermixed_args(_named(args), namespace)
        finally:
            self._is_inside = False
        if unknown:  # said here, the usage is that of the command
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _parse_optional(self, arg_string: str) -> Any:
        return None if isinstance(arg_string, _Name) else super()._parse_optional(arg_string)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:
            # Before Python 3.13, argparse takes it for no value, and returns an empty list.
            value = self._get_value(action, *arg_strings)
            self._check_value(action, value)
            return value
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        """Complain about the usage, and end."""
        super().error(readable(message))


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], Any], summary: str, text: str
) -> argparse.ArgumentParser:
    """Add a command, whose help shows the text with its own line breaks."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_reading(parser: argparse.ArgumentParser, more_on_masks: str = "") -> None:
    """Add the options on the mask, the data range, and how files are read."""
    add = parser.add_argument
    add("--mask", metavar="M", help=MASK_HELP + more_on_masks)
    add("--data-range", metavar="L", help=RANGE_HELP)
    add(
        "--background",
        metavar="COLOUR",
        default="white",
        help="the colour behind transparent parts: a name, or #rrggbb; white by default",
    )
    add(
        "--orientation",
        choices=ORIENTATIONS,
        default="obey",
        help="whether an image is turned as its orientation tag says (EXIF, TIFF), which is the "
        "default, or taken as it is stored",
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


def count(text: str, least: int = 1) -> int:
    """Read a whole number of at least 1, or another one."""
    number = int(text) if text.isdecimal() else -1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return min(number, _ENDLESS)


def pixel_value(text: str) -> float:
    """Read a value of a pixel, exactly."""
    # An int where it is one: 2**60 + 1 is no float. No pixel has more than 64 bits.
    with suppress(ValueError):
        value = int(text)
        if abs(value) < 2**64:
            return value
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if math.isinf(number) and "inf" not in text.lower():  # which it would become
        raise argparse.ArgumentTypeError(f"{text!r} is beyond every type of pixels")
    return number


def reading_of(arguments: argparse.Namespace) -> Reading:
    """Return how the files of a run are read."""
    memory = getattr(arguments, "memory", None)  # a report has all pixels in memory
    return Reading(
        background=arguments.background,
        max_pixels=arguments.max_pixels,
        channel_axis=arguments.channel_axis,
        orientation=arguments.orientation,
        volume=arguments.volume,
        # A volume is one array in memory, and so are images with labels.
        memory=None if arguments.volume or getattr(arguments, "labels", None) else memory,
        level=getattr(arguments, "level", None),
        clear_is_no_data=arguments.ignore_transparent,
    )


class DataRanges:
    """What `--data-range` says: one number for all images, or one for each type of pixels.

    As in ``4095``, or ``uint8=255,uint16=4095``; a number without a type is for all the others.
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
            if equals and value > capacity(np.dtype(kind)):
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
        """Return the data range to score an image with, or None if nothing is said of its type."""
        kind = picture.pixels.dtype
        value = self._of.get(kind.name, self._of.get(None))
        if value is not None and value > capacity(kind):
            raise DataRangeError(
                f"{picture.path}: --data-range {value:g} {_beyond(kind)}; for files of several "
                f"types, give one of each: --data-range {kind.name}={capacity(kind):.0f},..."
            )
        return value

    def missing(self, picture: Picture) -> bool:
        """Tell whether metrics that need a data range have none for this image."""
        return self.of(picture) is None and usual_data_range([picture.pixels.dtype]) is None


def _beyond(kind: np.dtype[Any]) -> str:
    return f"is beyond what {bits_of(kind)}-bit pixels hold ({capacity(kind):.0f})"


def check_data_range(value: float | None, text: str | None = None) -> None:
    """Refuse once what the library would refuse for every pair."""
    if value is not None and not (math.isfinite(value) and value > 0):
        text = f"{value:g}" if text is None else text
        raise DataRangeError(
            f"--data-range {text}: data_range must be a positive number, e.g. 65535"
        )


def in_options(error: ImsimError, image: Picture | None = None) -> str:
    """Describe an error, with the option in its remedy where the library names an argument.

    As in the library's warning, a width of 3 or 4 of what was scored may be channels.
    """
    option = "if an axis holds channels, name it: --channel-axis -1"
    slices = "without --volume, each slice has a score"
    memory = "raise --memory above the size of an image, if this machine has several times as much"
    remedy = error.remedy or ""
    if image and (image.channel_axis is not None or image.sides[-1] not in (3, 4)):
        remedy = remedy.removesuffix(f"; {CHANNEL_HINT}")
    for hint, said in ((CHANNEL_HINT, option), (MEMORY_HINT, memory), (SLICES_HINT, slices)):
        remedy = remedy.replace(hint, said)
    return f"{error.message}; {remedy}" if remedy else error.message


COLUMNS = ("file", "x", "y", "w", "h")
"""Of a CSV file."""
IGNORING_HELP = f"""\
Left out: pixels outside --mask, of a value (--ignore-value, --ignore-nan), of
a colour of REF (--ignore-colour), transparent in REF (--ignore-transparent),
in rectangles (--ignore x,y,w,h), and what --ignore-from FILE says:
  .csv             the columns {",".join(COLUMNS)}; of all images if
                   "file" is empty
  .yaml, .yml      from names to lists of rectangles [x, y, w, h]
  .json, .geojson  polygons of GeoJSON or labelme, in pixels, of all images
  a folder         such a file of polygons for each image, of its path
Names of images may have * and ?, and lack the ending; those without a folder
are of images in every folder. What is left out is counted in a note, and
hatched on pages.
"""


def add_ignoring(parser: argparse.ArgumentParser) -> None:
    """Add the options on what is left out."""

    def add(name: str, text: str, **how: Any) -> None:
        parser.add_argument(name, help=text, **how)

    several: dict[str, Any] = {"action": "append", "default": []}
    add(
        "--ignore",
        "leave out w x h pixels from column x and row y on, both from 0; can be repeated",
        metavar="x,y,w,h",
        **several,
    )
    add(
        "--ignore-from",
        "leave out the rectangles or polygons of a file, some for some images only: see above; "
        "can be repeated",
        metavar="FILE",
        **several,
    )
    add(
        "--ignore-colour",
        "leave out the pixels that have this colour in REF: a name, or #rrggbb; can be repeated",
        metavar="COLOUR",
        **several,
    )
    add(
        "--ignore-transparent",
        "leave out the pixels that are wholly transparent in REF",
        action="store_true",
    )
    add(
        "--ignore-value",
        "leave out the pixels that have this value in any channel of either image, such as "
        "-9999 for no data; can be repeated. What a TIFF file declares as no data is left out "
        "without it",
        metavar="V",
        type=pixel_value,
        **several,
    )
    add(
        "--ignore-nan",
        "leave out the pixels that are NaN in any channel of either image",
        action="store_true",
    )


RULES = ("fail", "crop", "pad")
SIZES_HELP = """\
Different sizes: such a pair fails, and has a row of the status "size differs".
--on-size-mismatch crop scores what both images have from their upper left
corner on. pad fills up both to the larger width and height, right and below,
with black or white, whichever is farther from the other image there; pixels
that only one image has always count as different. Either is said in a note.
"""


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the option on sizes."""
    parser.add_argument(
        "--on-size-mismatch",
        choices=RULES,
        default=RULES[0],
        help="what to do with a pair of different sizes: fail, which is the default; crop both to "
        "what both have; or pad both to what either has; see above",
    )


MAX_SHIFT = 8


def add_aligning(parser: argparse.ArgumentParser) -> None:
    """Add the options on shifts."""
    add = parser.add_argument
    add(
        "--align",
        action="store_true",
        help="move each test image onto its reference before it is scored, by the shift that fits "
        "best, to fractions of a pixel; scores are of what both images have then, and the shift is "
        "in a note, in CSV and in JSON",
    )
    add(
        "--max-shift",
        metavar="N",
        type=count,
        help=f"pixels that --align moves by at most along each axis, {MAX_SHIFT} by default; a "
        "pair that is further apart fails",
    )


def max_shift_of(arguments: argparse.Namespace) -> int | None:
    """Return the largest shift, or None if nothing is to be moved; refuse what goes against it."""
    if not arguments.align:
        if arguments.max_shift is not None:
            raise OptionError("--max-shift: is a limit of --align; add that")
        return None
    if arguments.volume:
        raise OptionError("--align: moves images, and not volumes; leave out --volume, or --align")
    if getattr(arguments, "on_size_mismatch", "") == "pad":
        raise OptionError(
            "--on-size-mismatch pad: what only one image has differs, and --align leaves it out; "
            "use --on-size-mismatch crop"
        )
    return arguments.max_shift or MAX_SHIFT
