"""`imsim report`: two images on one HTML page."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from imsim._images import read_picture
from imsim.cli.ignoring import Ignored, add_ignoring
from imsim.cli.maps import add_map_scale
from imsim.cli.messages import say
from imsim.cli.options import NEEDS_RANGE, DataRanges, add_reading, check_output, reading_of
from imsim.cli.pairing import is_folder
from imsim.cli.reading import check_mask_size, comparable, mask_of, nan_notes, option_notes
from imsim.cli.volumes import add_volumes, check_volumes, placed
from imsim.comparison import compare
from imsim.errors import DataRangeError, ImsimError, OptionError
from imsim.pages import pair_report, readable, volume_report


def add_report(commands: Any) -> None:
    """Add the command with its options."""
    parser = commands.add_parser(
        "report",
        help="show where two images differ on one HTML page",
        description="Write a page with both images, their difference, every similarity map and "
        "every score; of volumes (--volume), with three cuts through the worst place and sliders "
        "through the rest. It is one file, needs no network, and opens in any browser. Exit "
        "status: 0, or 2 after any error.",
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("reference", metavar="REF", help="the reference image; FILE[i], from 0, of a stack")
    add("test", metavar="TEST", help="the image to compare with it")
    add_reading(parser)
    add_ignoring(parser)
    add_volumes(parser)
    add_map_scale(parser)
    add(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help="the page, such as report.html; - is the standard output",
    )


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """Write the page and yield where it is, or yield the page itself."""
    check_volumes(arguments)
    data_ranges, reading = DataRanges(arguments.data_range), reading_of(arguments)
    paths = [arguments.reference, arguments.test, *([arguments.mask] if arguments.mask else [])]
    for path in paths:
        if is_folder(path, reading.volume):
            raise OptionError(
                f"{path}: is a folder; report takes two images, and `imsim compare` takes folders"
            )
    printed = arguments.output == "-"
    check_output(None if printed else arguments.output, paths)
    plain = replace(reading, clear_is_no_data=False)
    first = read_picture(paths[0], reading)
    second, *masks = (read_picture(path, plain) for path in paths[1:])
    reference, test = comparable(first, second)
    mask = mask_of(masks[0]) if masks else None
    if mask:
        check_mask_size(mask.pixels, arguments.mask, reference)
    place = placed(reference, test, [mask.picture] if mask else [], arguments.spacing)
    if data_ranges.missing(test):
        raise DataRangeError(f"{test.path}: is {test}; add {NEEDS_RANGE}")
    data_range = data_ranges.of(test)
    used, said = Ignored.of(arguments).used(first, second, mask and mask.pixels, paths[1:2])
    said = [(p.path, note) for p in (reference, test, *masks) for note in p.notes] + said
    said += place.notes
    said += option_notes(reference, test, mask, used, data_range)
    options: dict[str, Any] = {
        "mask": used,
        "data_range": data_range,
        "channel_axis": reference.channel_axis,
    }
    if reference.ndim == 3:
        options["spacing"] = place.spacing
    ndim: dict[str, Any] = {"ndim": reference.ndim}
    scores = compare(reference.pixels, test.pixels, **options, **ndim)
    said += nan_notes(scores, reference, test, mask, used)
    notes = [f"{name}: {note}" for name, note in dict.fromkeys(said)]
    for note in notes:
        say(f"note: {note}")
    if reference.ndim == 3 and reference.space is not None:
        options["directions"] = reference.space.directions
    write = pair_report if reference.ndim == 2 else volume_report
    html = write(
        reference.pixels,
        test.pixels,
        **options,
        scores=scores,
        names=(reference.path, test.path),
        notes=notes,
        map_scale=arguments.map_scale,
    )
    if printed:
        yield html
        return
    try:
        _save(arguments.output, html)
    except OSError as error:
        raise ImsimError(f"{arguments.output}: cannot be written: {error.strerror}") from error
    yield f"Report: {readable(arguments.output)}"


def _save(path: str, html: str) -> None:
    """Write a page, and leave no part of one."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(html)
    except OSError:
        if os.path.isfile(path):  # not a device
            with suppress(OSError):
                os.remove(path)
        raise
