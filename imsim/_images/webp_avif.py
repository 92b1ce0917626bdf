"""WebP and AVIF, of one image or animated; Pillow decodes them, and composes their frames."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from imsim._images.metadata import profile_of
from imsim._images.pictures import Contents, ImageFileError, Pages
from imsim._images.reading import Reading, Source
from imsim._images.shown import composite, of_exif, oriented

_CONFIGURATION = re.compile(rb"av1C\x81.(.)", re.DOTALL)
"""The box that tells the depth of AVIF, in bits of the byte that is found."""
_DEEP, _DEEPER = 0x40, 0x20
_ZEROS, _SPARE = 32, 24
"""Zeros at the end of a stream of WebP that are doubtful, and bytes that no decoder does without:
encoders of whole images left up to 11 that hold nothing."""
_FRAME_HEADER = 16  # bytes of a frame of animated WebP, before its own chunks


def is_webp(start: bytes) -> bool:
    """Tell whether a file begins as WebP does."""
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def is_avif(start: bytes) -> bool:
    """Tell whether a file begins as AVIF does, by its brand or those that it is compatible with."""
    if start[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(start[:4], "big"), len(start))
    return any(start[i : i + 4] in (b"avif", b"avis") for i in range(8, end, 4))


def open_webp(source: Source, reading: Reading) -> Pages:
    """Open a file, whose frames are images."""
    content = source.read()
    length = 8 + int.from_bytes(content[4:8], "little")
    if len(content) < length:
        raise ImageFileError(f"damaged: it is cut off: {len(content)} of {length} bytes are there")
    reading.check_size(_canvas(content), 1, 4)
    rest = len(content) - length
    notes = [f"{rest} bytes after its end are left aside"] if rest else []
    from PIL import features
    from PIL.Image import DecompressionBombError
    from PIL.WebPImagePlugin import WebPImageFile

    if not features.check("webp"):
        raise ImageFileError("WebP is not read by this Pillow, which was built without it", _REMEDY)
    check_webp(content, lambda changed: WebPImageFile(io.BytesIO(changed)).load())
    try:
        return _pages(WebPImageFile(io.BytesIO(content)), notes, reading)
    except DecompressionBombError as error:
        raise ImageFileError(
            "has more pixels than Pillow reads of WebP", "save it as PNG or TIFF"
        ) from error


def open_avif(source: Source, reading: Reading) -> Pages:
    """Open a file, whose frames are images."""
    from PIL import features

    if "avif" not in features.get_supported():
        raise ImageFileError("AVIF is not read by this Pillow", _REMEDY)
    from PIL.AvifImagePlugin import AvifImageFile

    reading.check_exact("AVIF")
    content = source.read()
    check_avif(content)
    bits = max((ord(flags) for flags in _CONFIGURATION.findall(content)), default=0)
    notes = []
    if bits & _DEEP:
        notes.append(f"its samples of {12 if bits & _DEEPER else 10} bits are decoded to 8")
    return _pages(AvifImageFile(io.BytesIO(content)), notes, reading)


_REMEDY = "pip install --upgrade 'pillow>=11.3', or save it as PNG"


def _canvas(content: bytes) -> tuple[int, int]:
    """Return height and width of a WebP file, before Pillow takes memory for them."""
    kind, head = content[12:16], content[20:30]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(head[i : i + 3], "little") for i in (4, 7))
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(head[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    elif kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        raise ImageFileError("damaged: it begins with no chunk of an image")
    return height, width


def _pages(image: Any, notes: Sequence[str], reading: Reading) -> Pages:
    """Return the frames of a file that Pillow has opened, and decodes as they are asked for."""
    width, height = image.size
    reading.check_size((height, width), 1, len(image.getbands()))
    orientation, doubts = of_exif(image.info.get("exif"), "EXIF")

    profile = profile_of(image.info.get("icc_profile"))

    def read(index: int) -> Contents:
        image.seek(index)
        image.load()
        pixels = np.array(image)
        if image.mode in ("LA", "RGBA"):
            colours = pixels[..., 0] if image.mode == "LA" else pixels[..., :3]
            found = composite(colours, pixels[..., -1], reading)
        else:
            found = Contents(pixels)
        found = found._replace(notes=(*notes, *found.notes, *doubts), profile=profile)
        return oriented(found, orientation, reading)

    return Pages(image.n_frames, read, image.close)


def check_webp(content: bytes, open_: Callable[[bytes], Any]) -> None:
    """Refuse WebP whose streams end in zeros that are no part of them.

    A decoder takes all the bits it needs, and no more: without the last bytes of a stream that is
    whole it fails. `open_` decodes a file, and raises if that fails.
    """
    for canvas, chunks in _pictures_of_webp(content):
        for kind, body in chunks.items():
            if not body.endswith(bytes(_ZEROS)):
                continue
            short = {**chunks, kind: body[:-_SPARE]}
            try:
                open_(_webp_of(canvas, short))
            except Exception:
                continue
            raise ImageFileError("damaged: its last bytes are zeros that hold no pixels")


def check_avif(content: bytes) -> None:
    """Refuse AVIF whose pixels end in zeros: a tile of AV1 ends in a bit 1, and fills its byte."""
    place, last = 0, b""
    while place + 8 <= len(content):
        size, last = (
            int.from_bytes(content[place : place + 4], "big"),
            content[place + 4 : place + 8],
        )
        if size < 8:  # to the end, or in 64 bits
            break
        place += size
    others = any(kind in content for kind in (b"Exif", b"mime"))
    if last == b"mdat" and content.endswith(bytes(4)) and not others:
        raise ImageFileError("damaged: its last bytes are zeros that hold no pixels")


def _chunks_of_webp(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    while start + 8 <= end:
        size = int.from_bytes(content[start + 4 : start + 8], "little")
        yield content[start : start + 4], content[start + 8 : min(start + 8 + size, end)]
        start += 8 + size + size % 2


def _pictures_of_webp(content: bytes) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """Yield the size of each picture, as three bytes each of width and height, and its streams."""
    size = b""
    chunks: dict[bytes, bytes] = {}
    for kind, body in _chunks_of_webp(content, 12, len(content)):
        if kind == b"VP8X":
            size = body[4:10]
        elif kind == b"ANMF":
            own = dict(_chunks_of_webp(body, _FRAME_HEADER, len(body)))
            yield body[6:12], {k: own[k] for k in _STREAMS if k in own}
        elif kind in _STREAMS:
            chunks[kind] = body
    if chunks:
        yield size, chunks


_STREAMS = (b"ALPH", b"VP8 ", b"VP8L")


def _webp_of(size: bytes, chunks: dict[bytes, bytes]) -> bytes:
    """Return a file of one picture."""
    if b"ALPH" in chunks:
        chunks = {b"VP8X": b"\x10\0\0\0" + size, **chunks}
    content = b"WEBP"
    for kind, body in chunks.items():
        content += kind + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)
    return b"RIFF" + len(content).to_bytes(4, "little") + content
