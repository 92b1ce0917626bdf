"""Two images brought together: to one size, onto each other, or by blocks if they are large."""

from __future__ import annotations

import argparse
import functools
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

import imsim
from imsim._images import Array, ImageFileError, Picture, widened
from imsim._images.pictures import Contents, said_of_no_data
from imsim._images.raster import Raster, is_raster
from imsim._images.shown import TRANSPARENT
from imsim.cli.ignoring import Box, Ignored, Image, beside, left_out
from imsim.cli.options import DataRanges, count
from imsim.cli.reading import Files, broken_notes, emptied, range_notes, short_size, upside_notes
from imsim.errors import ImsimError, OptionError
from imsim.finite import broken_pixels, value_ends
from imsim.pages import share
from imsim.shifts import moved, translated
from imsim.validation import LEAST_MEMORY, check_memory


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


_AHEAD = 4
"""Parts that are kept until all three of reference, test and mask have been taken of them."""
_one_at_a_time = threading.Lock()
SCENES_HELP = """\
Large files: of TIFF (BigTIFF, tiled, compressed, cloud-optimised GeoTIFF),
.npy, HDF5 (`pip install 'imsim[hdf5]'`) and Zarr (versions 2 and 3, OME-Zarr;
`pip install 'imsim[zarr]'`), images that take more than --memory are read block
by block, and never as a whole. REF, TEST and the mask may be folders of Zarr; of
a pyramid level 0 is taken, or --level. GeoTIFF of another place on the ground or
another reference system is refused: nothing is warped. No data of GDAL and of
attributes in Zarr and HDF5 are left out.
"""


def add_scenes(parser: argparse.ArgumentParser) -> None:
    """Add the options on large files."""
    add = parser.add_argument
    add(
        "--memory",
        metavar="SIZE",
        type=size,
        default=check_memory(None),
        help="images that take more are read block by block, if their format allows it, and the "
        "blocks in memory take about this together; 512MB by default. Smaller images are in memory "
        "as a whole, which takes several times their size",
    )
    add(
        "--level",
        metavar="N",
        type=functools.partial(count, least=0),
        help="level of pyramids: OME-Zarr, and TIFF with overviews; 0, the default, is the finest",
    )
    add(
        "--ignore-georeference",
        action="store_true",
        help="compare the pixels of the same row and column of files that lie at other places on "
        "the ground, or in another reference system; a note says so. Without it, that is an error",
    )


def size(text: str) -> int:
    """Read a size such as 512MB, 2GB or 1.5GiB; a bare number counts bytes."""
    try:
        return check_memory(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size such as 512MB or 2GB; the least is {LEAST_MEMORY // 1000}kB"
        ) from error


class Scene:
    """Two images and a mask, at least one on the disk; each part is read once for all of them.

    What there is to say about all pixels is counted on the way. `first` and `second` are as the
    files have them; `reference` is of the type and the channels that both are compared in. `image`
    is what it is that the areas are of.
    """

    def __init__(
        self,
        first: Picture,
        second: Picture,
        reference: Picture,
        mask: Picture | None,
        ignored: Ignored,
        data_range: float | None,
        image: Image,
    ) -> None:
        self._image = image
        self._pictures = first, second
        self._mask = mask
        self._ignored = ignored
        self._data_range = data_range
        self._lock = threading.Lock()
        self._parts: dict[Box, dict[str, Any]] = {}
        shape, dtype = reference.pixels.shape, reference.pixels.dtype
        stored = [_raster(p) for p in (first, second, mask) if p and is_raster(p.pixels)]
        declared = any(raster.no_data for raster in stored)
        valid = any(picture.valid is not None for picture in (first, second))
        left_out = any(ignored._replace(areas=())) or ignored.areas_of(image)
        self.is_masked = bool(mask or declared or valid or left_out)
        tiles = [raster.stored for raster in stored]
        chunks = max(rows for rows, _ in tiles), max(columns for _, columns in tiles)
        self.a, self.b = (View(self, name, shape, dtype, chunks) for name in ("a", "b"))
        self.mask = None
        if self.is_masked:
            self.mask = View(self, "mask", shape[:2], bool, chunks)
        self._counted = np.zeros(shape[0], np.int64)
        """Columns of each row that are counted, from the left."""
        self._left_out: dict[tuple[int, str], int] = {}
        self._low, self._high = math.inf, -math.inf
        self._broken = [0, 0]
        self._used = self._in_mask = 0

    def part(self, name: str, box: Box) -> Array:
        """Return a part of the reference ("a"), the test ("b") or the mask."""
        with self._lock:
            parts = self._parts.get(box, {})
            if name not in parts:  # or taken already
                parts = self._parts[box] = self._read(box)
                while len(self._parts) > _AHEAD:
                    del self._parts[next(iter(self._parts))]
            found: Array = parts.pop(name)
            if not parts:
                del self._parts[box]
            return found

    def _read(self, box: Box) -> dict[str, Any]:
        top, bottom, left, right = box
        one, other = (_piece(picture, box) for picture in self._pictures)
        used = None
        if self._mask is not None:
            used = self._mask.pixels[top:bottom, left:right]
        fresh = self._fresh(box)
        if fresh is not None and used is not None:
            self._in_mask += int(np.count_nonzero(used[fresh]))
        for index, piece in enumerate((one, other)):
            if piece.valid is not None:
                used = piece.valid if used is None else used & piece.valid
                if fresh is not None and is_raster(self._pictures[index].pixels):
                    self._count(index, "", ~piece.valid[fresh])
            place = self._image if piece is one else None
            for option, found in self._ignored.of_picture(piece, place, None, box):
                if found.any():
                    used = ~found if used is None else used & ~found
                    if fresh is not None:
                        self._count(index, option, found[fresh])
        if fresh is not None:
            self._look(one, other, used, fresh)
        a, b = widened(one, other)
        parts: dict[str, Any] = {"a": a.pixels, "b": b.pixels}
        if self.is_masked:
            parts["mask"] = np.ones((bottom - top, right - left), bool) if used is None else used
        return parts

    def _fresh(self, box: Box) -> tuple[slice, slice] | None:
        """Return the part of a box that is not counted yet, and count it."""
        top, bottom, left, right = box
        rows = np.flatnonzero(self._counted[top:bottom] < right)
        if not len(rows) or right <= left:
            return None
        first, last = int(rows[0]), int(rows[-1]) + 1
        start = max(int(self._counted[top + first]), left)
        self._counted[top + first : top + last] = right
        return slice(first, last), slice(start - left, None)

    def _count(self, index: int, option: str, found: Array) -> None:
        number = int(np.count_nonzero(found))
        if number:
            self._left_out[index, option] = self._left_out.get((index, option), 0) + number

    def _look(
        self, one: Picture, other: Picture, used: Array | None, fresh: tuple[slice, slice]
    ) -> None:
        """Look at values of the pixels that are used, for what is said about them."""
        inside = None if used is None else used[fresh]
        samples = [piece.samples[fresh] for piece in (one, other)]
        size = samples[0][..., 0].size
        self._used += size if inside is None else int(np.count_nonzero(inside))
        if self._data_range is not None:
            low, high = value_ends(
                samples[0], samples[1], None if inside is None else inside[..., None]
            )
            self._low, self._high = min(self._low, low), max(self._high, high)
        for index, values in enumerate(samples):
            if values.dtype.kind == "f":
                broken = broken_pixels(values)
                broken = broken if inside is None else broken & inside
                self._broken[index] += int(np.count_nonzero(broken))

    def notes(
        self, reference: Picture, test: Picture, scores: Mapping[str, Any]
    ) -> list[tuple[str, str]]:
        """Say what was found in all parts that were read, as of images in memory."""
        notes = []
        pictures = [*self._pictures, *([self._mask] if self._mask else [])]
        for index, picture in enumerate(pictures):
            if is_raster(picture.pixels):
                notes += [(picture.path, note) for note in _raster(picture).said]
            number = self._left_out.get((index, ""), 0)
            if number:
                total = math.prod(picture.sides)
                raster = _raster(picture)
                is_clear = raster.transparent and self._ignored.transparent and not index
                what = " or ".join(filter(None, [raster.no_data, TRANSPARENT if is_clear else ""]))
                notes.append((picture.path, said_of_no_data(what, number, total)))
        for (index, option), number in self._left_out.items():
            if option:
                notes.append(left_out(pictures[index], number, option))
        for option in dict.fromkeys(one.option for one in self._ignored.areas_of(self._image)):
            if (0, option) not in self._left_out:
                notes.append(beside(pictures[0], option))
        notes += upside_notes(reference, self._mask)
        in_mask, is_used = bool(self._in_mask), bool(self._used)
        if note := emptied(test, self._mask, in_mask=in_mask, is_used=is_used):
            return [*notes, note]
        notes += range_notes(test, self._low, self._high, self._data_range)
        names = [name for name, score in scores.items() if math.isnan(score)]
        if names:
            some = self._used < math.prod(reference.sides)
            notes += broken_notes(names, reference, test, self._mask, some, self._broken)
        return notes


class View(Raster):
    """One of the images of a scene, or its mask, sliced like an array."""

    def __init__(
        self, scene: Scene, name: str, shape: tuple[int, ...], dtype: Any, chunks: tuple[int, int]
    ) -> None:
        super().__init__(shape, dtype, lambda *box: Contents(scene.part(name, box)))
        self.chunks = (*chunks, *shape[2:])
        """What the files hold together: blocks of whole chunks are read fastest."""

    def part(self, top: int, bottom: int, left: int, right: int) -> Contents:
        """Read rows and columns; the scene keeps what it reads."""
        return self._read(top, bottom, left, right)


def on_disk(first: Picture, second: Picture, mask: Picture | None) -> bool:
    """Tell whether any part of a pair stays on the disk."""
    return is_raster(first.pixels, second.pixels, mask and mask.pixels)


def _raster(picture: Picture) -> Raster:
    pixels: Any = picture.pixels
    return pixels  # type: ignore[no-any-return]


def _piece(picture: Picture, box: Box) -> Picture:
    """Read a part of a picture, with the part of its mask."""
    top, bottom, left, right = box
    if is_raster(picture.pixels):
        found = _raster(picture).part(*box)
        return picture._replace(pixels=found.pixels, valid=found.valid, notes=())
    valid = None if picture.valid is None else picture.valid[top:bottom, left:right]
    return picture._replace(pixels=picture.pixels[top:bottom, left:right], valid=valid, notes=())


@contextmanager
def alone(workers: int | None) -> Iterator[None]:
    """Let one large pair at a time take the memory and all workers; the others wait."""
    with _one_at_a_time, imsim.workers(workers or imsim.get_workers()):
        yield
