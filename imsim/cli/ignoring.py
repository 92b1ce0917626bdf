"""What is left out of the scores: values, colours, transparency, rectangles and polygons."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

import imsim
from imsim._images import Array, ImageFileError, Picture, Reading, where_equal, without_index
from imsim.cli.jobs import Job
from imsim.cli.options import COLUMNS
from imsim.cli.outputs import Notes
from imsim.cli.pairing import FilePair, Folder, composed
from imsim.errors import EmptyMaskWarning, ImsimError, OptionError, silent
from imsim.pages import share

Box = tuple[int, int, int, int]
"""The first row and one past the last, and likewise the columns."""
ENDINGS = (".csv", ".yaml", ".yml", ".json", ".geojson")
_LETTERS = frozenset("*?")
"""That stand for others in names."""
_CIRCLE = 64
"""Corners of the polygon that stands for a circle; it is 0.1 % of the radius away at most."""


class Rectangle(NamedTuple):
    """Whole pixels, counted from the upper left corner of the image."""

    x: int
    y: int
    w: int
    h: int


class Polygon(NamedTuple):
    """A ring of points (row, column), centres of pixels being whole numbers, and its holes."""

    outer: Array
    holes: tuple[Array, ...] = ()


Image = FilePair | Job
"""An image of a run, or a file of images."""


class Names(NamedTuple):
    """What one or several images may be called."""

    names: frozenset[str]
    """As paths or by their files alone, endings aside or not."""
    paths: frozenset[str]
    """Below the folder that was named, endings aside or not."""

    @classmethod
    def of(cls, images: Iterable[Image]) -> Names:
        """Return those of images."""
        names: set[str] = set()
        paths: set[str] = set()
        for image in images:
            for path in (image.test, image.name):
                file, index = without_index(path)
                file = written(file)
                for name in {file, os.path.splitext(file)[0]}:
                    names |= {name} if index is None else {name, f"{name}[{index}]"}
            below, ending = written(image.path), os.path.splitext(without_index(image.test)[0])[1]
            paths |= {below, below + ending}
        return cls(frozenset(names | {os.path.basename(name) for name in names}), frozenset(paths))


class Area(NamedTuple):
    """One rectangle or polygon, and of which images."""

    option: str
    """As it was given, for what is said."""
    shape: Rectangle | Polygon
    name: str | None = None
    """That of an image, as `written` returns it; None: all."""
    is_path: bool = False
    """Whether the name is the path of the image below its folder; else it may be any of its names,
    and some letters stand for others."""

    def is_of(self, names: Names) -> bool:
        """Tell whether it is of an image that has these names, or of one of several."""
        name = self.name
        if self.is_path:
            return name in names.paths
        if name is None or name in names.names:
            return True
        # Files may name thousands of images, most of them as they are.
        if _LETTERS.isdisjoint(name):
            return False
        name = name.replace("[", "[[]")  # which stands for itself
        return any(fnmatchcase(one, name) for one in names.names)

    def pixels(self, box: Box) -> Array:
        """Tell which pixels of a part of the image it covers."""
        top, bottom, left, right = box
        found = np.zeros((bottom - top, right - left), np.bool_)
        if isinstance(self.shape, Rectangle):
            x, y, w, h = self.shape
            rows, columns = (max(y - top, 0), max(y + h - top, 0)), (x - left, x + w - left)
            found[slice(*rows), max(columns[0], 0) : max(columns[1], 0)] = True
            return found
        with silent(EmptyMaskWarning):
            shift = np.array([top, left])
            found |= imsim.polygon_mask(found.shape, self.shape.outer - shift)
            for hole in self.shape.holes:
                found &= ~imsim.polygon_mask(found.shape, hole - shift)
        return found


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


def rectangle(text: str) -> Rectangle:
    """Read ``x,y,w,h``: whole numbers, of which the size is positive; else a ValueError."""
    x, y, w, h = (_whole(part) for part in text.split(","))
    if min(x, y) < 0 or min(w, h) < 1:
        raise ValueError(text)
    return Rectangle(x, y, w, h)


def _whole(value: Any) -> int:
    number = float(value)
    if isinstance(value, bool) or number != int(number):
        raise ValueError(value)
    return int(number)


def areas_of(path: str) -> list[Area]:
    """Read a file of areas.

    CSV with the columns of `COLUMNS`; YAML from names of images to lists of rectangles; or polygons
    of GeoJSON or labelme, in pixels, for all images. A folder holds such a file of polygons for
    each image, of the same path below it.
    """
    if os.path.isdir(path):
        folder = Folder(path)
        if folder.unread:
            raise ImsimError("{}: {}".format(*folder.unread[0]))
        files = sorted(file for file in folder.left_aside if file.lower().endswith(_POLYGONS))
        if not files:
            raise OptionError(f"--ignore-from {path}: holds no file of {' or '.join(_POLYGONS)}")
        if odd := [file for file in files if not os.path.isfile(file)]:
            raise ImsimError(f"{odd[0]}: is a pipe or a device, and not read", "take it out")
        named = ((file, os.path.splitext(os.path.relpath(file, path))[0]) for file in files)
        return [place for file, stem in named for place in _read(file, written(stem))]
    return _read(path, None)


def _read(path: str, image: str | None) -> list[Area]:
    option = f"--ignore-from {path}"
    ending = os.path.splitext(path)[1].lower()
    if ending not in ENDINGS:
        raise OptionError(f"{option}: expected a file of {', '.join(ENDINGS)}, or a folder")
    try:
        # Ends of lines are kept: they may be in quoted names.
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except OSError as error:
        raise ImsimError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ImsimError(f"{path}: is no text in UTF-8") from error
    if ending in _POLYGONS:
        polygons = _polygons(path, text)
        return [Area(option, polygon, image, image is not None) for polygon in polygons]
    found = _from_csv(path, text) if ending == ".csv" else _from_yaml(path, text)
    return [Area(option, one, written(name) if name else None) for name, one in found]


_POLYGONS = (".json", ".geojson")


def _from_csv(path: str, text: str) -> Iterator[tuple[str, Rectangle]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        heads = [head.strip() for head in reader.fieldnames or []]
        if missing := [column for column in COLUMNS if column not in heads]:
            raise ImsimError(
                f"{path}: the first line lacks the columns {', '.join(missing)}; "
                f"expected {','.join(COLUMNS)}"
            )
        reader.fieldnames = heads
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row:
                raise ImsimError(
                    f"{where}: has more cells than the first line; a name with a comma in it "
                    "stands between quotes"
                )
            cells = [str(row[column] or "").strip() for column in COLUMNS]
            yield cells[0], _rectangle(where, ",".join(cells[1:]))
    except csv.Error as error:
        raise ImsimError(f"{path}: is no CSV: {error}") from error


def _from_yaml(path: str, text: str) -> Iterator[tuple[str, Rectangle]]:
    import yaml

    try:
        # Names and numbers as they are written: YAML itself takes `01` for 1, and drops the first
        # of two lists of one name. Nothing is constructed.
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ImsimError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ImsimError(f"{path}: is nested too deeply") from None
    if not isinstance(root, yaml.MappingNode):
        raise ImsimError(f"{path}: expected the names of images, each with a list of rectangles")
    for key, listed in root.value:
        name = _scalar(key)
        where = f"{path}, {name}"
        if not isinstance(listed, yaml.SequenceNode):
            raise ImsimError(f"{where}: expected a list of rectangles [x, y, w, h]")
        for one in listed.value:
            parts = one.value if isinstance(one, yaml.SequenceNode) else [one]
            yield name, _rectangle(where, ",".join(map(_scalar, parts)))


def _scalar(node: Any) -> str:
    return node.value if isinstance(node.value, str) else "..."


def _rectangle(where: str, text: str) -> Rectangle:
    try:
        return rectangle(text)
    except (ValueError, OverflowError):
        raise ImsimError(
            f"{where}: {text!r} is no rectangle; expected x,y,w,h in whole pixels, "
            "w and h of at least 1"
        ) from None


def _polygons(path: str, text: str) -> list[Polygon]:
    try:
        found = json.loads(text)
        shapes = found.get("shapes")
        if isinstance(shapes, list):
            return [_of_labelme(shape) for shape in shapes]
        return list(_of_geojson(found))
    except json.JSONDecodeError as error:
        raise ImsimError(f"{path}: is no JSON: {error}") from error
    except RecursionError:
        raise ImsimError(f"{path}: is nested too deeply") from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f" ({error})" if isinstance(error, _NoAreaError) else ""
        raise ImsimError(
            f"{path}: holds no polygons of GeoJSON or labelme{reason}; expected polygons of at "
            "least three points (x, y) in pixels"
        ) from error


class _NoAreaError(ValueError):
    """Something that is no area."""


def _of_geojson(found: Any) -> Iterator[Polygon]:
    match found["type"]:
        case "FeatureCollection":
            for feature in found["features"]:
                yield from _of_geojson(feature)
        case "Feature":
            yield from _of_geojson(found["geometry"])
        case "GeometryCollection":
            for geometry in found["geometries"]:
                yield from _of_geojson(geometry)
        case "Polygon":
            yield _polygon(found["coordinates"])
        case "MultiPolygon":
            for rings in found["coordinates"]:
                yield _polygon(rings)
        case other:
            raise _NoAreaError(f"{other} is no area")


def _of_labelme(shape: Any) -> Polygon:
    points, kind = shape["points"], shape.get("shape_type", "polygon")
    if kind == "rectangle" and len(points) == 2:  # some tools write its four corners
        (x0, y0), (x1, y1) = points
        points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    elif kind == "circle":
        (x, y), edge = points
        angles = np.linspace(0, 2 * math.pi, _CIRCLE, endpoint=False)
        radius = math.dist((x, y), edge)
        if not math.isfinite(x + y + radius):
            raise ValueError(shape)
        points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
    elif kind not in ("polygon", "rectangle"):
        raise _NoAreaError(f"{kind} is no area")
    return _polygon([points])


def _polygon(rings: Any) -> Polygon:
    """Turn rings of (x, y), counted from the corner of the first pixel, into (row, column)."""
    outer, *holes = (np.asarray([tuple(p)[:2] for p in ring], np.float64) for ring in rings)
    for ring in (outer, *holes):
        if ring.ndim != 2 or ring.shape[0] < 3 or not np.isfinite(ring).all():
            raise ValueError(ring)
    return Polygon(outer[:, ::-1] - 0.5, tuple(hole[:, ::-1] - 0.5 for hole in holes))


def written(name: str) -> str:
    """Return the name of an image in one of the ways to write it: systems and users differ."""
    return composed(os.path.normpath(name))
