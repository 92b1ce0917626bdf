"""Animated PNG: each frame is decoded as a PNG of its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from imsim._images.animation import After, Frame, Frames
from imsim._images.pictures import Contents, ImageFileError, Pages
from imsim._images.png import (
    ANIMATION,
    FRAMES,
    Body,
    ImageHeader,
    chunks_of,
    decoded,
    described,
    header_of,
    open_png,
)
from imsim._images.reading import Reading
from imsim._images.source import Source

_AFTER = {0: After.KEEP, 1: After.CLEAR, 2: After.RESTORE}


class _Stored(NamedTuple):
    """A frame as it is stored."""

    header: ImageHeader
    left: int
    top: int
    after: After
    over: bool
    data: list[Body]


def open_apng(source: Source, reading: Reading) -> Pages:
    """Open a file, whose frames are images."""
    chunks, notes = chunks_of(source.read())
    header, found = header_of(chunks), dict(chunks)
    if _number_of_frames(chunks) == 0 and not found.keys() & set(FRAMES):
        return open_png(source, reading)
    stored = _frames(chunks, header)
    first = next(kind for kind, _ in chunks if kind in (b"fcTL", b"IDAT"))
    if first == b"IDAT":
        notes.append("its default image is no frame of the animation, and left aside")

    def read(index: int) -> Frame:
        reading.check_size((header.height, header.width), header.depth // 8 or 1, 4)
        frame = stored[index]
        colours, alpha, said = decoded(frame.header, found, frame.data, reading)
        colours = colours * np.uint8(255) if colours.dtype == bool else colours
        if alpha is None:
            alpha = np.ones(colours.shape[:2], bool)
        if alpha.dtype == bool:
            alpha = alpha * np.iinfo(colours.dtype).max
        alpha = alpha.astype(colours.dtype)
        place = frame.left, frame.top
        return Frame(colours, alpha, *place, frame.over, frame.after, (*notes, *said))

    frames = Frames(read, (header.height, header.width), reading)

    def image(index: int) -> Contents:
        return described(frames.image(index), found, reading)

    return Pages(len(stored), image)


def _frames(chunks: list[tuple[bytes, memoryview]], header: ImageHeader) -> list[_Stored]:
    """Collect the frames with their data."""
    frames: list[_Stored] = []
    sequence = 0
    for kind, body in chunks:
        if kind in (b"fcTL", b"fdAT"):
            if int.from_bytes(body[:4], "big") != sequence:
                raise ImageFileError(f"damaged: part {sequence} of its animation is not there")
            sequence += 1
        if kind == b"fcTL":
            frames.append(_frame(bytes(body), header))
        elif kind == b"IDAT" and frames:
            frames[-1].data.append(body)
        elif kind == b"fdAT" and frames:
            frames[-1].data.append(body[4:])
    said = _number_of_frames(chunks)
    if said != len(frames) or not frames or not all(frame.data for frame in frames):
        whole = sum(bool(frame.data) for frame in frames)
        raise ImageFileError(f"damaged: {whole} of the {said} frames of its animation are there")
    return frames


def _number_of_frames(chunks: list[tuple[bytes, memoryview]]) -> int:
    """Return how many frames the file says to have."""
    found = [bytes(body) for kind, body in chunks if kind == ANIMATION]
    if len(found) > 1 or len(found[0]) != 8:
        raise ImageFileError(
            f"damaged: it has {len(found)} chunks acTL, of {len(found[0])} bytes; expected 1 of 8"
        )
    return int.from_bytes(found[0][:4], "big")


def _frame(body: bytes, header: ImageHeader) -> _Stored:
    if len(body) != 26:
        raise ImageFileError("damaged: a frame of its animation has no place")
    width, height, left, top = (int.from_bytes(body[i : i + 4], "big") for i in range(4, 20, 4))
    inside = left + width <= header.width and top + height <= header.height
    if not inside or not width or not height or body[24] not in _AFTER or body[25] > 1:
        raise ImageFileError(
            f"damaged: a frame of its animation is {width} x {height} pixels at {left}, {top}, in "
            f"an image of {header.width} x {header.height}"
        )
    own = header._replace(width=width, height=height)
    return _Stored(own, left, top, _AFTER[body[24]], bool(body[25]), [])
