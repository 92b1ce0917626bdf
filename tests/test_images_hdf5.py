"""HDF5 and netCDF 4: which dataset is taken, what its attributes say, and what is refused."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from command import compared
from image_files import DEEP, GREY, RGB, contents
from test_images_large import SMALL, same

from imsim._images import ImageFile, ImageFileError, Reading, read_picture
from imsim.cli import main

h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.usefixtures("empty_directory")


def put(name, datasets, before=0, **options):
    """Save datasets by their names, behind a block of other bytes; return the path."""
    with h5py.File(name, "w", userblock_size=before) as file:
        for key, pixels in datasets.items():
            file.create_dataset(key, data=pixels, **options)
    return name


@pytest.mark.parametrize("options", [{}, {"chunks": (16, 9), "compression": "gzip"}])
@pytest.mark.parametrize(
    "pixels", [GREY, DEEP, GREY > 9, GREY.astype("f4") / 7, DEEP.astype(">u2")]
)
def test_arrays(pixels, options):
    put("a.h5", {"entry/data": pixels}, **options)
    for path in ("a.h5", "a.h5:/entry/data", "a.h5:entry/data", "a.h5:/entry/data[0]"):
        (picture,) = contents(path)
        np.testing.assert_array_equal(picture.pixels, pixels)
        assert picture.pixels.dtype == pixels.dtype.newbyteorder("=")
        assert picture.notes == ()
    with ImageFile("a.h5", SMALL) as file:
        same(file.read(0), picture._replace(path="a.h5"))


@pytest.mark.parametrize("options", [{}, {"chunks": (16, 9), "compression": "gzip"}])
@pytest.mark.parametrize("before", [512, 4096])
def test_a_block_of_other_bytes_before_the_file(before, options):
    put("a.h5", {"data": DEEP}, before, **options)
    np.testing.assert_array_equal(read_picture("a.h5:data").pixels, DEEP)
    with ImageFile("a.h5", SMALL) as file:
        same(file.read(0), contents("a.h5")[0])
    with open("a.h5", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")  # which has rows for columns
    with pytest.raises(ImageFileError, match="is a file of MATLAB, which is not read"):
        contents("a.h5")


def test_one_of_several_is_named():
    put("a.h5", {"x": GREY, "g/y": DEEP, "text": "no image", "line": np.arange(9)})
    with pytest.raises(ImageFileError, match=r"a\.h5: holds 2 arrays \(/g/y, /x\); name one"):
        contents("a.h5")
    np.testing.assert_array_equal(read_picture("a.h5:/g/y").pixels, DEEP)
    for name, why in {"z": "has no dataset 'z'", "g": "is a group", "text": "not real num"}.items():
        with pytest.raises(ImageFileError, match=why):
            read_picture(f"a.h5:{name}")
    put("b.h5", {"x": GREY, "line": np.arange(9)})
    assert contents("b.h5")[0].notes == ("its dataset /x is taken",)
    with h5py.File("b.h5", "a") as file:
        file["empty"] = h5py.Empty("f4")
    with pytest.raises(ImageFileError, match="holds no values"):
        read_picture("b.h5:empty")
    put("c.h5", {"line": np.arange(9)})
    with pytest.raises(ImageFileError, match="no dataset of numbers with two"):
        contents("c.h5")


def test_axes_and_attributes():
    put("a.nc", {"t": np.stack([GREY, GREY + 1])})
    with h5py.File("a.nc", "a") as file:
        for side, name in zip(file["t"].dims, ("time", "y", "x"), strict=True):
            side.label = name
        file["t"].attrs["_FillValue"] = np.array([GREY[0, 0]])
        file["t"].attrs["scale_factor"] = 0.5
    one, two = contents("a.nc")
    np.testing.assert_array_equal(one.pixels, GREY)
    np.testing.assert_array_equal(two.pixels, GREY + 1)
    empty = GREY[0, 0]
    np.testing.assert_array_equal(one.valid, empty != GREY)
    assert "its scale_factor 0.5 is not applied" in one.notes


@pytest.mark.parametrize(
    ("name", "value"), [("valid_min", 3), ("valid_range", [3, 200]), ("_Unsigned", "true")]
)
def test_attributes_that_change_the_meaning_of_pixels_are_said(name, value):
    put("a.nc", {"t": GREY})
    with h5py.File("a.nc", "a") as file:
        file["t"].attrs[name] = value
    assert contents("a.nc")[0].notes == (f"its {name} {value} is not applied",)
    put("b.h5", {"x": RGB})
    with pytest.raises(ImageFileError, match="--channel-axis -1"):
        contents("b.h5")
    (picture,) = contents("b.h5", Reading(channel_axis=-1))
    np.testing.assert_array_equal(picture.pixels, RGB)


def test_chunks_that_are_not_stored():
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("x", (32, 32), "u1", chunks=(16, 16), fillvalue=7)[:16] = 3
    (picture,) = contents("a.h5")
    assert picture.notes == (
        "2 of its 4 chunks are not stored; as HDF5 has it, their pixels have the fill value 7",
    )


def test_values_that_are_not_stored():
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("x", shape=GREY.shape, dtype="u1", fillvalue=7)
    assert contents("a.h5")[0].notes == (
        "its values are not stored; as HDF5 has it, their pixels have the fill value 7",
    )


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"maxshape": (None, None)}])
@pytest.mark.parametrize("size", [2, 4, 8, 32, 64, 256, 1024, 1 << 20])
def test_an_index_of_chunks_in_parts_zero_is_damage(options, size, request):
    # Pixels of 0, which is the fill value, are stored too.
    pixels = np.tile(GREY, (2, 2)) | 1
    pixels[8:16] = 0
    with h5py.File("a.h5", "w", libver="earliest") as file:
        file.create_dataset("x", data=pixels, chunks=(4, 4), **options)
        chunks = []
        file["x"].id.chunk_iter(chunks.append)
    whole = Path("a.h5").read_bytes()
    np.testing.assert_array_equal(contents("a.h5")[0].pixels, pixels)
    assert contents("a.h5")[0].notes == ()
    is_pixel = np.zeros(len(whole), bool)
    for chunk in chunks:
        is_pixel[chunk.byte_offset : chunk.byte_offset + chunk.size] = True
    rng = np.random.default_rng(size)
    for _ in range(40 if request.config.getoption("--thorough") else 12):
        content = np.frombuffer(whole, np.uint8).copy()
        start = rng.integers(whole.index(b"TREE", 900), len(whole))
        part = np.arange(start, min(start + size, len(whole)))
        content[part[~is_pixel[part]]] = 0
        Path("b.h5").write_bytes(content.tobytes())
        for reading in (None, SMALL):
            try:
                with ImageFile("b.h5", reading) as file:
                    picture = file.read(0)
                    found = np.asarray(picture.pixels[:])
            except ImageFileError:
                continue
            noted = any("not stored" in note for note in picture.notes)
            # A part of an address that is zero may lead to other bytes, which nothing tells.
            assert noted or size < 8 or (found == pixels).all()


def test_a_damaged_index_does_not_end_the_process():
    with h5py.File("a.h5", "w", libver="latest") as file:
        file.create_dataset("x", data=GREY, chunks=(4, 4), maxshape=(None, None))
    content = bytearray(Path("a.h5").read_bytes())
    content[content.index(b"BTHD") + 35] ^= 1
    Path("a.h5").write_bytes(content)
    with pytest.raises(ImageFileError, match="damaged"):
        contents("a.h5")


def test_datasets_of_several_names_are_listed_once():
    put("a.h5", {"g/x": GREY})
    with h5py.File("a.h5", "a") as file:
        file["g/again"], file["g/up"] = file["g/x"], file["/"]
    np.testing.assert_array_equal(read_picture("a.h5").pixels, GREY)
    assert contents("a.h5")[0].notes == ()


def test_other_files_are_not_read():
    put("secret.h5", {"x": GREY})
    GREY.tofile("raw.bin")
    with h5py.File("a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("secret.h5", "/x")
        layout = h5py.VirtualLayout(GREY.shape, GREY.dtype)
        layout[...] = h5py.VirtualSource("secret.h5", "x", GREY.shape)
        file.create_virtual_dataset("virtual", layout)
        external = [("raw.bin", 0, GREY.nbytes)]
        file.create_dataset("raw", GREY.shape, GREY.dtype, external=external)
    for name in ("link", "virtual", "raw"):
        with pytest.raises(ImageFileError, match="lies in other files"):
            read_picture(f"a.h5:{name}")


def test_damage_is_named():
    put("a.h5", {"x": GREY}, chunks=(16, 16), compression="gzip")
    size = os.path.getsize("a.h5")
    with open("a.h5", "r+b") as file:
        file.truncate(size // 2)
    with pytest.raises(ImageFileError, match=r"a\.h5: damaged"):
        contents("a.h5")


def test_pipes():
    put("a.h5", {"x": DEEP})
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(Path("a.h5").read_bytes()))
    writer.start()
    np.testing.assert_array_equal(read_picture("pipe").pixels, DEEP)
    writer.join()


def test_the_command(capsys):
    put("a.h5", {"x": DEEP, "y": DEEP + 1}, chunks=(16, 16))
    call = ["compare", "a.h5:/x", "a.h5:/y", "--metrics", "se", "--data-range", "65535"]
    assert main([*call, "--csv"]) == 0
    assert f",{DEEP.size}.0" in capsys.readouterr().out
    assert main([*call, "--maps", "maps", "--map-format", "npy"]) == 0
    (found,) = os.listdir("maps")
    assert np.load(f"maps/{found}").max() == 1


@pytest.mark.parametrize("form", ["h5", "zarr"])
@pytest.mark.parametrize("name", ["scale_factor", "add_offset"])
def test_stored_numbers_of_another_scale_do_not_compare(form, name, capsys):
    zarr = pytest.importorskip("zarr")
    for key, value in (("a", 0.5), ("b", 0.25), ("c", 0.5), ("d", None)):
        if form == "zarr":
            array = zarr.create_array(f"{key}.zarr", shape=DEEP.shape, dtype=DEEP.dtype)
            array[:] = DEEP
        else:
            put(f"{key}.h5", {"x": DEEP})
        if value is None:
            continue
        if form == "zarr":
            array.attrs[name] = value
        else:
            with h5py.File(f"{key}.h5", "a") as file:
                file["x"].attrs[name] = value
    files = (f"{key}.{form}" for key in "abcd")
    found, _ = compared(capsys, *files, "--metrics", "rmse", status=2)
    assert [row["test"] for row in found["scored"]] == [f"c.{form}"]
    assert [row["test"] for row in found["failed"]] == [f"b.{form}", f"d.{form}"]
    assert all("stored numbers do not compare; unpack" in row["reason"] for row in found["failed"])


class TestImageSpecification:
    """Attributes by which HDF5 says what the numbers of an image mean."""

    @staticmethod
    def put(pixels, **attributes):
        put("a.h5", {"x": pixels}, chunks=True)
        with h5py.File("a.h5", "a") as file:
            for name, value in {"CLASS": np.bytes_("IMAGE"), **attributes}.items():
                file["x"].attrs[name] = value
        return "a.h5"

    @pytest.mark.parametrize("pixels", [GREY, DEEP, GREY > 9])
    def test_0_as_white(self, pixels):
        path = self.put(pixels, IMAGE_WHITE_IS_ZERO=np.uint8(1), _FillValue=pixels[0, 0])
        most = {"uint8": 255, "uint16": 65535, "bool": 1}[pixels.dtype.name]
        (picture,) = contents(path)
        np.testing.assert_array_equal(picture.pixels, (most - pixels.astype(int)))
        assert picture.pixels.dtype == pixels.dtype
        np.testing.assert_array_equal(picture.valid, pixels != pixels[0, 0])
        assert f"stored with 0 as white (IMAGE_WHITE_IS_ZERO); {most} - stored is taken" in (
            picture.notes
        )
        with ImageFile(path, SMALL) as file:
            same(file.read(0), picture._replace(path=path))
        if pixels.dtype != bool:
            with pytest.raises(ImageFileError, match="0 as white"):
                read_picture(path, Reading(as_stored=True))
        for none in (np.uint8(0), "0", h5py.Empty("u1")):
            assert contents(self.put(pixels, IMAGE_WHITE_IS_ZERO=none))[0].notes == ()

    @pytest.mark.parametrize("dtype", ["int16", "float32"])
    def test_0_as_white_of_numbers_without_a_largest(self, dtype):
        path = self.put(GREY.astype(dtype), IMAGE_WHITE_IS_ZERO=np.uint8([1]))
        with pytest.raises(ImageFileError, match="0 as white, in numbers that have no largest"):
            read_picture(path)

    def test_a_palette_and_an_origin(self):
        palette = {"IMAGE_SUBCLASS": np.bytes_("IMAGE_INDEXED"), "PALETTE": h5py.Reference()}
        path = self.put(GREY, **palette)
        with pytest.raises(ImageFileError, match="holds numbers of a palette"):
            read_picture(path)
        labels = read_picture(path, Reading(as_stored=True))
        np.testing.assert_array_equal(labels.pixels, GREY)
        (picture,) = contents(self.put(GREY, DISPLAY_ORIGIN="LL"))
        np.testing.assert_array_equal(picture.pixels, GREY)
        assert "its DISPLAY_ORIGIN LL is not applied" in picture.notes[0]

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_colours(self, axis):
        name = ("INTERLACE_PLANE", "INTERLACE_LINE", "INTERLACE_PIXEL")[axis]
        path = self.put(np.moveaxis(RGB, -1, axis), INTERLACE_MODE=np.bytes_(name))
        np.testing.assert_array_equal(read_picture(path).pixels, RGB)


@pytest.mark.parametrize("pixels", [GREY, DEEP])
def test_a_shape_of_fewer_values_than_are_stored(pixels):
    """An old header has no checksum."""
    with h5py.File("a.h5", "w", libver="earliest") as file:
        file["x"] = pixels
    content = Path("a.h5").read_bytes()
    shape = b"".join(length.to_bytes(8, "little") for length in pixels.shape)
    smaller = b"".join((length - 1).to_bytes(8, "little") for length in pixels.shape)
    assert shape in content
    Path("a.h5").write_bytes(content.replace(shape, smaller, 1))
    with pytest.raises(ImageFileError, match=f"damaged: .*; {pixels.nbytes} are stored"):
        read_picture("a.h5")
