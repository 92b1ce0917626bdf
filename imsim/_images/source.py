"""The bytes of a file: from the disk, read once from a pipe, or packed by gzip.

Files of FITS are unpacked as a whole, those of NIfTI where they are read. The checksum of gzip is
compared at its end, and bytes behind the end must be zeros or another part, as the format has it.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from imsim._images.pictures import ImageFileError
from imsim._images.reading import Reading, memory_limit

STDIN = "-"
_CHUNK = 2**24


class Source(NamedTuple):
    """The bytes of a file, which can be read again and again."""

    path: str
    content: bytes | None
    """The content of a pipe; None for a file on the disk."""

    def open(self) -> BinaryIO:
        """Return a new stream."""
        return open(self.path, "rb") if self.content is None else io.BytesIO(self.content)

    def read(self) -> bytes:
        """Return all bytes."""
        return Path(self.path).read_bytes() if self.content is None else self.content


def find(path: str, reading: Reading, is_known: Callable[[bytes], bool]) -> Source:
    """Return the file of that name; a pipe is read here, once for each `Reading`.

    ``-`` is the standard input, unless there is a file of that name. `is_known` tells whether the
    first 132 bytes are those of an image; a pipe or device that begins otherwise is not read to its
    end.
    """
    standard = path == STDIN and not os.path.exists(path)
    if standard and sys.stdin is None:
        raise ImageFileError("cannot be read: the standard input is closed")
    found = os.fstat(sys.stdin.fileno()) if standard else os.stat(path)
    if not standard and (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return Source(path, None)
    place = (found.st_dev, found.st_ino)
    with reading._lock:
        if place not in reading._pipes:
            stream = sys.stdin.fileno() if standard else path
            with open(stream, "rb", closefd=not standard) as pipe:
                reading._pipes[place] = _drained(pipe, is_known)
        return Source(path, reading._pipes[place])


def _drained(pipe: BinaryIO, is_known: Callable[[bytes], bool]) -> bytes:
    content = bytearray(pipe.read(132))
    if not content:
        raise ImageFileError("is empty, or was read before")
    if not is_known(bytes(content)):
        return bytes(content)  # the readers raise the error
    while chunk := pipe.read(_CHUNK):
        content += chunk
        if len(content) > memory_limit():
            raise ImageFileError(f"gives more than {len(content)} bytes; save it to a file first")
    return bytes(content)


GZIP_SIGNATURE = b"\x1f\x8b"
_PIECE = 2**22
_BYTES_OF_A_PIXEL = 8
_META = 132
"""Where the first group of a DICOM file begins, by an element that tells its length."""
_META_LENGTH = b"\2\0\0\0UL\4\0"
_DEFLATED = b"1.2.840.10008.1.2.1.99"


@contextmanager
def named_as_damage() -> Iterator[None]:
    """Say of what is wrong with a packed stream that it is damage."""
    try:
        yield
    except EOFError as error:
        raise ImageFileError("damaged: its gzip stream is cut off") from error
    except gzip.BadGzipFile as error:
        raise ImageFileError(f"damaged: its gzip stream: {error}") from error
    except zlib.error as error:
        raise ImageFileError(f"damaged: its gzip stream does not inflate: {error}") from error


def beginning(source: Source, size: int) -> bytes:
    """Return the first bytes of a file, of a packed one those of its content."""
    with source.open() as stream:
        start = stream.read(size)
        if not start.startswith(GZIP_SIGNATURE):
            return start
        stream.seek(0)
        with named_as_damage(), gzip.open(stream) as content:
            return content.read(size)


def unpacked(source: Source, reading: Reading) -> Source:
    """Unpack a whole file into memory, of which it may take as much as an image."""
    most = memory_limit()
    if reading.max_pixels is not None:
        most = max(most, _BYTES_OF_A_PIXEL * reading.max_pixels)
    parts: list[bytes] = []
    size = 0
    with source.open() as stream, named_as_damage(), gzip.open(stream) as content:
        while piece := content.read(_PIECE):
            parts.append(piece)
            size += len(piece)
            if size > most:
                raise ImageFileError(
                    f"takes more than {most:.0f} bytes if it is unpacked", "unpack it: gunzip -k"
                )
    return Source(source.path, b"".join(parts))


def check_deflated(file: Any) -> None:
    """Refuse a DICOM file, packed as a whole, that takes more memory than an image may."""
    with open(file, "rb") if isinstance(file, str) else nullcontext(file) as stream:
        stream.seek(_META)
        start = stream.read(12)
        length = int.from_bytes(start[8:], "little")
        if start.startswith(_META_LENGTH) and _DEFLATED in stream.read(min(length, _PIECE)):
            most, size, inflating = memory_limit(), 0, zlib.decompressobj(-zlib.MAX_WBITS)
            while piece := inflating.unconsumed_tail or stream.read(_PIECE):
                try:
                    size += len(inflating.decompress(piece, _PIECE))
                except zlib.error as error:
                    raise ImageFileError(f"damaged: it does not inflate: {error}") from error
                if size > most:
                    raise ImageFileError(
                        f"takes more than {most:.0f} bytes if it is unpacked",
                        "save it uncompressed",
                    )
            if not inflating.eof:
                raise ImageFileError("damaged: its deflated data are cut off")
        stream.seek(0)
