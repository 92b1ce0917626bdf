"""WebP and AVIF: as Pillow decodes them, all frames, and nothing that is not all there."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from image_files import GREY, RGB, contents, refused, save
from PIL import Image, features

from imsim._images import EXTENSIONS, ImageFileError, Reading, read_picture
from imsim._images import reading as reading_module

pytestmark = pytest.mark.usefixtures("empty_directory")
RGBA = np.dstack([RGB, GREY])
FORMS = ["webp", "avif"]


@pytest.fixture(autouse=True)
def _known(request: pytest.FixtureRequest) -> None:
    form = getattr(request.node, "callspec", None)
    if form and not features.check(form.params.get("form", "webp")):
        pytest.skip("Pillow was built without it")


@pytest.mark.parametrize("form", FORMS)
def test_as_pillow_reads_them(form):
    for pixels in (RGB, GREY):
        save(f"a.{form}", pixels)
        with Image.open(f"a.{form}") as image:
            wanted = np.asarray(image)
        picture = read_picture(f"a.{form}")
        np.testing.assert_array_equal(picture.pixels, wanted)
        assert picture.notes == ()


def test_webp_without_loss():
    np.testing.assert_array_equal(read_picture(save("a.webp", RGB, lossless=True)).pixels, RGB)
    name = save("b.webp", RGBA, lossless=True, exact=True)
    picture = read_picture(name, Reading(background="#405060"))
    save("b.png", RGBA)
    wanted = read_picture("b.png", Reading(background="#405060"))
    np.testing.assert_array_equal(picture.pixels, wanted.pixels)
    assert picture.transparent
    assert picture.notes == wanted.notes


@pytest.mark.parametrize("form", FORMS)
def test_all_frames(form):
    frames = [Image.fromarray(RGB[::step]) for step in (1, -1)] + [Image.fromarray(RGB[:, ::-1])]
    options = {"lossless": True} if form == "webp" else {"quality": 90}
    frames[0].save(f"a.{form}", save_all=True, append_images=frames[1:], **options)
    pictures = contents(f"a.{form}")
    assert [picture.path for picture in pictures] == [f"a.{form}[{i}]" for i in range(3)]
    with Image.open(f"a.{form}") as image:
        for index, picture in enumerate(pictures):
            image.seek(index)
            np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    last = read_picture(f"a.{form}[2]")
    np.testing.assert_array_equal(last.pixels, pictures[2].pixels)
    (volume,) = contents(f"a.{form}", Reading(volume=True))
    np.testing.assert_array_equal(volume.pixels[1], pictures[1].pixels)


@pytest.mark.parametrize("form", FORMS)
def test_cut_off(form):
    frames = [Image.fromarray(RGB[::step]) for step in (1, -1)]
    frames[0].save("one", format=form)
    frames[0].save("all", format=form, save_all=True, append_images=frames[1:])
    for name in ("one", "all"):
        content = Path(name).read_bytes()
        for tenth in range(1, 10):
            refused(content[: len(content) * tenth // 10], "")
        refused(content[:-1], "")


def test_webp_whose_stream_is_short():
    """The lengths of file and chunk agree, and only the decoder knows."""
    save("a.webp", RGB)
    content = Path("a.webp").read_bytes()
    for part in (3, 5, 9):
        size = (len(content) - 20) * part // 10 & ~1
        lengths = struct.pack("<I", size + 12), struct.pack("<I", size)
        short = b"RIFF" + lengths[0] + content[8:16] + lengths[1] + content[20 : 20 + size]
        refused(short, "")
    Path("x").write_bytes(content + b"more")
    assert read_picture("x").notes == ("4 bytes after its end are left aside",)
    refused(content[:12] + b"ABCD" + content[16:], "begins with no chunk of an image")


def test_webp_of_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    save("a.webp", RGB)
    monkeypatch.setattr(reading_module, "memory_limit", lambda: 99.0)
    with monkeypatch.context() as patch:
        patch.setattr("PIL.WebPImagePlugin.WebPImageFile", None)
        with pytest.raises(ImageFileError, match=r"48 x 40 = 1920 pixels take .*-pixels 1920"):
            read_picture("a.webp")
    assert read_picture("a.webp", Reading(max_pixels=1920)).pixels.shape == RGB.shape


@pytest.mark.parametrize("form", ["avif"])
def test_avif_of_10_bits_is_decoded_to_8_with_a_note(form):
    imagecodecs = pytest.importorskip("imagecodecs")
    deep = RGB.astype(np.uint16) * 4
    try:
        content = imagecodecs.avif_encode(deep, level=100, bitspersample=10)
    except (imagecodecs.DelayedImportError, TypeError):
        pytest.skip("imagecodecs has no encoder of AVIF")
    Path(f"a.{form}").write_bytes(content)
    picture = read_picture(f"a.{form}")
    assert picture.pixels.dtype == np.uint8
    assert picture.notes == ("its samples of 10 bits are decoded to 8",)


def test_pillow_without_avif(monkeypatch):
    if features.check("avif"):
        save("a.avif", RGB)
    else:
        Path("a.avif").write_bytes(b"\0\0\0\x18ftypavif\0\0\0\0mif1avif")
    monkeypatch.setattr(features, "get_supported", lambda: ["webp"])
    with pytest.raises(ImageFileError, match=r"a.avif: AVIF is not read .*; pip install .*pillow"):
        read_picture("a.avif")


def test_the_content_tells_the_format():
    save("a.png", RGB)
    os.rename("a.png", "a.webp")
    np.testing.assert_array_equal(read_picture("a.webp").pixels, RGB)
    Path("empty.webp").write_bytes(b"")
    with pytest.raises(ImageFileError, match=r"empty.webp: is empty"):
        read_picture("empty.webp")
    for ending in (".webp", ".avif", ".gif", ".bmp"):
        assert ending in EXTENSIONS
        Path(f"text{ending}").write_text("no image")
        with pytest.raises(ImageFileError, match="not a PNG, JPEG, TIFF, WebP, AVIF, GIF, BMP"):
            read_picture(f"text{ending}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["noise", "alpha", "frames", "smooth"])
@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
def test_streams_that_end_in_zeros(form, kind, options):
    """As of a file that was being written when the power went."""
    pixels = np.tile(RGBA if kind == "alpha" else RGB, (2, 2, 1))
    if kind == "smooth":
        pixels = np.repeat(np.add.outer(np.arange(80), np.arange(96))[..., None], 3, axis=-1)
        pixels = pixels.astype(np.uint8)
    if kind == "frames":
        options = {**options, "save_all": True, "append_images": [Image.fromarray(255 - pixels)]}
    name = save(f"a.{form}", pixels, **options)
    contents(name)
    whole = Path(name).read_bytes()
    for share in (0.4, 0.7, 0.9):
        zeros = int(len(whole) * (1 - share))
        if zeros > 64:
            refused(whole[:-zeros] + bytes(zeros), "")


def test_zeros_behind_the_pixels_of_avif():
    """As metadata may end, and as some writers fill up a file."""
    if not features.check("avif"):
        pytest.skip("Pillow was built without it")
    exif = Image.Exif()
    exif[271] = "x"
    for name, more in (("a.avif", b""), ("b.avif", (24).to_bytes(4, "big") + b"free" + bytes(16))):
        save(name, RGB, exif=exif.tobytes())
        Path(name).write_bytes(Path(name).read_bytes() + more)
        assert read_picture(name).pixels.shape == RGB.shape


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}, {"quality": 1}])
def test_webp_of_plain_parts_is_whole(options):
    """Its streams may end in zeros that are no damage."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 120, 2)
        pixels = np.zeros((height, width, 4), np.uint8) + rng.integers(0, 256, 4, np.uint8)
        pixels[: height // 3] = rng.integers(0, 256, (height // 3, width, 4))
        name = save("a.webp", pixels[..., : rng.integers(3, 5)].copy(), method=1, **options)
        contents(name)
