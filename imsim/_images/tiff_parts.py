"""Pages of a TIFF file that are too large for the memory: their strips and tiles are read apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from imsim._images.pictures import Array, Contents, ImageFileError, native
from imsim._images.raster import Raster
from imsim._images.reading import Reading, Source
from imsim._images.shown import full_value
from imsim._images.tiff_checks import INEXACT, chunk_check
from imsim._images.tiff_pages import (
    check_complete,
    check_kind,
    finished,
    is_of_missing_codec,
    missing_codec,
    no_data_of,
    placed,
    read_page,
    samples_of,
)

if TYPE_CHECKING:
    from tifffile import TiffPage

_ROWS = 256
"""That are read at once, to look for transparent pixels."""
Stored = Callable[[int, int, int, int], Array]
"""Reads a part of the stored samples, shape (separate planes, rows, columns, samples)."""


def checked_kind(page: TiffPage, reading: Reading) -> np.dtype[Any]:
    """Return the type of the samples of a page; refuse what is not read, or not as it is stored."""
    dtype = check_kind(page)
    if page.compression in INEXACT:
        reading.check_exact(getattr(page.compression, "name", "JPEG"))
    if page.photometric == 0 and page.bitspersample > 1:
        reading.check_black_is_0()
    return dtype


def open_page(page: TiffPage, source: Source, reading: Reading, planes: int = 1) -> Contents:
    """Read a page, or leave it on the disk; `planes` of that size make up the image."""
    dtype = checked_kind(page, reading)
    sides = page.imagelength, page.imagewidth
    if not reading.stays_on_disk(sides, dtype, samples_of(page) * planes):
        return read_page(page, source, reading, planes)
    counts = check_complete(page)
    check = chunk_check(page, counts)
    if page.is_final:
        return on_disk(page, reading, contiguous(page, page.dataoffsets[0]), (1, page.imagewidth))
    rows = page.tilelength if page.is_tiled else page.rowsperstrip
    columns = page.tilewidth if page.is_tiled else page.imagewidth
    chunks = min(rows, page.imagelength), min(columns, page.imagewidth)
    # A chunk is decoded as a whole.
    reading.check_size(chunks, dtype.itemsize, samples_of(page))
    return on_disk(page, reading, _chunked(page, chunks, check), chunks)


def open_plane(page: TiffPage, offset: int, reading: Reading, planes: int = 1) -> Contents:
    """Read samples of the kind of a page that begin at a byte, or leave them on the disk."""
    dtype = checked_kind(page, reading)
    sides, stored = (page.imagelength, page.imagewidth), contiguous(page, offset)
    if reading.stays_on_disk(sides, dtype, samples_of(page) * planes):
        return on_disk(page, reading, stored, (1, page.imagewidth))
    reading.check_size(sides, dtype.itemsize, samples_of(page) * planes)
    whole = stored(0, page.imagelength, 0, page.imagewidth)
    return finished(_pixels(native(whole), page), page, reading)


def on_disk(page: TiffPage, reading: Reading, stored: Stored, chunks: tuple[int, int]) -> Contents:
    """Return a page as an image whose parts are made of what `stored` reads."""
    sides = page.imagelength, page.imagewidth

    def read(top: int, bottom: int, left: int, right: int) -> Contents:
        return _part(native(stored(top, bottom, left, right)), page, reading)

    # What becomes of one transparent pixel tells the type and the number of channels.
    separate, *_, samples = page.shaped
    like = _part(np.zeros((separate, 1, 1, samples), page.dtype), page, reading)
    if like.transparent:
        most = full_value(np.dtype(page.dtype))
        opaque = _part(np.full((separate, 1, 1, samples), most, page.dtype), page, reading)
        rows = chunks[0] * max(1, _ROWS // chunks[0])
        if _form(opaque) != _form(like) and not _is_transparent(read, sides, rows):
            like = opaque
    channels = like.pixels.shape[2:]

    def read_alike(*box: int) -> Contents:
        found = read(*box)
        pixels = found.pixels
        if pixels.dtype != like.pixels.dtype:  # of 1 bit, and opaque in this part
            pixels = pixels * np.uint8(255)
        if pixels.shape[2:] != channels:  # grey, and opaque in this part
            pixels = np.repeat(pixels[..., None], channels[0], axis=-1)
        return found._replace(pixels=pixels)

    value = no_data_of(page)
    no_data = "" if value is None else f"GDAL_NODATA {value:g}"
    dtype = like.pixels.dtype
    raster = Raster((*sides, *channels), dtype, read_alike, chunks=chunks, no_data=no_data)
    return placed(Contents(cast("Array", raster)), page, reading)


def _is_transparent(read: Callable[..., Contents], sides: tuple[int, int], rows: int) -> bool:
    """Tell whether any part of an image is; all of it is read, or what comes before such a part."""
    height, width = sides
    tops = range(0, height, rows)
    return any(read(top, min(top + rows, height), 0, width).transparent for top in tops)


def _form(image: Contents) -> tuple[Any, ...]:
    return image.pixels.dtype, image.pixels.shape[2:]


def contiguous(page: TiffPage, offset: int) -> Stored:
    """Read rows of samples that lie one behind the other."""
    separate, _, height, width, samples = page.shaped
    if page.dtype is None:
        raise ImageFileError("damaged: the type of its pixels is unknown")
    kind = page.dtype.newbyteorder(cast("Any", page.parent.byteorder))
    row = width * samples
    handle = page.parent.filehandle

    def read(top: int, bottom: int, left: int, right: int) -> Array:
        parts = []
        for plane in range(separate):
            start = offset + (plane * height + top) * row * kind.itemsize
            size = (bottom - top) * row * kind.itemsize
            with handle.lock:
                handle.seek(start)
                content = handle.read(size)
            if len(content) < size:
                raise ImageFileError("damaged: the file is cut off in its pixels")
            stored = np.frombuffer(content, kind).reshape(bottom - top, width, samples)
            parts.append(stored[:, left:right])
        return np.stack(parts) if separate > 1 else parts[0][None]

    return read


def _chunked(
    page: TiffPage, chunks: tuple[int, int], check: Callable[[bytes, int], None] | None
) -> Stored:
    """Read strips or tiles, each decoded as a whole."""
    separate, _, height, width, samples = page.shaped
    rows, columns = chunks
    down, across = -(-height // rows), -(-width // columns)
    decode = _decoder(page, check)

    def read(top: int, bottom: int, left: int, right: int) -> Array:
        found = np.empty((separate, bottom - top, right - left, samples), page.dtype)
        for plane in range(separate):
            for y in range(top // rows, -(-bottom // rows)):
                for x in range(left // columns, -(-right // columns)):
                    tile = decode((plane * down + y) * across + x)
                    above, before = y * rows, x * columns
                    y0, y1 = max(top, above), min(bottom, above + rows)
                    x0, x1 = max(left, before), min(right, before + columns)
                    found[plane, y0 - top : y1 - top, x0 - left : x1 - left] = (
                        page.nodata
                        if tile is None
                        else tile[y0 - above : y1 - above, x0 - before : x1 - before]
                    )
        return found

    return read


def _decoder(
    page: TiffPage, check: Callable[[bytes, int], None] | None
) -> Callable[[int], Array | None]:
    """Return a function that decodes a strip or tile; None: it is empty, and holds no data."""
    handle, offsets, counts = page.parent.filehandle, page.dataoffsets, page.databytecounts
    options: dict[str, Any] = {"_fullsize": page.is_tiled}
    if page.compression in (6, 7, 33007, 34892):
        options |= {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}

    def decode(index: int) -> Array | None:
        if not offsets[index] or not counts[index]:
            return None
        with handle.lock:
            handle.seek(offsets[index])
            content = handle.read(counts[index])
        if len(content) < counts[index]:
            raise ImageFileError("damaged: the file is cut off in its pixels")
        try:
            if check is not None:
                check(content, index)
            found = page.decode(content, index, **options)[0]
        except (ValueError, NotImplementedError, ImportError) as error:
            if isinstance(error, ImageFileError) or not is_of_missing_codec(error):
                raise
            raise missing_codec(page, error) from error
        return None if found is None else np.asarray(found[0])

    return decode


def _part(stored: Array, page: TiffPage, reading: Reading) -> Contents:
    """Apply the tags of a page to a part of its samples."""
    return finished(_pixels(stored, page), page, reading, is_part=True)


def _pixels(stored: Array, page: TiffPage) -> Array:
    """Return samples with those of a pixel last, or grey."""
    if page.axes == "YX":
        return stored[0, ..., 0]
    return np.moveaxis(stored[..., 0], 0, -1) if page.axes == "SYX" else stored[0]
