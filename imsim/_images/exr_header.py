"""The header of an OpenEXR file, checked before the library reads it.

A header that is damaged, or a preview in a sound one, ends the process in the library.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from imsim._images.pictures import ImageFileError
from imsim._images.source import Source

_NEEDED = {
    "channels": (b"chlist", None),
    "compression": (b"compression", 1),
    "dataWindow": (b"box2i", 16),
    "displayWindow": (b"box2i", 16),
    "lineOrder": (b"lineOrder", 1),
    "pixelAspectRatio": (b"float", 4),
    "screenWindowCenter": (b"v2f", 8),
    "screenWindowWidth": (b"float", 4),
}
"""Type and size of what every header has."""
_HARMLESS = {
    b"int": 4,
    b"float": 4,
    b"double": 8,
    b"chromaticities": 32,
    b"v2i": 8,
    b"v2f": 8,
    b"v3i": 12,
    b"v3f": 12,
    b"m33f": 36,
    b"m44f": 64,
    b"box2i": 16,
    b"box2f": 16,
    b"rational": 8,
    b"tiledesc": 9,
}
"""Types of other attributes that the library reads, and their sizes."""
_ROWS = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256, 256, 32)
"""Rows of a chunk, by the number of the compression; of later ones the library knows them."""
_TILED, _LONG_NAMES = 0x200, 0x400  # flags in the version
_MOST = 2**24
"""Bytes of a header."""


class _Attribute(NamedTuple):
    name: str
    kind: bytes
    content: bytes
    place: int
    """Where the type begins."""


class _Channel(NamedTuple):
    name: str
    kind: int
    across: int
    down: int
    """Pixels for each of which there is a sample, across and down."""


def opened(source: Source) -> str | BinaryIO:
    """Return what the library can open without harm: the file, or a copy of it.

    In the copy, attributes that say nothing of the pixels have types that nobody knows.
    """
    with source.open() as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        start = stream.read(min(size, _MOST))
    attributes, end = _parsed(start)
    _check(attributes, start, end, size)
    hidden = [one for one in attributes if one.name not in _NEEDED and not _is_harmless(one)]
    if not hidden:
        return source.path if source.content is None else source.open()
    content = bytearray(source.read())
    for one in hidden:
        content[one.place : one.place + len(one.kind)] = b"x" * len(one.kind)
    return io.BytesIO(bytes(content))


def _parsed(start: bytes) -> tuple[list[_Attribute], int]:
    """Return the attributes, and the place behind them."""
    attributes = []
    place = 8
    most = 255 if start[5] & (_LONG_NAMES >> 8) else 31
    while start[place : place + 1] != b"\0":
        name, kind_place = _text(start, place, most)
        kind, number_place = _text(start, kind_place, most)
        if number_place + 4 > len(start):
            raise _cut_off()
        (size,) = struct.unpack_from("<i", start, number_place)
        place = number_place + 4 + size
        if size < 0 or place >= len(start):
            raise _cut_off()
        content = start[number_place + 4 : place]
        attributes.append(_Attribute(name, kind.encode(), content, kind_place))
    return attributes, place + 1


def _text(start: bytes, place: int, most: int) -> tuple[str, int]:
    end = start.find(b"\0", place, place + most + 1)
    word = start[place:end]
    if end <= place or not word.isascii():
        raise ImageFileError(f"damaged: its header has no attribute at byte {place}")
    return word.decode(), end + 1


def _cut_off() -> ImageFileError:
    return ImageFileError("damaged: it is cut off in its header, or an attribute has no size")


def _is_harmless(one: _Attribute) -> bool:
    if one.kind == b"string":
        return one.content.isascii()
    return _HARMLESS.get(one.kind) == len(one.content)


def _check(attributes: list[_Attribute], start: bytes, end: int, size: int) -> None:
    found = {one.name: one for one in attributes}
    if len(found) < len(attributes):
        raise ImageFileError("damaged: its header has an attribute twice")
    for name, (kind, length) in _NEEDED.items():
        one = found.get(name)
        if one is None or one.kind != kind or (length or len(one.content)) != len(one.content):
            raise ImageFileError(f"damaged: its header has no {name}, or one of another type")
    for channel in _channels(found["channels"].content):
        if channel.kind not in range(3) or channel.across < 1 or channel.down < 1:
            raise ImageFileError(
                f"damaged: its channel {channel.name} has the type {channel.kind} and the sampling "
                f"{channel.across} x {channel.down}"
            )
    left, top, right, bottom = struct.unpack("<4i", found["dataWindow"].content)
    form = found["compression"].content[0]
    if right < left or bottom < top or right - left >= 2**30 or bottom - top >= 2**30:
        raise ImageFileError(f"damaged: its data window is {left}, {top} to {right}, {bottom}")
    if form < len(_ROWS) and not start[5] & (_TILED >> 8):
        _check_chunks(start, end, size, -(-(bottom - top + 1) // _ROWS[form]))


def _channels(content: bytes) -> Iterator[_Channel]:
    place = 0
    while content[place : place + 1] != b"\0" and place + 17 < len(content):
        name, place = _text(content, place, 255)
        yield _Channel(name, *struct.unpack_from("<i4x2i", content.ljust(place + 16), place))
        place += 16
    if not place or place != len(content) - 1:
        raise ImageFileError("damaged: its header has no list of channels, or not all of it")


def _check_chunks(start: bytes, end: int, size: int, number: int) -> None:
    """Refuse a file in which chunks are missing; the library may take them for black."""
    table = start[end : end + 8 * number]
    if len(table) < 8 * number:
        if size > _MOST:  # more rows than can be looked at here; the library finds the rest
            return
        raise ImageFileError("damaged: it is cut off in the table of its chunks")
    places = sorted(struct.unpack(f"<{number}Q", table))
    first = end + 8 * number
    missing = sum(not first <= place <= size - 8 for place in places)
    missing += sum(one == other for one, other in pairwise(places))
    if missing:
        raise ImageFileError(f"damaged: {missing} of its {number} chunks of rows are not there")
