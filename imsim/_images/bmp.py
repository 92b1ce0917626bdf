"""BMP, decoded here: Pillow takes 8 bits of a palette of black and white for 1 bit."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from imsim._images.metadata import Profile, profile_of
from imsim._images.pictures import Array, Contents, ImageFileError, Pages, check_palette
from imsim._images.reading import Reading, Source
from imsim._images.shown import composite

_PLAIN, _RLE8, _RLE4, _MASKS, _ALPHA_MASKS = 0, 1, 2, 3, 6
_BITS = {
    _PLAIN: (1, 4, 8, 16, 24, 32),
    _RLE8: (8,),
    _RLE4: (4,),
    _MASKS: (16, 32),
    _ALPHA_MASKS: (16, 32),
}
"""Bits of a pixel, by the compression."""
_USUAL_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
_OLD_HEADER, _WITH_MASKS, _WITH_ALPHA, _WITH_PROFILE = 12, 52, 56, 124  # sizes of headers


_HEADERS = (12, 40, 52, 56, 64, 108, 124)
"""Sizes of the header in a BMP file."""


def is_bitmap(start: bytes) -> bool:
    """Tell whether a file begins as BMP does."""
    return start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _HEADERS


class _Header(NamedTuple):
    width: int
    height: int
    from_top: bool
    bits: int
    compression: int
    masks: tuple[int, int, int, int]
    """Of the bits of red, green, blue and alpha in a pixel."""
    palette: Array
    """Shape (colours, 3)."""
    offset: int
    """The first byte of the pixels."""

    @property
    def row(self) -> int:
        """Bytes of a row, which fills words of four."""
        return -(-self.width * self.bits // 32) * 4


def open_bmp(source: Source, reading: Reading) -> Pages:
    """Open a file of one image, which is read on demand."""

    def read(_: int) -> Contents:
        content = source.read()
        return _pixels(content, reading)._replace(profile=_profile(content))

    return Pages(1, read)


def _profile(content: bytes) -> Profile | None:
    """Return the profile that a file of the fifth version embeds, of any version before none."""
    if int.from_bytes(content[14:18], "little") < _WITH_PROFILE or content[70:74] != b"DEBM":
        return None
    start, size = struct.unpack_from("<II", content, 126)
    return profile_of(content[14 + start : 14 + start + size])


def _pixels(content: bytes, reading: Reading) -> Contents:
    header = _header(content)
    alpha_of = header.masks[3]
    channels = 1 if header.bits <= 8 else 4 if alpha_of else 3
    reading.check_size((header.height, header.width), 1, max(channels, 3))
    notes = _behind(content, header)
    if header.bits > 8:
        image = _coloured(_rows(content, header), header, reading)
        return image._replace(notes=(*notes, *image.notes))
    if header.compression == _PLAIN:
        indices = _indices(_rows(content, header), header)
    else:
        indices, notes = _unpacked(content, header)
    check_palette(indices.max(), len(header.palette))
    if reading.as_stored:
        return Contents(indices, notes)
    return Contents(_through(header.palette, indices), notes)


def _through(palette: Array, indices: Array) -> Array:
    """Return the colours of a palette that indices ask for: grey if all of it is, or 1-bit."""
    if (palette != palette[:, :1]).any():
        return np.asarray(palette[indices])
    grey: Array = palette[:, 0]
    if len(grey) == 2 and {*grey.tolist()} == {0, 255}:
        grey = grey != 0
    return np.asarray(grey[indices])


def _header(content: bytes) -> _Header:
    def number(place: int, size: int = 4, *, signed: bool = False) -> int:
        if place + size > len(content):
            raise ImageFileError("damaged: it is cut off in its header")
        return int.from_bytes(content[place : place + size], "little", signed=signed)

    offset, size = number(10), number(14)
    if size == _OLD_HEADER:
        width, height, bits = number(18, 2), number(20, 2), number(24, 2)
        compression = colours = 0
    else:
        width, height = number(18, signed=True), number(22, signed=True)
        bits, compression, colours = number(28, 2), number(30), number(46)
    if bits not in _BITS.get(compression, ()) or (size == 64 and compression > _RLE4):
        raise ImageFileError(
            f"its pixels have {bits} bits in compression {compression}, which are not read",
            "save it as BMP of 8, 24 or 32 bits without compression, or as PNG",
        )
    if width < 1 or not height or (height < 0 and compression in (_RLE8, _RLE4)):
        raise ImageFileError(f"damaged: its size is {width} x {height}")
    masks = _USUAL_MASKS.get(bits, (0, 0, 0, 0))
    end = 14 + size
    if compression in (_MASKS, _ALPHA_MASKS):
        count = 4 if size >= _WITH_ALPHA or compression == _ALPHA_MASKS else 3
        found = [number(54 + 4 * i) for i in range(count)]
        masks = (found[0], found[1], found[2], found[3] if count == 4 else 0)
        end += 0 if size >= _WITH_MASKS else 4 * count
        # The bits of a mask lie side by side: one more at the lowest of them clears them all.
        if not all(masks[:3]) or any(m & (m + (m & -m)) or m >> bits for m in masks):
            raise ImageFileError(f"damaged: its masks of colours are {[hex(m) for m in masks]}")
    if offset < end:
        raise ImageFileError("damaged: its pixels begin within its header")
    palette = np.empty((0, 3), np.uint8)
    if bits <= 8:
        entry = 3 if size == _OLD_HEADER else 4
        room = max(offset - end, 0) // entry
        count = min(colours or 2**bits, 2**bits, room)
        stored = content[end : end + count * entry]
        if not count or len(stored) < count * entry:
            raise ImageFileError("damaged: it has no palette, or a part of one")
        palette = np.frombuffer(stored, np.uint8).reshape(count, entry)[:, 2::-1]
    return _Header(width, abs(height), height < 0, bits, compression, masks, palette, offset)


def _rows(content: bytes, header: _Header) -> Array:
    """Return the bytes of each row, the top one first."""
    # Some writers leave out what fills up the last row.
    wanted = header.row * (header.height - 1) + -(-header.width * header.bits // 8)
    there = len(content) - header.offset
    if there < wanted or wanted < there < header.row * header.height:
        raise ImageFileError(
            f"damaged: it is cut off: {max(there, 0)} of the {header.row * header.height} bytes "
            "of its rows are there"
        )
    whole = content[header.offset : header.offset + header.row * header.height]
    whole = whole.ljust(header.row * header.height, b"\0")
    rows = np.frombuffer(whole, np.uint8).reshape(header.height, header.row)
    return rows if header.from_top else rows[::-1]


def _behind(content: bytes, header: _Header) -> tuple[str, ...]:
    """Say that more follows the rows than what fills them up, or a profile."""
    end = header.offset + header.row * header.height
    if header.compression in (_RLE8, _RLE4) or len(content) <= end + 3:
        return ()
    if int.from_bytes(content[14:18], "little") >= _WITH_PROFILE:
        start, size = struct.unpack_from("<II", content, 126)
        if size and 14 + start + size + 3 >= len(content):
            return ()
    return (f"{len(content) - end} bytes behind its pixels are left aside",)


def _indices(rows: Array, header: _Header) -> Array:
    if header.bits == 1:
        rows = np.unpackbits(rows, axis=1)
    elif header.bits == 4:
        rows = np.stack([rows >> 4, rows & 15], axis=-1).reshape(len(rows), -1)
    return np.ascontiguousarray(rows[:, : header.width])


def _coloured(rows: Array, header: _Header, reading: Reading) -> Contents:
    size = header.bits // 8
    pixels = rows[:, : header.width * size].reshape(header.height, header.width, size)
    if header.bits == 24:
        return Contents(np.ascontiguousarray(pixels[..., ::-1]))
    words = np.ascontiguousarray(pixels).view(f"<u{size}")[..., 0]
    colours = np.stack([_scaled(words, mask) for mask in header.masks[:3]], axis=-1)
    depths = sorted({mask.bit_count() for mask in header.masks if mask})
    notes: tuple[str, ...] = ()
    if depths != [8]:
        said = " and ".join(map(str, depths))
        notes = (f"its samples of {said} bits are scaled to 8",)
    if not header.masks[3]:
        if header.compression == _PLAIN and size == 4 and np.ptp(pixels[..., 3]):
            notes += (
                "the fourth bytes of its pixels differ; its header names no alpha, and they "
                "are left out",
            )
        return Contents(colours, notes)
    alpha = _scaled(words, header.masks[3])
    if not alpha.any():  # as viewers have it: writers leave it empty
        said = "its alpha is 0 everywhere, and taken as not there"
        return Contents(colours, (*notes, said))
    image = composite(colours, alpha, reading)
    return image._replace(notes=(*notes, *image.notes))


def _scaled(words: Array, mask: int) -> Array:
    """Return the sample that a mask cuts out of pixels, scaled to 8 bits and rounded."""
    low = mask & -mask
    most = mask // low
    samples = (words & mask) // low
    if most == 255:
        return samples.astype(np.uint8)
    samples = samples.astype(np.uint64)
    return ((samples * 255 + most // 2) // most).astype(np.uint8)


def _unpacked(content: bytes, header: _Header) -> tuple[Array, tuple[str, ...]]:
    """Return the indices that are stored as runs, and notes; the bottom row comes first."""
    indices = np.zeros((header.height, header.width), np.uint8)
    found = np.zeros(indices.shape, bool)
    place, x, y = header.offset, 0, 0

    def put(values: Array) -> None:
        nonlocal x
        if y >= header.height or x + len(values) > header.width:
            raise ImageFileError(f"damaged: its runs go beyond its {header.width} columns or rows")
        indices[y, x : x + len(values)] = values
        found[y, x : x + len(values)] = True
        x += len(values)

    def taken(number: int) -> Array:
        nonlocal place
        place += number
        if place > len(content):
            raise ImageFileError("damaged: it is cut off; the mark of its end is missing")
        return np.frombuffer(content, np.uint8, number, place - number)

    nibbles = header.compression == _RLE4
    while True:
        count, value = taken(2).tolist()
        if count:
            pair = [value >> 4, value & 15] if nibbles else [value]
            put(np.resize(np.array(pair, np.uint8), count))
        elif value == 0:
            x, y = 0, y + 1
        elif value == 1:
            break
        elif value == 2:
            right, up = taken(2).tolist()
            x, y = x + right, y + up
        else:
            stored = taken(-(-value // 2) if nibbles else value)
            taken(len(stored) % 2)  # what follows begins at an even byte
            if nibbles:
                stored = np.stack([stored >> 4, stored & 15], axis=-1).ravel()[:value]
            put(stored)
    missing = found.size - int(np.count_nonzero(found))
    said = f"{missing} of its {found.size} pixels are skipped by its runs, and taken as colour 0"
    return np.ascontiguousarray(indices[::-1]), (said,) if missing else ()
