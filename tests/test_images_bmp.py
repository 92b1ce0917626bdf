"""BMP: every depth, palettes, masks, runs, and what is not all there."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import GREY, RGB, refused, save
from PIL import Image

from imsim._images import ImageFileError, Reading, read_picture

pytestmark = pytest.mark.usefixtures("empty_directory")
RAMP = [(i, 255 - i, i // 2) for i in range(256)]


def bmp(
    rows: bytes,
    bits: int,
    *,
    size: tuple[int, int] = (8, 4),
    palette: list[tuple[int, int, int]] = (),  # type: ignore[assignment]
    compression: int = 0,
    header: int = 40,
    masks: tuple[int, ...] = (),
) -> str:
    """Write a file of these stored rows, and return its name."""
    width, height = size
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
        colours = b"".join(bytes(colour[::-1]) for colour in palette)
    else:
        fields = (header, width, height, 1, bits, compression, len(rows), 0, 0, len(palette), 0)
        info = struct.pack("<IiiHHIIiiII", *fields) + struct.pack(f"<{len(masks)}I", *masks)
        info = info.ljust(header, b"\0")
        colours = b"".join(bytes([*colour[::-1], 0]) for colour in palette)
    offset = 14 + len(info) + len(colours)
    start = struct.pack("<2sIHHI", b"BM", offset + len(rows), 0, 0, offset)
    Path("x.bmp").write_bytes(start + info + colours + rows)
    return "x.bmp"


def stored(rows: np.ndarray) -> bytes:
    """Return rows of bytes from the bottom up, each filled up to words of four."""
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    return padded[::-1].tobytes()


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("header", [12, 40, 124])
def test_palettes_of_every_depth(bits, header):
    indices = np.random.default_rng(bits).integers(0, 2**bits, (5, 11)).astype(np.uint8)
    each = (indices[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(each.reshape(5, -1).astype(np.uint8), axis=1)
    palette = RAMP[: 2**bits]
    name = bmp(stored(rows), bits, size=(11, 5), palette=palette, header=header)
    np.testing.assert_array_equal(read_picture(name).pixels, np.array(palette, np.uint8)[indices])
    as_stored = read_picture(name, Reading(as_stored=True)).pixels
    np.testing.assert_array_equal(as_stored, indices)


def test_grey_palettes_are_grey_and_those_of_black_and_white_are_1_bit():
    """Also with 8 bits a pixel, where Pillow takes them for single bits."""
    indices = (GREY[:4, :8] > 99).astype(np.uint8)
    for palette, wanted in (
        ([(0, 0, 0), (255, 255, 255)], indices == 1),
        ([(255, 255, 255), (0, 0, 0)], indices == 0),
        ([(7, 7, 7), (9, 9, 9)], 7 + 2 * indices),
    ):
        picture = read_picture(bmp(stored(indices), 8, palette=palette))
        np.testing.assert_array_equal(picture.pixels, wanted)
        assert picture.pixels.dtype == wanted.dtype
        assert picture.notes == ()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_as_pillow_reads_what_it_writes(mode):
    image = Image.fromarray(RGB).convert(mode)
    image.save("a.bmp")
    wanted = np.asarray(image.convert("RGB") if mode == "P" else image)
    np.testing.assert_array_equal(read_picture("a.bmp").pixels, wanted)


def test_from_the_top():
    rows = GREY[:4, :8]
    grey = [(i, i, i) for i in range(256)]
    np.testing.assert_array_equal(read_picture(bmp(stored(rows), 8, palette=grey)).pixels, rows)
    name = bmp(rows.tobytes(), 8, palette=grey, size=(8, -4))
    np.testing.assert_array_equal(read_picture(name).pixels, rows)


@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0x7C00, 0x3E0, 0x1F)),
        (16, (0xF800, 0x7E0, 0x1F)),
        (32, (0xFF000000, 0xFF0000, 0xFF00)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF)),
    ],
)
def test_masks_of_colours(bits, masks):
    words = np.random.default_rng(0).integers(0, 2**bits, (4, 8)).astype(f"<u{bits // 8}")
    rows = words.view(np.uint8).reshape(4, -1)
    picture = read_picture(bmp(stored(rows), bits, compression=3, header=56, masks=masks))
    for channel, mask in enumerate(masks):
        low = mask & -mask
        exact = (words & mask) / low * 255 / (mask // low)
        assert np.abs(picture.pixels[..., channel] - exact).max() <= 0.5
    scaled = any("are scaled to 8" in note for note in picture.notes)
    assert scaled == ({mask.bit_count() for mask in masks} != {8})
    # Behind a header of 40 bytes, the masks come after it.
    apart = struct.pack("<3I", *masks) + stored(rows)
    name = bmp(apart, bits, compression=3)
    content = bytearray(Path(name).read_bytes())
    content[10:14] = struct.pack("<I", 66)
    Path(name).write_bytes(content)
    np.testing.assert_array_equal(read_picture(name).pixels, picture.pixels)


def test_alpha_is_where_a_mask_says_so():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 4)).astype(np.uint8)
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    name = bmp(stored(pixels.reshape(4, -1)), 32, compression=3, header=56, masks=masks)
    assert read_picture(name).transparent
    blue, green, red, alpha = (pixels[..., i] for i in range(4))
    Image.fromarray(np.dstack([red, green, blue, alpha])).save("a.png")
    np.testing.assert_array_equal(read_picture(name).pixels, read_picture("a.png").pixels)
    plain = read_picture(bmp(stored(pixels.reshape(4, -1)), 32))
    np.testing.assert_array_equal(plain.pixels, pixels[..., 2::-1])
    assert not plain.transparent
    assert plain.notes == (
        "the fourth bytes of its pixels differ; its header names no alpha, and they are left out",
    )
    for unused in (0, 255):
        pixels[..., 3] = unused
        assert read_picture(bmp(stored(pixels.reshape(4, -1)), 32)).notes == ()
    pixels[..., 3] = 0  # which most writers mean to be opaque
    name = bmp(stored(pixels.reshape(4, -1)), 32, compression=3, header=56, masks=masks)
    empty = read_picture(name)
    np.testing.assert_array_equal(empty.pixels, pixels[..., 2::-1])
    assert empty.notes == ("its alpha is 0 everywhere, and taken as not there",)


def test_runs_of_8_bits():
    runs = [5, 3, 3, 4, 0, 0]  # 5 times 3, 3 times 4, end of the row
    runs += [0, 3, 7, 8, 9, 0, 5, 1, 0, 0]  # 3 of them as they are, filled up; 5 times 1
    runs += [8, 2, 0, 0, 8, 6, 0, 1]
    picture = read_picture(bmp(bytes(runs), 8, palette=RAMP, compression=1))
    wanted = [[6] * 8, [2] * 8, [7, 8, 9, 1, 1, 1, 1, 1], [3, 3, 3, 3, 3, 4, 4, 4]]
    np.testing.assert_array_equal(picture.pixels[..., 0], wanted)
    assert picture.notes == ()


def test_runs_of_4_bits_and_skipped_pixels():
    runs = [5, 0x34, 0, 0, 0, 2, 3, 1, 0, 5, 0x12, 0x34, 0x50, 0, 0, 1]
    picture = read_picture(bmp(bytes(runs), 4, palette=RAMP[:16], compression=2))
    wanted = np.zeros((4, 8), int)
    wanted[3, :5] = 3, 4, 3, 4, 3
    wanted[1, 3:] = 1, 2, 3, 4, 5
    np.testing.assert_array_equal(picture.pixels[..., 0], wanted)
    (note,) = picture.notes
    assert note.startswith("22 of its 32 pixels are skipped by its runs")


@settings(max_examples=50)
@given(runs=st.binary(max_size=60), nibbles=st.booleans())
def test_any_runs_give_an_image_or_an_error_that_names_it(runs, nibbles):
    name = bmp(runs, 4 if nibbles else 8, palette=RAMP[:16], compression=2 if nibbles else 1)
    said = "x.bmp: damaged: "
    try:
        shape = read_picture(name).pixels.shape
    except ImageFileError as error:
        said, shape = str(error), (4, 8, 3)
    assert shape == (4, 8, 3)
    assert said.startswith("x.bmp: damaged: ")


def test_damage():
    save("a.bmp", RGB)
    content = Path("a.bmp").read_bytes()
    for tenth in range(1, 10):
        refused(content[: len(content) * tenth // 10], "is cut off")
    refused(content[:-3], "5757 of the 5760 bytes of its rows")
    refused(content[:20], "cut off in its header")
    for place, value, words in (
        (18, 0, "size is 0 x 40"),
        (22, 0, "size is 48 x 0"),
    ):
        changed = content[:place] + struct.pack("<i", value) + content[place + 4 :]
        refused(changed, words)
    name = bmp(stored(GREY[:4, :8]), 8, palette=RAMP[:9])
    with pytest.raises(ImageFileError, match=r"damaged.*colour \d+ of a palette of 9"):
        read_picture(name)
    for runs, words in (
        ([9, 1], "go beyond its 8 columns"),
        ([8, 1, 0, 0, 8, 1], "the mark of its end"),
        ([0, 5, 1, 2], "the mark of its end"),
    ):
        with pytest.raises(ImageFileError, match=f"damaged.*{words}"):
            read_picture(bmp(bytes(runs), 8, palette=RAMP, compression=1))
    for masks in ((0xFF, 0, 0xFF00), (0xF0F, 0xF000, 0xF0)):
        with pytest.raises(ImageFileError, match=r"damaged.*masks of colours"):
            read_picture(bmp(bytes(128), 32, compression=3, header=56, masks=masks))
    with pytest.raises(ImageFileError, match="compression 5, which are not read; save it as"):
        read_picture(bmp(bytes(99), 24, compression=5))


def test_a_wrong_size_or_place_of_the_rows():
    save("a.bmp", RGB)  # 48 x 40 pixels
    content = Path("a.bmp").read_bytes()
    refused(content[:10] + struct.pack("<I", 50) + content[14:], "begin within its header")
    assert read_picture("a.bmp").notes == ()
    for place, value in ((18, 44), (22, 39)):
        Path("b.bmp").write_bytes(content[:place] + struct.pack("<i", value) + content[place + 4 :])
        notes = read_picture("b.bmp").notes
        assert "bytes behind its pixels are left aside" in notes[0]
    Path("b.bmp").write_bytes(content + bytes(2))  # as one writer has it
    assert read_picture("b.bmp").notes == ()
    save("c.bmp", RGB[:, :47])
    content = Path("c.bmp").read_bytes()
    refused(content[:10] + struct.pack("<I", 55) + content[14:], "5759 of the 5760 bytes")


def test_a_profile_behind_the_rows_is_no_note():
    rows = stored(RGB[:4, :8, ::-1].reshape(4, -1))
    profile = b"profile " * 20
    content = bytearray(Path(bmp(rows, 24, header=124)).read_bytes() + profile)
    content[70:74] = b"DEBM"
    content[126:134] = struct.pack("<II", 124 + len(rows), len(profile))
    Path("x.bmp").write_bytes(content)
    assert not any("left aside" in note for note in read_picture("x.bmp").notes)
