"""How files are read: choices of the caller, and the largest size of an image."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

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
