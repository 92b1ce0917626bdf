"""How large an image may be, told before it is decoded; pipes, devices and links."""

from __future__ import annotations

import io
import os
import re
import struct
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import GREY, RGB, contents, png_of, save
from PIL import Image

from imsim._images import (
    ImageFile,
    ImageFileError,
    Reading,
    read_picture,
    same_file,
)
from imsim._images import reading as reading_module

HUGE = 60_000


pytestmark = pytest.mark.usefixtures("empty_directory")


def huge_png() -> bytes:
    """Return a file whose data would inflate to far fewer rows than it says."""
    header = struct.pack(">IIBBBBB", HUGE, HUGE, 8, 0, 0, 0, 0)
    return png_of((b"IHDR", header), (b"IDAT", zlib.compress(bytes(9999))), (b"IEND", b""))


def huge_tiff() -> bytes:
    save("small.tif", GREY, compression="zlib")
    content = bytearray(Path("small.tif").read_bytes())
    with tifffile.TiffFile("small.tif") as tiff:
        tags = tiff.pages[0].tags
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            kind = {3: "<H", 4: "<I"}[int(tags[tag].dtype)]
            struct.pack_into(kind, content, tags[tag].valueoffset, HUGE)
    return bytes(content)


def huge_npz() -> bytes:
    """Return an archive whose member says to be as long as its array."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (HUGE, HUGE)}
    )
    content, stream = header.getvalue() + bytes(1000), io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", content)
    said = struct.pack("<I", len(content))
    assert stream.getvalue().count(said) == 2  # before the member, and in the directory
    return stream.getvalue().replace(said, struct.pack("<I", len(header.getvalue()) + HUGE**2))


def huge_jpeg() -> bytes:
    save("small.jpg", RGB)
    content = bytearray(Path("small.jpg").read_bytes())
    where = content.index(b"\xff\xc0") + 5
    struct.pack_into(">HH", content, where, HUGE, HUGE)
    return bytes(content)


@pytest.mark.parametrize("make", [huge_png, huge_tiff, huge_jpeg, huge_npz])
def test_more_than_the_machine_holds(make, monkeypatch):
    """It is refused by its header: the pixels are not even there."""
    monkeypatch.setattr(reading_module, "memory_limit", lambda: 2.0**30)
    Path("x").write_bytes(make())
    words = (
        r"x: its 60000 x 60000 = 3600000000 pixels take [\d.]+ GiB, more than the 1 GiB that an "
        "image may take on this machine; crop it, or allow it with --max-pixels 3600000000"
    )
    with pytest.raises(ImageFileError, match=words):
        read_picture("x")


def test_what_is_allowed_is_tried(monkeypatch):
    monkeypatch.setattr(reading_module, "memory_limit", lambda: 2.0**30)
    Path("x").write_bytes(huge_png())
    with pytest.raises(ImageFileError, match="x: damaged: it holds 9999 of the 3600060000 bytes"):
        read_picture("x", Reading(max_pixels=HUGE**2))


def test_one_limit_for_every_format(monkeypatch):
    np.savez_compressed("s.npz", np.zeros((3, 40, 50)))
    files = {
        save("a.png", GREY): "48 x 40 = 1920",
        save("a.jpg", GREY): "48 x 40 = 1920",
        save("a.tif", GREY): "48 x 40 = 1920",
        save("z.tif", GREY, compression="zlib"): "48 x 40 = 1920",
        save("a.npy", np.stack([GREY, GREY])): "48 x 40 = 1920",
        "s.npz": "50 x 40 x 3 = 6000",  # inflated as a whole
        save("i.tif", np.stack([GREY, GREY]), imagej=True): "48 x 40 = 1920",
    }
    for name, size in files.items():
        assert contents(name, Reading(max_pixels=6000))
        words = re.escape(
            f"its {size} pixels are more than the 1919 of --max-pixels; crop it, or allow "
        )
        with pytest.raises(ImageFileError, match=f"^{name}.*{words}"):
            contents(name, Reading(max_pixels=1919))
        with monkeypatch.context() as patch:
            patch.setattr(reading_module, "memory_limit", lambda: 1919.0)
            with pytest.raises(ImageFileError, match=r"pixels take .* more than the 0.00183 MiB"):
                contents(name)
        assert contents(name, Reading(max_pixels=6000))


def test_the_limit_of_this_machine():
    """Large scientific images are read; what two of them and the metrics need is there."""
    assert 2**27 < reading_module.memory_limit() < 2**38


@pytest.mark.parametrize("name", ["a.png", "d.png", "a.jpg", "a.tif"])
def test_the_limits_of_pillow_are_not_ours(name, monkeypatch):
    """It warns beyond 89 megapixels, and refuses twice as many."""
    save(name, GREY.astype(np.uint16) if name == "d.png" else GREY)
    want = read_picture(name).pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(read_picture(name).pixels, want)


def test_what_pillow_refuses_of_webp_is_not_put_down_to_its_age(monkeypatch):
    save("a.webp", GREY, lossless=True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageFileError, match=r"than Pillow reads of WebP; save it as PNG or TIFF"):
        read_picture("a.webp")


def feed(path: str, content: bytes) -> threading.Thread:
    thread = threading.Thread(target=Path(path).write_bytes, args=(content,))
    thread.start()
    return thread


FORMATS = {"a.png": {}, "a.jpg": {}, "a.tif": {}, "z.tif": {"compression": "lzw"}, "a.npy": {}}


@pytest.mark.parametrize("name", [*FORMATS, "a.npz"])
def test_named_pipes_are_read_once(name):
    if name == "a.npz":
        np.savez(name, GREY)
    else:
        save(name, GREY, **FORMATS[name])
    os.mkfifo("pipe")
    thread = feed("pipe", Path(name).read_bytes())
    reading = Reading()
    for _ in range(3):
        np.testing.assert_array_equal(
            read_picture("pipe", reading).pixels, read_picture(name).pixels
        )
    thread.join()


def test_one_image_of_several_out_of_a_pipe():
    stack = np.stack([GREY, 255 - GREY])
    save("a.tif", stack, photometric="minisblack")
    os.mkfifo("pipe")
    reading = Reading()
    thread = feed("pipe", Path("a.tif").read_bytes())
    np.testing.assert_array_equal(read_picture("pipe[1]", reading).pixels, stack[1])
    np.testing.assert_array_equal(read_picture("pipe[0]", reading).pixels, stack[0])
    thread.join()


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_the_standard_input(name, kind, monkeypatch):
    save("a.png", GREY)
    content = Path("a.png").read_bytes()
    if kind == "pipe":
        read, write = os.pipe()
        os.write(write, content)
        os.close(write)
    else:
        read = os.open("a.png", os.O_RDONLY)
    saved = os.dup(0)
    os.dup2(read, 0)
    with open(0, closefd=False) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        reading = Reading()
        try:
            for _ in range(2):
                np.testing.assert_array_equal(read_picture(name, reading).pixels, GREY)
        finally:
            os.dup2(saved, 0)
            os.close(saved)
            os.close(read)


def test_devices():
    for device, words in (("/dev/zero", "not a PNG"), ("/dev/null", "is empty")):
        with pytest.raises(ImageFileError, match=f"^{device}: {words}"):
            ImageFile(device)
    Path(save("a.png", GREY)).rename("-")
    np.testing.assert_array_equal(read_picture("-").pixels, GREY)  # a file of that name


def test_a_pipe_that_never_ends(monkeypatch):
    monkeypatch.setattr("imsim._images.reading.memory_limit", lambda: 1000.0)
    os.mkfifo("pipe")
    thread = feed("pipe", Path(save("a.npy", GREY)).read_bytes())
    with pytest.raises(ImageFileError, match="gives more than 2048 bytes; save it to a file"):
        ImageFile("pipe")
    thread.join()


def test_links_are_names_of_one_file():
    save("a.png", GREY), save("b.png", GREY)
    os.link("a.png", "hard.png")
    os.symlink("a.png", "soft.png")
    os.symlink(".", "folder")
    for name in ("hard.png", "soft.png", "folder/a.png", "./hard.png[0]"):
        assert same_file("a.png", name)
    for name in ("b.png", "missing.png", "folder/missing.png"):
        assert not same_file("a.png", name)
    assert same_file("new.png", "folder/new.png")


def test_lists_in_messages_are_short():
    with zipfile.ZipFile("a.npz", "w") as file:
        for index in range(2000):
            file.writestr(f"member_{index}.npy", b"")
    for name in ("a.npz", "a.npz:other"):
        with pytest.raises(ImageFileError, match=r"member_8, \.\.\.") as error:
            read_picture(name)
        assert len(str(error.value)) < 300


def test_fits_of_more_data_than_a_file_can_have():
    pytest.importorskip("astropy")
    cards = ("SIMPLE  = T", "BITPIX  = -64", "NAXIS   = 2", *2 * ["NAXIS{}  = 1000000000"], "END")
    head = "".join(card.format(i - 2).ljust(80) for i, card in enumerate(cards))
    Path("a.fits").write_bytes(head.ljust(2880).encode())
    with pytest.raises(ImageFileError, match=r"a\.fits: damaged"):
        read_picture("a.fits")
