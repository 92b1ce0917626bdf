"""The bytes of a file: from the disk, or read once from a pipe."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from imsim._images.pictures import ImageFileError
from imsim._images.reading import Reading, memory_limit

STDIN = "-"
_CHUNK = 2**24


def is_regular(path: str) -> bool:
    """Tell whether a path leads to an ordinary file: no pipe, no device, no folder.

    In a folder, only ordinary files are opened; a pipe or device is read if the user names it.
    """
    return os.path.isfile(path)


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
