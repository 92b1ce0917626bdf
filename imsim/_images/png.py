"""PNG: the chunks are checked here, since Pillow does not, and decoded by Pillow."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from imsim._images.metadata import Profile, profile_of
from imsim._images.pictures import Array, Contents, ImageFileError, Pages, check_palette
from imsim._images.reading import Reading, Source
from imsim._images.shown import composite, of_exif, oriented

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_DEPTHS = {
    _GREY: (1, 2, 4, 8, 16),
    _RGB: (8, 16),
    PALETTE: (1, 2, 4, 8),
    _GREY_ALPHA: (8, 16),
    _RGBA: (8, 16),
}
_SAMPLES = {_GREY: 1, _RGB: 3, PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
# The seven passes of an interlaced image: first column and row, and steps between columns and rows.
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_PIECE = 2**16
_MOST_OF_A_PROFILE = 2**24
ANIMATION = b"acTL"
FRAMES = (b"fcTL", b"fdAT")
_DECISIVE = (b"tRNS", ANIMATION, *FRAMES)
"""Chunks that decide pixels although a reader need not know them: transparency and animation."""
_PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
"""White, red, green and blue of sRGB, as cHRM has them; readers of gAMA expect 45455 with them."""
_GAMMA, _ABOUT = 45455, 1000
_SRGB_CODES = {bytes([1, 13, 0, 1]), bytes([1, 1, 0, 1])}
"""The codes of sRGB in cICP, and those of BT.709, which screens show alike."""
Body = bytes | memoryview
Chunks = Mapping[bytes, memoryview]


class ImageHeader(NamedTuple):
    """The content of the first chunk."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @property
    def content(self) -> bytes:
        """The content of the chunk."""
        sizes = self.width.to_bytes(4, "big") + self.height.to_bytes(4, "big")
        return sizes + bytes([self.depth, self.colour, 0, 0, self.interlaced])

    @property
    def bits(self) -> int:
        """Bits of one pixel."""
        return self.depth * _SAMPLES[self.colour]

    def length(self) -> int:
        """Return the bytes of all rows; each row begins with the number of its filter."""
        passes = _PASSES if self.interlaced else ((0, 0, 1, 1),)
        total = 0
        for column, row, across, down in passes:
            width = max(0, -(-(self.width - column) // across))
            height = max(0, -(-(self.height - row) // down))
            total += height * (1 + -(-width * self.bits // 8)) if width else 0
        return total


def open_png(source: Source, reading: Reading) -> Pages:
    """Open a file of one image, which is read on demand."""
    return Pages(1, lambda _: _read(source.read(), reading))


def is_animated(source: Source) -> bool:
    """Tell whether a chunk of an animation comes before the pixels."""
    with source.open() as stream:
        stream.seek(len(PNG_SIGNATURE))
        while len(start := stream.read(8)) == 8 and start[4:] != b"IDAT":
            if start[4:] == ANIMATION:
                return True
            stream.seek(4 + int.from_bytes(start[:4], "big"), os.SEEK_CUR)
    return False


def _read(content: bytes, reading: Reading) -> Contents:
    chunks, notes = chunks_of(content)
    header = header_of(chunks)
    found = dict(chunks)
    if found.keys() & {ANIMATION, *FRAMES}:
        # As the standard has it, what is no valid animation is a still image.
        notes.append(
            "what is there of an animation (acTL, fcTL, fdAT) makes up none, and is left aside"
        )
    data = [body for kind, body in chunks if kind == b"IDAT"]
    colours, alpha, said = decoded(header, found, data, reading)
    image = Contents(colours) if alpha is None else composite(colours, alpha, reading)
    return described(image._replace(notes=(*notes, *said, *image.notes)), found, reading)


def described(image: Contents, found: Chunks, reading: Reading) -> Contents:
    """Apply to an image what the metadata of its file say."""
    orientation, doubts = of_exif(found.get(b"eXIf"), "eXIf")
    image = image._replace(notes=(*image.notes, *doubts), profile=_profile(found))
    return oriented(image, orientation, reading)


def _profile(found: Chunks) -> Profile | None:
    """Return which colours are meant, by the first of four kinds of chunks; None: those of sRGB."""
    codes = found.get(b"cICP")
    if codes is not None:
        numbers = ", ".join(map(str, bytes(codes)))
        return None if bytes(codes) in _SRGB_CODES else _named(f"cICP {numbers}", codes)
    if b"iCCP" in found:
        return _embedded(found[b"iCCP"])
    if b"sRGB" in found:
        return None
    gamma, primaries = (_numbers(found.get(kind)) for kind in (b"gAMA", b"cHRM"))
    said = []
    if gamma and abs(gamma[0] - _GAMMA) > _ABOUT:
        said.append(f"gAMA {gamma[0] / 1e5:g}")
    if len(primaries) == len(_PRIMARIES) and any(
        abs(one - other) > _ABOUT for one, other in zip(primaries, _PRIMARIES, strict=True)
    ):
        said.append(f"cHRM {', '.join(f'{value / 1e5:g}' for value in primaries)}")
    return _named(" and ".join(said), " ".join(said).encode()) if said else None


def _named(name: str, content: Body) -> Profile:
    return Profile(name, frozenset({(b"", bytes(content))}))


def _numbers(body: memoryview | None) -> tuple[int, ...]:
    """Return the numbers of 4 bytes in a chunk; of a damaged one none."""
    if body is None or len(body) % 4:
        return ()
    return tuple(np.frombuffer(body, ">u4").tolist())


def _embedded(body: memoryview) -> Profile | None:
    """Return the profile in a chunk; a damaged one is none."""
    packed = bytes(body).partition(b"\0")[2][1:]
    try:
        return profile_of(zlib.decompressobj().decompress(packed, _MOST_OF_A_PROFILE))
    except zlib.error:
        return None


def decoded(
    header: ImageHeader, found: Chunks, data: Sequence[Body], reading: Reading
) -> tuple[Array, Array | None, tuple[str, ...]]:
    """Decode pixels, and check first that they are all there.

    The header is that of the pixels, which may be a frame of the file, and `data` are pieces of
    their stream. Of the chunks `found` in the file, those of palette and transparency are used.
    Returns colours without palette, alpha if there is one, and notes.
    """
    itemsize = 2 if header.depth == 16 else 1
    reading.check_size(
        (header.height, header.width),
        itemsize,
        4 if header.colour == PALETTE else _SAMPLES[header.colour],
    )
    _check_data(header, data)
    # Metadata are left out: they may be damaged, or exceed Pillow's limits.
    palette = [chunk(b"PLTE", found[b"PLTE"])] if b"PLTE" in found else []
    pixels = (chunk(b"IDAT", body) for body in data)
    ends = chunk(b"IHDR", header.content), chunk(b"IEND", b"")
    plain = b"".join((PNG_SIGNATURE, ends[0], *palette, *pixels, ends[1]))
    samples = _deep_samples(plain, header.colour) if itemsize == 2 else _bytes(plain)
    return _coloured(samples, header, found, reading)


def chunks_of(content: bytes) -> tuple[list[tuple[bytes, memoryview]], list[str]]:
    """Split a file into chunks, and check those that hold the pixels."""
    view = memoryview(content)
    chunks: list[tuple[bytes, memoryview]] = []
    notes: dict[str, None] = {}
    position = len(PNG_SIGNATURE)
    while not chunks or chunks[-1][0] != b"IEND":
        if position == len(content):
            raise ImageFileError("damaged: it is cut off; its last chunk (IEND) is missing")
        length, kind = (
            int.from_bytes(view[position : position + 4], "big"),
            bytes(view[position + 4 : position + 8]),
        )
        end = position + 12 + length
        if len(kind) == 4 and not kind.isalpha():
            raise ImageFileError(f"damaged: there is no chunk at byte {position}")
        if end > len(content):
            raise ImageFileError(f"damaged: it is cut off in the chunk at byte {position}")
        body, check = view[position + 8 : end - 4], int.from_bytes(view[end - 4 : end], "big")
        name = kind.decode("ascii")
        critical = name[0].isupper()
        if kind == b"CgBI":
            raise ImageFileError(
                "is a PNG of Apple's own kind (CgBI), which is not read",
                "convert it: pngcrush -revert-iphone-optimizations",
            )
        if critical and kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            raise ImageFileError(f"its chunk {name}, which it says is critical, is not known")
        if zlib.crc32(body, zlib.crc32(kind)) == check:
            chunks.append((kind, body))
        elif critical or kind in _DECISIVE:
            raise ImageFileError(f"damaged: its chunk {name} at byte {position} has a wrong CRC")
        else:
            notes[f"its metadata ({name}) are damaged and left aside"] = None
        position = end
    if position < len(content):
        notes[f"{len(content) - position} bytes after its end are left aside"] = None
    return chunks, list(notes)


def header_of(chunks: list[tuple[bytes, memoryview]]) -> ImageHeader:
    """Return the content of the first chunk; those behind it must be in their order."""
    kind, body = chunks[0]
    if kind != b"IHDR" or len(body) != 13:
        raise ImageFileError("damaged: it does not begin with a header (IHDR) of 13 bytes")
    width, height = (int.from_bytes(body[i : i + 4], "big") for i in (0, 4))
    depth, colour, compression, filters, interlace = body[8:]
    if (
        not (0 < width < 2**31 and 0 < height < 2**31)
        or depth not in _DEPTHS.get(colour, ())
        or (compression, filters) != (0, 0)
        or interlace > 1
    ):
        raise ImageFileError(
            f"damaged: no PNG has the header {bytes(body).hex(' ')} (width {width}, "
            f"height {height}, {depth} bits, colour type {colour})"
        )
    _check_order(chunks)
    return ImageHeader(width, height, depth, colour, bool(interlace))


def _check_order(chunks: list[tuple[bytes, memoryview]]) -> None:
    kinds = [kind for kind, _ in chunks]
    for kind in (b"IHDR", b"PLTE", b"tRNS"):
        if kinds.count(kind) > 1:
            raise ImageFileError(f"damaged: it has {kinds.count(kind)} chunks {kind.decode()}")
    data = [i for i, kind in enumerate(kinds) if kind == b"IDAT"]
    if not data or data != [*range(data[0], data[-1] + 1)]:
        raise ImageFileError("damaged: its image data (IDAT) are missing or not together")
    before = kinds[: data[0]]
    order = [kind for kind in before if kind in (b"PLTE", b"tRNS")]
    if order == [b"tRNS", b"PLTE"] or {b"PLTE", b"tRNS"} & {*kinds[data[0] :]}:
        raise ImageFileError("damaged: its palette or transparency stands in the wrong place")


def _check_data(header: ImageHeader, pieces: Iterable[Body]) -> None:
    """Inflate the image data piece by piece, to check their length and checksum.

    Pillow accepts missing rows if the stream ends properly.
    """
    wanted, found = header.length(), 0
    stream, rest = zlib.decompressobj(), False
    for piece in pieces:
        for start in range(
            0, len(piece), _PIECE
        ):  # zlib copies the unused rest of a piece each time
            todo: Body = piece[start : start + _PIECE]
            rest = rest or stream.eof
            while len(todo) and not stream.eof:
                found += _inflated(stream, todo)
                if found > wanted:
                    raise ImageFileError(
                        f"damaged: it holds more than the {wanted} bytes of its rows"
                    )
                todo = stream.unconsumed_tail
    while not stream.eof and (more := _inflated(stream, stream.unconsumed_tail)):
        found += more
    if found != wanted:
        raise ImageFileError(f"damaged: it holds {found} of the {wanted} bytes of its rows")
    if not stream.eof:
        raise ImageFileError("damaged: its image data are cut off before their checksum")
    if rest or stream.unused_data:
        raise ImageFileError("damaged: more data follow the end of its image data")


def _inflated(stream: zlib._Decompress, data: Body) -> int:
    try:
        return len(stream.decompress(data, 16 * _PIECE))
    except zlib.error as error:
        raise ImageFileError(f"damaged: its image data do not inflate: {error}") from error


def chunk(kind: bytes, body: Body) -> bytes:
    """Return a chunk as it is stored."""
    check = zlib.crc32(body, zlib.crc32(kind))
    return b"".join((len(body).to_bytes(4, "big"), kind, body, check.to_bytes(4, "big")))


def _bytes(content: bytes, raw_mode: str | None = None) -> Array:
    from PIL.PngImagePlugin import PngImageFile

    # Image.open has a limit of its own on pixels.
    with PngImageFile(io.BytesIO(content)) as image:
        if raw_mode is not None:
            image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        pixels = np.asarray(image)
    # In memory, True is 255 for Pillow and 1 for NumPy.
    return pixels.view(np.uint8) != 0 if pixels.dtype == bool else pixels


def _deep_samples(content: bytes, colour: int) -> Array:
    """Read samples of 16 bits. Pillow reads one byte of a colour, so there are two passes."""
    if colour == _GREY:
        return _bytes(content)
    if colour == _GREY_ALPHA:
        # Four bytes a pixel, which Pillow reads as 8-bit RGBA.
        pixels = _bytes(content, "RGBA")
        high, low = pixels[..., ::2], pixels[..., 1::2]
    else:
        mode = "RGBA" if colour == _RGBA else "RGB"
        high, low = (_bytes(content, f"{mode};16{order}") for order in "BL")
    return high.astype(np.uint16) << 8 | low


def _coloured(
    samples: Array, header: ImageHeader, found: Chunks, reading: Reading
) -> tuple[Array, Array | None, tuple[str, ...]]:
    """Return colours without palette, alpha if there is one, and notes."""
    notes: tuple[str, ...] = ()
    colours, alpha, keyed = samples, None, found.get(b"tRNS")
    if header.colour in (_GREY_ALPHA, _RGBA):
        if keyed is not None:
            raise ImageFileError("damaged: it has an alpha channel and a transparent colour")
        colours, alpha = samples[..., :-1], samples[..., -1]
        colours = colours[..., 0] if header.colour == _GREY_ALPHA else colours
    elif header.colour == PALETTE:
        palette = np.frombuffer(found.get(b"PLTE", b""), np.uint8)
        if not 0 < palette.size <= 3 * 2**header.depth or palette.size % 3:
            raise ImageFileError(f"damaged: its palette has {palette.size} bytes")
        check_palette(samples.max(), palette.size // 3)
        if reading.as_stored:
            return samples, None, ()
        colours = palette.reshape(-1, 3)[samples]
        notes = ("its palette is converted to RGB",)
        if keyed is not None:
            table = np.full(256, 255, np.uint8)
            if len(keyed) > palette.size // 3:
                raise ImageFileError("damaged: its transparency has more entries than its palette")
            table[: len(keyed)] = keyed
            alpha = table[samples]
    elif keyed is not None:
        alpha = _keyed(samples, header, keyed)
    if header.colour == _GREY and header.depth in (2, 4):
        if reading.as_stored:
            return samples // np.uint8(255 // (2**header.depth - 1)), None, ()
        notes = (f"its {header.depth}-bit grey levels are scaled to 8 bits",)
    return colours, alpha, notes


def _keyed(samples: Array, header: ImageHeader, keyed: memoryview) -> Array:
    """Return True where the colour of a pixel does not stand for "transparent"."""
    if len(keyed) != 2 * _SAMPLES[header.colour]:
        raise ImageFileError(f"damaged: its transparent colour has {len(keyed)} bytes")
    key = np.frombuffer(keyed, ">u2").astype(np.int64) & (2**header.depth - 1)
    if header.depth < 8:
        key = key * (255 // (2**header.depth - 1)) if header.depth > 1 else key
    return np.asarray((samples != key).any(axis=-1) if samples.ndim == 3 else samples != key[0])


def write_png(path: str | Path | IO[bytes], pixels: Array) -> None:
    """Write an image as PNG: grey of dtype bool, uint8 or uint16, or colours of dtype uint8."""
    from PIL import Image

    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be written: {error.strerror or error}") from error
