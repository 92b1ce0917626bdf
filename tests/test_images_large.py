"""Images that stay on the disk: the same pixels, masks and notes as those read at once."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import DEEP, GREY, RGB, RNG, contents, patched, save

from imsim._images import ImageFile, ImageFileError, Reading
from imsim._images.raster import Raster, is_raster

pytestmark = pytest.mark.usefixtures("empty_directory")

SMALL = Reading(memory=1)
"""Nothing fits into one byte."""
FLOATS = RNG.normal(0, 1, (70, 52)).astype(np.float32)
BANDS = RNG.integers(0, 4096, (70, 52, 5)).astype(np.uint16)
NO_DATA = (42113, "s", 0, "-9999", True)
RGBA = np.dstack([RGB, RNG.integers(0, 256, GREY.shape).astype(np.uint8)])
FORMS = {
    "plain": (FLOATS, {}),
    "big": (FLOATS, {"bigtiff": True, "byteorder": ">"}),
    "strips": (DEEP, {"rowsperstrip": 7, "compression": "zlib", "predictor": 2}),
    "tiles": (FLOATS, {"tile": (16, 32), "compression": "zlib", "predictor": 3}),
    "tiles big": (BANDS[..., 0], {"tile": (32, 16), "bigtiff": True, "byteorder": ">"}),
    "lzma": (GREY, {"tile": (16, 16), "compression": "lzma"}),
    "bands": (BANDS, {"photometric": "minisblack", "planarconfig": "contig", "tile": (16, 16)}),
    "planes": (
        np.moveaxis(BANDS, -1, 0),
        {"photometric": "minisblack", "planarconfig": "separate", "tile": (16, 16)},
    ),
    "plain planes": (
        np.moveaxis(BANDS, -1, 0),
        {"photometric": "minisblack", "planarconfig": "separate"},
    ),
    "jpeg": (RGB, {"photometric": "rgb", "compression": "jpeg", "tile": (16, 16)}),
    "bits": (GREY > 99, {"photometric": "minisblack", "compression": "zlib", "rowsperstrip": 4}),
    "white": (GREY > 99, {"photometric": "miniswhite", "software": "other", "metadata": None}),
    "no data": (np.where(FLOATS > 1, -9999, FLOATS), {"extratags": [NO_DATA]}),
    "alpha": (RGBA, {"photometric": "rgb", "extrasamples": ["unassalpha"], "tile": (16, 16)}),
    "turned": (GREY, {"extratags": [(274, "H", 1, 6, True)], "compression": "zlib"}),
    "turned tiles": (RGBA, {"extratags": [(274, "H", 1, 7, True)], "tile": (16, 32)}),
    "turned, no data": (
        np.where(FLOATS > 1, -9999, FLOATS),
        {"extratags": [NO_DATA, (274, "H", 1, 8, True)]},
    ),
}


def same(large, small):
    """Compare an image on the disk with the same one in memory."""
    assert is_raster(large.pixels)
    assert large.pixels.shape == small.pixels.shape
    assert large.pixels.ndim == small.pixels.ndim
    assert large.pixels.dtype == small.pixels.dtype
    assert str(large) == str(small)
    np.testing.assert_array_equal(large.pixels[:], small.pixels)
    height, width = large.sides
    part = large.pixels.part(0, height, 0, width)
    valid = np.ones(large.sides, bool) if part.valid is None else part.valid
    wanted = np.ones(large.sides, bool) if small.valid is None else small.valid
    np.testing.assert_array_equal(valid, wanted)
    assert large.turned == small.turned
    assert large.pixels.transparent == small.transparent
    notes = [note for note in small.notes if not note.startswith("no data")]
    assert sorted({*large.notes, *large.pixels.said}) == sorted(notes)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_tiff(form):
    pixels, options = FORMS[form]
    save("a.tif", pixels, **options)
    (small,) = contents("a.tif")
    with ImageFile("a.tif", SMALL) as file:
        large = file.read(0)
        same(large, small)
        assert large.place == small.place
        with pytest.raises(IndexError, match="forwards"):
            large.pixels[::-1]


@pytest.mark.parametrize("form", ["tiles", "strips", "planes", "plain", "no data", "turned"])
@settings(max_examples=20)
@given(data=st.data())
def test_any_slice(form, data, tmp_path_factory):
    pixels, options = FORMS[form]
    name = str(tmp_path_factory.mktemp("slices") / "a.tif")
    save(name, pixels, **options)
    (small,) = contents(name)
    with ImageFile(name, SMALL) as file:
        large = file.read(0).pixels
        for _ in range(5):
            top, left = (data.draw(st.integers(0, n - 1)) for n in large.shape[:2])
            bottom, right = (data.draw(st.integers(n, 80)) for n in (top + 1, left + 1))
            key = data.draw(
                st.sampled_from(
                    [
                        (slice(top, bottom), slice(left, right)),
                        slice(top, bottom),
                        (slice(top, bottom, 2), left),
                        top,
                        (Ellipsis, slice(0, 1)),
                        (slice(top, top), slice(None)),
                    ]
                )
            )
            np.testing.assert_array_equal(large[key], small.pixels[key])


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_rows_that_follow_each_other_are_read_once(tile, monkeypatch):
    """Strips with a halo: what two of them share is not decoded again."""
    save("a.tif", DEEP, tile=tile, compression="zlib", rowsperstrip=None if tile else 16)
    with ImageFile("a.tif", SMALL) as file:
        pixels = file.read(0).pixels
        reads = []
        own = pixels._read
        pixels._read = lambda *box: reads.append(box) or own(*box)
        for top in range(0, 40, 10):
            rows = slice(max(top - 3, 0), top + 13)
            np.testing.assert_array_equal(pixels[rows], DEEP[rows])
    assert len(reads) == 3
    assert sorted(box[0] for box in reads) == [0, 16, 32]


def test_it_is_never_whole_in_memory():
    rows = np.arange(4000, dtype=np.uint16)
    large = np.lib.stride_tricks.as_strided(rows, (4000, 4000), (0, 2))
    for name, options in (("a.npy", {}), ("a.tif", {"tile": (256, 256), "compression": "zlib"})):
        save(name, np.ascontiguousarray(large), **options)
        tracemalloc.start()
        with ImageFile(name, Reading(memory=10**6)) as file:
            pixels = file.read(0).pixels
            total = sum(int(pixels[top : top + 50, :].sum()) for top in range(0, 4000, 50))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == int(rows.sum()) * 4000
        assert peak < 10e6  # of 32 MB


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays(order):
    stack = np.stack([DEEP, DEEP // 2]).astype(">u2", order=order)
    save("a.npy", stack)
    small = contents("a.npy")
    with ImageFile("a.npy", SMALL) as file:
        for index in range(2):
            same(file.read(index), small[index])
    save("b.npy", np.moveaxis(BANDS, -1, 0).copy())
    reading = Reading(memory=1, channel_axis=0)
    with ImageFile("b.npy", reading) as file:
        same(file.read(0), contents("b.npy", Reading(channel_axis=0))[0])


def test_described_stacks():
    stack = RNG.integers(0, 99, (3, 2, 40, 48)).astype(np.uint8)
    save("plain.tif", stack[:, 0], photometric="minisblack")  # one page has all planes
    tifffile.imwrite("imagej.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    tifffile.imwrite("a.ome.tif", stack, metadata={"axes": "ZCYX"}, compression="zlib")
    for name in ("plain.tif", "imagej.tif", "a.ome.tif"):
        small = contents(name)
        with ImageFile(name, SMALL) as file:
            assert len(file) == len(small) == 3
            for index, picture in enumerate(small):
                same(file.read(index), picture)


@pytest.mark.parametrize("kind", [{}, {"tile": (16, 16), "compression": "zlib"}])
def test_an_image_is_opened_while_a_part_of_another_one_is_read(kind, monkeypatch):
    save("a.tif", stack := np.stack([GREY, ~GREY]), metadata=None, **kind)
    read, meanwhile, reading = tifffile.FileHandle.read, threading.Event(), threading.Event()

    def slow(handle, *size):
        if threading.current_thread() is not threading.main_thread():
            reading.set()
            meanwhile.wait(0.05)
        return read(handle, *size)

    with ImageFile("a.tif", SMALL) as file, ThreadPoolExecutor(1) as other:
        first = file.read(0).pixels
        monkeypatch.setattr(tifffile.FileHandle, "read", slow)
        part = other.submit(first.__getitem__, slice(None))
        assert reading.wait(5)
        second = file.read(1).pixels[:]
        meanwhile.set()
        np.testing.assert_array_equal(part.result(), stack[0])
    np.testing.assert_array_equal(second, stack[1])


def test_only_what_is_too_large_stays_on_the_disk():
    save("a.tif", GREY)
    with ImageFile("a.tif", Reading(memory=GREY.nbytes)) as file:
        assert not is_raster(file.read(0).pixels)
    with ImageFile("a.tif", Reading(memory=GREY.nbytes - 1)) as file:
        assert is_raster(file.read(0).pixels)
    with (
        ImageFile("a.tif", Reading(memory=1, max_pixels=GREY.size - 1)) as file,
        pytest.raises(ImageFileError, match="more than the 1919 of --max-pixels"),
    ):
        file.read(0)


class TestDamage:
    def test_a_file_that_is_cut_off(self):
        save("a.tif", DEEP, compression="zlib", tile=(16, 16))
        whole = Path("a.tif").read_bytes()
        Path("a.tif").write_bytes(whole[:-3000])
        with ImageFile("a.tif", SMALL) as file, pytest.raises(ImageFileError, match=r"a\.tif: "):
            file.read(0)

    def test_a_tile_that_is_damaged_is_named_when_it_is_read(self):
        save("a.tif", DEEP, compression="zlib", tile=(16, 16))
        with tifffile.TiffFile("a.tif") as tiff:
            place = tiff.pages[0].dataoffsets[-1]
        content = bytearray(Path("a.tif").read_bytes())
        content[place + 20 : place + 60] = bytes(40)
        Path("a.tif").write_bytes(content)
        with ImageFile("a.tif", SMALL) as file:
            pixels = file.read(0).pixels
            np.testing.assert_array_equal(pixels[:10, :20], DEEP[:10, :20])
            with pytest.raises(ImageFileError, match=r"a\.tif: damaged"):
                pixels[30:40]

    def test_tiles_that_hold_too_much(self):
        save("a.tif", GREY, compression="lzma", tile=(32, 32))
        Path("a.tif").write_bytes(patched("a.tif", "TileWidth", 16))
        with (
            ImageFile("a.tif", SMALL) as file,
            pytest.raises(ImageFileError, match="damaged: "),
        ):
            file.read(0).pixels[:]

    def test_empty_tiles(self):
        """They are damage, unless the file declares no data."""
        for tags in ([], [(42113, "s", 0, "7", True)]):
            save("a.tif", GREY, tile=(16, 16), compression="zlib", extratags=tags)
            content = patched("a.tif", "TileByteCounts", 0, 4)
            Path("a.tif").write_bytes(content)
            Path("a.tif").write_bytes(patched("a.tif", "TileOffsets", 0, 4))
            with ImageFile("a.tif", SMALL) as file:
                if not tags:
                    with pytest.raises(ImageFileError, match="1 of its 9 tiles are empty"):
                        file.read(0)
                    continue
                same(file.read(0), contents("a.tif")[0])
                assert (file.read(0).pixels[16:32, 16:32] == 7).all()

    def test_an_array_that_is_cut_off_later(self):
        save("a.tif", np.tile(DEEP, (20, 1)))  # larger than a buffer
        with ImageFile("a.tif", SMALL) as file:
            pixels = file.read(0).pixels
            Path("a.tif").write_bytes(Path("a.tif").read_bytes()[:-100])
            with pytest.raises(ImageFileError, match=r"a\.tif: was changed while it was re"):
                pixels[700:]

    def test_a_palette_that_is_too_short(self):
        palette = np.zeros((3, 256), np.uint16)
        save("a.tif", GREY, photometric="palette", colormap=palette, compression="zlib")
        with ImageFile("a.tif", SMALL) as file:
            assert file.read(0).pixels.shape == (*GREY.shape, 3)

    def test_the_reader_warns_of_damage(self, monkeypatch):
        save("a.tif", GREY, compression="zlib")
        with ImageFile("a.tif", SMALL) as file:
            pixels = file.read(0).pixels
            own = pixels._read

            def warns(*box):
                tifffile.logger().warning("<tifffile.TiffTag 273 @8> corrupted")
                return own(*box)

            pixels._read = warns
            with pytest.raises(ImageFileError, match=r"a\.tif: damaged: the TIFF reader warns"):
                pixels[:4]


def test_a_raster_says_what_it_is():
    raster = Raster((4, 6, 3), np.dtype("u2"), lambda *_: None)
    assert (raster.size, raster.nbytes, len(raster), raster.ndim) == (72, 144, 4, 3)
    with pytest.raises(IndexError):
        raster[0, 0, 0, 0]
    with pytest.raises(IndexError):
        raster[4]


class TestLevels:
    """Of pyramids: cloud-optimised GeoTIFF has pages, and OME-TIFF sub-directories."""

    def test_each(self):
        steps, stack = (1, 2, 4), np.stack([DEEP, DEEP // 2])
        with tifffile.TiffWriter("pages.tif") as tiff:
            for step in steps:
                options = {"tile": (16, 16), "subfiletype": int(step > 1)}
                tiff.write(DEEP[::step, ::step], metadata=None, compression="zlib", **options)
            tiff.write(DEEP > 9, subfiletype=4, metadata=None)
        for name, options in (("below.tif", {"metadata": None}), ("shaped.tif", {})):
            with tifffile.TiffWriter(name) as tiff:
                for step in steps:
                    more = {"subfiletype": 1} if step > 1 else {"subifds": 2, **options}
                    tiff.write(DEEP[::step, ::step], **more)
        with tifffile.TiffWriter("a.ome.tif") as tiff:
            for step in steps:
                more = {"subfiletype": 1} if step > 1 else {"subifds": 2}
                tiff.write(stack[:, ::step, ::step], metadata={"axes": "CYX"}, **more)
        for name in ("pages.tif", "below.tif", "shaped.tif", "a.ome.tif"):
            wanted = np.moveaxis(stack, 0, -1) if "ome" in name else DEEP
            for level, step in enumerate(steps):
                (picture,) = contents(name, Reading(level=level))
                np.testing.assert_array_equal(picture.pixels, wanted[::step, ::step])
                with ImageFile(name, Reading(level=level, memory=1)) as file:
                    assert len(file) == 1
                    same(file.read(0), picture)
            with pytest.raises(ImageFileError, match="has no level 3; it has 3 levels, counted"):
                ImageFile(name, Reading(level=3))

    @pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy"])
    def test_files_without(self, name):
        save(name, GREY)
        assert len(contents(name, Reading(level=0))) == 1
        with pytest.raises(ImageFileError, match=rf"{name}: has no level 1"):
            ImageFile(name, Reading(level=1))


def test_columns_of_blocks_decode_what_they_share_once(monkeypatch):
    """Blocks go down columns: of a band, only their own tiles are decoded and kept."""
    save("a.tif", DEEP, tile=(16, 16), compression="zlib")
    with ImageFile("a.tif", SMALL) as file:
        pixels = file.read(0).pixels
        boxes = []
        own = pixels._read
        monkeypatch.setattr(pixels, "_read", lambda *box: boxes.append(box) or own(*box))
        for columns in (slice(0, 14), slice(14, 30)):
            for top in range(0, 40, 10):
                part = slice(top, top + 10), columns
                np.testing.assert_array_equal(pixels[part], DEEP[part])
    bands = [(top, min(top + 16, 40)) for top in (0, 16, 32)]
    assert boxes == [(*band, *sides) for sides in ((0, 16), (0, 32)) for band in bands]
