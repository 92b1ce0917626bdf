"""What is in the strips and tiles of a TIFF file: fax codes, pictures, and too many bytes."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import DEEP, GREY, RGB, patched, refused, save
from PIL import Image

from imsim._images import read_picture

TILES = {"tile": (16, 16)}
PICTURES = ["jpeg", "jpeg2000", "jpegxl", "jpegxr", "png", "lerc", "webp"]
EXPECTED = "expected 48 x 40|precision 12"
BITS = [GREY < 5, GREY < 128, GREY < 256, GREY > 255, GREY[:, :1] < 99]


pytestmark = pytest.mark.usefixtures("empty_directory")


@pytest.mark.parametrize("codec", ["lzw", "lzma", "zlib", "zstd", "packbits"])
@pytest.mark.parametrize("rows", [39, 20])
def test_strips_that_hold_more_than_their_pixels(codec, rows):
    save("a.tif", GREY, compression=codec)
    assert read_picture("a.tif").pixels.shape == GREY.shape
    Path("b.tif").write_bytes(patched("a.tif", "ImageLength", rows))
    refused(patched("b.tif", "RowsPerStrip", rows), "")


@pytest.mark.parametrize("codec", ["lzw", "zlib", "lzma", "packbits"])
def test_bytes_with_their_bits_in_the_other_order(codec):
    save("a.tif", GREY, compression=codec, rowsperstrip=len(GREY))
    with tifffile.TiffFile("a.tif") as tiff:
        start = tiff.pages[0].dataoffsets[0]
        end = start + tiff.pages[0].databytecounts[0]
    save("b.tif", GREY, compression=codec, extratags=[(65000, "H", 1, 2, True)])
    fill_order, unknown = (struct.pack("<HHI", tag, 3, 1) for tag in (266, 65000))
    content = bytearray(Path("b.tif").read_bytes().replace(unknown, fill_order))
    with tifffile.TiffFile("b.tif") as tiff:
        place = tiff.pages[0].dataoffsets[0]
    data = np.frombuffer(Path("a.tif").read_bytes()[start:end], np.uint8)
    mirrored = np.packbits(np.unpackbits(data, bitorder="little"), bitorder="big")
    content[place : place + len(data)] = mirrored.tobytes()
    Path("c.tif").write_bytes(content)
    np.testing.assert_array_equal(read_picture("c.tif").pixels, GREY)


@pytest.mark.parametrize("codec", PICTURES)
@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, TILES], ids=["strips", "tiles"])
def test_pictures_in_strips_and_tiles(codec, layout):
    """Of another size, depth or number of samples than the page says."""
    depth = np.uint8 if codec in ("jpeg", "webp") else np.uint16
    page = np.stack([DEEP.astype(depth)] * 3, -1)
    save("a.tif", page, compression=codec, photometric="rgb", **layout)
    assert read_picture("a.tif").pixels.shape == page.shape
    others = [
        np.repeat(page, 2, axis=1),
        np.repeat(page, 2, axis=0),
        np.repeat(page, 2, axis=0)[:, ::2],  # as many pixels
        page[..., 0],
        page[..., [0, 1, 2, 0]],
        page.astype(np.uint16 if depth == np.uint8 else np.uint8),
    ]
    streams = []
    for other in others:
        shape = {"rowsperstrip": len(other)}
        with contextlib.suppress(Exception):  # not every codec has every kind
            save("o.tif", other, compression=codec, photometric=None, metadata=None, **shape)
            with tifffile.TiffFile("o.tif") as tiff:
                (found,) = tiff.pages
                assert found.compression != 1
                content = Path("o.tif").read_bytes()[found.dataoffsets[0] :]
                streams.append(content[: found.databytecounts[0]])
    assert len(streams) >= (3 if codec == "webp" else 4)
    for stream in streams:
        save("b.tif", page, compression=codec, photometric="rgb", rowsperstrip=len(page))
        end = len(Path("b.tif").read_bytes())
        Path("b.tif").write_bytes(patched("b.tif", "StripOffsets", end))
        refused(patched("b.tif", "StripByteCounts", len(stream)) + stream, EXPECTED)


@pytest.mark.parametrize("codec", PICTURES)
@pytest.mark.parametrize("share", [0.4, 0.67, 0.97])
def test_pictures_that_are_cut(codec, share):
    save("a.tif", RGB, compression=codec, photometric="rgb", rowsperstrip=40)
    with tifffile.TiffFile("a.tif") as tiff:
        count = tiff.pages[0].databytecounts[0]
    refused(patched("a.tif", "StripByteCounts", int(count * share)), "")


@pytest.mark.parametrize("codec", [*PICTURES, "jpeg", "lzw", "zlib", "packbits"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_strips_that_end_in_zeros(codec, share):
    """As of a file that was being written when the power went."""
    if codec == "jpegxr":
        pytest.skip("its streams do not tell where they end")
    save("a.tif", RGB, compression=codec, photometric="rgb", rowsperstrip=40)
    with tifffile.TiffFile("a.tif") as tiff:
        start, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    content = bytearray(Path("a.tif").read_bytes())
    zeros = int(count * (1 - share))
    content[start + count - zeros : start + count] = bytes(zeros)
    refused(bytes(content), "")


@pytest.mark.parametrize("pixels", BITS, ids=["dots", "noise", "white", "black", "narrow"])
@pytest.mark.parametrize(
    ("codec", "options"),
    [("tiff_ccitt", {}), ("group4", {}), *(("group3", {292: o}) for o in (0, 1, 4, 5))],
)
@pytest.mark.parametrize("order", [1, 2])
def test_fax(pixels, codec, options, order):
    tags = {278: 16, 266: order} | options
    Image.fromarray(pixels).save("a.tif", compression=codec, tiffinfo=tags)
    np.testing.assert_array_equal(read_picture("a.tif").pixels, pixels)
    with tifffile.TiffFile("a.tif") as tiff:
        (page,) = tiff.pages
        places, counts = page.dataoffsets, page.databytecounts
    assert len(counts) == 3
    content = Path("a.tif").read_bytes()
    for place, count in zip(places, counts, strict=True):
        half, end = place + count // 2, place + count
        refused(content[:half] + bytes(end - half) + content[end:], "fax")
        if pixels is BITS[1]:  # where not every code is a row
            refused(content[:half] + b"\xaa" * 8 + content[half + 8 :], "")
    for item, count in enumerate(counts):
        refused(patched("a.tif", "StripByteCounts", count * 2 // 3, item), "fax")
    refused(patched("a.tif", "ImageLength", 39), "fax")
