"""Colour profiles: carried with the image, and a note where those of a pair differ."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from command import compared
from image_files import RGB, contents, png_chunks, png_of, save
from PIL import Image

from imsim._images import Reading, read_picture
from imsim._images.metadata import Profile, profile_difference, profile_of

pytestmark = pytest.mark.usefixtures("empty_directory")


def icc(name: str, *, red: bytes = b"\x00\x00\x6f\xa2", version: int = 4) -> bytes:
    """Return a profile of a name and of a primary colour."""
    text = name.encode("utf-16-be")
    tags = {
        b"desc": b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(text), 28) + text,
        b"rXYZ": b"XYZ \0\0\0\0" + red,
    }
    if version == 2:
        latin = name.encode("latin-1") + b"\0"
        tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", len(latin)) + latin
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for kind, content in tags.items():
        table += struct.pack(">4sII", kind, start + len(body), len(content))
        body += content
    size = start + len(body)
    return (struct.pack(">I", size) + bytes(32) + b"acsp").ljust(128, b"\0") + table + body


WIDE = icc("Display P3", red=b"\x00\x00\x83\xdf")
SRGB = icc("sRGB IEC61966-2.1")


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("form", ["png", "jpg", "tif", "webp", "avif"])
def test_every_format_that_embeds_one(form, version):
    profile = icc("Display P3", version=version)
    if form == "tif":
        name = save("a.tif", RGB, iccprofile=profile)
    else:
        name = save(f"a.{form}", RGB, icc_profile=profile)
    picture = read_picture(name)
    assert picture.profile == profile_of(profile)
    assert picture.profile.name == "Display P3"
    assert picture.notes == ()
    assert read_picture(save("b.png", RGB)).profile is None


def test_what_differs():
    wide, srgb = profile_of(WIDE), profile_of(SRGB)
    same = [
        (None, None),
        (None, srgb),
        (srgb, profile_of(icc("sRGB built-in", red=b"\x00\x00\x6f\xa1", version=2))),
        (wide, profile_of(WIDE)),
        (wide, profile_of(icc("Called otherwise", red=b"\x00\x00\x83\xdf"))),
    ]
    for one, other in same:
        assert profile_difference(one, other) == profile_difference(other, one) == ""
    assert profile_difference(srgb, wide) == (
        "its colour profile is 'Display P3', and that of the reference 'sRGB IEC61966-2.1'"
    )
    assert profile_difference(wide, None) == (
        "its colour profile is none, and that of the reference 'Display P3'"
    )


@pytest.mark.parametrize("length", [0, 1, 100, 130, 140, 200])
def test_damaged_ones_stop_nothing(length):
    cut = WIDE[:length]
    profile = profile_of(cut)
    assert (profile is None) == (not cut)
    assert profile_difference(profile, profile_of(cut)) == ""
    if cut:
        save("a.png", RGB, icc_profile=cut)
        np.testing.assert_array_equal(read_picture("a.png").pixels, RGB)


def test_a_note_on_the_pair(capsys):
    a, b = save("a.png", RGB, icc_profile=SRGB), save("b.png", RGB, icc_profile=WIDE)
    c = save("c.png", RGB)
    found, err = compared(capsys, a, b, c, "--metrics", "rmse")
    first, second = found["scored"]
    assert first["scores"] == {"rmse": 0}
    assert first["notes"] == [
        "b.png: its colour profile is 'Display P3', and that of the reference 'sRGB IEC61966-2.1'; "
        "the pixels are compared as stored"
    ]
    assert second["notes"] == []
    assert len(err) == 1


def test_pages_and_volumes_have_that_of_their_first_image():
    save("a.tif", np.stack([RGB, RGB]), photometric="rgb", iccprofile=WIDE, metadata=None)
    assert {p.profile.name for p in contents("a.tif")} == {"Display P3"}
    (volume,) = contents("a.tif", Reading(volume=True))
    assert volume.profile.name == "Display P3"
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
    frames[0].save("a.png", save_all=True, append_images=frames[1:], icc_profile=WIDE)
    assert {p.profile.name for p in contents("a.png")} == {"Display P3"}


def chunk(kind: bytes, *numbers: int) -> tuple[bytes, bytes]:
    return kind, struct.pack(f">{len(numbers)}I", *numbers)


SRGB_PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
WIDE_PRIMARIES = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    ("chunks", "name"),
    [
        ([(b"sRGB", b"\0"), chunk(b"gAMA", 100000)], None),  # sRGB goes first
        ([chunk(b"gAMA", 45455)], None),
        ([chunk(b"gAMA", 45455), chunk(b"cHRM", *SRGB_PRIMARIES)], None),
        ([(b"cICP", bytes([1, 13, 0, 1]))], None),
        ([chunk(b"gAMA", 100000)], "gAMA 1"),
        ([chunk(b"cHRM", *WIDE_PRIMARIES)], "cHRM 0.3127, 0.329, 0.68, "),
        ([(b"cICP", bytes([9, 16, 0, 1])), (b"sRGB", b"\0")], "cICP 9, 16, 0, 1"),
        ([(b"gAMA", b"\0")], None),  # damaged
    ],
)
def test_chunks_of_png_that_tell_the_colours(chunks, name, capsys):
    first, *others = png_chunks(Path(save("a.png", RGB)).read_bytes())
    Path("b.png").write_bytes(png_of(first, *chunks, *others))
    profile = read_picture("b.png").profile
    if name is None:
        assert profile is None
    else:
        assert profile.name.startswith(name)
        found, _ = compared(capsys, "a.png", "b.png", "--metrics", "rmse")
        assert f"b.png: its colour profile is '{name}" in found["scored"][0]["notes"][0]
        found, _ = compared(capsys, "b.png", "b.png", "--metrics", "rmse")
        assert found["scored"][0]["notes"] == []


def test_tags_of_tiff_that_tell_the_colours():
    white = (319, "f", 6, [0.68, 0.32, 0.265, 0.69, 0.15, 0.06], True)
    save("a.tif", RGB, photometric="rgb", metadata=None, extratags=[white])
    assert contents("a.tif")[0].profile.name == "PrimaryChromaticities"


def test_bmp_of_the_fifth_version():
    plain = Path(save("a.bmp", RGB)).read_bytes()
    header = bytearray(plain[14:54].ljust(124, b"\0"))
    struct.pack_into("<I", header, 0, 124)
    header[56:60] = b"DEBM"
    struct.pack_into("<II", header, 112, 124 + RGB.size, len(WIDE))
    start = plain[:10] + struct.pack("<I", 138)
    Path("a.bmp").write_bytes(start + header + plain[54:] + WIDE)
    picture = read_picture("a.bmp")
    np.testing.assert_array_equal(picture.pixels, RGB)
    assert picture.profile.name == "Display P3"


def test_a_linear_profile_of_srgb_is_not_that_of_others():
    linear = b"curv" + bytes(8)
    for curve in (linear, b"curv\0\0\0\0\0\0\0\1\1\0", b"para" + bytes(8) + b"\0\1\0\0"):
        profile = Profile("sRGB g10", frozenset({(b"rTRC", curve)}))
        assert profile_difference(None, profile)
    usual = Profile("sRGB", frozenset({(b"rTRC", b"curv\0\0\0\0\0\0\0\1\2\x33")}))
    assert not profile_difference(None, usual)


def test_adobe_rgb_of_cameras_without_a_profile():
    entry = struct.Struct(">HHHII")  # a directory of one tag: its number, type, count, value
    exif = b"Exif\0\0MM\0*\0\0\0\x08"
    exif += entry.pack(1, 0x8769, 4, 1, 26) + bytes(4)
    exif += entry.pack(1, 0xA005, 4, 1, 44) + bytes(4)
    exif += entry.pack(1, 1, 2, 4, int.from_bytes(b"R03\0", "big")) + bytes(4)
    save("a.jpg", RGB, exif=exif)
    camera = read_picture("a.jpg")
    assert camera.profile.name == "Adobe RGB, by EXIF"
    assert camera.notes == ()
    assert profile_difference(None, camera.profile)
    save("b.jpg", RGB, exif=exif, icc_profile=WIDE)
    assert read_picture("b.jpg").profile.name == "Display P3"
    turned = Image.Exif()
    turned[274] = 6
    save("c.jpg", RGB, exif=turned)
    assert "is obeyed" in read_picture("c.jpg").notes[0]
