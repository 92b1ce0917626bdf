"""From stored pixels to those that are shown: laid over a background, and turned by a tag."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, cast

import numpy as np

from imsim._images.pictures import Array, Contents, ImageFileError, said_of_no_data
from imsim._images.raster import Raster
from imsim._images.reading import Reading

TRANSPARENT = "transparent"
"""What wholly transparent pixels are, where they are no data."""
_ROWS = 256  # rows composited at a time, which bounds the memory for wide integers


def composite(
    colours: Array,
    alpha: Array,
    reading: Reading,
    *,
    premultiplied: bool = False,
    is_part: bool = False,
) -> Contents:
    """Lay colours over the background, in linear arithmetic of the stored values.

    Alpha is made of booleans, or of the type of `colours`: the largest integer, or 1.0, is opaque.
    Pixels have the type of `colours`, rounded to the nearest; grey over a coloured background
    becomes RGB. Of a part of an image, no note counts pixels. Wholly transparent pixels have no
    data if the reading says so.
    """
    full = full_value(alpha.dtype)
    if not (alpha != full).any():
        return Contents(colours)
    if not ((alpha >= 0) & (alpha <= full)).all():
        raise ImageFileError(
            f"its alpha channel has values from {alpha.min()} to {alpha.max()}; expected 0 to "
            f"{full}. Save it without alpha"
        )
    grey = len(set(reading.rgb)) == 1
    if colours.dtype == bool and not (grey and reading.rgb[0] in (0, 255)):
        colours = colours * np.uint8(255)
    if colours.ndim == 2 and not grey:
        colours = np.repeat(colours[..., None], 3, axis=-1)
    if colours.ndim == 3 and colours.shape[-1] != 3 and not grey:
        raise ImageFileError(
            f"has {colours.shape[-1]} channels and alpha, so that the background must be grey; "
            f"it is {reading.background}"
        )
    behind = _background(reading, colours)
    pixels = np.empty_like(colours)
    for start in range(0, len(colours), _ROWS):
        rows = slice(start, start + _ROWS)
        cover = alpha[rows] if colours.ndim == 2 else alpha[rows, :, None]
        if alpha.dtype == bool:
            pixels[rows] = np.where(cover, colours[rows], behind)
        elif colours.dtype.kind == "u" and colours.dtype.itemsize <= 4:
            pixels[rows] = _integers(colours[rows], cover, behind, premultiplied)
        else:
            pixels[rows] = _floats(colours[rows], cover, behind, premultiplied)
    note = f"its transparent parts are laid over {reading.background}"
    if not reading.clear_is_no_data:
        return Contents(pixels, (note,), transparent=True)
    valid = np.asarray(alpha != 0)
    clear = int(np.count_nonzero(~valid))
    notes: tuple[str, ...] = (note,)
    if clear and not is_part:
        notes += (said_of_no_data(TRANSPARENT, clear, valid.size),)
    return Contents(pixels, notes, valid if clear else None, transparent=True)


def full_value(dtype: np.dtype[Any]) -> int:
    """Return what is opaque as alpha, and white as a colour."""
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else 1


def _background(reading: Reading, colours: Array) -> Array:
    levels = [reading.rgb[0]] if colours.ndim == 2 or colours.shape[-1] != 3 else reading.rgb
    full = full_value(colours.dtype)
    if colours.dtype.kind in "iu":
        return np.array([(2 * level * full + 255) // 510 for level in levels], colours.dtype)
    return np.array([level / 255 for level in levels]).astype(colours.dtype)


def _integers(colours: Array, alpha: Array, behind: Array, premultiplied: bool) -> Array:
    """Composite exactly: full * full + full / 2 fits into integers of twice the width."""
    wide = np.dtype(f"u{2 * colours.dtype.itemsize}")
    full = wide.type(full_value(colours.dtype))
    cover, over = alpha.astype(wide), colours.astype(wide)
    half = full // wide.type(2)
    if premultiplied:
        sums = over + ((full - cover) * behind.astype(wide) + half) // full
        return np.asarray(np.minimum(sums, full))
    return np.asarray((over * cover + (full - cover) * behind.astype(wide) + half) // full)


def _floats(colours: Array, alpha: Array, behind: Array, premultiplied: bool) -> Array:
    full = float(full_value(colours.dtype))
    cover = alpha / full if full != 1 else alpha.astype(np.float64)
    over = colours.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # hidden pixels may hold anything
        mixed = (over if premultiplied else over * cover) + behind * (1 - cover)
    mixed = np.where(cover == 0, behind + (over if premultiplied else 0), mixed)
    if colours.dtype.kind in "iu":
        info = np.iinfo(colours.dtype)
        mixed = np.clip(np.rint(mixed), info.min, info.max)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(mixed.astype(colours.dtype))


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
    """Turn an image as its tag says, or leave it as it is stored, with a note."""
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
