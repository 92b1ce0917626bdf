"""Images that are too large for the memory: options on them, and pairs read side by side."""

from __future__ import annotations

import argparse
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

import imsim
from imsim._images import Array, Picture, widened
from imsim._images.pictures import Contents, said_of_no_data
from imsim._images.raster import Raster, is_raster
from imsim._images.shown import TRANSPARENT
from imsim.cli.areas import Box, Image
from imsim.cli.ignoring import Ignored, beside, left_out
from imsim.cli.options import count
from imsim.cli.reading import broken_notes, emptied, range_notes
from imsim.errors import OptionError
from imsim.finite import broken_pixels, value_ends
from imsim.validation import LEAST_MEMORY, check_memory

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
        type=lambda text: 0 if text == "0" else count(text),
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
        self._parts: OrderedDict[Box, dict[str, Any]] = OrderedDict()
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
                    self._parts.popitem(last=False)
            found: Array = parts.pop(name)
            if not parts:
                del self._parts[box]
            elif name in parts:
                self._parts.move_to_end(box)
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
