"""`--align`: the test image is moved onto its reference, and the shift is said."""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import numpy as np

import imsim
from imsim._images import Array, ImageFileError, Picture
from imsim.cli.options import count
from imsim.errors import ImsimError, OptionError
from imsim.pages import share
from imsim.shifts import moved, translated

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
    """Return the largest shift, or None if nothing is to be moved.

    Raises
    ------
    OptionError
        If another option goes against it.
    """
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


class Aligned(NamedTuple):
    """A test image that was moved, the pixels to score, and the shift (down, right)."""

    pixels: Array
    used: Array
    shift: tuple[float, float]
    note: tuple[str, str]


def aligned(reference: Picture, test: Picture, used: Array | None, max_shift: int) -> Aligned:
    """Move a test image onto its reference.

    Parameters
    ----------
    reference, test : Picture
        Of one type; their sizes may differ.
    used : numpy.ndarray of bool, optional
        What counts in both images.
    max_shift : int
        Largest shift along each axis.

    Raises
    ------
    ImageFileError
        If no shift can be told, or it is larger.
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
    return Aligned(found.image, found.valid, found.shift, (test.path, note))


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
