"""GIF: blocks are read here, and Pillow decodes the pixels of each frame.

Frames are laid one over the other as browsers do: what is cleared becomes transparent, and the
background colour of the file is not used.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np

from imsim._images.animation import After, Frame, Frames
from imsim._images.pictures import Array, ImageFileError, Pages
from imsim._images.reading import Reading
from imsim._images.source import Source

SIGNATURES = (b"GIF87a", b"GIF89a")
_EXTENSION, _IMAGE, _END = b"!", b",", b";"
_CONTROL = 0xF9
_AFTER = {2: After.CLEAR, 3: After.RESTORE, 4: After.RESTORE}  # 4 by an old mistake
_LONGEST = 2**16 - 1  # side of an image
_ANY_PALETTE = bytes([1, 2, 3]) * 256  # of colours, so that Pillow returns indices


class _Block(NamedTuple):
    """A frame as it is stored."""

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    palette: Array
    """Shape (colours, 3)."""
    data: bytes
    """The pixels: the size of a code, and sub-blocks."""
    transparent: int | None
    after: After


class _Stream:
    """The bytes of a file, taken one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def take(self, number: int) -> bytes:
        self.place += number
        if self.place > len(self.content):
            raise ImageFileError("damaged: it is cut off; the mark of its end is missing")
        return self.content[self.place - number : self.place]

    def blocks(self) -> bytes:
        """Take sub-blocks with their lengths, up to the empty one."""
        start = self.place
        while length := self.take(1)[0]:
            self.take(length)
        return self.content[start : self.place]


def open_gif(source: Source, reading: Reading) -> Pages:
    """Open a file, whose frames are images."""
    stream = _Stream(source.read())
    stream.take(len(SIGNATURES[0]))
    sides, blocks = _blocks(stream)
    if not blocks:
        raise ImageFileError("damaged: it holds no image")
    # As in browsers, a first frame that is larger than the screen makes that larger.
    first = blocks[0]
    height = max(sides[0], first.top + first.height)
    width = max(sides[1], first.left + first.width)
    grey = not any((block.palette != block.palette[:, :1]).any() for block in blocks)
    rest = len(stream.content) - stream.place
    notes = (f"{rest} bytes after its end are left aside",) if rest else ()

    def read(index: int) -> Frame:
        reading.check_size((height, width), 1, 1 if grey else 3)
        block = blocks[index]
        reading.check_size((block.height, block.width), 1)
        return _frame(block, height, width, grey=grey, notes=notes)

    frames = Frames(read, (height, width), reading)
    return Pages(len(blocks), frames.image)


def _blocks(stream: _Stream) -> tuple[tuple[int, int], list[_Block]]:
    """Return height and width of the screen, and the frames."""
    screen = stream.take(7)
    width, height = (int.from_bytes(screen[i : i + 2], "little") for i in (0, 2))
    common = _palette(stream, screen[4])
    blocks: list[_Block] = []
    control: bytes | None = None
    while (kind := stream.take(1)) != _END:
        if kind == _EXTENSION:
            label, body = stream.take(1)[0], stream.blocks()
            if label == _CONTROL and len(body) >= 5:
                control = body[1:]
        elif kind == _IMAGE:
            head = stream.take(9)
            left, top, across, down = (
                int.from_bytes(head[i : i + 2], "little") for i in range(0, 8, 2)
            )
            own = _palette(stream, head[8])
            palette = common if own is None else own
            if palette is None:
                raise ImageFileError(f"damaged: its frame {len(blocks)} has no palette")
            data = stream.take(1) + stream.blocks()
            flags = control[0] if control else 0
            blocks.append(
                _Block(
                    *(left, top, across, down, bool(head[8] & 0x40), palette, data),
                    control[3] if control and flags & 1 else None,
                    _AFTER.get(flags >> 2 & 7, After.KEEP),
                )
            )
            control = None
        else:
            raise ImageFileError(f"damaged: there is no block at byte {stream.place - 1}")
    return (height, width), blocks


def _palette(stream: _Stream, flags: int) -> Array | None:
    if not flags & 0x80:
        return None
    count = 2 << (flags & 7)
    return np.frombuffer(stream.take(3 * count), np.uint8).reshape(count, 3)


def _frame(block: _Block, height: int, width: int, *, grey: bool, notes: tuple[str, ...]) -> Frame:
    indices = _indices(block)
    used = np.bincount(indices.ravel(), minlength=256)
    if block.transparent is not None:
        used[block.transparent] = 0
    asked = int(np.flatnonzero(used).max(initial=0))
    if asked >= len(block.palette):
        raise ImageFileError(
            f"damaged: its pixels ask for colour {asked} of a palette of {len(block.palette)}, "
            "counted from 0"
        )
    # The index of what is transparent may lie beyond the palette.
    table = np.zeros((256, 4), np.uint8)
    table[: len(block.palette), :3], table[:, 3] = block.palette, 255
    if block.transparent is not None:
        table[block.transparent, 3] = 0
    colours = (table[:, 0] if grey else np.ascontiguousarray(table[:, :3])).take(indices, axis=0)
    # What lies outside the screen is not shown.
    seen = slice(max(height - block.top, 0)), slice(max(width - block.left, 0))
    alpha = table[:, 3].take(indices)[seen]
    return Frame(colours[seen], alpha, block.left, block.top, True, block.after, notes)


def _indices(block: _Block) -> Array:
    """Decode the pixels of a frame as a file of its own, which Pillow refuses if it is short."""
    if 0 in (block.width, block.height):
        raise ImageFileError("damaged: one of its frames holds no pixel")
    pixels = _decoded(block.data, block.width, block.height, interlaced=block.interlaced)
    # Data that make up more pixels are enough for a larger frame, too.
    more = pixels.size + 1
    least = -(-more // _LONGEST)
    rows = min(range(least, min(least + 64, _LONGEST) + 1), key=lambda number: -more % number)
    try:
        _decoded(block.data, -(-more // rows), rows)
    except Exception:  # whatever says that they are too few
        return pixels
    raise ImageFileError(f"damaged: one of its frames holds more than its {more - 1} pixels")


def _decoded(data: bytes, width: int, height: int, *, interlaced: bool = False) -> Array:
    from PIL.GifImagePlugin import GifImageFile

    sides = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    start = SIGNATURES[1] + sides + b"\xf7\0\0" + _ANY_PALETTE
    image = b",\0\0\0\0" + sides + (b"\x40" if interlaced else b"\0")
    with GifImageFile(io.BytesIO(start + image + data + _END)) as file:
        return np.asarray(file)
