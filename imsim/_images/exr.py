"""OpenEXR, read by its own library: colours or grey of half or single floats.

The header is checked before: one that is damaged, or a preview in a sound one, ends the process in
the library.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from imsim._images.metadata import Profile
from imsim._images.pictures import Array, Contents, ImageFileError, Pages, listed, needing
from imsim._images.reading import Reading, Source
from imsim._images.shown import composite

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
    4: (b"int", b"float"),
    8: (b"double", b"v2i", b"v2f", b"rational"),
    9: (b"tiledesc",),
    12: (b"v3i", b"v3f"),
    16: (b"box2i", b"box2f"),
    32: (b"chromaticities",),
    36: (b"m33f",),
    64: (b"m44f",),
}
"""Types of other attributes that the library reads, by their sizes."""
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
    return one.kind in _HARMLESS.get(len(one.content), ())


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


EXR_SIGNATURE = b"v/1\x01"
_DEEP, _SEVERAL_PARTS = 0x800, 0x1000  # flags in the version
_TYPES = (np.dtype(np.uint32), np.dtype(np.float16), np.dtype(np.float32))
_INEXACT = ("B44", "B44A", "DWAA", "DWAB", "LJ2K")
"""Compressions that may change numbers; PXR24 those of single floats."""
_COLOURS = ("R", "G", "B")
_SRGB = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
"""Red, green, blue and white of sRGB, which are those of OpenEXR where a file names none."""


def open_exr(source: Source, layer: str | None, reading: Reading) -> Pages:
    """Open a file of one image, or of one layer of it, which is read on demand."""
    with needing("OpenEXR needs", "OpenEXR", "exr"):
        import Imath  # noqa: F401  (the library needs it, and says so only when it reads)
        from OpenEXR import InputFile
    with source.open() as stream:
        flags = int.from_bytes(stream.read(8)[4:], "little")
    if flags & (_DEEP | _SEVERAL_PARTS):
        kind = "deep pixels" if flags & _DEEP else "several parts"
        raise ImageFileError(f"holds {kind}", "save one flat image, of R, G and B or of Y")

    def read(_: int) -> Contents:
        file = InputFile(opened(source))
        try:
            return _read(file, layer, reading)
        finally:
            file.close()

    return Pages(1, read)


def _read(file: Any, layer: str | None, reading: Reading) -> Contents:
    header = file.header()
    stored = header["channels"]
    chosen, alpha = _chosen(list(stored), layer)
    names = [*chosen, *([alpha] if alpha else [])]
    if any((stored[name].xSampling, stored[name].ySampling) != (1, 1) for name in names):
        raise ImageFileError("has fewer samples of colour than of light", "save R, G and B")
    data, shown = (_window(header[f"{kind}Window"]) for kind in ("data", "display"))
    left, top, width, height = data
    kinds = [_TYPES[stored[name].type.v] for name in names]
    kind = np.result_type(*kinds)
    reading.check_size((height, width), kind.itemsize, len(names))
    form = _form(header["compression"].v)
    if form in _INEXACT or (form == "PXR24" and kind == np.float32):
        reading.check_exact(form)
    planes: list[Array] = [
        np.frombuffer(file.channel(name), own).reshape(height, width).astype(kind)
        for name, own in zip(names, kinds, strict=True)
    ]
    notes = []
    if aside := [name for name in stored if name not in names]:
        notes.append(f"left aside of its channels: {listed(aside)}; FILE.exr:NAME names one")
    if data != shown:
        notes.append(
            f"its data window, {width} x {height} pixels at {left}, {top}, is taken; its display "
            f"window is {shown[2]} x {shown[3]} at {shown[0]}, {shown[1]}"
        )
    colours = planes[0] if len(chosen) == 1 else np.stack(planes[: len(chosen)], axis=-1)
    image = Contents(colours)
    if alpha:
        image = composite(colours, planes[-1], reading, premultiplied=True)
    return image._replace(notes=(*notes, *image.notes), profile=_profile(header))


def _form(number: int) -> str:
    """Return what a compression is called; Imath does not know the later ones."""
    from OpenEXR import Compression

    names = {int(value): str(name) for name, value in Compression.__members__.items()}
    name: str = names.get(number, str(number))
    return name.removesuffix("_COMPRESSION")


def _profile(header: Any) -> Profile | None:
    """Return the colours that a file declares; None: those of sRGB, as without a declaration."""
    found = header.get("chromaticities")
    if found is None:
        return None
    points = (getattr(found, name) for name in ("red", "green", "blue", "white"))
    numbers = [round(float(value), 4) for point in points for value in (point.x, point.y)]
    if not any(numbers) or np.allclose(numbers, _SRGB, atol=1e-3):
        return None
    name = f"chromaticities {', '.join(map(str, numbers))}"
    return Profile(name, frozenset({(b"", name.encode())}))


def _window(box: Any) -> tuple[int, int, int, int]:
    """Return the left and top edge, width and height."""
    left, top, right, bottom = (int(v) for v in (box.min.x, box.min.y, box.max.x, box.max.y))
    return left, top, right - left + 1, bottom - top + 1


def _chosen(names: list[str], layer: str | None) -> tuple[list[str], str | None]:
    """Return the channels of colour or grey, and that of alpha if there is one."""
    if layer in names:
        return [layer], None
    before = "" if layer is None else f"{layer}."
    inside = {name.removeprefix(before): name for name in names if name.startswith(before)}
    alpha = inside.get("A")
    if all(colour in inside for colour in _COLOURS):
        return [inside[colour] for colour in _COLOURS], alpha
    others = [name for short, name in inside.items() if short != "A"]
    if "Y" in inside and not {"RY", "BY"} & inside.keys():
        return [inside["Y"]], alpha
    if len(others) == 1:
        return others, alpha
    what = "" if layer is None else f" of {layer}"
    raise ImageFileError(
        f"its channels{what} are {listed(inside or names)}; none are R, G and B, or Y alone",
        "name a channel or a layer: FILE.exr:NAME",
    )
