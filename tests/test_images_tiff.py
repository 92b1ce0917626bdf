"""What a TIFF file says of its pages: copies, masks, axes, palettes, and where data are."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import (
    DEEP,
    GREY,
    RGB,
    RNG,
    contents,
    patched,
    refused,
    save,
    save_packed,
)
from PIL import Image

from imsim._images import ImageFile, ImageFileError, Reading, read_picture

FLOATS = RNG.random((6, 8)).astype(np.float32)


pytestmark = pytest.mark.usefixtures("empty_directory")


def pixels_of(path, reading=None):
    return [picture.pixels for picture in contents(path, reading)]


class TestPagesLeftAside:
    @pytest.mark.parametrize("big", [False, True])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_overviews_and_masks(self, big, order):
        """As in a cloud-optimised GeoTIFF: they are no images, and that is said."""
        with tifffile.TiffWriter("a.tif", bigtiff=big, byteorder=order) as tiff:
            for pixels, kind in ((GREY, 0), (GREY[::2, ::2], 1), (GREY > 0, 4), (255 - GREY, 2)):
                tiff.write(pixels, subfiletype=kind, metadata=None, photometric="minisblack")
        first, second = contents("a.tif")
        np.testing.assert_array_equal(first.pixels, GREY)
        np.testing.assert_array_equal(second.pixels, 255 - GREY)
        note = ("left aside of its pages: 1 reduced images, 1 masks",)
        assert first.notes == second.notes == note
        assert second.path == "a.tif[1]"

    def test_the_old_tag(self):
        with tifffile.TiffWriter("a.tif") as tiff:
            tiff.write(GREY, metadata=None)
            tiff.write(GREY[::4, ::4], metadata=None, extratags=[(255, "H", 1, 2, True)])
        (picture,) = contents("a.tif")
        assert picture.pixels.shape == GREY.shape
        assert picture.notes == ("left aside of its pages: 1 reduced images",)

    def test_images_in_sub_directories(self):
        for name, options in (("a.tif", {"metadata": None}), ("b.ome.tif", {})):
            with tifffile.TiffWriter(name) as tiff:
                tiff.write(GREY, subifds=2, **options)
                tiff.write(GREY[::2, ::2], subfiletype=1)
                tiff.write(GREY[::4, ::4], subfiletype=1)
            (picture,) = contents(name)
            np.testing.assert_array_equal(picture.pixels, GREY)
            assert picture.notes == ("left aside of its pages: 2 images in sub-directories",)

    def test_copies_of_what_tifffile_describes(self):
        stack = np.stack([GREY, 255 - GREY, GREY])
        with tifffile.TiffWriter("a.tif") as tiff:
            tiff.write(stack, photometric="minisblack")
            for step in (2, 4):
                tiff.write(GREY[::step, ::step], subfiletype=1, metadata=None)
        np.testing.assert_array_equal(pixels_of("a.tif"), stack)

    def test_files_of_nothing_else(self):
        save("mask.tif", GREY > 9, subfiletype=4, metadata=None)
        (picture,) = contents("mask.tif")
        assert picture.notes[0].startswith("declares to be a reduced image or a mask")
        with tifffile.TiffWriter("raw.tif") as tiff:
            tiff.write(GREY[::4, ::4], subfiletype=1, subifds=1, metadata=None)
            tiff.write(GREY, metadata=None)
        with pytest.raises(ImageFileError, match=r"raw.tif: .* its image is in a sub-directory"):
            ImageFile("raw.tif")


class TestNoData:
    @pytest.mark.parametrize(
        ("pixels", "value", "text"),
        [
            (FLOATS, -9999, "-9999"),
            (FLOATS, np.nan, "nan"),
            (FLOATS, np.float32(-3.4028234663852886e38), "-3.4028234663852886e+38"),
            (FLOATS, np.float32(-3.4028234663852886e38), "-3.4028235e+38"),
            (FLOATS, -np.inf, "-inf"),
            (FLOATS.astype("f8"), -9999.5, "-9999,5"),
            (DEEP[:6, :8] | 1, 0, "0"),
            (DEEP[:6, :8] // 2, 65535, "65535.0"),
            ((DEEP[:6, :8] // 4).astype("i2"), -32768, "-32768 "),
        ],
    )
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_the_value_that_the_file_declares(self, pixels, value, text, order):
        pixels = pixels.copy()
        pixels[:2, 3:] = value
        save("a.tif", pixels, extratags=[(42113, "s", 0, text, True)], byteorder=order)
        picture = read_picture("a.tif")
        np.testing.assert_array_equal(picture.pixels, pixels)
        want = np.ones(pixels.shape, bool)
        want[:2, 3:] = False
        np.testing.assert_array_equal(picture.valid, want)
        (note,) = picture.notes
        assert note.endswith("at 10 of 48 pixels, which are masked")

    @pytest.mark.parametrize(
        "text", ["-9999", "nan", "1e99", "none", "0.5", "256", "abc", "-1.#IND", "", "1" * 400]
    )
    def test_values_that_no_pixel_can_have(self, text):
        for pixels in (GREY, FLOATS.astype(np.float16) if "e99" in text else DEEP):
            if pixels is DEEP and text == "256":
                continue
            save("a.tif", pixels, extratags=[(42113, "s", 0, text, True)])
            picture = read_picture("a.tif")
            assert picture.valid is None
            assert picture.notes == (
                f"no pixel of {pixels.dtype} can be {text!r} (GDAL_NODATA); no data are masked",
            )

    def test_pages_that_declare_none_have_that_of_the_first(self):
        """As in a stack whose writer tags the first page only."""
        pages = np.stack([GREY, GREY, GREY]).astype(np.float32)
        pages[1, :4] = pages[2, 0] = -9999
        tags = [(42113, "s", 0, "-9999", True)]
        save("a.tif", pages, photometric="minisblack", extratags=tags, rowsperstrip=8)
        with ImageFile("a.tif", Reading(memory=100)) as file:
            parts = [file.read(i).pixels.part(0, 40, 0, 48) for i in range(3)]
        for found in (contents("a.tif"), parts):
            assert found[0].valid is None
            np.testing.assert_array_equal(found[1].valid, pages[1] != -9999)
            np.testing.assert_array_equal(found[2].valid, pages[2] != -9999)
        (volume,) = contents("a.tif", Reading(volume=True))
        np.testing.assert_array_equal(volume.valid, pages != -9999)

    def test_strips_that_are_missing_ask_for_a_value_of_their_own_page(self):
        """Others would be filled with 0."""
        pages = np.stack([GREY, GREY])
        tags = [(42113, "s", 0, "9", True)]
        save("a.tif", pages, photometric="minisblack", extratags=tags, rowsperstrip=40)
        with tifffile.TiffFile("a.tif") as tiff:
            place = tiff.pages[1].tags["StripOffsets"].valueoffset
        content = bytearray(Path("a.tif").read_bytes())
        content[place : place + 4] = bytes(4)
        Path("a.tif").write_bytes(content)
        with pytest.raises(ImageFileError, match="1 of its 1 strips are empty"):
            contents("a.tif")

    def test_integers_of_64_bits_are_exact(self):
        pixels = np.array([[2**60, 2**60 + 1], [2**60 + 2, 0]])
        save("a.tif", pixels, extratags=[(42113, "s", 0, str(2**60 + 1), True)])
        assert read_picture("a.tif").valid.tolist() == [[True, False], [True, True]]

    @pytest.mark.parametrize("planar", ["contig", "separate"])
    @pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
    def test_alpha_is_no_band_of_data(self, planar, kind):
        colours = np.dstack([RGB // 2, np.full(GREY.shape, 255, np.uint8)])
        colours[3, 4, 1] = 255
        save(
            "a.tif",
            colours if planar == "contig" else np.moveaxis(colours, -1, 0),
            photometric="rgb",
            planarconfig=planar,
            extrasamples=[kind],
            extratags=[(42113, "s", 0, "255", True)],
        )
        assert np.argwhere(~read_picture("a.tif").valid).tolist() == [[3, 4]]

    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_a_pixel_has_data_if_every_band_has(self, planar):
        bands = RNG.random((6, 8, 5))
        bands[1, 2, 3] = bands[4, 4] = -1
        stored = bands if planar == "contig" else np.moveaxis(bands, -1, 0)
        save(
            "a.tif",
            stored,
            photometric="minisblack",
            planarconfig=planar,
            extratags=[(42113, "s", 0, "-1", True)],
        )
        gone = np.argwhere(~read_picture("a.tif").valid).tolist()
        assert gone == [[1, 2], [4, 4]]

    def test_each_page_has_its_own(self):
        with tifffile.TiffWriter("a.tif") as tiff:
            for value in ("3", "4", None):
                tags = [] if value is None else [(42113, "s", 0, value, True)]
                tiff.write(
                    np.arange(12, dtype=np.int32).reshape(3, 4), extratags=tags, metadata=None
                )
        three, four, none = (picture.valid for picture in contents("a.tif"))
        assert np.flatnonzero(~three).tolist() == [3]
        assert np.flatnonzero(~four).tolist() == [4]
        assert none is None


HYPERSTACK = RNG.integers(0, 999, (2, 3, 4, 6, 8)).astype(np.uint16)  # T, Z, C, Y, X


class TestAxes:
    """The file's own description says which axis counts channels; the others count images."""

    @pytest.mark.parametrize("axes", ["TZCYX", "TCZYX", "CTZYX", "CYX", "ZYX", "TCYX", "YX"])
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("codec", [None, "zlib"])
    def test_ome(self, axes, order, codec):
        lengths = dict(zip("TZCYX", HYPERSTACK.shape, strict=True))
        pixels = HYPERSTACK.reshape(-1)[: np.prod([lengths[a] for a in axes])]
        pixels = pixels.reshape([lengths[a] for a in axes])
        save(
            "a.ome.tif",
            pixels,
            metadata={"axes": axes},
            byteorder=order,
            compression=codec,
            photometric="minisblack",
        )
        want = np.moveaxis(pixels, axes.index("C"), -1) if "C" in axes else pixels
        want = want.reshape(-1, *want.shape[-3 if "C" in axes else -2 :])
        found = contents("a.ome.tif")
        np.testing.assert_array_equal([picture.pixels for picture in found], want)
        assert found[0].notes == ()

    @pytest.mark.parametrize("pages", ["all", "first"])
    @pytest.mark.parametrize("axes", ["TZCYX", "CYX", "TYX", "ZCYX"])
    def test_imagej(self, axes, pages):
        """Files beyond 4 GiB have one page only, with all planes behind it."""
        lengths = dict(zip("TZCYX", HYPERSTACK.shape, strict=True))
        pixels = HYPERSTACK.reshape(-1)[: np.prod([lengths[a] for a in axes])]
        pixels = pixels.reshape([lengths[a] for a in axes])
        save("a.tif", pixels, imagej=True, metadata={"axes": axes})
        if pages == "first":
            with tifffile.TiffFile("a.tif", mode="r+b") as tiff:
                tiff.filehandle.seek(tiff.pages[0].offset + 2 + 12 * len(tiff.pages[0].tags))
                tiff.filehandle.write(bytes(4))
        want = np.moveaxis(pixels, axes.index("C"), -1) if "C" in axes else pixels
        want = want.reshape(-1, *want.shape[-3 if "C" in axes else -2 :])
        found = contents("a.tif")
        np.testing.assert_array_equal([picture.pixels for picture in found], want)
        with ImageFile("a.tif", Reading(memory=1)) as file:
            for index, image in enumerate(want):
                np.testing.assert_array_equal(file.read(index).pixels[:], image)
        if pages == "first":
            with tifffile.TiffFile("a.tif") as tiff:
                end = tiff.pages[0].dataoffsets[0] + pixels.nbytes - 2
            Path("b.tif").write_bytes(Path("a.tif").read_bytes()[:end])
            with pytest.raises(ImageFileError, match="damaged"):
                contents("b.tif")

    def test_imagej_colours(self):
        stack = np.stack([RGB, 255 - RGB])
        save("a.tif", stack, imagej=True)
        np.testing.assert_array_equal(pixels_of("a.tif"), stack)

    @pytest.mark.parametrize(
        ("pages", "counted"),
        [
            (3, "images=9\nchannels=3"),
            (4, "images=9\nchannels=3\nframes=3"),
            (3, "images=9\nslices=9"),
            (3, "images=9"),
            (1, "images=3\nchannels=3"),
        ],
    )
    def test_imagej_counts_images_that_are_not_there(self, pages, counted):
        self.described_by_imagej(pages, counted)
        with pytest.raises(ImageFileError, match=r"damaged: .*ImageJ"):
            contents("a.tif")

    @pytest.mark.parametrize(
        ("pages", "counted"),
        [(6, "images=6\nchannels=3"), (4, "images=3\nchannels=3"), (3, "images=2\nslices=2")],
    )
    def test_imagej_counts_less_than_all_pages(self, pages, counted):
        """As of files that were joined page by page."""
        self.described_by_imagej(pages, counted)
        found = contents("a.tif")
        assert [picture.pixels.shape for picture in found] == [GREY.shape] * pages
        assert "pages; each page is taken as an image" in found[0].notes[0]

    @staticmethod
    def described_by_imagej(pages, counted):
        with tifffile.TiffWriter("a.tif") as tiff:
            for index in range(pages):
                description = None if index else f"ImageJ=1.53t\n{counted}\nhyperstack=true\n"
                tiff.write(
                    GREY + np.uint8(index),
                    description=description,
                    metadata=None,
                    contiguous=False,
                    software="",
                )

    def test_pages_that_ome_does_not_name(self):
        with tifffile.TiffWriter("a.ome.tif") as tiff:
            stack = np.stack([GREY, GREY + 1])
            tiff.write(stack, metadata={"axes": "CYX"}, photometric="minisblack")
        parts = [f'<TiffData IFD="{i}" FirstC="{i}" PlaneCount="1"/>' for i in range(2)]
        with tifffile.TiffFile("a.ome.tif") as tiff:
            described = tiff.ome_metadata
        whole = r"<TiffData[^>]*/>|<TiffData.*</TiffData>"
        description = re.sub(whole, "".join(parts), described, flags=re.DOTALL)
        with tifffile.TiffWriter("b.ome.tif") as tiff:
            for index in range(3):
                said = None if index else description.encode()
                tiff.write(GREY + np.uint8(index), description=said, metadata=None, software="")
        (picture,) = contents("b.ome.tif")
        np.testing.assert_array_equal(picture.pixels, np.moveaxis(stack, 0, -1))
        assert picture.notes == (
            "its description counts 2 of its 3 pages; the others are left aside",
        )

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "float32", "float64"])
    def test_another_type_in_an_ome_description(self, dtype):
        stack = np.stack([GREY, GREY]).astype(dtype)
        save("a.ome.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack")
        assert contents("a.ome.tif")[0].notes == ()
        content = Path("a.ome.tif").read_bytes()
        name = {"float32": b"float", "float64": b"double"}.get(dtype, dtype.encode())
        other = {4: b"bit", 5: b"int16", 6: b"uint32"}[len(name)]
        assert content.count(b'Type="' + name + b'"') == 1
        changed = b'Type="' + other + b'"'
        changed += b" " * (len(name) + 7 - len(changed))
        Path("a.ome.tif").write_bytes(content.replace(b'Type="' + name + b'"', changed))
        found = contents("a.ome.tif")
        np.testing.assert_array_equal([picture.pixels for picture in found], stack)
        assert found[0].notes == (
            f"its OME description says Type {other.decode()}, its pages are {dtype}, which is "
            "taken",
        )

    @pytest.mark.parametrize("place", ["tail", "middle"])
    def test_a_torn_description(self, place):
        """Without it, three channels would be three images."""
        save("a.ome.tif", HYPERSTACK[0, 0], metadata={"axes": "CYX"}, photometric="minisblack")
        content = bytearray(Path("a.ome.tif").read_bytes())
        end = content.index(b"OME>") + 4 - (0 if place == "tail" else 200)
        content[end - 50 : end] = bytes(50)
        refused(bytes(content), "")

    def test_several_images_of_ome(self):
        with tifffile.TiffWriter("a.ome.tif") as tiff:
            tiff.write(HYPERSTACK[0], metadata={"axes": "ZCYX"}, photometric="minisblack")
            tiff.write(GREY, photometric="minisblack")
        found = pixels_of("a.ome.tif")
        assert [p.shape for p in found] == [(6, 8, 4)] * 3 + [GREY.shape]

    def test_planes_in_another_file(self):
        save("a.ome.tif", HYPERSTACK[0, 0], metadata={"axes": "CYX"}, photometric="minisblack")
        content = Path("a.ome.tif").read_bytes()
        Path("b.ome.tif").write_bytes(content.replace(b'SizeC="4"', b'SizeC="5"'))
        with pytest.raises(ImageFileError, match="damaged"):
            contents("b.ome.tif")


ARRAYS = [
    HYPERSTACK[0, 0],
    HYPERSTACK[0, 0, 0],
    HYPERSTACK[:, 0],
    HYPERSTACK,
    HYPERSTACK[:, :, 0],
    RNG.random((9, 9, 3)),
    RNG.random((2, 9, 12, 5)),
    RNG.random((12, 9, 16)),
]


@pytest.mark.parametrize("channel_axis", [None, 0, 1, 2, -1, -3])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: "x".join(map(str, array.shape)))
def test_the_same_array_means_the_same(array, channel_axis):
    """In an array file, an archive, and a TIFF file that tifffile makes of it."""
    reading = Reading(channel_axis=channel_axis)
    np.savez("c.npz", array)
    options = {"photometric": "minisblack", "planarconfig": None}
    names = [save("a.npy", array), save("b.tif", array, **options), "c.npz"]
    names.append(save("d.tif", array, compression="zlib", **options))
    if array.ndim == 3:
        with tifffile.TiffWriter("e.tif") as tiff:
            for page in array:
                tiff.write(page, photometric="minisblack", metadata=None)
        if channel_axis is not None:  # else each page is an image
            names.append("e.tif")
    answers = []
    for name in names:
        try:
            answers.append(pixels_of(name, reading))
        except ImageFileError as error:
            answers.append(str(error).removeprefix(name))
    for answer in answers[1:]:
        if isinstance(answers[0], str):
            assert answer == answers[0]
        else:
            np.testing.assert_array_equal(answer, answers[0])
    if channel_axis is None or not -array.ndim <= channel_axis < array.ndim or array.ndim == 2:
        return
    want = np.moveaxis(array, channel_axis, -1)
    np.testing.assert_array_equal(answers[0], want.reshape(-1, *want.shape[-3:]))


def test_axes_that_are_not_certain():
    for shape, words in (
        ((9, 9, 3), "name its axis of channels"),
        ((2, 10, 12, 12), "would be 12 channels"),
        ((2, 2, 2, 6, 8), "Name its axis of channels"),
    ):
        save("a.npy", np.zeros(shape))
        with pytest.raises(ImageFileError, match=words):
            ImageFile("a.npy")
    with pytest.raises(ImageFileError, match="has no axis 5 for --channel-axis"):
        ImageFile("a.npy", Reading(channel_axis=5))
    save("b.npy", np.zeros((6, 8)))  # has no channels
    assert read_picture("b.npy", Reading(channel_axis=0)).pixels.shape == (6, 8)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "float32", "float64", "float16"])
def test_byte_order_never_matters(dtype):
    pixels = (DEEP // 2).astype(dtype)
    for order in "<>":
        array = pixels.astype(pixels.dtype.newbyteorder(order))
        np.savez("c.npz", array)
        names = [save("a.npy", array), "c.npz"]
        names += [save("a.tif", pixels, byteorder=order)]
        predictor = 2 if pixels.dtype.kind in "iu" else 3
        options = {"compression": "zlib", "predictor": predictor}
        names += [save("z.tif", pixels, byteorder=order, **options)]
        for name in names:
            found = read_picture(name).pixels
            assert found.dtype == pixels.dtype
            assert found.dtype.isnative
            np.testing.assert_array_equal(found, pixels)


class TestPalettes:
    def test_palette_becomes_rgb(self):
        index = GREY // 32
        colours = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
        for scale in (257, 256):
            save("a.tif", index, photometric="palette", colormap=colours * scale)
            picture = read_picture("a.tif")
            assert picture.pixels.dtype == np.uint8
            np.testing.assert_array_equal(picture.pixels, colours.T[index])
            assert picture.notes == ("its palette is converted to RGB",)
        colours = RNG.integers(0, 65536, (3, 256)).astype(np.uint16)
        save("a.tif", index, photometric="palette", colormap=colours)
        np.testing.assert_array_equal(read_picture("a.tif").pixels, colours.T[index])

    def test_the_palette_of_pillow(self):
        image = Image.fromarray(np.repeat(GREY[..., None] // 64 * 64, 3, axis=-1)).quantize(8)
        image.save("a.tif")
        np.testing.assert_array_equal(
            read_picture("a.tif").pixels, np.asarray(image.convert("RGB"))
        )
        image.convert("PA").save("a.tif")
        with pytest.raises(ImageFileError, match=r"a palette and 2 samples .*; save it as RGB"):
            read_picture("a.tif")


@pytest.mark.parametrize("bits", [1, 2, 4, 12])
@pytest.mark.parametrize("width", [1, 3, 13])
def test_rows_that_end_within_a_byte(bits, width):
    pixels = DEEP[:, :width] >> (16 - bits)
    scale = {2: 85, 4: 17}.get(bits, 1)
    found = read_picture(save_packed("a.tif", pixels, bits)).pixels
    np.testing.assert_array_equal(found, pixels * scale)
    colours = np.stack([pixels > pixels.mean()] * 2)
    save("b.tif", colours, photometric="minisblack", planarconfig="separate")
    np.testing.assert_array_equal(read_picture("b.tif").pixels, np.moveaxis(colours, 0, -1))
    save("c.tif", np.moveaxis(colours, 0, -1), photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageFileError, match=r"c.tif: its bands are packed in 1 bits each"):
        read_picture("c.tif")


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_levels_of_few_bits(bits):
    save_packed("a.tif", GREY >> (8 - bits), bits)
    picture = read_picture("a.tif")
    np.testing.assert_array_equal(picture.pixels, (GREY >> (8 - bits)) * (255 // (2**bits - 1)))
    assert picture.notes == (f"its {bits}-bit grey levels are scaled to 8 bits",)


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8"])
@pytest.mark.parametrize(
    "layout",
    [{}, {"tile": (16, 16)}, {"compression": "zlib"}, {"byteorder": ">"}, {"metadata": None}],
)
def test_0_as_white(kind, layout):
    """Whole numbers are counted from the largest one: white is then the largest everywhere."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, np.iinfo(kind).max, (3, 40, 48), kind, endpoint=True)
    most = np.iinfo(kind).max
    save("a.tif", most - pixels[0], photometric="miniswhite", **layout)
    save("s.tif", most - np.tile(pixels, (2, 1, 1)), photometric="miniswhite", **layout)
    for reading in (None, Reading(memory=99)):
        with ImageFile("a.tif", reading) as file:
            np.testing.assert_array_equal(file.read(0).pixels[:], pixels[0])
        with ImageFile("s.tif", reading) as file:
            assert len(file) == 6
            np.testing.assert_array_equal(file.read(4).pixels[:], pixels[1])
    assert contents("a.tif")[0].notes == (
        f"stored with 0 as white; {most} - stored is taken, so that 0 is black",
    )


@pytest.mark.parametrize("bits", [2, 4, 12])
def test_0_as_white_in_few_bits(bits):
    levels = DEEP >> (16 - bits)
    save_packed("a.tif", levels.astype(np.uint16 if bits > 8 else np.uint8), bits)
    black = read_picture("a.tif").pixels
    Path("b.tif").write_bytes(patched("a.tif", "PhotometricInterpretation", 0))
    white = read_picture("b.tif").pixels
    np.testing.assert_array_equal(white, (255 if bits < 8 else 4095) - black)


@pytest.mark.parametrize("kind", ["i2", "f4", "f8"])
@pytest.mark.parametrize("number", [1, 5])
def test_0_as_white_has_no_meaning_for_other_numbers(kind, number):
    save("a.tif", np.repeat(GREY[None].astype(kind), number, axis=0), photometric="miniswhite")
    with pytest.raises(ImageFileError, match="stored as MINISWHITE; save it as grey"):
        contents("a.tif")


def test_packed_samples(monkeypatch):
    from tifffile import _imagecodecs

    save_packed("a.tif", DEEP // 16, 12)
    np.testing.assert_array_equal(read_picture("a.tif").pixels, DEEP // 16)
    monkeypatch.setattr(tifffile.tifffile, "imagecodecs", _imagecodecs)  # the package is not there
    with pytest.raises(ImageFileError, match=r"its packing of 12 bits .*imsim\[codecs\]"):
        read_picture("a.tif")


@pytest.mark.parametrize("value", [0, 9, 77])
def test_orientations_that_do_not_exist(value):
    save("a.tif", GREY, extratags=[(274, "H", 1, value, True)])
    assert "to be turned" not in " ".join(read_picture("a.tif").notes)
    exif = Image.Exif()
    exif[274] = value
    for name in ("a.png", "a.jpg"):
        assert read_picture(save(name, GREY, exif=exif)).notes == ()


def test_predictors_are_named(monkeypatch):
    save("a.tif", FLOATS, compression="zlib", predictor=3)
    np.testing.assert_array_equal(read_picture("a.tif").pixels, FLOATS)

    class Without:
        def __getitem__(self, key):
            raise KeyError(f"{key!r} requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TIFF, "UNPREDICTORS", Without())
    with pytest.raises(ImageFileError, match=r"its predictor \(FLOATINGPOINT\) needs the package"):
        read_picture("a.tif")


def test_tags_of_the_wrong_type():
    """A tag that says nothing of the pixels does no harm, whatever is in it."""
    save("a.tif", GREY, extratags=[(42112, "s", 0, "<GDALMetadata>", True)])
    content = Path("a.tif").read_bytes()
    Path("b.tif").write_bytes(
        content.replace(struct.pack("<HH", 42112, 2), struct.pack("<HH", 42112, 77))
    )
    np.testing.assert_array_equal(read_picture("b.tif").pixels, GREY)


def one_page(name: str, pixels: np.ndarray, *tags: tuple[str, int]) -> str:
    """Save a page, some of whose tags are then overwritten."""
    save(name, pixels, metadata=None)
    for tag, value in tags:
        Path(name).write_bytes(patched(name, tag, value))
    return name


def test_what_a_page_leaves_open_is_said_or_refused():
    with pytest.raises(ImageFileError, match="says to be RGB, and a pixel has 1 of its 3 samples"):
        contents(one_page("a.tif", GREY, ("PhotometricInterpretation", 2)))
    (undefined,) = contents(one_page("b.tif", GREY.view(np.int8), ("SampleFormat", 4)))
    assert undefined.notes == (
        "its sample format is undefined (4); its samples are taken as uint8",
    )
    np.testing.assert_array_equal(undefined.pixels, GREY)
    Path("c.tif").write_bytes(patched("b.tif", "SampleFormat", 99))
    with pytest.raises(ImageFileError, match="its sample format is 99, which is none; save it as"):
        contents("c.tif")


@pytest.mark.parametrize("samples", [2, 4])
def test_a_sample_of_no_stated_kind_is_said(samples):
    pixels = np.stack([GREY] * samples, axis=-1)
    photometric = "rgb" if samples == 4 else "minisblack"
    options = {"photometric": photometric, "planarconfig": "contig", "metadata": None}
    (picture,) = contents(save("a.tif", pixels, extrasamples=["unspecified"], **options))
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert len(picture.notes) == 1
    assert f"sample {samples} of its pixels is of no stated kind" in picture.notes[0]


def test_a_transfer_function_of_one_curve_stops_nothing():
    curve = (301, "H", 256, [257 * i for i in range(256)], True)
    (picture,) = contents(save("a.tif", GREY, metadata=None, extratags=[curve]))
    np.testing.assert_array_equal(picture.pixels, GREY)
    assert "read_colormap" in picture.notes[0]


@pytest.mark.parametrize("compression", [1, 32773])
def test_a_predictor_without_its_compression(compression):
    """Where there is none, or PackBits, libtiff takes the samples as they are; tifffile adds up."""
    save("a.tif", GREY, compression="zlib", predictor=True, metadata=None)
    Path("a.tif").write_bytes(patched("a.tif", "Compression", compression))
    with pytest.raises(ImageFileError, match=r"^a.tif: has a predictor \(2\) without a compress"):
        contents("a.tif")
    for known in ("zlib", "lzw", "zstd", "lzma"):
        save("b.tif", GREY, compression=known, predictor=True, metadata=None)
        np.testing.assert_array_equal(contents("b.tif")[0].pixels, GREY)


def test_strips_within_the_header():
    save("a.tif", GREY, metadata=None)
    refused(patched("a.tif", "StripOffsets", 4), "strips begin within the header", "b.tif")


@pytest.mark.parametrize("form", [1, 2])
def test_a_predictor_of_floats_with_integers(form):
    """What tells the format of samples was overwritten."""
    save("a.tif", FLOATS, compression="zlib", predictor=3, metadata=None)
    with tifffile.TiffFile("a.tif", mode="r+b") as tiff:
        tiff.pages[0].tags[339].overwrite(form)
    with pytest.raises(ImageFileError, match=r"damaged: its predictor \(3\) is one of floats"):
        contents("a.tif")


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("kind", ["whole", "float"])
def test_24_bits(byteorder, kind):
    """Whole ones are in the order of the file to some readers, and packed bits to others."""
    imagecodecs = pytest.importorskip("imagecodecs")
    floats = np.float32(GREY) / 4
    raw = np.frombuffer(imagecodecs.float24_encode(floats, byteorder=byteorder), np.int8)
    height, width = GREY.shape
    save("a.tif", raw.reshape(height, -1), byteorder=byteorder, metadata=None)
    with tifffile.TiffFile("a.tif", mode="r+b") as tiff:
        tags = {256: width, 258: 24, 339: 3 if kind == "float" else 1}
        for code, value in tags.items():
            tiff.pages[0].tags[code].overwrite(value)
    if kind == "float":
        np.testing.assert_array_equal(contents("a.tif")[0].pixels, floats)
        return
    with pytest.raises(ImageFileError, match=r"a\.tif: its pixels are whole numbers of 24 bits"):
        contents("a.tif")
