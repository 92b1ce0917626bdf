"""Files of many images, and colours of 16 bits."""

from __future__ import annotations

import itertools
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import DEEP, GREY, NOISY, RGB, RNG, contents, save, save_deep_png
from medical_files import VOLUME, name_of, save_series
from PIL import Image

from imsim._images import ImageFile, ImageFileError, Reading, read_picture, same_file, write_png

STACK = np.stack([GREY, NOISY, 255 - GREY])
COLOUR_STACK = np.stack([RGB, 255 - RGB])


pytestmark = pytest.mark.usefixtures("empty_directory")


@pytest.mark.parametrize("name", ["s.tif", "s.npy", "s.npz"])
@pytest.mark.parametrize("stack", [STACK, COLOUR_STACK], ids=["grey", "colour"])
def test_every_page_is_an_image(name, stack):
    if name == "s.npz":
        np.savez(name, anything=stack)
    elif name == "s.tif":
        save(name, stack, photometric="minisblack" if stack.ndim == 3 else "rgb")
    else:
        save(name, stack)
    pictures = contents(name)
    assert [picture.path for picture in pictures] == [f"{name}[{i}]" for i in range(len(stack))]
    np.testing.assert_array_equal([picture.pixels for picture in pictures], stack)


def test_one_image_has_no_index():
    for pixels, want in (
        (GREY, GREY),
        (GREY[None], GREY),
        (RGB[None], RGB),
        (DEEP[None, ..., None], DEEP),
    ):
        (picture,) = contents(save("a.npy", pixels))
        assert picture.path == "a.npy"
        np.testing.assert_array_equal(picture.pixels, want)


def test_an_array_of_several_is_named():
    np.savez("two.npz", images=STACK, masks=STACK > 99)
    with pytest.raises(
        ImageFileError, match=r"two.npz: holds 2 arrays \(images, masks\); name one"
    ):
        ImageFile("two.npz")
    assert contents("two.npz:masks")[1].pixels.dtype == bool
    with pytest.raises(ImageFileError, match="holds no array 'labels'; it has images, masks"):
        ImageFile("two.npz:labels")
    assert same_file("two.npz:images", "two.npz")


def test_a_name_of_an_array_may_have_colons():
    arrays = {"raw:left": STACK, "raw:x.npz:y": STACK > 99}
    np.savez("two.npz", **arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(contents(f"two.npz:{name}")[1].pixels, array[1])


def test_an_array_file_is_not_read_as_a_whole():
    shape = (2**16, 1000, 1000)
    with open("s.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.seek(start + 5 * 1000 * 1000)
        file.write(b"\7" * 1000)
        file.truncate(start + math.prod(shape))  # 61 GiB, of which the disk holds little
    with ImageFile("s.npy") as file:
        pixels = file.read(5).pixels
    assert type(pixels) is np.ndarray
    assert (pixels[0] == 7).all()
    assert not pixels[1:].any()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["u1", ">u2", "f8"])
@pytest.mark.parametrize(
    ("shape", "channel"), [((9, 14), None), ((3, 9, 14), None), ((2, 3, 9, 14), 0), ((3, 9, 4), 2)]
)
def test_arrays_in_any_order_of_the_file(shape, channel, kind, order):
    array = np.asarray(RNG.integers(0, 99, shape), kind, order=order)
    np.save("a.npy", array)
    np.savez("a.npz", array)
    memory = Reading(channel_axis=channel)
    for whole, wanted in zip(contents("a.npy", memory), contents("a.npz", memory), strict=True):
        np.testing.assert_array_equal(whole.pixels, wanted.pixels)
        assert whole.pixels.dtype == wanted.pixels.dtype
        assert whole.pixels.flags.c_contiguous
        assert whole.pixels.flags.writeable
    with ImageFile("a.npy", Reading(channel_axis=channel, memory=1)) as file:
        for index, wanted in enumerate(contents("a.npz", memory)):
            part = file.read(index).pixels[2:8, 3:5]
            np.testing.assert_array_equal(part, wanted.pixels[2:8, 3:5])


def save_once(name: str, **options: Any) -> None:
    if name.endswith(".npz"):
        np.savez(name, GREY)
    elif name.endswith(".h5"):
        h5py = pytest.importorskip("h5py")
        with h5py.File(name, "w") as file:
            file["x"] = GREY
    elif name.endswith(".fits"):
        pytest.importorskip("astropy.io.fits").PrimaryHDU(GREY).writeto(name)
    else:
        save(name, GREY, **options)


@pytest.mark.parametrize(
    "name",
    [*(f"a.{e}" for e in ("png", "jpg", "bmp", "gif", "webp", "tif", "npy", "npz", "fits", "h5"))],
)
def test_a_file_that_is_changed_while_it_is_read(name):
    """Its pixels might be of two files: the one before and the one behind."""
    save_once(name)
    path = Path(name)
    with ImageFile(name) as file:
        file.read(0)
        path.write_bytes(path.read_bytes() + b"more")
        with pytest.raises(ImageFileError, match=f"^{name}: was changed while it was read; comp"):
            file.read(0)
    path.unlink()
    save_once(name)
    with ImageFile(name) as file:  # one that takes its place
        Path("other").write_bytes(path.read_bytes())
        Path("other").rename(name)
        with pytest.raises(ImageFileError, match=f"^{name}: was changed while it was read"):
            file.read(0)


@pytest.mark.parametrize("memory", [None, 1], ids=["whole", "in blocks"])
@pytest.mark.parametrize("form", [2, 3])
def test_a_folder_that_is_changed_while_it_is_read(form, memory, monkeypatch):
    zarr = pytest.importorskip("zarr")
    options = {"shape": GREY.shape, "chunks": (20, 24), "dtype": "u1", "zarr_format": form}
    zarr.create_array("a.zarr", **options)[:] = GREY
    chunk = Path("a.zarr") / ("1.1" if form == 2 else "c/1/1")
    plain, times = zarr.Array.__getitem__, itertools.count()

    def written(array: Any, key: Any) -> Any:
        found = plain(array, key)
        os.utime(chunk, ns=(0, next(times)))
        return found

    with ImageFile("a.zarr", Reading(memory=memory)) as file:
        np.testing.assert_array_equal(file.read(0).pixels[:], GREY)
        monkeypatch.setattr(zarr.Array, "__getitem__", written)
        with pytest.raises(ImageFileError, match=r"^a\.zarr: was changed while it was read"):
            _ = file.read(0).pixels[:]


def test_a_series_that_is_changed_after_its_headers_were_read():
    pytest.importorskip("pydicom")
    save_series("s", VOLUME)
    with ImageFile("s", Reading(volume=True)) as file:
        file.read(0)
        os.utime(Path("s") / name_of(1), ns=(0, 0))
        with pytest.raises(ImageFileError, match=r"^s: was changed while it was read"):
            file.read(0)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((9, 9, 3)), "could be one image with channels or 9 images 3 pixels wide"),
        (np.zeros((2, 3, 9, 9)), "channels must be the last axis"),
        (np.zeros(9), r"its shape is \(9,\); expected"),
        (np.zeros((0, 9, 9)), r"its shape is \(0, 9, 9\); expected"),
        (np.zeros((2, 9, 9), complex), "of type complex128"),
        (np.array([[{}]]), "Python objects, which are not loaded"),
    ],
)
def test_arrays_that_are_no_images(array, words):
    np.save("a.npy", array, allow_pickle=True)
    np.savez("a.npz", a=array)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ImageFileError, match=f"^{name}: .*{words}"):
            contents(name)


@pytest.mark.parametrize("shape", [(9, 9, 3), (2, 3, 9, 9), (2, 2, 9, 9, 3)])
def test_where_images_are_grey_no_axis_of_channels_is_asked_for(shape):
    np.save("a.npy", np.zeros(shape))
    for reading, words in ((Reading(), "--channel-axis"), (Reading(grey=True), "save grey images")):
        with pytest.raises(ImageFileError, match=words) as caught:
            ImageFile("a.npy", reading)
        assert ("--channel-axis" in str(caught.value)) != reading.grey


@pytest.mark.parametrize("name", ["cut.npy", "cut.npz"])
def test_damaged_arrays(name, tmp_path):
    (np.save if name == "cut.npy" else np.savez)(name, STACK)
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ImageFileError, match=f"^{name}: damaged"):
        contents(name)


def test_a_damaged_page_leaves_the_others(tmp_path):
    save("s.tif", STACK, photometric="minisblack", compression="zlib", metadata=None)
    file = tmp_path / "s.tif"
    content = file.read_bytes()
    where = content.rindex(b"x\x9c") if b"x\x9c" in content else content.rindex(b"x\xda")
    file.write_bytes(content[:where] + bytes(40) + content[where + 40 :])
    with ImageFile("s.tif") as stack:
        np.testing.assert_array_equal(stack.read(0).pixels, GREY)
        with pytest.raises(ImageFileError, match=r"^s.tif\[2\]: damaged"):
            stack.read(2)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_png(channels):
    pixels = RNG.integers(0, 65536, (12, 9, channels)).astype(np.uint16)
    if channels != 3:
        pixels[..., -1] = 65535  # opaque
    picture = read_picture(save_deep_png("deep.png", pixels))
    want = {2: pixels[..., 0], 3: pixels, 4: pixels[..., :3]}[channels]
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, want)
    assert picture.notes == ()


def test_one_image_is_asked_for():
    save("s.npy", STACK)
    with pytest.raises(ImageFileError, match=r"s.npy: holds 3 images; .*'s.npy\[0\]' to"):
        read_picture("s.npy")


def test_one_image_of_several_by_its_index():
    save("s.npy", STACK), save("s.tif", STACK, photometric="minisblack")
    np.savez("s.npz", one=STACK, other=GREY)
    for name in ("s.npy", "s.tif", "s.npz:one"):
        with ImageFile(f"{name}[1]") as file:
            assert (len(file), file.label(0)) == (1, f"{name}[1]")
        np.testing.assert_array_equal(read_picture(f"{name}[1]").pixels, STACK[1])
        with pytest.raises(ImageFileError, match=rf"{name}\[3\]: there is no such image; .* 3,"):
            read_picture(f"{name}[3]")
        for index in ("[-1]", "[x]", "[]", "[0:2]", "[1][0]"):
            with pytest.raises(ImageFileError, match=f"{re.escape(index)} chooses no image; "):
                read_picture(name + index)
    with pytest.raises(ImageFileError, match="No such file"):
        read_picture("nowhere.npy[-1]")
    assert same_file("s.npz:one[1]", "./s.npz")
    save("a[1].png", GREY)  # a file of that very name
    np.testing.assert_array_equal(read_picture("a[1].png").pixels, GREY)
    np.save("s[1]", STACK[0])
    Path("s[1].npy").rename("s.npy[1]")
    np.testing.assert_array_equal(read_picture("s.npy[1]").pixels, STACK[0])


def test_write_png(tmp_path):
    for pixels in (GREY, DEEP, RGB, GREY > 99):
        write_png(tmp_path / "w.png", pixels[::2])
        with Image.open("w.png") as image:
            np.testing.assert_array_equal(np.asarray(image), pixels[::2])
    with pytest.raises(ImageFileError, match=r"nowhere/w.png: cannot be written: No such file"):
        write_png("nowhere/w.png", GREY)
