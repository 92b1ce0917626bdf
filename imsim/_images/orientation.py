"""The orientation that a tag gives an image: rows and columns are turned and mirrored by it."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, cast

from imsim._images.pictures import Array, Contents
from imsim._images.raster import Raster
from imsim._images.reading import Reading

ORIENTATION = 274
"""The number of the tag, in EXIF and in TIFF."""
Box = tuple[int, int, int, int]
"""The first row and one past the last, and likewise the columns."""


class Turn(NamedTuple):
    """What leads from the stored rows and columns to those that are shown."""

    rows: bool
    """Whether the last row becomes the first."""
    columns: bool
    """Whether the last column becomes the first."""
    swapped: bool
    """Whether rows then become columns."""
    words: str

    def of(self, pixels: Array) -> Array:
        """Turn an array, whose first two axes are rows and columns."""
        turned = pixels[:: -1 if self.rows else 1, :: -1 if self.columns else 1]
        return turned.swapaxes(0, 1) if self.swapped else turned

    def box(self, sides: tuple[int, int], box: Box) -> Box:
        """Return the stored rows and columns of a part that is shown, of `sides` as stored."""
        top, bottom, left, right = box
        rows, columns = (top, bottom), (left, right)
        if self.swapped:
            rows, columns = columns, rows
        height, width = sides
        if self.rows:
            rows = height - rows[1], height - rows[0]
        if self.columns:
            columns = width - columns[1], width - columns[0]
        return (*rows, *columns)


_TURNS = {
    2: Turn(False, True, False, "mirrored left to right"),
    3: Turn(True, True, False, "turned by 180 degrees"),
    4: Turn(True, False, False, "mirrored top to bottom"),
    5: Turn(False, False, True, "rows and columns exchanged"),
    6: Turn(True, False, True, "turned by 90 degrees clockwise"),
    7: Turn(True, True, True, "rows and columns exchanged, then turned by 180 degrees"),
    8: Turn(False, True, True, "turned by 90 degrees anticlockwise"),
}
"""By the value of the tag; 1 is upright, and others mean nothing."""


def oriented(image: Contents, orientation: object, reading: Reading) -> Contents:
    """Turn an image as its tag says, or leave it as it is stored, with a note.

    Pixels with a place on the ground stay as they are stored, since that is told of them.
    """
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    if turn is None:
        return image
    tag = f"its orientation tag ({orientation}: {turn.words})"
    if image.place is not None:
        said = f"{tag} is ignored, since its place on the ground is told of the rows as stored"
        return image._replace(notes=(*image.notes, said))
    if reading.orientation == "ignore":
        said = f"{tag} is ignored; the pixels are taken as they are stored"
        return image._replace(notes=(*image.notes, said), turned="ignored")
    return image._replace(
        pixels=_turned(image.pixels, turn),
        notes=(*image.notes, f"{tag} is obeyed"),
        valid=None if image.valid is None else turn.of(image.valid),
        turned="obeyed",
    )


def _turned(pixels: Any, turn: Turn) -> Array:
    if not isinstance(pixels, Raster):
        return turn.of(pixels).copy()
    height, width = pixels.shape[:2]

    def read(top: int, bottom: int, left: int, right: int) -> Contents:
        part = pixels.part(*turn.box((height, width), (top, bottom, left, right)))
        valid = None if part.valid is None else turn.of(part.valid)
        return part._replace(pixels=turn.of(part.pixels), valid=valid)

    sides, stored = (height, width), pixels.stored
    if turn.swapped:
        sides, stored = sides[::-1], stored[::-1]
    shape = (*sides, *pixels.shape[2:])
    # The other one keeps what it decodes.
    raster = Raster(shape, pixels.dtype, read, stored=stored, no_data=pixels.no_data)
    return cast("Array", raster)


def of_exif(exif: bytes | memoryview | None, chunk: str) -> tuple[object, tuple[str, ...]]:
    """Return the tag in the EXIF metadata of a chunk, and notes; damaged ones are no error."""
    from PIL import Image

    if exif is None:
        return 1, ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tags = Image.Exif()
            tags.load(bytes(exif))
            return tags.get(ORIENTATION, 1), ()
    except Exception:
        return 1, (f"its metadata ({chunk}) are damaged and left aside",)
