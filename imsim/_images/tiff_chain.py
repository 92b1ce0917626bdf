"""The chain of pages of a TIFF file, checked before tifffile reads it: it may be a circle."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

import numpy as np

from imsim._images.pictures import Array, ImageFileError

SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_KIND, _OLD_KIND, _SUBIMAGES = 254, 255, 330  # NewSubfileType, SubfileType, SubIFDs
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_MOST_TAGS = 4096  # a page with more tags is broken, also for tifffile


class Link(NamedTuple):
    """The kind that a page declares, and the number of its sub-images."""

    kind: int = 0
    subimages: int = 0

    @property
    def reduced(self) -> bool:
        """Whether the page is a smaller copy of another page."""
        return bool(self.kind & _REDUCED)

    @property
    def aside(self) -> bool:
        """Whether the page is no image of its own."""
        return bool(self.kind & (_REDUCED | _MASK))


def walk(stream: BinaryIO) -> list[Link]:
    """Return the declaration of each page, up to the end of the chain or a break.

    A chain that returns to an earlier page is damage.
    """
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
    return Link(kind, subimages)


def _value(tag: np.void, order: str) -> int:
    size = {3: 2, 4: 4}.get(int(tag["type"]), 0)
    return int.from_bytes(bytes(tag["value"])[:size], "little" if order == "<" else "big")
