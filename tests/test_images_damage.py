"""Damaged files: what is not all there, or doubtful, is an error that says so; no pixel is made up.

Damage to metadata stops nothing.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import (
    COLOURS,
    DEEP,
    GREY,
    RGB,
    contents,
    patched,
    png_chunks,
    png_of,
    refused,
    save,
    save_deep_png,
)
from PIL import Image

from imsim._images import ImageFileError, read_picture, tiff_checks

STACK = np.stack([GREY, 255 - GREY, GREY // 2])


pytestmark = pytest.mark.usefixtures("empty_directory")


def grey_png(rows: bytes, **header: int) -> bytes:
    """Return a PNG file of 48 x 40 pixels with these rows, each with its filter."""
    kinds = {"width": 48, "height": 40, "depth": 8, "colour": 0, "interlace": 0} | header
    body = struct.pack(
        ">IIBBBBB",
        *(kinds[key] for key in ("width", "height", "depth", "colour")),
        0,
        0,
        kinds["interlace"],
    )
    return png_of((b"IHDR", body), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


ROWS = b"".join(b"\0" + row.tobytes() for row in GREY)


class TestPng:
    def test_the_right_one_is_read(self):
        Path("x").write_bytes(grey_png(ROWS))
        np.testing.assert_array_equal(read_picture("x").pixels, GREY)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (grey_png(ROWS[: len(ROWS) // 2]), "holds 980 of the 1960 bytes"),
            (grey_png(ROWS[:-1]), "holds 1959 of the 1960 bytes"),
            (grey_png(ROWS + b"\0"), "more than the 1960 bytes"),
            (grey_png(b""), "holds 0 of the 1960"),
            (grey_png(b"\7" + ROWS[1:]), ""),  # there is no such filter
            (grey_png(ROWS, depth=3), "no PNG has the header"),
            (grey_png(ROWS, width=0), "no PNG has the header"),
            (grey_png(ROWS, interlace=1), "bytes of its rows"),
            (grey_png(ROWS)[:-12], "IEND. is missing"),
            (grey_png(ROWS)[:-20], "cut off"),
        ],
    )
    def test_rows_and_header(self, content, words):
        refused(content, words)

    @pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS"])
    def test_checksums(self, kind):
        Image.fromarray(COLOURS).quantize(8).save("x.png", transparency=0)
        content = bytearray(Path("x.png").read_bytes())
        where = content.index(kind)
        content[where + 4 + int.from_bytes(content[where - 4 : where], "big")] ^= 1
        refused(bytes(content), f"{kind.decode()} at byte .* wrong CRC")

    def test_the_stream(self):
        header, *_ = png_chunks(grey_png(ROWS))
        stream = zlib.compress(ROWS)
        for body, words in (
            (stream[:-1], "before their checksum|cut off"),
            (stream[:-1] + bytes([stream[-1] ^ 1]), "do not inflate"),
            (stream + b"more", "more data follow"),
            (stream[: len(stream) // 2], "of the 1960 bytes"),
            (b"no stream", "do not inflate"),
        ):
            refused(png_of(header, (b"IDAT", body), (b"IEND", b"")), words)
        apart = [(b"IDAT", stream[:100]), (b"tEXt", b"a\0b"), (b"IDAT", stream[100:])]
        refused(png_of(header, *apart, (b"IEND", b"")), "not together")
        refused(png_of(header, (b"IEND", b"")), "missing")
        refused(png_of((b"tEXt", b"a\0b"), header, (b"IEND", b"")), "does not begin with")

    def test_palettes(self):
        pixels = np.zeros((4, 4), np.uint8)
        pixels[0, 0] = 9
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        header = (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0))
        data = [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        refused(png_of(header, (b"PLTE", bytes(27)), *data), "colour 9 of a palette of 9")
        refused(png_of(header, (b"PLTE", bytes(28)), *data), "palette has 28 bytes")
        refused(png_of(header, *data), "palette has 0 bytes")
        refused(png_of(header, (b"PLTE", bytes(30)), (b"tRNS", bytes(11)), *data), "more entries")
        refused(png_of(header, (b"tRNS", bytes(3)), (b"PLTE", bytes(30)), *data), "wrong place")

    def test_interlaced_images_and_all_depths_are_whole(self):
        for depth in (1, 2, 4, 8, 16):
            for size in ((1, 1), (3, 2), (9, 13)):
                width, height = size
                bits, rows = depth * width, b""
                for column, row, across, down in (
                    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
                    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
                ):
                    across, down = len(range(column, width, across)), len(range(row, height, down))
                    rows += (b"\0" + bytes(-(-across * depth // 8))) * (down if across else 0)
                header = {"width": width, "height": height, "depth": depth}
                Path("x").write_bytes(grey_png(rows, interlace=1, **header))
                assert read_picture("x").pixels.shape == (height, width)
                plain = (b"\0" + bytes(-(-bits // 8))) * height
                Path("x").write_bytes(grey_png(plain, **header))
                assert read_picture("x").pixels.shape == (height, width)
                refused(grey_png(plain[:-1], **header), "of the")

    def test_metadata_stop_nothing(self):
        header, data, end = png_chunks(grey_png(ROWS))
        text = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000)))
        many = [(b"tEXt", b"Comment\0" + b"x" * 600_000)] * 3
        bad = [(b"eXIf", b"no EXIF"), (b"iCCP", b"x\0\0no profile"), (b"zTXt", b"a\0\0no stream")]
        bad += [(b"pHYs", b"short"), (b"gAMA", b""), (b"caNb", b"made up"), (b"tIME", bytes(99))]
        for extra in ([text], many, *([one] for one in bad)):
            Path("x").write_bytes(png_of(header, *extra, data, end))
            np.testing.assert_array_equal(read_picture("x").pixels, GREY)
        broken = bytearray(png_of(header, many[0], data, end))
        broken[60] ^= 1
        Path("x").write_bytes(broken)
        assert read_picture("x").notes == ("its metadata (tEXt) are damaged and left aside",)
        Path("x").write_bytes(grey_png(ROWS) + b"more")
        assert read_picture("x").notes == ("4 bytes after its end are left aside",)

    def test_16_bit_colours(self):
        content = Path(save_deep_png("x.png", np.stack([DEEP] * 3, -1))).read_bytes()
        header, _, end = png_chunks(content)
        refused(png_of(header, (b"IDAT", zlib.compress(bytes(1000))), end), "1000 of the")


def jpeg(pixels: np.ndarray = RGB, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


class TestJpeg:
    @pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
    def test_the_right_one_is_that_of_pillow(self, pixels, options):
        content = jpeg(pixels, **options)
        Path("x").write_bytes(content)
        with Image.open("x") as image:
            np.testing.assert_array_equal(read_picture("x").pixels, np.asarray(image))
        for end in (len(content) // 2, -2, -1):
            refused(content[:end], "Premature end")
        middle = len(content) // 2
        refused(content[:middle] + b"\xff\xd9", "")
        refused(content[:-2] + bytes(20) + content[-2:], "extraneous bytes")

    @pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
    def test_scans_that_are_missing(self, pixels):
        """The decoder does not warn where the stream ends well after an earlier scan."""
        content = jpeg(pixels, progressive=True)
        scans = [found.start() for found in re.finditer(b"\xff\xda", content)]
        assert len(scans) > 4
        for start in scans[1:]:
            refused(content[:start] + b"\xff\xd9", "its last scans are missing")
        start, end = scans[2:4]  # of one in the middle
        refused(content[:start] + content[end:], "")
        Image.fromarray(pixels).save("x", "TIFF", compression="jpeg")
        assert read_picture("x").pixels.shape == pixels.shape

    def test_bytes_overwritten_in_a_scan(self):
        content = jpeg(restart_marker_blocks=1)
        middle = len(content) * 3 // 4
        refused(content[:middle] + b"\xaa" * 40 + content[middle + 40 :], "Corrupt JPEG data")

    def test_metadata_stop_nothing(self):
        content = jpeg()
        for marker, body in ((0xE1, b"Exif\0\0no TIFF"), (0xE2, b"MPF\0II*\0junk"), (0xED, b"8B")):
            segment = bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
            Path("x").write_bytes(content[:2] + segment + content[2:] + b"after the end")
            assert read_picture("x").pixels.shape == RGB.shape
        comment = b"\xff\xfe\0\4ab"
        Path("x").write_bytes(content[:2] + comment + b"longer than said" + content[2:])
        picture = read_picture("x")
        assert picture.notes == ("its metadata are damaged and left aside",)
        with Image.open(io.BytesIO(content)) as image:
            np.testing.assert_array_equal(picture.pixels, np.asarray(image))
        table = content.index(b"\xff\xdb")  # which is no metadata
        end = table + 2 + int.from_bytes(content[table + 2 : table + 4], "big")
        refused(content[:end] + bytes(9) + content[end:], "extraneous bytes")


TILES = {"tile": (16, 16)}


class TestTiff:
    @pytest.mark.parametrize("layout", [{"rowsperstrip": 10}, TILES], ids=["strips", "tiles"])
    @pytest.mark.parametrize("codec", [None, "zlib", "lzw", "zstd", "packbits", "jpeg", "lzma"])
    def test_missing_and_short_data(self, layout, codec):
        save("a.tif", GREY, compression=codec, **layout)
        assert read_picture("a.tif").pixels.shape == GREY.shape
        kind = "Tile" if "tile" in layout else "Strip"
        with tifffile.TiffFile("a.tif") as tiff:
            (page,) = tiff.pages
            counts, places = page.databytecounts, page.dataoffsets
        for item in (0, 1, len(counts) - 1):
            refused(patched("a.tif", f"{kind}ByteCounts", 0, item), "1 of its .* are empty")
            refused(patched("a.tif", f"{kind}Offsets", 0, item), "1 of its .* are empty")
            refused(patched("a.tif", f"{kind}ByteCounts", counts[item] // 4, item), "")
        refused(patched("a.tif", f"{kind}Offsets", 2**30, 1), "beyond the end")
        if codec in ("zlib", "lzma"):  # which have checksums
            content = bytearray(Path("a.tif").read_bytes())
            content[places[1] + counts[1] // 2] ^= 8
            refused(bytes(content), "")

    def test_fewer_strips_than_rows(self):
        save("a.tif", GREY, rowsperstrip=10)
        refused(patched("a.tif", "ImageLength", 80), "")
        save("w.tif", GREY)
        refused(patched("w.tif", "ImageWidth", 24), "hold up to 1920 bytes, their pixels 960")
        save("b.tif", GREY, **TILES)
        refused(patched("b.tif", "ImageLength", 80), "of its 15 tiles|tiles are there")
        save("c.tif", GREY)
        refused(patched("c.tif", "StripByteCounts", GREY.size - 48), "hold .* of the .* bytes")

    def test_sparse_files_of_gdal(self):
        """A tile that is not stored holds no data, if the file says what stands for that."""
        save("a.tif", GREY | 1, extratags=[(42113, "s", 0, "0", True)], **TILES)
        content = patched("a.tif", "TileByteCounts", 0, 1)
        Path("b.tif").write_bytes(content)
        picture = read_picture("b.tif")
        want = np.ones(GREY.shape, bool)
        want[:16, 16:32] = False
        np.testing.assert_array_equal(picture.valid, want)

    @pytest.mark.parametrize("layout", [{}, {"predictor": 2}, TILES])
    @pytest.mark.parametrize("cut", [1, 2, 3, 5, 9])
    def test_lzw_that_is_cut(self, cut, layout):
        """Its decoder makes up the last code."""
        save("a.tif", GREY, compression="lzw", rowsperstrip=10, **layout)
        assert read_picture("a.tif").pixels.shape == GREY.shape
        kind = "Tile" if layout is TILES else "Strip"
        with tifffile.TiffFile("a.tif") as tiff:
            counts = tiff.pages[0].databytecounts
            refused(patched("a.tif", f"{kind}ByteCounts", counts[1] - cut, 1), "end code")

    @pytest.mark.parametrize("codec", ["zlib", "lzma", "lzw", "packbits"])
    @pytest.mark.parametrize("alone", [False, True])
    def test_strips_that_inflate_without_a_bound(self, codec, alone, monkeypatch):
        if alone:
            from tifffile import _imagecodecs

            monkeypatch.setattr(tiff_checks, "find_spec", lambda name: None)
            monkeypatch.setattr(tifffile.tifffile, "imagecodecs", _imagecodecs)
        save("a.tif", np.zeros((400, 400), np.uint8), compression=codec)
        content = bytearray(patched("a.tif", "RowsPerStrip", 4))
        Path("b.tif").write_bytes(content)
        refused(patched("b.tif", "ImageLength", 4), "")

    @pytest.mark.parametrize("codec", [None, "zlib", "lzma", "lzw", "packbits", "zstd"])
    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_packed_samples_that_inflate_to_more(self, bits, codec):
        """As in a file of 8 bits of which one bit of the number of bits has flipped."""
        save("a.tif", GREY, compression=codec, rowsperstrip=8)
        refused(patched("a.tif", "BitsPerSample", bits), "hold more than the|hold up to 384 bytes")

    def test_jpeg_inside(self):
        save("a.tif", RGB, photometric="rgb", compression="jpeg", rowsperstrip=16)
        content = bytearray(Path("a.tif").read_bytes())
        with tifffile.TiffFile("a.tif") as tiff:
            where = tiff.pages[0].dataoffsets[1] + tiff.pages[0].databytecounts[1] - 2
        assert content[where : where + 2] == b"\xff\xd9"
        content[where : where + 2] = b"\0\0"
        refused(bytes(content), "")

    @pytest.mark.parametrize(
        ("tag", "value"),
        [
            *(("ImageWidth", 0), ("ImageLength", 0), ("SamplesPerPixel", 0), ("BitsPerSample", 0)),
            *(("BitsPerSample", 65535), ("SamplesPerPixel", 65535), ("ImageWidth", 65535)),
            *(("Compression", 60000), ("PhotometricInterpretation", 999), ("RowsPerStrip", 0)),
        ],
    )
    @pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
    def test_absurd_tags(self, pixels, tag, value):
        """Each is an error of the file, whatever the reader makes of it."""
        save("a.tif", pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
        Path("x").write_bytes(patched("a.tif", tag, value))
        with pytest.raises(ImageFileError, match=r"^x: [^:]"):
            contents("x")

    @pytest.mark.parametrize("big", [False, True])
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("pages", [1, 3, 100, 130])
    def test_chains_that_run_in_a_circle(self, big, order, pages):
        tiny = np.zeros((pages, 1, 1), np.uint8)
        with tifffile.TiffWriter("a.tif", bigtiff=big, byteorder=order) as tiff:
            for image in tiny:
                tiff.write(image, metadata=None)
        with tifffile.TiffFile("a.tif") as tiff:
            first, last = tiff.pages[0], tiff.pages[-1]
            head, size, each = (8, 8, 20) if big else (2, 4, 12)
            where, back = last.offset + head + each * len(last.tags), first.offset
        content = bytearray(Path("a.tif").read_bytes())
        content[where : where + size] = back.to_bytes(size, "little" if order == "<" else "big")
        refused(bytes(content), "circle")

    def test_tags_that_say_nothing_of_the_pixels(self):
        save("a.tif", GREY, extratags=[(65000, "H", 1, 7, True)])
        content = Path("a.tif").read_bytes()
        tag = struct.pack("<HH", 65000, 3)
        Path("b.tif").write_bytes(content.replace(tag, struct.pack("<HH", 65000, 99)))
        assert "invalid data type 99" in read_picture("b.tif").notes[0]
        tag = struct.pack("<HH", 258, 3)
        refused(content.replace(tag, struct.pack("<HH", 258, 99)), "BitsPerSample|258|strips")


class TestArrays:
    @pytest.mark.parametrize("array", [STACK, STACK.astype(">f4"), np.asfortranarray(GREY)])
    def test_length(self, array):
        np.save("a.npy", array)
        content = Path("a.npy").read_bytes()
        for wrong in (content[:-1], content + b"\0", content[: len(content) // 2], content[:60]):
            refused(wrong, "")
        refused(content.replace(b"'shape': (", b"'shape': ,"), "")
        refused(content.replace(b"'descr'", b"'descs'"), "")
        refused(content.replace(b"48)", b"47)"), "bytes")

    def test_members_of_archives(self):
        for save_as in (np.savez, np.savez_compressed):
            save_as("a.npz", images=STACK)
            content = bytearray(Path("a.npz").read_bytes())
            with zipfile.ZipFile("a.npz") as archive:
                (info,) = archive.infolist()
            content[info.header_offset + 60 + info.compress_size // 2] ^= 1
            refused(bytes(content), "")
            refused(bytes(content[: len(content) // 2]), "")
        with zipfile.ZipFile("b.npz", "w") as archive:
            stream = io.BytesIO()
            np.save(stream, STACK)
            archive.writestr("images.npy", stream.getvalue() + b"more")
        refused(Path("b.npz").read_bytes(), "5764 are there")


def test_any_byte_of_any_file():
    """Whatever is overwritten: an error of the file, or pixels; nothing else is raised."""
    random = np.random.default_rng(5)
    np.save("a.npy", STACK)
    np.savez_compressed("b.npz", a=GREY)
    names = ["a.npy", "b.npz", save("c.png", RGB), save("d.png", DEEP), save("e.jpg", RGB)]
    for i, options in enumerate(({}, {"compression": "zlib"}, TILES, {"imagej": True}, {"ome": 1})):
        names.append(save(f"{i}.tif", STACK, photometric="minisblack", **options))
    for name in names:
        content = Path(name).read_bytes()
        for _ in range(12):
            wrong = bytearray(content)
            start = random.integers(len(content) if random.random() < 0.5 else 200)
            size = random.choice([1, 2, 8])
            wrong[start : start + size] = random.bytes(size)
            Path("x").write_bytes(wrong)
            with contextlib.suppress(ImageFileError):
                assert all(picture.pixels.size for picture in contents("x"))


def test_bytes_behind_the_end_of_a_jpeg_are_said():
    content = Path(save("a.jpg", RGB)).read_bytes()
    for more in (b"junk" * 9, content):
        Path("b.jpg").write_bytes(content + more)
        (picture,) = contents("b.jpg")
        assert picture.notes == (f"{len(more)} bytes after its end are left aside",)
    Path("b.jpg").write_bytes(content + bytes(99))
    assert contents("b.jpg")[0].notes == ()


def test_arrays_whose_bytes_are_no_booleans():
    broken = np.array([[0, 1], [2, 1]], np.uint8).view(bool)
    np.save("a.npy", broken)
    refused(Path("a.npy").read_bytes(), "its booleans hold other numbers than 0 and 1")


def test_two_arrays_of_one_name():
    np.save("a.npy", GREY)
    with zipfile.ZipFile("a.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.write("a.npy")
        archive.write("a.npy")
    refused(Path("a.npz").read_bytes(), "it holds 2 arrays by 1 names")


def test_a_png_of_apples_own_kind_has_a_remedy():
    chunks = png_chunks(Path(save("a.png", RGB)).read_bytes())
    Path("b.png").write_bytes(png_of((b"CgBI", bytes(4)), *chunks))
    with pytest.raises(ImageFileError, match=r"CgBI.*pngcrush -revert-iphone"):
        contents("b.png")


@pytest.mark.parametrize("form", [{"rowsperstrip": 5}, {"tile": (16, 16)}])
def test_addresses_of_parts_that_reach_into_others(form):
    """What is stored without compression, or by LZW, has no other trace of it."""
    save("a.tif", GREY, metadata=None, **form)
    with tifffile.TiffFile("a.tif") as tiff:
        tag = next(tag for tag in tiff.pages[0].tags if tag.name.endswith("Offsets"))
        size, number, offsets = tag.valuebytecount // tag.count, tag.count, tag.value
    content = Path("a.tif").read_bytes()
    index = number // 2
    for moved in (offsets[index] - 1, offsets[index] + 1, tag.offset, tag.valueoffset):
        changed, place = bytearray(content), tag.valueoffset + index * size
        changed[place : place + size] = moved.to_bytes(size, "little")
        Path("b.tif").write_bytes(changed)
        with pytest.raises(ImageFileError, match=r"damaged: its (strips|tiles) overlap each"):
            contents("b.tif")
    # Equal parts may be stored once, and what fills one up to a multiple of 4 may be counted.
    save("c.tif", np.full((64, 64), 7, np.uint8), metadata=None, **form)
    with tifffile.TiffFile("c.tif", mode="r+b") as tiff:
        tag = next(tag for tag in tiff.pages[0].tags if tag.name.endswith("Offsets"))
        tag.overwrite([tag.value[0]] * tag.count)
    np.testing.assert_array_equal(contents("c.tif")[0].pixels, np.full((64, 64), 7))


@pytest.mark.parametrize("compression", [None, "lzw", "packbits", "zlib", "zstd", "lzma"])
def test_a_last_strip_of_more_rows_than_the_image(compression):
    save("a.tif", GREY, metadata=None, rowsperstrip=9, compression=compression)
    height = len(GREY)
    assert height % 9 > 2
    for rows in (height - 1, height - 2):
        save("b.tif", GREY, metadata=None, rowsperstrip=9, compression=compression)
        with tifffile.TiffFile("b.tif", mode="r+b") as tiff:
            tiff.pages[0].tags[257].overwrite(rows)
        with pytest.raises(ImageFileError, match="damaged"):
            contents("b.tif")
