"""How files are read: choices of the caller, the largest size of an image, and the bytes of a file.

The bytes come from the disk, once from a pipe, or packed by gzip: files of FITS are unpacked as a
whole, those of NIfTI where they are read. The checksum of gzip is compared at its end, and bytes
behind the end must be zeros or another part, as the format has it.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import stat
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from imsim._images.pictures import ImageFileError
from imsim.errors import OptionError

ORIENTATIONS = ("obey", "ignore")
"""What can be done about the orientation tag of an image."""
_SHARE = 8
"""One image may take 1 / _SHARE of the memory of the machine: there are two images, and metrics
need several times their memory."""


@dataclass(frozen=True)
class Reading:
    """Choices of the caller, one object for all files of a run."""

    background: str = "white"
    """The colour behind transparent parts, by name or as ``#rrggbb``."""
    max_pixels: int | None = None
    """Of an image; None: the limit is in bytes, an eighth of the memory of the machine."""
    channel_axis: int | None = None
    """Of an array file, or of a TIFF file that does not name its axes."""
    volume: bool = False
    """Whether a file holds a volume, whose slices are its images."""
    as_stored: bool = False
    """Take the pixels of PNG, TIFF and BMP as the numbers that the file holds: indices of a
    palette, and grey levels of 2 or 4 bits. For labels, which are no colours; a format that may
    change numbers is refused."""
    memory: int | None = None
    """Images whose pixels take more bytes stay on the disk, where their format can be read in
    parts; None: none do."""
    level: int | None = None
    """Of a pyramid, of formats that hold one; 0 is the finest."""
    orientation: str = "obey"
    """Images are turned as their orientation tag says, or taken as they are stored ("ignore")."""
    clear_is_no_data: bool = False
    """Whether wholly transparent pixels are no data, not background."""
    folder: str = ""
    """Where relative paths begin, if not at the current directory: another machine has another
    one. Images are called by the path that the caller gave."""
    grey: bool = False
    """Whether nobody can name an axis of channels, since only grey images are of use."""
    _pipes: dict[tuple[int, int], bytes] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        _ = self.rgb
        if self.max_pixels is not None and self.max_pixels < 1:
            raise OptionError(f"max_pixels is {self.max_pixels}; expected a positive number")
        if self.orientation not in ORIENTATIONS:
            raise OptionError(
                f"orientation is {self.orientation!r}; expected {' or '.join(ORIENTATIONS)}"
            )

    def __getstate__(self) -> dict[str, object]:
        """Return the choices, which travel; neither pipes nor locks do."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, _pipes={}, _lock=threading.Lock())

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The background in red, green and blue of 0 to 255."""
        return _rgb(self.background)

    def stays_on_disk(self, shape: Sequence[int], dtype: np.dtype[Any], channels: int = 1) -> bool:
        """Tell whether an image is read in parts; refuse it if the caller allows fewer pixels."""
        size = math.prod(shape) * channels * dtype.itemsize
        large = self.memory is not None and size > min(self.memory, memory_limit())
        if large and self.max_pixels is not None:
            self.check_size(shape, dtype.itemsize, channels)
        return large

    def check_exact(self, form: str) -> None:
        """Refuse numbers that a format may not keep exactly, where they are taken as stored."""
        if self.as_stored:
            raise ImageFileError(
                f"is compressed as {form}, which may change numbers a little, and labels by that "
                "into others",
                "save the numbers anew, as PNG; those in this file may be changed already",
            )

    def check_black_is_0(self) -> None:
        """Refuse numbers that stand for white if they are 0, where they are taken as stored."""
        if self.as_stored:
            raise ImageFileError(
                "is stored with 0 as white, so that it is not certain which label is background",
                "save the numbers anew with 0 as black, as PNG",
            )

    def check_size(self, shape: Sequence[int], itemsize: float, channels: int = 1) -> None:
        """Refuse an image without a pixel, or one that is too large, before it is decoded.

        The shape is without channels: (height, width), or (images, height, width) for images that
        are decoded at once. `itemsize` are bytes of one sample.
        """
        pixels = math.prod(shape)
        if pixels * channels <= 0:
            raise ImageFileError(f"damaged: it holds no pixel; its shape is {tuple(shape)}")
        size = " x ".join(map(str, reversed(shape)))
        if self.max_pixels is not None:
            if pixels > self.max_pixels:
                raise ImageFileError(
                    f"its {size} = {pixels} pixels are more than the {self.max_pixels} of "
                    f"--max-pixels; crop it, or allow --max-pixels {pixels}"
                )
        elif pixels * channels * itemsize > memory_limit():
            raise ImageFileError(
                f"its {size} = {pixels} pixels take {_gibibytes(pixels * channels * itemsize)}, "
                f"more than the {_gibibytes(memory_limit())} that an image may take on this "
                f"machine; crop it, or allow it with --max-pixels {pixels}"
            )


def memory_limit() -> float:
    """Return the most bytes of the pixels of an image where the caller gives no limit."""
    return _memory() / _SHARE


@cache
def _memory() -> float:
    """Return the memory of this machine, or of the container that this process runs in."""
    try:
        found = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows, which has no such call
        found = 16 * 2.0**30
    with suppress(OSError, ValueError):  # no container, or one without a limit
        found = min(found, float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return found


@cache
def _rgb(colour: str) -> tuple[int, int, int]:
    from PIL import ImageColor

    try:
        red, green, blue, alpha = ImageColor.getcolor(colour, "RGBA")  # type: ignore[misc]
        if alpha != 255:
            raise ValueError("a colour that is seen through is none")
    except (ValueError, TypeError, AttributeError) as error:
        raise OptionError(
            f"background {colour!r} is no colour; expected a name, as white, or #rrggbb"
        ) from error
    return red, green, blue


def _gibibytes(size: float) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**28 else f"{size / 2**20:.3g} MiB"


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


State = tuple[int, int, int]
"""Size, time of change and number of a file: it is the same while these are."""


def state_of(path: str) -> State | None:
    """Return the state of a file; None of a pipe, of a folder, and where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def check_unchanged(before: object, after: object) -> None:
    """Refuse what was read of files whose states are others now."""
    if after != before:
        raise ImageFileError(
            "was changed while it was read", "compare it again when nothing writes to it"
        )


def first_bytes(path: str, number: int = 132) -> bytes:
    """Return how a file begins; of what is none, or cannot be read, nothing."""
    with suppress(OSError):
        if os.path.isfile(path):  # reading a pipe or a device might never end
            with open(path, "rb") as file:
                return file.read(number)
    return b""


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
