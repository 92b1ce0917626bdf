"""GIF and animated PNG: their frames are images, composed as browsers compose them."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import (
    DEEP,
    GREY,
    RGB,
    contents,
    png_chunks,
    png_of,
    refused,
    save,
    save_deep_png,
)
from PIL import Image

from imsim._images import ImageFile, ImageFileError, Reading, read_picture
from imsim._images.animation import COMPOSED

pytestmark = pytest.mark.usefixtures("empty_directory")
PALETTE = np.random.default_rng(5).integers(0, 256, (16, 3)).astype(np.uint8)
INDICES = np.random.default_rng(6).integers(0, 16, (12, 20)).astype(np.uint8)


def lzw(indices: np.ndarray, *, interlaced: bool = False) -> bytes:
    """Compress pixels as a frame of GIF."""
    if interlaced:
        passes = ((0, 8), (4, 8), (2, 4), (1, 2))
        indices = np.concatenate([indices[first::step] for first, step in passes])
    image = Image.fromarray(indices)
    image.putpalette(PALETTE.tobytes())
    stream = io.BytesIO()
    image.save(stream, "GIF", interlace=0, optimize=False)
    content = stream.getvalue()
    start = 13 + 3 * (2 << (content[10] & 7))
    return content[content.index(b",", start) + 10 : -1]


def frame(
    indices: np.ndarray,
    *,
    at: tuple[int, int] = (0, 0),
    disposal: int = 0,
    transparent: int | None = None,
    interlaced: bool = False,
    palette: np.ndarray | None = None,
) -> bytes:
    height, width = indices.shape
    control = bytes([0x21, 0xF9, 4, disposal << 2 | (transparent is not None), 0, 0])
    control += bytes([transparent or 0, 0])
    flags = 0x40 * interlaced | (0 if palette is None else 0x83)
    place = struct.pack("<4HB", at[1], at[0], width, height, flags)
    own = b"" if palette is None else palette.tobytes()
    return control + b"," + place + own + lzw(indices, interlaced=interlaced)


def gif(*frames: bytes, sides: tuple[int, int] = INDICES.shape, background: int = 3) -> bytes:
    start = b"GIF89a" + struct.pack("<2H3B", sides[1], sides[0], 0xF3, background, 0)
    return start + PALETTE.tobytes() + b"".join(frames) + b";"


def read(content: bytes, **options: Any) -> list[Any]:
    Path("x").write_bytes(content)
    return contents("x", Reading(**options))


WHITE = np.full((*INDICES.shape, 3), 255, np.uint8)
SHOWN = PALETTE[INDICES]
PART = INDICES[:5, :7]
PLACE = slice(3, 8), slice(10, 17)


def drawn(below: np.ndarray, transparent: int | None = None) -> np.ndarray:
    """Lay the part over an image."""
    image = below.copy()
    opaque = np.ones(PART.shape, bool) if transparent is None else transparent != PART
    image[PLACE][opaque] = PALETTE[PART][opaque]
    return image


class TestGif:
    @pytest.mark.parametrize("interlaced", [False, True])
    def test_one_frame(self, interlaced):
        (picture,) = read(gif(frame(INDICES, interlaced=interlaced)))
        np.testing.assert_array_equal(picture.pixels, SHOWN)
        assert picture.notes == ()
        assert picture.path == "x"

    def test_transparency_and_the_background(self):
        """What is clear shows the background that is asked for, not that of the file."""
        (picture,) = read(gif(frame(INDICES, transparent=4)), background="red")
        wanted = SHOWN.copy()
        wanted[INDICES == 4] = 255, 0, 0
        np.testing.assert_array_equal(picture.pixels, wanted)
        assert picture.notes == ("its transparent parts are laid over red",)
        (small,) = read(gif(frame(PART, at=(3, 10))))
        np.testing.assert_array_equal(small.pixels, drawn(WHITE))

    @pytest.mark.parametrize("disposal", range(4))
    def test_what_becomes_of_a_frame(self, disposal):
        """The second frame is kept, cleared or taken back before the third, of one pixel."""
        whole, dot = frame(INDICES, disposal=1), frame(PART[:1, :1], transparent=None)
        part = frame(PART, at=(3, 10), disposal=disposal, transparent=2)
        first, second, third = read(gif(whole, part, dot))
        np.testing.assert_array_equal(first.pixels, SHOWN)
        np.testing.assert_array_equal(second.pixels, drawn(SHOWN, 2))
        wanted = {2: SHOWN.copy(), 3: SHOWN.copy()}.get(disposal, drawn(SHOWN, 2))
        if disposal == 2:
            wanted[PLACE] = 255
        wanted[0, 0] = PALETTE[PART[0, 0]]
        np.testing.assert_array_equal(third.pixels, wanted)
        assert (first.notes, second.notes) == ((), (COMPOSED,))
        assert [p.path for p in (first, second, third)] == ["x[0]", "x[1]", "x[2]"]

    def test_frames_in_any_order(self):
        frames = [frame(PART, at=(0, i), disposal=1 + i % 3, transparent=i) for i in range(6)]
        wanted = read(gif(*frames))
        with ImageFile("x") as file:
            for index in (5, 2, 2, 3, 0, 1, 4, 0):
                np.testing.assert_array_equal(file.read(index).pixels, wanted[index].pixels)
        np.testing.assert_array_equal(read_picture("x[3]").pixels, wanted[3].pixels)
        with pytest.raises(ImageFileError, match="there is no such image; x holds 6"):
            ImageFile("x[6]")

    def test_frames_beyond_the_screen(self):
        """As in browsers: the first one makes the screen larger, others are cut."""
        first, second = read(gif(frame(INDICES), frame(PART, at=(10, 18)), sides=(4, 4)))
        assert first.pixels.shape == SHOWN.shape
        np.testing.assert_array_equal(second.pixels[10:, 18:], PALETTE[PART[:2, :2]])

    def test_palettes_of_their_own_and_of_grey(self):
        other = PALETTE[::-1].copy()
        first, second = read(gif(frame(INDICES), frame(PART, at=(3, 10), palette=other)))
        np.testing.assert_array_equal(second.pixels[PLACE], other[PART])
        np.testing.assert_array_equal(first.pixels, SHOWN)
        save("grey.gif", GREY)
        np.testing.assert_array_equal(read_picture("grey.gif").pixels, GREY)

    def test_as_a_volume(self):
        (volume,) = read(gif(frame(INDICES), frame(INDICES[::-1])), volume=True)
        np.testing.assert_array_equal(volume.pixels, [SHOWN, SHOWN[::-1]])

    def test_damage(self):
        whole = gif(frame(INDICES), frame(PART))
        for tenth in range(1, 10):
            refused(whole[: len(whole) * tenth // 10], "is cut off")
        refused(whole[:-1], "the mark of its end is missing")
        refused(gif(), "holds no image")
        refused(gif(b"x"), "there is no block at byte")
        (last,) = read(gif(frame(INDICES)) + b"more")
        assert last.notes == ("4 bytes after its end are left aside",)
        no_palette = b"GIF89a" + struct.pack("<2H3B", 20, 12, 0, 0, 0) + frame(INDICES) + b";"
        refused(no_palette, "frame 0 has no palette")
        few = np.zeros((2, 3), np.uint8)
        start = b"GIF89a" + struct.pack("<2H3B", 20, 12, 0x80, 0, 0) + few.tobytes()
        refused(start + frame(INDICES) + b";", "ask for colour 15 of a palette of 2")

    def test_a_frame_that_ends_early(self):
        """Its stream is whole, and ends well."""
        rows = frame(INDICES)[:8] + b"," + struct.pack("<4HB", 0, 0, 20, 12, 0) + lzw(INDICES[:7])
        refused(gif(rows), "truncated")
        refused(gif(frame(INDICES)[:-20] + b"\0"), "truncated|cut off|no block")

    def test_a_frame_that_goes_on(self):
        """Its stream is whole, and ends well, but holds more pixels than the frame."""
        tall = np.concatenate([INDICES, INDICES[:1]])
        for size in ((11, 20), (12, 20)):
            data = lzw(tall if size == (12, 20) else INDICES)
            head = b"," + struct.pack("<4HB", 0, 0, size[1], size[0], 0)
            refused(gif(frame(INDICES)[:8] + head + data), "holds more than its .* pixels")
        large = np.random.default_rng(0).integers(0, 16, (300, 401)).astype(np.uint8)
        (picture,) = read(gif(frame(large), sides=large.shape))
        assert picture.pixels.shape[:2] == large.shape
        head = b"," + struct.pack("<4HB", 0, 0, 401, 299, 0)
        refused(gif(frame(INDICES)[:8] + head + lzw(large), sides=large.shape), "holds more than")

    def test_size_before_pixels(self):
        content = bytearray(gif(frame(INDICES), sides=(60_000, 60_000)))
        Path("x").write_bytes(content)
        with pytest.raises(ImageFileError, match=r"60000 x 60000 .* more than the 999 of"):
            contents("x", Reading(max_pixels=999))


def apng(name: str, *frames: np.ndarray, save_frame: Any = save, **options: Any) -> bytes:
    """Return an animation of frames of one size, each of which shows all of the image."""
    chunks: list[tuple[bytes, bytes]] = []
    sequence = 0
    for index, pixels in enumerate(frames):
        save_frame(name, pixels)
        own = png_chunks(Path(name).read_bytes())
        height, width = pixels.shape[:2]
        if not index:
            chunks += [*own[:1], (b"acTL", struct.pack(">2I", len(frames), 0))]
            chunks += [chunk for chunk in own if chunk[0] in (b"PLTE", b"tRNS", b"eXIf")]
        places = options.get("places", {})
        left, top = places.get(index, (0, 0))
        kinds = options.get("kinds", {}).get(index, (0, 0))
        place = struct.pack(">5I2H2B", sequence, width, height, left, top, 1, 10, *kinds)
        chunks.append((b"fcTL", place))
        sequence += 1
        for kind, body in own:
            if kind == b"IDAT" and index:
                chunks.append((b"fdAT", struct.pack(">I", sequence) + body))
                sequence += 1
            elif kind == b"IDAT":
                chunks.append((kind, body))
    return png_of(*chunks, (b"IEND", b""))


class TestAnimatedPng:
    @pytest.mark.parametrize("pixels", [GREY, RGB, DEEP, GREY > 99], ids=["8", "RGB", "16", "1"])
    def test_frames_of_every_depth(self, pixels):
        first, second = read(apng("a.png", pixels, pixels[::-1]))
        wanted = pixels * np.uint8(255) if pixels.dtype == bool else pixels
        np.testing.assert_array_equal(first.pixels, wanted)
        np.testing.assert_array_equal(second.pixels, wanted[::-1])
        assert first.pixels.dtype == wanted.dtype
        assert (first.notes, second.notes) == ((), ())

    @pytest.mark.parametrize("over", [0, 1])
    @pytest.mark.parametrize("after", [0, 1, 2])
    @pytest.mark.parametrize("deep", [False, True])
    def test_partial_frames_with_alpha(self, over, after, deep):
        """By the formulas of the specification, in exact numbers."""
        full = 65535 if deep else 255
        rng = np.random.default_rng(after)
        kind = np.uint16 if deep else np.uint8
        frames = [rng.integers(0, full + 1, size).astype(kind) for size in ((9, 8, 4), (4, 5, 4))]
        frames.append(frames[1][::-1].copy())
        frames[1][0, 0, 3], frames[1][0, 1, 3] = 0, full
        places, kinds = {1: (2, 3), 2: (1, 4)}, {1: (after, over), 2: (0, 1)}
        how = {"save_frame": save_deep_png} if deep else {}
        pictures = read(apng("a.png", *frames, places=places, kinds=kinds, **how))
        canvas = frames[0] / full
        for index, picture in enumerate(pictures):
            if index:
                left, top = places[index]
                box = slice(top, top + 4), slice(left, left + 5)
                before, new = canvas[box].copy(), frames[index] / full
                if kinds[index][1]:
                    alpha, under = new[..., 3:], before[..., 3:] * (1 - new[..., 3:])
                    total = alpha + under
                    mixed = new[..., :3] * alpha + before[..., :3] * under
                    new = np.dstack([mixed / np.where(total, total, 1), total])
                canvas[box] = new
            wanted = canvas[..., :3] * canvas[..., 3:] + 1 - canvas[..., 3:]
            assert np.abs(picture.pixels - wanted * full).max() <= 3
            if index and kinds[index][0]:
                canvas[box] = 0 if kinds[index][0] == 1 else before

    def test_the_default_image_may_be_no_frame(self):
        image = Image.fromarray(RGB)
        others = [Image.fromarray(RGB[::-1]), Image.fromarray(RGB[:, ::-1])]
        image.save("a.png", save_all=True, append_images=others, default_image=True)
        first, second = contents("a.png")
        np.testing.assert_array_equal(first.pixels, RGB[::-1])
        np.testing.assert_array_equal(second.pixels, RGB[:, ::-1])
        assert "its default image is no frame of the animation, and left aside" in first.notes

    def test_palettes(self):
        image, other = (Image.fromarray(RGB[::step]).quantize(32) for step in (1, -1))
        image.save("a.png", save_all=True, append_images=[other])
        pictures = contents("a.png")
        np.testing.assert_array_equal(pictures[0].pixels, np.asarray(image.convert("RGB")))

    def test_one_frame_is_an_image(self):
        (picture,) = read(apng("a.png", GREY))
        assert picture.path == "x"
        np.testing.assert_array_equal(picture.pixels, GREY)

    def test_damage(self):
        whole = apng("a.png", RGB, RGB[::-1], RGB)
        for tenth in range(1, 10):
            refused(whole[: len(whole) * tenth // 10], "is cut off|does not begin")
        chunks = png_chunks(whole)
        at = [i for i, (kind, _) in enumerate(chunks) if kind == b"fdAT"]
        refused(png_of(*chunks[: at[1] - 1], chunks[-1]), "2 of the 3 frames of its animation")
        refused(png_of(*chunks[: at[0]], *chunks[at[0] + 1 :]), "part 2 of its animation")
        short = (b"fdAT", chunks[at[0]][1][:-9])
        refused(png_of(*chunks[: at[0]], short, *chunks[at[0] + 1 :]), "cut off before|holds")
        for name in (b"acTL", b"fcTL", b"fdAT"):
            broken = bytearray(whole)
            broken[whole.index(name) + 5] ^= 1
            refused(bytes(broken), f"chunk {name.decode()} at byte .* wrong CRC")
        place = next(i for i, (kind, _) in enumerate(chunks) if kind == b"fcTL" and i > at[0])
        outside = bytearray(chunks[place][1])
        outside[15] = 9
        refused(
            png_of(*chunks[:place], (b"fcTL", bytes(outside)), *chunks[place + 1 :]),
            "48 x 40 pixels at 9, 0, in an image of 48 x 40",
        )


def changed_png(*chunks: tuple[bytes, bytes], behind: bool = False) -> bytes:
    """Return a still image with chunks before its pixels, or behind them."""
    first, data, end = png_chunks(Path(save("still.png", GREY)).read_bytes())
    return png_of(first, *([data, *chunks] if behind else [*chunks, data]), end)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "chunks",
    [
        [(b"acTL", struct.pack(">II", 0, 0))],
        [(b"fcTL", struct.pack(">5I2H2B", 0, 48, 40, 0, 0, 1, 1, 0, 0))],
    ],
)
def test_what_is_no_animation_is_a_still_image(chunks, behind):
    (picture,) = read(changed_png(*chunks, behind=behind))
    np.testing.assert_array_equal(picture.pixels, GREY)
    assert picture.notes == (
        "what is there of an animation (acTL, fcTL, fdAT) makes up none, and is left aside",
    )


def test_chunks_of_an_animation_that_contradict_each_other():
    one = (b"acTL", struct.pack(">II", 1, 0))
    frame_of = (b"fcTL", struct.pack(">5I2H2B", 0, 48, 40, 0, 0, 1, 1, 0, 0))
    assert len(read(changed_png(one, frame_of))) == 1
    for chunks in ([one, one, frame_of], [(b"acTL", b"\0\0\0"), frame_of]):
        with pytest.raises(ImageFileError, match=r"damaged: it has . chunks acTL"):
            read(changed_png(*chunks))
    with pytest.raises(ImageFileError, match="damaged: 1 of the 0 frames"):
        read(changed_png((b"acTL", struct.pack(">II", 0, 0)), frame_of))
