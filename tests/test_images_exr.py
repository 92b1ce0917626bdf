"""OpenEXR: channels of colour, grey and alpha, of half and single floats."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import contents, refused

from imsim._images import ImageFileError, Reading, read_picture

pytestmark = pytest.mark.usefixtures("empty_directory")
RGB = np.random.default_rng(4).normal(1, 1, (11, 17, 3))


@pytest.fixture(scope="module")
def exr() -> Any:
    return pytest.importorskip("OpenEXR")


def write(exr: Any, name: str, channels: dict[str, np.ndarray], **header: Any) -> str:
    planes = {key: np.ascontiguousarray(plane) for key, plane in channels.items()}
    plain = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    exr.File(plain | header, planes).write(name)
    return name


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_colours_and_grey(exr, kind):
    pixels = RGB.astype(kind)
    name = write(exr, "a.exr", {"R": pixels[..., 0], "G": pixels[..., 1], "B": pixels[..., 2]})
    picture = read_picture(name)
    assert picture.pixels.dtype == kind
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.notes == ()
    for channel in ("Y", "Z"):
        grey = read_picture(write(exr, "g.exr", {channel: pixels[..., 0]}))
        np.testing.assert_array_equal(grey.pixels, pixels[..., 0])


def test_alpha_is_multiplied_in(exr):
    alpha = np.random.default_rng(0).random((11, 17)).astype(np.float32)
    colours = np.abs(RGB).astype(np.float32) * alpha[..., None]
    channels = {"R": colours[..., 0], "G": colours[..., 1], "B": colours[..., 2], "A": alpha}
    picture = read_picture(write(exr, "a.exr", channels))
    np.testing.assert_allclose(picture.pixels, colours + 1 - alpha[..., None], rtol=1e-6, atol=1e-6)
    assert picture.transparent


def test_other_channels_and_layers(exr):
    plane = RGB[..., 0].astype(np.float32)
    channels = {key: plane * i for i, key in enumerate("RGB")} | {"Z": plane + 5}
    channels |= {f"glow.{key}": plane - i for i, key in enumerate("RGB")}
    name = write(exr, "a.exr", channels)
    picture = read_picture(name)
    np.testing.assert_array_equal(picture.pixels[..., 2], 2 * plane)
    (note,) = picture.notes
    assert "left aside of its channels: Z, glow.B, glow.G, glow.R" in note
    np.testing.assert_array_equal(read_picture("a.exr:Z").pixels, plane + 5)
    np.testing.assert_array_equal(read_picture("a.exr:glow").pixels[..., 1], plane - 1)
    write(exr, "b.exr", {"u": plane, "v": plane})
    with pytest.raises(ImageFileError, match=r"channels are u, v; none are .* FILE.exr:NAME"):
        read_picture("b.exr")
    np.testing.assert_array_equal(read_picture("b.exr:v").pixels, plane)


def test_windows(exr):
    plane = RGB[..., 0].astype(np.float32)
    data = (np.array([3, 4], np.int32), np.array([19, 14], np.int32))
    shown = (np.array([0, 0], np.int32), np.array([31, 23], np.int32))
    name = write(exr, "a.exr", {"Y": plane}, dataWindow=data, displayWindow=shown)
    picture = read_picture(name)
    np.testing.assert_array_equal(picture.pixels, plane)
    (note,) = picture.notes
    assert (
        "its data window, 17 x 11 pixels at 3, 4, is taken; its display window is 32 x 24" in note
    )


def test_parts_are_refused(exr):
    plane = RGB[..., 0].astype(np.float32)
    exr.File([exr.Part({}, {"Y": plane}, "a"), exr.Part({}, {"Y": plane}, "b")]).write("a.exr")
    with pytest.raises(ImageFileError, match=r"a.exr: holds several parts; save one flat image"):
        read_picture("a.exr")


def test_damage(exr):
    """The library writes on standard error what it makes of it."""
    name = write(exr, "a.exr", {"Y": np.indices((11, 17), np.float32).sum(axis=0)})
    content = Path(name).read_bytes()
    for tenth in range(1, 10):
        Path("x").write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(ImageFileError, match=r"^x: damaged"):
            contents("x")
    changed = bytearray(content)
    changed[-60:-40] = bytes(20)
    Path("x").write_bytes(changed)
    with pytest.raises(ImageFileError, match=r"^x: damaged"):
        contents("x")
    with pytest.raises(ImageFileError, match="17 x 11 = 187 pixels are more than"):
        contents(name, Reading(max_pixels=186))


def test_without_the_library(monkeypatch):
    Path("a.exr").write_bytes(b"v/1\x01".ljust(200, b"\0"))
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(ImageFileError, match=r"a.exr: OpenEXR needs the package OpenEXR; pip in"):
        read_picture("a.exr")


def attributes_of(content: bytes) -> tuple[list[tuple[bytes, bytes, bytes]], int]:
    """Return the names, types and contents of a header, and where it ends."""
    place, found = 8, []
    while content[place]:
        name, kind = content[place:].split(b"\0", 2)[:2]
        place += len(name) + len(kind) + 2
        size = int.from_bytes(content[place : place + 4], "little")
        found.append((name, kind, content[place + 4 : place + 4 + size]))
        place += 4 + size
    return found, place + 1


def rebuilt(content: bytes, attributes: list[tuple[bytes, bytes, bytes]]) -> bytes:
    """Return a file of one chunk of rows with another header."""
    _, end = attributes_of(content)
    header = content[:8]
    for name, kind, body in attributes:
        header += name + b"\0" + kind + b"\0" + len(body).to_bytes(4, "little") + body
    return header + b"\0" + (len(header) + 9).to_bytes(8, "little") + content[end + 8 :]


PREVIEW = b"preview", b"preview", (1).to_bytes(4, "little") * 2 + bytes(4)


@pytest.mark.parametrize(
    "more",
    [
        PREVIEW,  # ends the process in the library
        (b"thing", b"ofNobody", b"abc"),
        (b"words", b"string", b"\xff\xfe"),
        (b"number", b"int", b"\0"),
        (b"chromaticities", b"chromaticities", bytes(32)),
    ],
)
def test_attributes_that_say_nothing_of_the_pixels(exr, more):
    plane = RGB[..., 0].astype(np.float32)
    content = Path(write(exr, "a.exr", {"Y": plane})).read_bytes()
    attributes, _ = attributes_of(content)
    Path("b.exr").write_bytes(rebuilt(content, [*attributes, more]))
    np.testing.assert_array_equal(read_picture("b.exr").pixels, plane)


def test_every_compression_that_the_library_knows(exr):
    tall = np.random.default_rng(1).random((300, 9)).astype(np.float32)
    for name in dir(exr):
        if name.endswith("_COMPRESSION") and name != "NUM_COMPRESSION_METHODS":
            picture = read_picture(write(exr, "a.exr", {"Y": tall}, compression=getattr(exr, name)))
            np.testing.assert_allclose(picture.pixels, tall, atol=0.05)
    content = Path("a.exr").read_bytes()
    place = content.index(b"compression\0compression\0") + 28
    for number in (99, 255):
        Path("b.exr").write_bytes(content[:place] + bytes([number]) + content[place + 1 :])
        with pytest.raises(ImageFileError, match=r"^b.exr: "):
            read_picture("b.exr")


def test_a_damaged_header_is_found_before_the_library_reads_it(exr):
    plane = RGB[..., 0].astype(np.float32)
    content = Path(write(exr, "a.exr", {"Y": plane})).read_bytes()
    attributes, end = attributes_of(content)
    needed = [i for i, (name, *_) in enumerate(attributes) if name not in (b"type", b"Software")]
    assert len(needed) >= 8
    for i in needed:
        name, kind, body = attributes[i]
        for instead in (
            [],
            [(name, b"x" + kind[1:], body)],
            [(name, kind, body[1:])] if len(body) < 20 else [],
            [(name[:-1] + b"\xe4", kind, body)],
            [attributes[i]] * 2,
        ):
            changed = [*attributes[:i], *instead, *attributes[i + 1 :]]
            refused(rebuilt(content, changed), "its header", "b.exr")
    for place in (end + 3, end - 30, 20):
        refused(content[:place], "cut off|attribute", "b.exr")
    refused(content[:end] + bytes(8) + content[end + 8 :], "1 of its 1 chunks of rows", "b.exr")
    channels = {name: body for name, _, body in attributes}[b"channels"]
    for start, value in ((2, 7), (10, 0), (14, 0)):  # the type, and both samplings
        body = channels[:start] + value.to_bytes(4, "little") + channels[start + 4 :]
        changed = [(b"channels", b"chlist", body) if a[0] == b"channels" else a for a in attributes]
        refused(rebuilt(content, changed), "its channel Y has", "b.exr")
