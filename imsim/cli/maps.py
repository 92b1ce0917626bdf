"""`imsim compare --maps`: a file per metric, as a picture or as numbers."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from imsim._images import Array, Picture, write_stack
from imsim._images.map_files import npy_rows, picture_rows, take_place, tiff_rows, zarr_rows
from imsim.cli.measures import Settings
from imsim.cli.options import in_options
from imsim.cli.outputs import make_folder
from imsim.differing import COUNTS
from imsim.errors import ImsimError, OptionError
from imsim.pages.colour import MAP_SCALES, MapScale, Scale, map_scale, png
from imsim.registry import METRICS
from imsim.validation import usual_data_range
from imsim.whole_files import replacing, writing_to

FORMATS = ("png", "npy", "tif", "zarr")
"""Of maps: pictures, and three of numbers."""


def add_maps(parser: argparse.ArgumentParser) -> None:
    """Add the options on maps."""
    add = parser.add_argument
    add(
        "--maps",
        metavar="DIR",
        help="write the similarity maps as PNG, DIR/<name>.<metric>.png: dark is alike, bright "
        "is different, on a scale that follows from the bounds of the metric (for se and imed: "
        "from the data range squared, by the root) and not from the image; grey is not scored. "
        "Maps of volumes are TIFF, with a page per slice",
    )
    add(
        "--map-format",
        choices=FORMATS,
        default=FORMATS[0],
        help="write maps as pictures (png, the default) or as numbers, NaN where nothing is "
        "scored: .npy, .tif, which lies where the reference lies on the ground, or .zarr",
    )
    add_map_scale(parser)


def add_map_scale(parser: argparse.ArgumentParser) -> None:
    """Add where the scale of a map ends."""
    parser.add_argument(
        "--map-scale",
        choices=MAP_SCALES,
        default=MAP_SCALES[0],
        help="auto ends the scale of each map at its own worst value, which shows small "
        "differences that the fixed scale leaves dark; such maps do not compare with others",
    )


def check_map_format(arguments: argparse.Namespace) -> None:
    """Refuse a format and a scale of maps without maps, and a scale of numbers."""
    for option, given, default in (
        ("--map-format", arguments.map_format, FORMATS[0]),
        ("--map-scale", arguments.map_scale, MAP_SCALES[0]),
    ):
        if given != default and arguments.maps is None:
            raise OptionError(f"{option} {given}: is for maps; add --maps DIR")
    if arguments.map_scale != MAP_SCALES[0] and arguments.map_format != FORMATS[0]:
        raise OptionError(
            f"--map-scale {arguments.map_scale}: is for pictures, and --map-format "
            f"{arguments.map_format} writes numbers; leave one of them out"
        )


def write_maps(
    settings: Settings,
    stem: str,
    pair: tuple[Any, Any],
    reference: Picture,
    metrics: Iterable[str],
    options: dict[str, Any],
) -> Iterator[tuple[str, str]]:
    """Write the map of each metric that has one, and yield why others are missing.

    The picture of the stem ``sub/a`` is ``sub/a.ssim.png``, of a volume ``sub/a.ssim.tif`` with a
    page per slice. With a ``memory`` among the options, maps are written block by block.
    """
    form, is_fixed = settings.map_format, settings.map_scale == "fixed"
    data_range = options["data_range"] or usual_data_range([reference.pixels.dtype])
    spacing = {"spacing": options["spacing"]} if options["spacing"] else {}
    options = {name: value for name, value in options.items() if name != "spacing"}
    path = os.path.join(str(settings.maps), stem)
    ending = "tif" if form == "png" and reference.ndim == 3 else form
    make_folder(os.path.dirname(path))
    for metric in metrics:
        function = METRICS[metric].map_function
        if function is None:
            continue
        scale = map_scale(metric, data_range or 1.0)
        if form == "png" and is_fixed and scale.root and data_range is None:
            yield metric, "its scale needs --data-range"
            continue
        own = {
            **(spacing if METRICS[metric].takes_spacing else {}),
            **settings.options.get(metric, {}),
        }
        if other := own.keys() - inspect.signature(function).parameters:
            yield metric, f"it has no {', '.join(sorted(other))}"
            continue
        if "memory" in options and not is_fixed:
            yield metric, "--map-scale auto needs a map in memory; raise --memory"
            continue
        file = f"{path}.{metric}.{ending}"
        try:
            if "memory" in options:
                with (
                    replaced_map(file) as new,
                    _rows(new, form, reference, None, scale) as rows,
                ):
                    function(*pair, **options, **own, out=rows)
                continue
            values = function(*pair, **options, **own)
        except ImsimError as error:
            yield metric, in_options(error, reference)
            continue
        if not is_fixed:
            scale = map_scale(metric, data_range or 1.0, values)
        with replaced_map(file) as new:
            _write(new, form, values, reference, scale)


def _write(file: str, form: str, values: Array, reference: Picture, scale: Scale) -> None:
    """Write a map that is in memory."""
    if form == "png" and reference.ndim == 3:
        write_stack(file, (scale.colours_of(plane) for plane in values))
    elif form == "png":
        Path(file).write_bytes(png(scale.colours_of(values)))
    else:
        with _rows(file, form, reference, values.dtype, scale) as rows:
            rows[:] = values


def _rows(
    file: str, form: str, reference: Picture, dtype: np.dtype[Any] | None, scale: Scale
) -> AbstractContextManager[Any]:
    """Open a file that takes rows of a map."""
    if dtype is None:  # as the map of images in memory
        is_narrow = reference.pixels.dtype.kind == "f" and reference.pixels.dtype.itemsize <= 4
        dtype = np.dtype(np.float32 if is_narrow else np.float64)
    shape = reference.sides
    if form == "npy":
        return npy_rows(file, shape, dtype)
    if form == "tif":
        return tiff_rows(file, shape, dtype, reference.place)
    if form == "zarr":
        return zarr_rows(file, shape, dtype)
    height, width = shape
    return picture_rows(file, (height, width), scale.palette(), scale.codes_of, dtype)


def scales(
    metrics: Iterable[str], data_range: float | None, form: str, ends: MapScale = "fixed"
) -> str:
    """Describe the scales, from alike (dark) to different (bright)."""
    if form != FORMATS[0]:
        return "numbers"
    if ends == "auto":
        return "dark (alike) to bright (the worst value of each map, which do not compare)"
    said = []
    for metric in metrics:
        if metric in COUNTS or METRICS[metric].map_function is None:
            continue
        scale = map_scale(metric, data_range or 1.0)
        high = f"{scale.high:.4g}" if data_range or not scale.root else "the data range squared"
        said.append(
            f"{metric} {scale.low:.4g} to {high}" + (" (by the root)" if scale.root else "")
        )
    return "dark (alike) to bright (different): " + ", ".join(said)


@contextmanager
def replaced_map(path: str) -> Iterator[str]:
    """Yield the name of a new file, or of a folder of Zarr, which takes the place of an old one."""
    put = take_place if path.endswith(".zarr") else os.replace
    with writing_to(path), replacing(path, put) as new:
        yield new
