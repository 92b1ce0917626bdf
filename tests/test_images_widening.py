"""Two pictures of different type are compared where that loses nothing; masks in any form."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from image_files import COLOURS, DEEP, GREY, RGB, save
from PIL import Image

from imsim._images import (
    ImageFile,
    ImageFileError,
    Picture,
    Reading,
    as_mask,
    read_picture,
    widened,
)

WHITE = GREY > 99


pytestmark = pytest.mark.usefixtures("empty_directory")


def forms_of_grey() -> list[str]:
    """Save one grey picture in every form that has all of it."""
    levels = COLOURS[..., 0]
    names = [save("g.png", levels), save("rgb.png", COLOURS), save("g.tif", levels)]
    names += [save("g.npy", levels), save("rgb.npy", COLOURS[None])]
    for suffix in ("png", "tif"):
        palette = Image.fromarray(levels).convert("P")
        palette.save(f"p.{suffix}")
        names.append(f"p.{suffix}")
    for name, pixels in (("la.png", levels[..., None]), ("rgba.png", COLOURS)):
        opaque = np.full((*levels.shape, 1), 255, np.uint8)
        names.append(save(name, np.concatenate([pixels, opaque], axis=-1)))
    return names


def test_one_picture_in_many_forms():
    pictures = [read_picture(name) for name in forms_of_grey()]
    for one in pictures:
        for other in pictures:
            first, second = widened(one, other)
            assert first.pixels.dtype == second.pixels.dtype
            np.testing.assert_array_equal(first.pixels, second.pixels)
            for picture, found in ((one, first), (other, second)):
                changed = picture.pixels.shape != found.pixels.shape
                notes = ["its grey is widened to RGB, to compare it with the other image"]
                assert [*picture.notes, *(notes if changed else [])] == [*found.notes]
                assert picture is found or changed


def test_1_bit_and_8_bits():
    forms = [save("b.png", WHITE), save("b.tif", WHITE), save("b.npy", WHITE)]
    forms += [save("g.png", WHITE * np.uint8(255))]
    forms += [save("rgb.png", np.repeat(WHITE[..., None] * np.uint8(255), 3, axis=-1))]
    forms += [save("f.png", WHITE * np.uint8(255))]
    Image.fromarray(WHITE).convert("P").save("p.png")
    forms.append("p.png")
    pictures = [read_picture(name) for name in forms]
    for one in pictures:
        for other in pictures:
            first, second = widened(one, other)
            np.testing.assert_array_equal(first.pixels, second.pixels)
            assert first.pixels.dtype == second.pixels.dtype


def test_floats_take_the_wider_type():
    values = np.random.default_rng(3).random((4, 5)).astype(np.float32)
    one, other = Picture(values, path="a"), Picture(values.astype(np.float64), path="b")
    first, second = widened(one, other)
    assert first.pixels.dtype == second.pixels.dtype == np.float64
    np.testing.assert_array_equal(first.pixels, values)
    assert "widened to float64" in first.notes[0]
    assert second is other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (GREY, DEEP),  # 255 of 255 and 255 of 65535 are not the same grey
        (WHITE, DEEP),
        (DEEP, DEEP.astype(np.int16)),
        (GREY, GREY.astype(np.float32)),
        (GREY[:9], RGB),
        (GREY, np.zeros((40, 48, 4), np.uint8)),
        (RGB, np.zeros((40, 48, 4), np.uint8)),
    ],
)
def test_what_would_lose_or_change_something(one, other):
    pictures = Picture(one, path="a"), Picture(other, path="b")
    for pair in (pictures, pictures[::-1]):
        found = widened(*pair)
        assert [p.pixels.dtype for p in found] == [p.pixels.dtype for p in pair]
        assert found[0].pixels.shape != found[1].pixels.shape or one.dtype != other.dtype


MASK = np.zeros(GREY.shape, bool)
MASK[3:, 5:20] = True


@pytest.mark.parametrize("value", [1, 7, 255, 256, 65535, -1, 1.0, 0.5, 1e30])
def test_masks_of_0_and_any_other_value(value):
    dtype = np.asarray(value).dtype if not isinstance(value, int) else np.int32
    for name in ("m.npy", "m.tif"):
        picture = read_picture(save(name, (MASK * value).astype(dtype)))
        np.testing.assert_array_equal(as_mask(picture), MASK)
    assert as_mask(read_picture(save("m.npy", np.full((4, 5), value, dtype)))).all()


def test_masks_in_every_form():
    red = np.zeros((*MASK.shape, 3), np.uint8)
    red[MASK] = 200, 0, 0
    opaque = np.full((*MASK.shape, 1), 255, np.uint8)
    forms = [save("b.png", MASK), save("b.tif", MASK), save("b.npy", MASK), save("red.png", red)]
    forms += [save("rgba.png", np.concatenate([red, opaque], axis=-1)), save("c.npy", red[None])]
    forms += [save("s.tif", MASK, compression="zlib"), save("deep.png", MASK * np.uint16(65535))]
    Image.fromarray(red).quantize(2).save("p.png")
    Image.fromarray(MASK).save("white.tif", tiffinfo={262: 0})
    np.savez("m.npz", MASK.astype(float))
    for name in (*forms, "p.png", "white.tif", "m.npz"):
        np.testing.assert_array_equal(as_mask(read_picture(name)), MASK)


@pytest.mark.parametrize(
    "pixels",
    [
        GREY,
        RGB,
        np.where(MASK, 5, 200).astype(np.uint8),  # of which none is "leave out"
        np.where(MASK, np.nan, 0),
        np.where(MASK[..., None], [255, 0, 0], [0, 255, 0]).astype(np.uint8),
    ],
)
def test_what_is_no_mask(pixels):
    with pytest.raises(ImageFileError, match=r"m: a mask must hold 0 .* and one other value or"):
        as_mask(Picture(pixels, path="m"))


@pytest.mark.parametrize("name", ["m.png", "m.tif"])
def test_transparent_masks(name):
    """Whether what is not there is to be used, nobody can know."""
    grey = np.stack([MASK * np.uint8(255), MASK * np.uint8(255)], axis=-1)
    options = {"extrasamples": ["unassalpha"], "planarconfig": "contig"} if name == "m.tif" else {}
    picture = read_picture(save(name, grey, **options))
    assert picture.transparent
    with pytest.raises(ImageFileError, match=rf"{name}: is transparent in parts, which a mask"):
        as_mask(picture)


def test_a_mask_without_data_leaves_out():
    valid = np.ones(MASK.shape, bool)
    valid[5, 7] = False
    found = as_mask(Picture(MASK, (), valid, path="m"))
    np.testing.assert_array_equal(found, MASK & valid)


def mpo(*pictures: np.ndarray) -> bytes:
    first, *others = (Image.fromarray(pixels) for pixels in pictures)
    stream = io.BytesIO()
    first.save(stream, "MPO", save_all=True, append_images=others)
    return stream.getvalue()


class TestSeveralPicturesOfACamera:
    """The first one is scored; the others are there for those who name them."""

    def test_the_first_is_taken(self):
        Path("a.jpg").write_bytes(mpo(RGB, 255 - RGB))
        with ImageFile("a.jpg") as file:
            assert len(file) == 1
            picture = file.read(0)
        save("first.jpg", RGB)
        np.testing.assert_array_equal(picture.pixels, read_picture("first.jpg").pixels)
        assert picture.path == "a.jpg"
        assert picture.notes == ("the first of its 2 pictures is taken; FILE[i] names another",)

    def test_others_by_their_index(self):
        Path("a.jpg").write_bytes(mpo(RGB, 255 - RGB))
        for index, pixels in enumerate((RGB, 255 - RGB)):
            save("one.jpg", pixels)
            found = read_picture(f"a.jpg[{index}]")
            np.testing.assert_array_equal(found.pixels, read_picture("one.jpg").pixels)
        with pytest.raises(ImageFileError, match=r"a.jpg holds 2, counted from 0"):
            ImageFile("a.jpg[2]")

    def test_damage(self):
        content = mpo(RGB, 255 - RGB)
        second = content.index(b"\xff\xd8\xff", 10)
        for wrong in (content[: second - 9] + content[second:], content[: len(content) - 300]):
            Path("a.jpg").write_bytes(wrong)
            with pytest.raises(ImageFileError, match="damaged"):
                [read_picture(f"a.jpg[{index}]") for index in range(2)]
        place = content.index(b"MPF\0")
        for start in range(place, place + 80, 3):  # the list of pictures is metadata
            for wrong in (b"\xee", b"\0", b"\1"):
                Path("a.jpg").write_bytes(content[:start] + wrong + content[start + 1 :])
                assert read_picture("a.jpg").pixels.shape == RGB.shape


def test_jpeg_with_alpha_or_other_colours():
    assert read_picture(save("a.jpg", RGB), Reading(background="red")).notes == ()
    Image.fromarray(RGB).convert("CMYK").save("c.jpg")
    with pytest.raises(ImageFileError, match=r"c.jpg: its colours are CMYK"):
        read_picture("c.jpg")
    content = bytearray(Path("a.jpg").read_bytes())
    content[content.index(b"\xff\xc0") + 4] = 12  # bits of a sample
    Path("a.jpg").write_bytes(content)
    with pytest.raises(ImageFileError, match=r"a.jpg: .*12"):
        read_picture("a.jpg")


def test_headers_of_jpeg_are_refused_by_what_is_wrong_with_them():
    Image.fromarray(RGB).convert("CMYK").save("c.jpg", subsampling=2)
    with pytest.raises(ImageFileError, match=r"c.jpg: its colours are CMYK"):
        read_picture("c.jpg")
    content = Path(save("a.jpg", RGB)).read_bytes()
    scan = content.index(b"\xff\xda")
    for end in (3, 20, content.index(b"\xff\xc0") + 6, scan - 1, scan):
        Path("a.jpg").write_bytes(content[:end])
        with pytest.raises(ImageFileError, match=r"a.jpg: damaged: it is cut off in its header"):
            read_picture("a.jpg")
