"""FITS: planes of an HDU, and what the header says of their numbers."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import compared
from image_files import DEEP, GREY, NOISY, contents, refused, save

from imsim._images import ImageFileError, Reading, read_picture

pytestmark = pytest.mark.usefixtures("empty_directory")
FLOATS = np.random.default_rng(3).normal(size=(9, 14)).astype(np.float32)


@pytest.fixture(scope="module")
def fits() -> Any:
    return pytest.importorskip("astropy.io.fits")


@pytest.mark.parametrize(
    "pixels",
    [GREY, DEEP, FLOATS, FLOATS.astype(np.float64)]
    + [np.arange(-60, 66).reshape(9, 14).astype(kind) for kind in ("i1", "i2", "i4", "i8")]
    + [np.array([[0, 1], [2**32 - 1, 2**31]], np.uint32)],
    ids=lambda pixels: pixels.dtype.name,
)
def test_types(fits, pixels):
    """Among them those that FITS stores with the sign inverted."""
    fits.PrimaryHDU(pixels).writeto("a.fits")
    picture = read_picture("a.fits")
    assert picture.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.notes == ()
    assert picture.path == "a.fits"


def test_scale_and_blank(fits):
    stored = np.array([[1, 2, -7], [4, -7, 6]], np.int16)
    hdu = fits.PrimaryHDU(stored)
    hdu.header["BLANK"] = -7
    hdu.writeto("a.fits")
    picture = read_picture("a.fits")
    np.testing.assert_array_equal(picture.pixels, stored)
    np.testing.assert_array_equal(picture.valid, stored != -7)
    assert picture.notes == ("no data (BLANK -7) at 2 of 6 pixels, which are masked",)
    for slope, kind in (("0.5", np.float32), ("2", np.int32)):
        cards = f"BSCALE  = {slope:>20}".ljust(80) + f"BZERO   = {100:>20}".ljust(80)
        head = Path("a.fits").read_bytes()[:2880]
        place = head.index(b"END ".ljust(80))
        head = (head[:place] + cards.encode() + b"END").ljust(2880)
        Path("b.fits").write_bytes(head + Path("a.fits").read_bytes()[2880:])
        scaled = read_picture("b.fits")
        assert scaled.pixels.dtype == kind
        np.testing.assert_array_equal(scaled.pixels, stored * float(slope) + 100)
        np.testing.assert_array_equal(scaled.valid, stored != -7)
        assert f"its values are {float(slope):g} x stored + 100" in scaled.notes[1]


def test_nan_is_no_data(fits):
    pixels = FLOATS.copy()
    pixels[2, 3] = np.nan
    fits.PrimaryHDU(pixels).writeto("a.fits")
    picture = read_picture("a.fits")
    np.testing.assert_array_equal(picture.valid, ~np.isnan(pixels))
    assert picture.notes == ("no data (NaN) at 1 of 126 pixels, which are masked",)


def test_the_first_image_and_others_by_name_or_number(fits):
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])
    images = [fits.ImageHDU(FLOATS, name="SCI"), fits.ImageHDU(-FLOATS, name="ERR")]
    images.append(fits.ImageHDU(FLOATS + 1, name="ERR", ver=2))
    fits.HDUList([fits.PrimaryHDU(), table, *images]).writeto("a.fits")
    picture = read_picture("a.fits")
    np.testing.assert_array_equal(picture.pixels, FLOATS)
    (note,) = picture.notes
    assert note.startswith("the image of its HDU 2 is taken; FILE.fits:HDU names another: 3 (ERR)")
    for name, wanted in (("sci", FLOATS), ("3", -FLOATS), ("4", FLOATS + 1)):
        other = read_picture(f"a.fits:{name}")
        np.testing.assert_array_equal(other.pixels, wanted)
        assert other.notes == ()
    for name, words in (("ERR", "2 images called ERR"), ("1", "no image called 1")):
        with pytest.raises(ImageFileError, match=f"{words}; it has 2"):
            read_picture(f"a.fits:{name}")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto("t.fits")
    with pytest.raises(ImageFileError, match="none of its HDUs has two axes"):
        read_picture("t.fits")


def test_cubes_are_stacks(fits):
    cube = np.stack([FLOATS, FLOATS + 1, FLOATS + 2])
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(cube[None], name="C")]).writeto("a.fits")
    pictures = contents("a.fits")
    assert [picture.path for picture in pictures] == [f"a.fits[{i}]" for i in range(3)]
    np.testing.assert_array_equal([picture.pixels for picture in pictures], cube)
    np.testing.assert_array_equal(read_picture("a.fits:C[2]").pixels, cube[2])
    (volume,) = contents("a.fits", Reading(volume=True))
    np.testing.assert_array_equal(volume.pixels, cube)
    colours = read_picture("a.fits", Reading(channel_axis=-3))
    np.testing.assert_array_equal(colours.pixels, np.moveaxis(cube, 0, -1))


def test_compressed(fits):
    for name, pixels in (("a.fits.fz", DEEP), ("b.fits", GREY.astype(np.int32))):
        hdus = [fits.PrimaryHDU(), fits.CompImageHDU(pixels)]
        fits.HDUList(hdus).writeto(name)
        picture = read_picture(name)
        assert picture.pixels.dtype == pixels.dtype
        np.testing.assert_array_equal(picture.pixels, pixels)


def test_damage(fits):
    fits.HDUList([fits.PrimaryHDU(GREY), fits.ImageHDU(DEEP)]).writeto("a.fits", checksum=True)
    content = Path("a.fits").read_bytes()
    assert len(contents("a.fits")) == 1
    for tenth in range(1, 9):  # at nine, only what fills up the last block is missing
        cut = len(content) * tenth // 10
        cut += not cut % 2880  # where a block ends, the file may end as well
        refused(content[:cut], "")
    refused(content + bytes(4000), "4000 bytes behind its last HDU")
    changed = bytearray(content)
    refused(content.replace(b"NAXIS1  =", b"NAXIS1  -", 1), "")
    refused(content[:5760] + b"XTENSION= 7".ljust(2880) + content[8640:], "")
    changed[2880] ^= 1
    refused(bytes(changed), "the sum of its data is .* [(]DATASUM")
    Path("x.fits").write_bytes(content[:-100])  # of what fills up the last block
    np.testing.assert_array_equal(read_picture("x.fits:1").pixels, DEEP)


@pytest.mark.parametrize("form", ["RICE_1", "GZIP_1", "PLIO_1", "HCOMPRESS_1"])
def test_compressed_tiles_have_a_sum(fits, form):
    pixels = (GREY // 2).astype(np.int16)
    hdu = fits.CompImageHDU(pixels, compression_type=form)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto("a.fits", checksum=True)
    np.testing.assert_array_equal(read_picture("a.fits").pixels, pixels)
    content = bytearray(Path("a.fits").read_bytes())
    end = len(content.rstrip(b"\0"))
    for place in range(end - 700, end, 50):
        changed = content.copy()
        changed[place] ^= 4
        refused(bytes(changed), "")
        changed[place:end] = bytes(end - place)
        refused(bytes(changed), "")


def test_rows_against_other_formats(fits, capsys):
    """Rows are in the order of the file; a note tells that FITS has the first one at the bottom."""
    fits.PrimaryHDU(GREY).writeto("a.fits")
    fits.PrimaryHDU(NOISY).writeto("b.fits")
    save("a.npy", GREY), save("mask.png", GREY > 99)
    found, err = compared(capsys, "a.fits", "a.npy", "--metrics", "rmse")
    assert found["scored"][0]["scores"] == {"rmse": 0}
    assert len(err) == 1
    assert "a.npy: of this image and a.fits, one is FITS, whose first row is its bottom" in err[0]
    _, err = compared(capsys, "a.fits", "b.fits", "--metrics", "rmse", "--mask", "mask.png")
    assert len(err) == 1
    assert "mask.png: of this image and a.fits, one is FITS" in err[0]
    assert compared(capsys, "a.fits", "b.fits", "--metrics", "rmse")[1] == []
    save("large.tif", np.tile(GREY, (40, 40)), tile=(64, 64), compression="zlib")
    fits.PrimaryHDU(np.tile(np.uint8(GREY > 99), (40, 40))).writeto("mask.fits")
    how = ("--metrics", "rmse", "--mask", "mask.fits", "--memory")
    notes = [compared(capsys, "large.tif", "large.tif", *how, m)[1] for m in ("1GB", "100kB")]
    assert "mask.fits: of this image and large.tif, one is FITS" in notes[0][0]
    assert notes[1] == notes[0]  # also where the pair stays on the disk


def test_without_astropy(monkeypatch, capsys):
    """Also in a folder that nothing must pass over."""
    for side in ("ref", "test"):
        save(f"{side}/a.png", GREY)
        Path(f"{side}/b.fits").write_bytes(b"SIMPLE  =                    T".ljust(2880))
    monkeypatch.setitem(sys.modules, "astropy.io", None)
    _, err = compared(capsys, "ref", "test", "--metrics", "rmse", status=2)
    assert "test/b.fits: FITS needs the package astropy; pip install 'imsim[astronomy]'" in err[0]


def test_units_that_differ_are_said(fits, capsys):
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    large = np.tile(FLOATS, (20, 20))  # is read in parts
    for name, unit in (("a", "K"), ("b", "mK"), ("c", None)):
        hdu = fits.PrimaryHDU(large)
        array = zarr.create_array(f"{name}.zarr", shape=large.shape, dtype=large.dtype)
        array[:] = large
        with h5py.File(f"{name}.h5", "w") as file:
            file["x"] = large
            if unit:
                file["x"].attrs["units"] = unit
                hdu.header["BUNIT"] = unit
                array.attrs["units"] = unit
        hdu.writeto(f"{name}.fits")
    words = "its values are in units of 'mK', and those of the reference of 'K'"
    for form in ("fits", "h5", "zarr"):
        names = [f"{name}.{form}" for name in "abc"]
        for options in ((), ("--memory", "100kB")):
            found, _ = compared(capsys, *names, "--metrics", "rmse", *options)
            other, none = ([n for n in row["notes"] if "units" in n] for row in found["scored"])
            assert other[0].startswith(f"b.{form}: {words}")
            assert not none
            assert read_picture(names[0]).unit == "K"


def header_of(*cards: str, bits: int = 16) -> bytes:
    """Return the header of an image of int16, 3 x 2 pixels."""
    own = [
        *(
            "SIMPLE  =                    T",
            f"BITPIX  = {bits:>20}",
            "NAXIS   =                    2",
        ),
        *("NAXIS1  =                    3", "NAXIS2  =                    2", *cards, "END"),
    ]
    return "".join(card.ljust(80) for card in own).encode().ljust(2880)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        (["BSCALE  =                  0.0"], "its values would be 0 x stored"),
        (["BZERO   =              1.0E400"], r"its values would be 1 x stored \+ inf"),
        (["BSCALE  = '2.0'"], "its BSCALE is '2.0'; expected a number"),
        (["BSCALE  = "], "its BSCALE is 'None'; expected a number"),
        (["BSCALE  =  2.0", "BSCALE  =  3.0"], "its BSCALE is '2.0' and '3.0'"),
        (["BLANK   =                  1.5"], "its BLANK is '1.5'; expected a whole number"),
    ],
)
def test_a_header_that_makes_no_sense_of_the_numbers(fits, cards, words):
    data = np.arange(6, dtype=">i2").tobytes().ljust(2880, b"\0")
    Path("a.fits").write_bytes(header_of() + data)
    np.testing.assert_array_equal(read_picture("a.fits").pixels, [[0, 1, 2], [3, 4, 5]])
    refused(header_of(*cards) + data, words, "b.fits")
    refused(header_of(bits=12) + data, "its BITPIX is 12", "b.fits")


@pytest.mark.filterwarnings(
    "ignore"
)  # Astropy's warnings, which are errors here, are none to users
@pytest.mark.parametrize("form", ["plain", "compressed"])
def test_a_header_without_its_end_goes_on_with_the_next(fits, form):
    kind = {"plain": fits.ImageHDU, "compressed": fits.CompImageHDU}[form]
    fits.HDUList(
        [fits.PrimaryHDU(), kind(GREY.astype(np.int16)), kind(GREY.astype(np.int16))]
    ).writeto("a.fits")
    content = Path("a.fits").read_bytes()
    ends = [match.start() for match in re.finditer(rb"END {77}", content)]
    assert len(ends) == 3
    for place in ends:
        for damage in (b"ENE", b"   "):
            Path("a.fits").write_bytes(content[:place] + damage + content[place + 3 :])
            with pytest.raises(ImageFileError, match=r"a\.fits.*: damaged"):
                contents("a.fits:1")


def test_axes_that_are_shorter_than_the_data(fits):
    fits.PrimaryHDU(FLOATS).writeto("a.fits")
    assert read_picture("a.fits").notes == ()
    content = Path("a.fits").read_bytes()
    height, width = FLOATS.shape
    for axis, length in ((1, width), (2, height)):
        found = re.search(rb"NAXIS%d  = +%d" % (axis, length), content)
        shorter = found[0][: -len(str(length))] + str(length - 1).encode().rjust(len(str(length)))
        Path("b.fits").write_bytes(content.replace(found[0], shorter))
        assert "what follows its pixels is not 0" in read_picture("b.fits").notes[0]
