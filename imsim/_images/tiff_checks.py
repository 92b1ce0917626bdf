"""Checks of a TIFF file: its chain of pages, which may be a circle, and its strips and tiles.

tifffile, and the decoders of strips and tiles, ignore such damage.
"""

from __future__ import annotations

import lzma
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import numpy as np

from imsim._images.jpeg import check_end_mark, check_stream
from imsim._images.pictures import Array, ImageFileError, check_runs
from imsim._images.webp_avif import check_webp

if TYPE_CHECKING:
    from tifffile import TiffPage

TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_KIND, _OLD_KIND, _SUBIMAGES = 254, 255, 330  # NewSubfileType, SubfileType, SubIFDs
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_MOST_TAGS = 4096  # a page with more tags is broken, also for tifffile


class Link(NamedTuple):
    """What a page declares."""

    reduced: bool = False
    """Whether it is a smaller copy of another page."""
    aside: bool = False
    """Whether it is no image of its own."""
    subimages: int = 0


def walk(stream: BinaryIO) -> list[Link]:
    """Return the declaration of each page, up to the end of the chain or a break."""
    order = "<" if stream.read(2) == b"II" else ">"
    big = struct.unpack(f"{order}H", stream.read(2))[0] == 43
    if big:
        stream.seek(4, 1)
    count_format = struct.Struct(f"{order}{'Q' if big else 'H'}")
    offset_format = struct.Struct(f"{order}{'Q' if big else 'I'}")
    entry = np.dtype(
        [
            ("code", f"{order}u2"),
            ("type", f"{order}u2"),
            ("count", f"{order}u{8 if big else 4}"),
            ("value", f"V{8 if big else 4}"),
        ]
    )
    links: list[Link] = []
    seen: set[int] = set()
    while offset := _unpack(offset_format, stream):
        if offset in seen:
            raise ImageFileError(
                f"damaged: its chain of pages runs in a circle: page {len(links)} is at byte "
                f"{offset}, as an earlier one"
            )
        seen.add(offset)
        stream.seek(offset)
        tags = _unpack(count_format, stream)
        if not 0 < tags <= _MOST_TAGS:
            break
        content = stream.read(tags * entry.itemsize)
        if len(content) < tags * entry.itemsize:
            break
        links.append(_link(np.frombuffer(content, entry), order))
    return links


def _unpack(form: struct.Struct, stream: BinaryIO) -> int:
    content = stream.read(form.size)
    return int(form.unpack(content)[0]) if len(content) == form.size else 0


def _link(tags: Array, order: str) -> Link:
    codes = tags["code"].tolist()
    kind = _value(tags[codes.index(_KIND)], order) if _KIND in codes else 0
    if not kind and _OLD_KIND in codes and _value(tags[codes.index(_OLD_KIND)], order) == 2:
        kind = _REDUCED
    subimages = int(tags[codes.index(_SUBIMAGES)]["count"]) if _SUBIMAGES in codes else 0
    return Link(bool(kind & _REDUCED), bool(kind & (_REDUCED | _MASK)), subimages)


def _value(tag: np.void, order: str) -> int:
    size = {3: 2, 4: 4}.get(int(tag["type"]), 0)
    return int.from_bytes(bytes(tag["value"])[:size], "little" if order == "<" else "big")


# Values of the Compression tag.
NONE, _FAX_RLE, _FAX_3, _FAX_4, LZW = 1, 2, 3, 4, 5
_JPEGS = (6, 7, 33007, 34892)
_JPEG_XR, _PNG = (22610, 34934), 34933
_JPEG_2000, _WEBP = (33003, 33004, 33005, 34712), (34927, 50001)
_PICTURES = (
    *_JPEG_2000,
    *_JPEG_XR,
    34887,  # LERC
    *_WEBP,
    _PNG,
    *(50002, 52546),  # JPEG XL
)
INEXACT = frozenset({*_JPEGS, *_PICTURES} - {_PNG})
"""What may change numbers; all but JPEG can keep them, which their chunks do not tell alike."""
_DEFLATE, _LZMA = (8, 32946), 34925
PACKBITS, _ZSTD = 32773, (34926, 50000)
WITH_PREDICTOR = frozenset({LZW, *_DEFLATE, _LZMA, *_ZSTD})
"""Compressions of data behind a predictor, as libtiff has them."""
_INFLATORS: dict[int, Callable[[], Any]] = {
    **dict.fromkeys(_DEFLATE, zlib.decompressobj),
    _LZMA: lzma.LZMADecompressor,
}
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_PADDING = 3  # bytes behind a strip, so that the next one begins at a multiple of 4
# The number of a tag. Bit 1 means two-dimensional coding, bit 4 zeros before an end of line.
_T4_OPTIONS = 292


class _Chunk(NamedTuple):
    """The declared size and type of each strip or tile; the last strip may be lower."""

    rows: int
    width: int
    samples: int
    dtype: np.dtype[Any]
    nbytes: int
    """Bytes of the samples; each row begins at a new byte."""

    def __str__(self) -> str:
        return f"{self.width} x {self.rows} pixels of {self.samples} samples ({self.dtype})"


def check_chunks(page: TiffPage, counts: np.ndarray[Any, Any]) -> None:
    """Refuse damaged strips or tiles, of which the decoder would invent or omit pixels."""
    check = chunk_check(page, counts)
    if check is None:
        return
    segments = page.parent.filehandle.read_segments(
        page.dataoffsets, page.databytecounts, flat=True
    )
    for content, index in cast("Iterator[tuple[bytes | None, int]]", segments):
        if content is None:  # a strip without data
            continue
        try:
            check(content, index)
        except (ImportError, NotImplementedError):
            return  # the decoder names the missing package


def chunk_check(
    page: TiffPage, counts: np.ndarray[Any, Any]
) -> Callable[[bytes, int], None] | None:
    """Return a check of the content of a strip or tile, by its index; None: the decoder checks."""
    chunk = _chunk(page)
    kind = "tiles" if page.is_tiled else "strips"
    down = 1 if page.is_tiled else -(-page.imagelength // chunk.rows)
    if page.compression == NONE:
        if (counts > chunk.nbytes + _PADDING).any():
            raise ImageFileError(
                f"damaged: its {kind} hold up to {counts.max():.0f} bytes, their pixels "
                f"{chunk.nbytes}"
            )
        for count in [] if page.is_tiled else counts[down - 1 :: down]:
            _check_size(count - _PADDING, chunk, page.imagelength - (down - 1) * chunk.rows)
    check = _check_of(page, chunk)
    if check is None:
        return None
    is_mirrored = page.fillorder == 2 and page.compression not in (*_JPEGS, *_PICTURES)

    def check_one(content: bytes, index: int) -> None:
        rows = chunk.rows
        if not page.is_tiled:
            rows = min(rows, page.imagelength - index % down * rows)
        check(content.translate(_MIRRORED) if is_mirrored else content, rows)

    return check_one


def most_bytes(page: TiffPage) -> float:
    """Return the bytes that a strip or tile takes at most; of compressed ones nothing tells."""
    return _chunk(page).nbytes if page.compression == NONE else math.inf


def _chunk(page: TiffPage) -> _Chunk:
    width = page.tilewidth if page.is_tiled else page.imagewidth
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    rows = math.prod(page.chunks) // (width * samples)
    row_bytes = -(-width * samples * page.bitspersample // 8)
    return _Chunk(rows, width, samples, np.dtype(page.dtype).newbyteorder("="), rows * row_bytes)


def _check_of(page: TiffPage, chunk: _Chunk) -> Callable[[bytes, int], None] | None:
    """Return a check of the content and rows of a strip or tile; None if the decoder checks."""
    codec = page.compression
    if codec in _JPEGS:
        return lambda content, rows: _check_jpeg(content, rows, chunk, page.jpegtables)
    if codec in _INFLATORS:
        # imagecodecs refuses deflate data that hold more bytes than the pixels, but for packed
        # samples. Without it, tifffile inflates them with zlib and has no limit.
        is_packed = page.bitspersample % 8 > 0
        if codec in _DEFLATE and find_spec("imagecodecs") is not None and not is_packed:
            return None
        return lambda content, rows: _check_size(
            len(_INFLATORS[codec]().decompress(content, chunk.nbytes + 1)), chunk, rows
        )
    if codec == LZW:
        return lambda content, rows: _check_lzw(content, rows, chunk)
    if codec == PACKBITS and page.bitspersample % 8:  # of others, the decoder checks
        return lambda content, _: check_runs(content, chunk.nbytes)
    if find_spec("imagecodecs") is None:
        return None  # no other codec can be decoded
    import imagecodecs

    if codec in _ZSTD and page.bitspersample % 8:
        return lambda content, rows: _check_size(len(imagecodecs.zstd_decode(content)), chunk, rows)
    if codec in _PICTURES:
        return lambda content, rows: _check_picture(content, rows, chunk, codec)
    if codec in (_FAX_RLE, _FAX_3, _FAX_4):
        options = int(page.tags.valueof(_T4_OPTIONS, 0))
        return lambda content, rows: _check_fax(content, rows, chunk.width, codec, options)
    return None


def _check_jpeg(content: bytes, rows: int, chunk: _Chunk, tables: bytes | None) -> None:
    whole = tables[:-2] + content[2:] if tables else content
    if chunk.dtype != np.uint8:
        raise ImageFileError(
            f"its JPEG streams hold {chunk.dtype}; only those of 8 bits are read. Save it with "
            "another compression"
        )
    check_stream(whole, (rows, chunk.rows), chunk.width, chunk.samples)


def _check_size(found: int, chunk: _Chunk, rows: int) -> None:
    """Refuse more bytes than those of so many rows; some writers fill up the last strip."""
    wanted = chunk.nbytes // chunk.rows * rows
    if found > wanted and found not in range(chunk.nbytes - _PADDING, chunk.nbytes + 1):
        raise ImageFileError(
            f"damaged: its strips or tiles hold more than the {wanted} bytes of their pixels"
        )


def _check_lzw(content: bytes, rows: int, chunk: _Chunk) -> None:
    """Refuse data without the end code, 257: the decoder would invent the last code."""
    if content[:1] == b"\0":  # the old kind, with reversed bits
        return
    if not _bits(content[-8:]).rstrip("0").endswith(f"{257:b}"):  # zeros may follow it
        raise ImageFileError("damaged: its LZW data are cut off before their end code")
    if find_spec("imagecodecs") is not None:
        import imagecodecs

        _check_size(len(imagecodecs.lzw_decode(content, out=chunk.nbytes + 1)), chunk, rows)


def _check_picture(content: bytes, rows: int, chunk: _Chunk, codec: int) -> None:
    """Compare the picture in a strip or tile with the size and type that the page declares."""
    from tifffile import TIFF

    if codec in _JPEG_XR:
        _check_jpeg_xr(content)
    if codec in _JPEG_2000:
        check_end_mark(content, "JPEG 2000")
    if codec in _WEBP:
        check_webp(content, TIFF.DECOMPRESSORS[codec])
    decoded = TIFF.DECOMPRESSORS[codec](content)
    height, width, samples = decoded.shape if decoded.ndim == 3 else (*decoded.shape, 1)
    found = _Chunk(height, width, samples, decoded.dtype.newbyteorder("="), chunk.nbytes)
    if found not in (chunk, chunk._replace(rows=rows)):
        raise ImageFileError(
            f"damaged: a strip or tile holds {found}; expected {chunk._replace(rows=rows)}"
        )


def _check_jpeg_xr(content: bytes) -> None:
    """Refuse a JPEG XR file that ends before its data do: its decoder invents the rest."""
    if not content.startswith(b"II\xbc"):
        return
    (directory,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, directory)
    values = {
        tag: value
        for tag, _, _, value in struct.iter_unpack(
            "<HHII", content[directory + 2 : directory + 2 + 12 * entries]
        )
    }
    image, alpha = (values.get(at, 0) + values.get(at + 1, 0) for at in (0xBCC0, 0xBCC2))
    # As the length of the alpha, the common library writes its end.
    if image > len(content) or min(alpha, values.get(0xBCC3, 0)) > len(content):
        raise ImageFileError("damaged: a JPEG XR stream is cut off")


# Fax codes, as text of 0 and 1.
_END_OF_LINE = "000000000001"
_NO_BLACK = "0000110111"
_WHITE_PIXEL = "000111" + _NO_BLACK  # runs of 1 white and 0 black pixels
_BLACK_PIXEL = "00110101" + "010"  # runs of 0 white pixels and 1 black pixel
_HORIZONTAL = "001"  # precedes each pair of runs in group 4
_ZEROS = "0" * 24  # may come before an end of line
_LONGEST_END = 32  # most bytes of six ends of lines, each filled up to a byte


def _check_fax(content: bytes, rows: int, width: int, codec: int, options: int) -> None:
    """Append a white and a black row to fax data, and check that they are decoded last.

    Where it finds no code, the decoder stops without an error, and leaves the rest white.
    """
    import imagecodecs

    if not hasattr(imagecodecs, "ccittfax4_decode"):  # an old release
        return
    plain = content.rstrip(b"\0")
    head, tail = plain[:-_LONGEST_END], _bits(plain[-_LONGEST_END:]).rstrip("0")
    white = (width * _WHITE_PIXEL)[: -len(_NO_BLACK)]  # the last white pixel ends the row
    if codec == _FAX_4:
        if not tail.endswith(2 * _END_OF_LINE):
            raise ImageFileError("damaged: its fax data are cut off before their end code")
        pixels = [width * (_HORIZONTAL + pixel) for pixel in (_WHITE_PIXEL, _BLACK_PIXEL)]
        longer = tail[:-24] + "".join(pixels) + 2 * _END_OF_LINE
        decoded = [imagecodecs.ccittfax4_decode(head + _bytes(longer), rows + 2, width)]
    elif codec == _FAX_3:
        one_dimensional = "1" if options & 1 else ""
        line = _ZEROS + "1" + one_dimensional
        ended = re.sub(f"(0{{11,}}1{one_dimensional})+$", "", tail)
        longer = ended + line + white + line + width * _BLACK_PIXEL
        decoded = [
            imagecodecs.ccittfax3_decode(
                head + _bytes(longer), rows + 2, width, t4options=options | 4
            )
        ]
    else:  # zeros may end the last row, which ends with its byte, or follow it
        both = _bytes(white) + _bytes(width * _BLACK_PIXEL)
        decoded = [
            imagecodecs.ccittrle_decode(data + both, rows + 2, width)
            for data in (content, plain, plain + b"\0")
        ]
    if not any(not image[rows].any() and image[rows + 1].all() for image in decoded):
        raise ImageFileError(f"damaged: its fax data do not make up {rows} rows")


def _bits(content: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in content)


def _bytes(bits: str) -> bytes:
    """Return bits as bytes, the last of which is filled up with zeros."""
    size = -(-len(bits) // 8)
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size)
