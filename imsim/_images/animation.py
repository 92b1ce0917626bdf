"""Animated PNG and GIF: frames that show a part of an image, laid over each other as viewers do.

A frame of PNG is decoded as a PNG of its own. Of GIF, blocks are read here, and Pillow decodes the
pixels of each frame; as in browsers, what is cleared becomes transparent, and the background colour
of the file is not used.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import numpy as np

from imsim._images import png
from imsim._images.pictures import Array, Contents, ImageFileError, Pages, check_palette
from imsim._images.reading import Reading, Source
from imsim._images.shown import composite

COMPOSED = "its frame is laid over those before it, as viewers show it"


class After(Enum):
    """What becomes of the place of a frame before the next one is shown, as PNG numbers it."""

    KEEP = 0
    CLEAR = 1
    """It becomes transparent."""
    RESTORE = 2
    """It is what it was before."""


class Frame(NamedTuple):
    """A part of the image."""

    colours: Array
    """Shape (height, width) or (height, width, 3)."""
    alpha: Array
    """Shape (height, width), of integers, of which the largest is opaque."""
    left: int
    top: int
    over: bool
    """Whether it is laid over what is there, or takes its place."""
    after: After
    notes: tuple[str, ...] = ()


class Frames:
    """The frames of a file as images of some height and width, made one after the other."""

    def __init__(
        self, read: Callable[[int], Frame], sides: tuple[int, int], reading: Reading
    ) -> None:
        self._read, self._sides, self._reading = read, sides, reading
        self._next = 0
        self._colours = self._alpha = np.empty(0)
        self._seen: tuple[Array, Array, tuple[str, ...]] = self._colours, self._alpha, ()

    def image(self, index: int) -> Contents:
        """Return an image; going backwards, all of them are made again."""
        if index < self._next - 1:
            self._next = 0
        while self._next <= index:
            frame = self._read(self._next)
            if not self._next:
                self._colours = np.zeros(
                    (*self._sides, *frame.colours.shape[2:]), frame.colours.dtype
                )
                self._alpha = np.zeros(self._sides, frame.alpha.dtype)
            self._seen = self._shown(frame)
            self._next += 1
        colours, alpha, notes = self._seen
        image = composite(colours, alpha, self._reading)
        return image._replace(notes=(*notes, *image.notes))

    def _shown(self, frame: Frame) -> tuple[Array, Array, tuple[str, ...]]:
        """Lay a frame over the image, return what is seen, and do what the frame asks for after."""
        height, width = frame.alpha.shape
        place = slice(frame.top, frame.top + height), slice(frame.left, frame.left + width)
        before = self._colours[place].copy(), self._alpha[place].copy()
        is_part = frame.alpha.shape != self._sides or (frame.over and not _is_opaque(frame.alpha))
        # On an empty image, nothing shines through.
        notes = (*frame.notes, COMPOSED) if is_part and self._alpha.any() else frame.notes
        colours, alpha = frame.colours, frame.alpha
        if frame.over:
            colours, alpha = _over(colours, alpha, *before)
        self._colours[place], self._alpha[place] = colours, alpha
        shown = self._colours.copy(), self._alpha.copy(), notes
        if frame.after is After.CLEAR:
            self._colours[place] = self._alpha[place] = 0
        elif frame.after is After.RESTORE:
            self._colours[place], self._alpha[place] = before
        return shown


def _is_opaque(alpha: Array) -> bool:
    return bool((alpha == np.iinfo(alpha.dtype).max).all())


def _over(colours: Array, alpha: Array, below: Array, below_alpha: Array) -> tuple[Array, Array]:
    """Lay colours over others, both with alpha; the result has alpha too."""
    full = np.iinfo(alpha.dtype).max
    if _is_opaque(alpha):
        return colours, alpha
    is_hard = not ((alpha > 0) & (alpha < full)).any()
    if is_hard:  # as in every GIF
        shown = alpha > 0 if colours.ndim == 2 else alpha[..., None] > 0
        return np.where(shown, colours, below), np.maximum(alpha, below_alpha)
    upper = alpha.astype(np.float64) / full
    lower = below_alpha / full * (1 - upper)
    total = upper + lower
    with np.errstate(invalid="ignore"):
        share = np.where(total > 0, upper / total, 0)
    share = share[..., None] if colours.ndim == 3 else share
    mixed = np.rint(colours * share + below * (1 - share))
    return mixed.astype(colours.dtype), np.rint(total * full).astype(alpha.dtype)


class _Stored(NamedTuple):
    """A frame as it is stored."""

    header: png.ImageHeader
    left: int
    top: int
    after: After
    over: bool
    data: list[png.Body]


def open_apng(source: Source, reading: Reading) -> Pages:
    """Open a file, whose frames are images."""
    chunks, notes = png.chunks_of(source.read())
    header, found = png.header_of(chunks), dict(chunks)
    if _number_of_frames(chunks) == 0 and not found.keys() & set(png.FRAMES):
        return png.open_png(source, reading)
    stored = _frames(chunks, header)
    first = next(kind for kind, _ in chunks if kind in (b"fcTL", b"IDAT"))
    if first == b"IDAT":
        notes.append("its default image is no frame of the animation, and left aside")

    def read(index: int) -> Frame:
        reading.check_size((header.height, header.width), header.depth // 8 or 1, 4)
        frame = stored[index]
        colours, alpha, said = png.decoded(frame.header, found, frame.data, reading)
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
        return png.described(frames.image(index), found, reading)

    return Pages(len(stored), image)


def _frames(chunks: list[tuple[bytes, memoryview]], header: png.ImageHeader) -> list[_Stored]:
    """Collect the frames with their data."""
    frames: list[_Stored] = []
    sequence = 0
    for kind, body in chunks:
        if kind in (b"fcTL", b"fdAT"):
            if int.from_bytes(body[:4], "big") != sequence:
                raise ImageFileError(f"damaged: part {sequence} of its animation is not there")
            sequence += 1
        if kind == b"fcTL":
            frames.append(_stored(bytes(body), header))
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
    found = [bytes(body) for kind, body in chunks if kind == png.ANIMATION]
    if len(found) > 1 or len(found[0]) != 8:
        raise ImageFileError(
            f"damaged: it has {len(found)} chunks acTL, of {len(found[0])} bytes; expected 1 of 8"
        )
    return int.from_bytes(found[0][:4], "big")


def _stored(body: bytes, header: png.ImageHeader) -> _Stored:
    if len(body) != 26:
        raise ImageFileError("damaged: a frame of its animation has no place")
    width, height, left, top = (int.from_bytes(body[i : i + 4], "big") for i in range(4, 20, 4))
    inside = left + width <= header.width and top + height <= header.height
    if not inside or not width or not height or body[24] > After.RESTORE.value or body[25] > 1:
        raise ImageFileError(
            f"damaged: a frame of its animation is {width} x {height} pixels at {left}, {top}, in "
            f"an image of {header.width} x {header.height}"
        )
    own = header._replace(width=width, height=height)
    return _Stored(own, left, top, After(body[24]), bool(body[25]), [])


GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
_EXTENSION, _IMAGE, _END = b"!", b",", b";"
_CONTROL = 0xF9
_AFTER_IN_GIF = {2: After.CLEAR, 3: After.RESTORE, 4: After.RESTORE}  # 4 by an old mistake
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
    stream.take(len(GIF_SIGNATURES[0]))
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
                    _AFTER_IN_GIF.get(flags >> 2 & 7, After.KEEP),
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
    check_palette(asked, len(block.palette))
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
    start = GIF_SIGNATURES[1] + sides + b"\xf7\0\0" + _ANY_PALETTE
    image = b",\0\0\0\0" + sides + (b"\x40" if interlaced else b"\0")
    with GifImageFile(io.BytesIO(start + image + data + _END)) as file:
        return np.asarray(file)
