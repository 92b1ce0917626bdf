"""What is left out of the scores: values, colours, transparency, rectangles and polygons."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from imsim._images import Array, ImageFileError, Picture, Reading, where_equal, without_index
from imsim.cli.areas import COLUMNS, Area, Box, Image, Names, areas_of, rectangle
from imsim.cli.options import pixel_value
from imsim.cli.outputs import Notes
from imsim.errors import OptionError
from imsim.pages import share

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


class Ignored(NamedTuple):
    """What the options say of pixels to leave out."""

    values: tuple[float, ...] = ()
    nan: bool = False
    colours: tuple[str, ...] = ()
    transparent: bool = False
    areas: tuple[Area, ...] = ()

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Ignored:
        """Return what the arguments say."""
        for colour in arguments.ignore_colour:
            try:
                _ = Reading(background=colour).rgb
            except OptionError:
                raise OptionError(
                    f"--ignore-colour {colour}: expected a name, as magenta, or #rrggbb"
                ) from None
        areas = []
        for text in arguments.ignore:
            option = f"--ignore {text}"
            try:
                areas.append(Area(option, rectangle(text)))
            except (ValueError, OverflowError):
                raise OptionError(
                    f"{option}: expected x,y,w,h in whole pixels, w and h of at least 1"
                ) from None
        for path in arguments.ignore_from:
            areas.extend(areas_of(path))
        return cls(
            tuple(arguments.ignore_value),
            arguments.ignore_nan,
            tuple(arguments.ignore_colour),
            arguments.ignore_transparent,
            tuple(areas),
        )

    def of_picture(
        self, picture: Picture, image: Image | None, there: Array | None, box: Box | None = None
    ) -> Iterator[tuple[str, Array]]:
        """Yield each option, and the pixels of a picture, or of a part of it, that it leaves out.

        Of the test, `image` is None. `there` is where the picture has pixels of its own file.
        """
        values = [(f"--ignore-value {value:.15g}", value) for value in self.values]
        found = [
            (option, np.asarray(where_equal(picture.samples, value).any(axis=-1)))
            for option, value in [*values, *[("--ignore-nan", math.nan)] * self.nan]
        ]
        colours = [] if image is None else self.colours
        found += [(f"--ignore-colour {colour}", _of_colour(picture, colour)) for colour in colours]
        for option, pixels in found:
            yield option, pixels if there is None else pixels & there
        height, width = picture.sides[-2:]
        covered: dict[str, Array] = {}
        for area in [] if image is None else self.areas_of(image):
            pixels = area.pixels(box or (0, height, 0, width))
            covered[area.option] = covered.get(area.option, pixels) | pixels
        for option, pixels in covered.items():
            yield option, np.broadcast_to(pixels, picture.sides)

    def areas_of(self, image: Image) -> list[Area]:
        """Return the areas of an image."""
        every = Names.of([image] if self.areas else [])
        return [area for area in self.areas if area.is_of(every)]

    def unused(self, images: Iterable[Image]) -> list[str]:
        """Say which names in files fit none of the images."""
        every = Names.of(images if self.areas else [])
        named = [area for area in self.areas if area.name is not None and not area.is_of(every)]
        # A name may be of one image in a file, which is not opened yet.
        said = dict.fromkeys(
            f"{area.option}: no image is called {area.name}"
            for area in named
            if without_index(str(area.name))[0] not in every.names or area.is_path
        )
        first, more = list(said)[: Notes.NAMED], len(said) - Notes.NAMED
        return [*first, f"{more} more names are of no image"] if more > 0 else first

    def used(
        self,
        reference: Picture,
        test: Picture,
        mask: Array | None,
        image: Image,
        own: tuple[Array, Array] | None = None,
    ) -> tuple[Array | None, list[tuple[str, str]]]:
        """Return the pixels to score, None for all, and notes on what is left out.

        A pixel is left out if it is in either image: whatever one image does not show, the other
        cannot be compared with. Both are as the files have them, not widened to one type. `own` is
        where each has pixels of its file: what it is filled up with has no value and no colour.
        """
        notes = []
        uncovered = dict.fromkeys(area.option for area in self.areas_of(image))
        for picture, there in zip((reference, test), own or (None, None), strict=True):
            if picture.valid is not None:  # the picture has a note on that
                mask = picture.valid if mask is None else mask & picture.valid
            place = image if picture is reference else None
            for option, found in self.of_picture(picture, place, there):
                if found.any():
                    uncovered.pop(option, None)
                    notes.append(left_out(picture, int(np.count_nonzero(found)), option))
                    mask = ~found if mask is None else mask & ~found
        return mask, [*(beside(reference, option) for option in uncovered), *notes]


def left_out(picture: Picture, number: int, option: str) -> tuple[str, str]:
    """Say how many pixels of an image an option leaves out."""
    size = math.prod(picture.sides)
    said = f"{number} of {size} pixels ({share(number, size)}) are left out by {option}"
    return picture.path, said


def beside(picture: Picture, option: str) -> tuple[str, str]:
    """Say that an option on places is of an image, and leaves out nothing of it."""
    return picture.path, f"{option} covers no pixel of it"


def _of_colour(picture: Picture, colour: str) -> Array:
    """Tell which pixels have a colour in all channels."""
    rgb = Reading(background=colour).rgb
    samples = picture.samples
    if samples.shape[-1] not in (1, 3):
        raise ImageFileError(
            f"{picture.path}: has {samples.shape[-1]} channels, so that --ignore-colour {colour} "
            "names no pixel of it; leave that out, or use --mask"
        )
    if samples.shape[-1] == 1 and len(set(rgb)) > 1:
        return np.zeros(picture.sides, np.bool_)
    levels = rgb[: samples.shape[-1]]
    full = 1.0 if samples.dtype.kind in "fb" else int(np.iinfo(samples.dtype).max)
    same = [
        where_equal(samples[..., k], level / 255 if full == 1 else level * int(full) // 255)
        for k, level in enumerate(levels)
    ]
    return np.asarray(np.logical_and.reduce(same))
