"""Two images of different sizes: refused, cropped or filled up, as an option says."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

from imsim._images import Array, ImageFileError, Picture
from imsim._images.raster import is_raster
from imsim.cli.options import DataRanges
from imsim.cli.reading import Mask, short_size

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


class Fitted(NamedTuple):
    """A pair of pictures of one size, with what belongs to them."""

    reference: Picture
    test: Picture
    mask: Mask | None
    labels: Picture | None
    notes: list[tuple[str, str]]
    own: tuple[Array, Array] | None = None
    """Where each image has pixels of its own, if both are filled up."""

    @property
    def only_one(self) -> Array | None:
        """Where only one image has pixels of its own, if both are filled up."""
        return None if self.own is None else np.logical_xor(*self.own)


def fitted(
    reference: Picture,
    test: Picture,
    mask: Mask | None,
    labels: Picture | None,
    rule: str,
    data_ranges: DataRanges,
) -> Fitted:
    """Bring a pair to one size, if the rule says so; mask and labels are of the reference."""
    one, other = reference.sides, test.sides
    if one == other or rule == "fail" or len(one) != len(other):
        return Fitted(reference, test, mask, labels, [])
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
        parts = _part(reference, common), _part(test, common)
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
        mask = Mask(_resized(mask.picture, frame), _of_size(mask.pixels, frame, True))
    if labels is not None:
        labels = _resized(labels, frame)
    notes = [
        (picture.path, said.format(short_size(picture.sides)))
        for picture in (reference, test)
        if picture.sides != frame
    ]
    return Fitted(*parts, mask, labels, notes, own)


def _part(picture: Picture, sides: tuple[int, ...]) -> Picture:
    inside = tuple(map(slice, sides))
    valid = None if picture.valid is None else picture.valid[inside]
    return picture._replace(pixels=picture.pixels[inside], valid=valid)


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
