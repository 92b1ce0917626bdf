"""What streams of pixels tell of their own end, where their decoders ask for less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from imsim._images.pictures import ImageFileError

_END = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000
_NOTHING = 128
"""The code of a run that does nothing: smaller ones copy bytes, larger ones repeat one."""
_FILLING = bytes((0, _NOTHING))
_ZEROS, _SPARE = 32, 24
"""Zeros at the end of a stream of WebP that are doubtful, and bytes that no decoder does without:
encoders of whole images left up to 11 that hold nothing."""
_FRAME_HEADER = 16  # bytes of a frame of animated WebP, before its own chunks


def check_end_mark(content: bytes, name: str) -> None:
    """Refuse a stream of the JPEG family that lacks its end mark, before what fills it up."""
    if not content.rstrip(b"\0\xff").endswith(_END):
        raise ImageFileError(
            f"damaged: its {name} data are cut off; the mark of their end is missing"
        )


def check_runs(content: bytes, size: int) -> None:
    """Refuse runs and copies of bytes (PackBits, RLE of DICOM) that hold more than their pixels.

    Decoders stop when they have all pixels, of `size` bytes, as they do where a damaged length
    shifts them. What fills up the end, zeros and codes that do nothing, is harmless.
    """
    place = found = 0
    while found < size and place < len(content):
        code = content[place]
        if code < _NOTHING:
            found, place = found + code + 1, place + code + 2
        else:
            found, place = (
                found + (257 - code if code > _NOTHING else 0),
                place + 1 + (code > _NOTHING),
            )
    if found > size or content[place:].strip(_FILLING):
        raise ImageFileError(
            f"damaged: its run lengths hold more than the {size} bytes of their pixels"
        )


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
