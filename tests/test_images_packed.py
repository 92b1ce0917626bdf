"""Files packed by gzip, and what is said of those that are packed otherwise or are no images."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
from command import compared
from image_files import GREY, NOISY, contents, save
from medical_files import VOLUME, save_nifti

from imsim._images import ImageFileError, Reading, read_picture
from imsim._images.reading import _memory

pytestmark = pytest.mark.usefixtures("empty_directory")
DAMAGE = {
    "cut off in its checksum": lambda packed: packed[:-5],
    "cut off in its middle": lambda packed: packed[: len(packed) // 2],
    "cut off at once": lambda packed: packed[:30],
    "a wrong checksum": lambda packed: packed[:-8] + bytes(4) + packed[-4:],
    "a wrong length": lambda packed: packed[:-1] + b"\x77",
    "junk behind": lambda packed: packed + b"junk",
}


def packed_fits(name: str = "a.fits.gz", pixels: np.ndarray = GREY) -> bytes:
    fits = pytest.importorskip("astropy.io.fits")
    fits.PrimaryHDU(pixels).writeto("plain.fits", overwrite=True)
    packed = gzip.compress(Path("plain.fits").read_bytes())
    Path(name).write_bytes(packed)
    return packed


def test_fits():
    packed = packed_fits()
    for name in ("a.fits.gz", "a.fits.gz:0", "a.fits.gz[0]"):
        np.testing.assert_array_equal(read_picture(name).pixels, GREY)
    Path("zeros.fit.gz").write_bytes(packed + bytes(512))  # as tapes fill up their blocks
    np.testing.assert_array_equal(read_picture("zeros.fit.gz").pixels, GREY)


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage(kind):
    Path("a.fits.gz").write_bytes(DAMAGE[kind](packed_fits()))
    with pytest.raises(ImageFileError, match=r"^a.fits.gz: damaged: its gzip stream"):
        contents("a.fits.gz")


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_nifti(kind):
    content = Path(save_nifti("a.nii.gz", VOLUME)).read_bytes()
    Path("a.nii.gz").write_bytes(DAMAGE[kind](content))
    with pytest.raises(ImageFileError, match=r"^a.nii.gz: damaged: its gzip stream"):
        contents("a.nii.gz", Reading(volume=True))


def test_folders_pair_them_by_what_comes_before(capsys):
    for side, pixels in (("ref", GREY), ("test", NOISY)):
        Path(side).mkdir()
        packed_fits(f"{side}/a.fits.gz", pixels)
        packed_fits(f"{side}/b.{'fits.gz' if side == 'ref' else 'fit.gz'}", pixels)
    found, err = compared(capsys, "ref", "test", "--metrics", "rmse")
    assert [row["test"] for row in found["scored"]] == ["test/a.fits.gz", "test/b.fit.gz"]
    assert not err


def test_the_limit(monkeypatch):
    packed_fits(pixels=np.zeros((2000, 2000), np.uint8))
    assert Path("a.fits.gz").stat().st_size < 2**16
    monkeypatch.setattr("imsim._images.reading._memory", lambda: 8 * 2**20)
    _memory.cache_clear()
    with pytest.raises(ImageFileError, match=r"1048576 bytes if it is unpacked; unpack it: gunzip"):
        contents("a.fits.gz")
    (picture,) = contents("a.fits.gz", Reading(max_pixels=4_000_000))
    assert picture.pixels.shape == (2000, 2000)


OTHERS = {
    "a.png.gz": (lambda png: gzip.compress(png), "is packed by gzip.*gunzip"),
    "a.fits.bz2": (lambda png: bz2.compress(png), "is packed by bzip2.*bunzip2"),
    "a.xz": (lambda png: lzma.compress(png), "is packed by xz.*unxz"),
    "a.mp4": (lambda png: b"\0\0\0\x20ftypisom\0\0\2\0isom", "is a video.*save its frames"),
    "lfs.png": (
        lambda png: b"version https://git-lfs.github.com/spec/v1\n",
        "is a pointer of Git LFS.*git lfs pull",
    ),
    "page.png": (lambda png: b"<!DOCTYPE html>", "is text"),
    "ppm.png": (lambda png: b"P6\n4 4\n255\n" + bytes(48), "is Netpbm, which is not read; save it"),
    "a.dcm": (lambda png: b"\x08\0\x05\0CS\x0a\0ISO_IR 100", "is DICOM without its mark"),
    "a.mat": (lambda png: b"MATLAB 5.0 MAT-file".ljust(128), "is a file of MATLAB.*save it"),
    "a.nc": (lambda png: b"CDF\x01" + bytes(28), "is netCDF 3.*nccopy"),
    "x.png": (lambda png: b"no image", "not a PNG.*; save it as PNG or TIFF"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read_has_a_remedy(name):
    make, words = OTHERS[name]
    Path(name).write_bytes(make(Path(save("plain.png", GREY)).read_bytes()))
    with pytest.raises(ImageFileError, match=f"^{name}: {words}"):
        contents(name)
