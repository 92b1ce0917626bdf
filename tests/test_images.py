"""Which image files are read, how, and which are refused."""

from __future__ import annotations

import pickle
import zlib

import numpy as np
import pytest
import tifffile
from image_files import COLOURS, DEEP, GREY, RGB, RNG, refusal, save, save_packed
from PIL import Image

import imsim
from imsim._images import ImageFile, ImageFileError, as_mask, read_picture
from imsim.cli import main

pytestmark = pytest.mark.usefixtures("empty_directory")


SEVEN_PASSES = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)
"""Of an interlaced PNG: first row and column, and steps down and across."""


def interlaced(pixels: np.ndarray, depth: int, colour: int) -> bytes:
    """Return a PNG file of seven passes, whose rows are not filtered."""
    rows = []
    for row, column, down, across in SEVEN_PASSES:
        for line in pixels[row::down, column::across]:
            if line.size:
                bits = (line.ravel()[:, None] >> np.arange(depth)[::-1]) & 1
                rows.append(b"\0" + np.packbits(bits.astype(np.uint8)).tobytes())
    height, width = (side.to_bytes(4, "big") for side in pixels.shape[:2])
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in (
        (b"IHDR", width + height + bytes([depth, colour, 0, 0, 1])),
        (b"IDAT", zlib.compress(b"".join(rows))),
        (b"IEND", b""),
    ):
        content += len(body).to_bytes(4, "big") + kind + body
        content += zlib.crc32(kind + body).to_bytes(4, "big")
    return content


class TestFiles:
    """What is read, and how."""

    def test_jpeg_and_grey_formats(self):
        save("a.jpg", GREY, quality=95)
        assert read_picture("a.jpg").pixels.shape == GREY.shape
        for name, pixels in (
            ("g.png", GREY),
            ("d.png", DEEP),
            ("d.tif", DEEP),
            ("b.png", GREY > 99),
        ):
            found = read_picture(save(name, pixels)).pixels
            assert found.dtype == pixels.dtype
            np.testing.assert_array_equal(found, pixels)

    def test_format_is_recognised_by_content(self):
        tifffile.imwrite("really_tiff.png", GREY)
        np.testing.assert_array_equal(read_picture("really_tiff.png").pixels, GREY)

    @pytest.mark.parametrize("bands", [2, 5])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_multi_band_tiff(self, bands, planar):
        pixels = RNG.integers(0, 4096, (40, 48, bands)).astype(np.uint16)
        stored = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
        save("m.tif", stored, photometric="minisblack", planarconfig=planar)
        picture = read_picture("m.tif")
        np.testing.assert_array_equal(picture.pixels, pixels)
        assert picture.channel_axis == -1
        assert str(picture) == f"48 x 40 pixels, 16-bit, {bands} channels"

    def test_palette_becomes_rgb(self):
        Image.fromarray(COLOURS).quantize(8).save("p.png")
        np.testing.assert_array_equal(read_picture("p.png").pixels, COLOURS)
        assert read_picture("p.png").notes == ("its palette is converted to RGB",)

    def test_grey_levels_of_few_bits(self, tmp_path):
        file = tmp_path / save("bits.png", GREY[:8, :8] > 99)
        content = bytearray(file.read_bytes())
        content[24] = 4  # in the header: a nibble per pixel, and too few of them
        header = bytes(content[12:29])
        content[29:33] = zlib.crc32(header).to_bytes(4, "big")
        rows = b"".join(b"\0" + bytes([0x01, 0x2F, 0x80, 0x00]) for _ in range(8))
        content[33:] = b""
        for kind, body in ((b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            content += len(body).to_bytes(4, "big") + kind + body
            content += zlib.crc32(kind + body).to_bytes(4, "big")
        file.write_bytes(content)
        picture = read_picture("bits.png")
        assert picture.pixels[0].tolist() == [0, 17, 34, 255, 136, 0, 0, 0]
        assert picture.notes == ("its 4-bit grey levels are scaled to 8 bits",)

    @pytest.mark.parametrize("side", [1, 2, 21])
    @pytest.mark.parametrize(
        ("depth", "colour", "samples"),
        [(1, 0, 1), (2, 0, 1), (8, 2, 3), (16, 0, 1), (16, 2, 3), (16, 4, 2), (16, 6, 4)],
    )
    def test_interlaced_png(self, depth, colour, samples, side, tmp_path):
        pixels = RNG.integers(0, 2**depth, (side, side + 3, samples)).astype(np.uint16)
        if samples in (2, 4):
            pixels[..., -1] = 65535  # opaque
        (tmp_path / "i.png").write_bytes(interlaced(pixels, depth, colour))
        wanted = pixels[..., : 3 if samples > 2 else 1] * (85 if depth == 2 else 1)
        found = read_picture("i.png").samples
        np.testing.assert_array_equal(found, wanted)

    def test_bilevel_tiff(self):
        """Whoever wrote it, True is white."""
        pixels = GREY > 99
        save("array.tif", pixels)
        Image.fromarray(pixels).save("white.tif", tiffinfo={262: 0})
        Image.fromarray(pixels).save("black.tif")
        notes = []
        for name in ("array.tif", "white.tif", "black.tif"):
            picture = read_picture(name)
            np.testing.assert_array_equal(picture.pixels, pixels)
            assert picture.pixels.dtype == bool
            notes.append(picture.notes)
        assert "written by tifffile" in notes[0][0]
        assert "inverted" in notes[1][0]
        assert notes[2] == ()

    @pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
    @pytest.mark.parametrize("predictor", [1, 2])
    def test_lzw_without_imagecodecs(self, monkeypatch, pixels, predictor):
        tags = {"compression": "tiff_lzw", "tiffinfo": {317: predictor}}
        Image.fromarray(pixels).save("lzw.tif", **tags)
        monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", _WithoutLzw())
        picture = read_picture("lzw.tif")
        np.testing.assert_array_equal(picture.pixels, pixels)
        assert picture.notes == ()

    @pytest.mark.parametrize("dtype", ["int16", "uint32", "float32", "float64"])
    def test_other_types_of_tiff(self, capsys, dtype):
        pixels = DEEP.astype(dtype)
        a = save("a.tif", pixels)
        np.testing.assert_array_equal(read_picture(a).pixels, pixels)
        assert main(["compare", a, a, "--data-range", "65535"]) == 0
        assert "skipped" not in capsys.readouterr().out

    def test_what_the_tiff_reader_logs_is_a_note(self, capsys, tmp_path):
        file = tmp_path / save("odd.tif", GREY, extratags=[(65000, "H", 1, 7, True)])
        tag = (65000).to_bytes(2, "little")
        file.write_bytes(file.read_bytes().replace(tag + b"\3\0", tag + b"\x63\0"))
        (note,) = read_picture("odd.tif").notes
        assert note.startswith("the TIFF reader warns: ")
        assert "invalid data type 99" in note
        assert capsys.readouterr().err == ""


def test_a_closed_file_is_not_read(recwarn):
    """As by the threads that are left when the reader of a pipe goes away."""
    file = ImageFile(save("a.tif", GREY))
    file.close()
    with pytest.raises(ImageFileError, match=r"a.tif: is closed"):
        file.read(0)
    assert not recwarn


class TestRefusals:
    """Exit status 2, and one message that names the file and the remedy."""

    def test_directory(self, capsys, tmp_path):
        assert str(tmp_path) in refusal(capsys, str(tmp_path), "a.png")

    def test_not_an_image(self, capsys, tmp_path):
        (tmp_path / "notes.png").write_text("not an image")
        assert "notes.png: not a PNG, JPEG, TIFF, WebP, AVIF, GIF, BMP, FITS" in refusal(
            capsys, "notes.png", "a.png"
        )

    @pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.tif", "tag.tif"])
    def test_damaged(self, capsys, tmp_path, name):
        file = tmp_path / save(name, GREY)
        length = 100 if name == "tag.tif" else file.stat().st_size // 2
        file.write_bytes(file.read_bytes()[:length])
        assert f"{name}: damaged" in refusal(capsys, name, name)

    def test_unusual_colours(self, capsys):
        Image.fromarray(RGB).convert("CMYK").save("cmyk.jpg")
        assert "CMYK" in refusal(capsys, "cmyk.jpg", "cmyk.jpg")
        save("white.tif", GREY.astype("f4"), photometric="miniswhite")
        assert "MINISWHITE" in refusal(capsys, "white.tif", "white.tif")
        save("volume.tif", np.zeros((16, 32, 32), np.uint8), volumetric=True, tile=(16, 16, 16))
        assert "axes" in refusal(capsys, "volume.tif", "volume.tif")

    def test_compression_that_needs_a_package(self, capsys, monkeypatch):
        Image.fromarray(DEEP).save("lzw.tif", compression="tiff_lzw")
        monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", _WithoutLzw())
        message = refusal(capsys, "lzw.tif", "lzw.tif")
        assert "LZW" in message
        assert "imagecodecs" in message

    def test_the_readers_raise_imsim_errors(self):
        assert issubclass(ImageFileError, imsim.ImsimError)
        with pytest.raises(ImageFileError):
            as_mask(read_picture("nowhere.png"))

    def test_lzw_that_pillow_would_turn(self, capsys, monkeypatch):
        Image.fromarray(GREY).save("lzw.tif", compression="tiff_lzw", tiffinfo={274: 6})
        monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", _WithoutLzw())
        assert "imagecodecs" in refusal(capsys, "lzw.tif", "lzw.tif")

    def test_6_bit_tiff(self, capsys):
        save_packed("bits.tif", GREY // 4, 6)
        assert "scale them to 8 bits" in refusal(capsys, "bits.tif", "bits.tif")

    def test_complex_numbers(self, capsys):
        save("c.tif", GREY * 1j)
        message = refusal(capsys, "c.tif", "c.tif")
        assert "c.tif: its pixels are complex numbers (complex128); save" in message

    def test_names_that_no_file_can_have(self, capsys):
        assert "cannot be read: embedded null" in refusal(capsys, "a\0b.png", "a.png")


class _WithoutLzw:
    """Stands for tifffile's table of decoders on a machine without imagecodecs."""

    def __getitem__(self, key):
        raise KeyError(f"{key} requires the 'imagecodecs' package")


def test_an_error_names_the_image_and_the_reason_apart():
    save("a.png", GREY)
    with open("a.png", "r+b") as file:
        file.truncate(200)
    with pytest.raises(ImageFileError) as caught:
        read_picture("a.png")
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.image == "a.png"
    assert str(error) == f"a.png: {error.reason}"
    assert "a.png" not in error.reason
