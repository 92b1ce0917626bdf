"""Two images brought onto each other: cropped or filled up to one size, and moved by a shift."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

import imsim
from imsim._images import Array, ImageFileError, Picture
from imsim._images.raster import is_raster
from imsim.cli.options import DataRanges, count
from imsim.cli.reading import Files, short_size
from imsim.errors import ImsimError, OptionError
from imsim.pages import share
from imsim.shifts import moved, translated

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


def fitted(
    files: Files, rule: str, data_ranges: DataRanges
) -> tuple[Files, list[tuple[str, str]], tuple[Array, Array] | None]:
    """Bring a pair to one size, if the rule says so; mask and labels are of the reference.

    Returns it, notes, and where each image has pixels of its own, if both are filled up.
    """
    reference, test, mask, labels = files
    one, other = reference.sides, test.sides
    if one == other or rule == "fail" or len(one) != len(other):
        return files, [], None
    if is_raster(reference.pixels, test.pixels, mask and mask.pixels):
        raise ImageFileError(
            f"{test.path}: is {test}, but {reference.path} is {reference}; images that are read "
            "block by block are not brought to one size",
            "crop one of them, or raise --memory above the size of an image",
        )
    common = tuple(map(min, zip(one, other, strict=True)))
    own = None
    if rule == "crop":
        said = f"cropped to the {short_size(common)} that both images have, from {{}}"
        parts = _resized(reference, common), _resized(test, common)
        frame = common
    else:
        frame = tuple(map(max, zip(one, other, strict=True)))
        said = f"filled up to {short_size(frame)}, from {{}}; what only one image has differs"
        data_range = data_ranges.of(test)
        own = _own(reference, frame), _own(test, frame)
        parts = (
            _padded(reference, test, own, data_range),
            _padded(test, reference, own[::-1], data_range),
        )
    if mask is not None:
        mask = mask._replace(pixels=_of_size(mask.pixels, frame, True))
    if labels is not None:
        labels = _resized(labels, frame)
    notes = [
        (picture.path, said.format(short_size(picture.sides)))
        for picture in (reference, test)
        if picture.sides != frame
    ]
    return (*parts, mask, labels), notes, own


def _of_size(pixels: Array, sides: tuple[int, ...], fill: Any) -> Array:
    """Return pixels with more or fewer rows and columns."""
    kept = pixels[tuple(map(slice, sides))]
    if kept.shape[: len(sides)] == sides:
        return kept
    found = np.full((*sides, *pixels.shape[len(sides) :]), fill, pixels.dtype)
    found[tuple(map(slice, kept.shape[: len(sides)]))] = kept
    return found


def _resized(picture: Picture, sides: tuple[int, ...]) -> Picture:
    valid = None if picture.valid is None else _of_size(picture.valid, sides, True)
    return picture._replace(pixels=_of_size(picture.pixels, sides, 0), valid=valid)


def _own(picture: Picture, frame: tuple[int, ...]) -> Array:
    return _of_size(np.ones(picture.sides, np.bool_), frame, False)


def _padded(
    picture: Picture, other: Picture, own: tuple[Array, Array], data_range: float | None
) -> Picture:
    """Fill up a picture with what the other is farthest from; a corner of neither is no data."""
    here, there = own
    found = _resized(picture, here.shape)
    bright = other.samples.astype(np.float64).mean(axis=-1) > _top(other, data_range) / 2
    pixels = found.pixels.copy()
    white = np.asarray(_top(picture, data_range)).astype(pixels.dtype)
    pixels[~here & there & ~_of_size(bright, here.shape, False)] = white
    valid = found.valid
    either = here | there
    if not either.all():
        valid = either if valid is None else valid & either
    return found._replace(pixels=pixels, valid=valid)


def _top(picture: Picture, data_range: float | None) -> float:
    """Return white: the end of the data range, or of the type."""
    kind = picture.pixels.dtype
    # No float: that of 64 bits is beyond the type.
    top = int(np.iinfo(kind).max) if kind.kind in "iu" else 1.0
    if data_range is None:
        return top
    return data_range if kind.kind == "f" else min(top, data_range)


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


def aligned(
    reference: Picture, test: Picture, used: Array | None, max_shift: int
) -> tuple[Picture, Array, tuple[float, float], tuple[str, str]]:
    """Move a test image onto its reference by what counts in both; their sizes may differ.

    Returns it, the pixels to score, the shift (down, right), and a note.
    """
    try:
        found = imsim.align(
            reference.pixels,
            test.pixels,
            used,
            max_shift=max_shift,
            channel_axis=reference.channel_axis,
        )
    except ImsimError as error:
        raise ImageFileError(error.message, error.remedy, image=test.path) from error
    before = math.prod(reference.sides) if used is None else int(np.count_nonzero(used))
    lost = before - int(np.count_nonzero(found.valid))
    note = "moved by {:+.2f} pixels down and {:+.2f} right".format(*found.shift)
    note += f"; {lost} pixels ({share(lost, before)}) have no partner then" if lost else ""
    return test._replace(pixels=found.image), found.valid, found.shift, (test.path, note)


def moved_onto(
    reference: Picture, test: Picture, used: Array | None, shift: tuple[float, float]
) -> tuple[Picture, Array]:
    """Move a test image by a shift that is known, and say which pixels of the reference count.

    Of a pair of different sizes, what lies right of the reference and below it is kept, and what
    the test image does not reach is not made up.
    """
    inside = np.ones(reference.sides, np.bool_) if used is None else used
    frame = reference.sides
    if test.sides != frame:
        ends = (math.ceil(n + step) for n, step in zip(test.sides, shift, strict=True))
        frame = tuple(max(1, end) for end in ends)
    own = translated(inside, (0, 0), test.sides, fill=True)
    samples, valid = moved(np.moveaxis(test.samples, -1, 0), own, np.array(shift), frame)
    pixels = samples[0] if test.channel_axis is None else np.moveaxis(samples, 0, -1)
    valid = translated(valid, (0, 0), reference.sides, fill=False)
    return test._replace(pixels=pixels), inside & valid
