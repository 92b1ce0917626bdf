"""Formats by their endings and first bytes, and what to do with those that are not read."""

from __future__ import annotations

import os
from itertools import product
from typing import NamedTuple

from imsim._images.animation import GIF_SIGNATURES
from imsim._images.arrays import NPY_SIGNATURE
from imsim._images.dicom import DICOM_SIGNATURE
from imsim._images.exr import EXR_SIGNATURE
from imsim._images.fits import FITS_SIGNATURE
from imsim._images.jpeg import JPEG_SIGNATURE
from imsim._images.png import PNG_SIGNATURE
from imsim._images.tiff_checks import TIFF_SIGNATURES
from imsim._images.volumes import FITS_EXTENSIONS

EXTENSIONS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".avif"),
    *(".gif", ".bmp", ".dib", ".npy", ".npz", ".dcm", ".exr", *FITS_EXTENSIONS),
)
"""Extensions of files that are taken from a folder; the content tells the format."""
_PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Extensions of packed files, behind the one that tells what is packed."""
_START = 132
"""Bytes that tell a format; DICOM has its mark at their end."""


_AS_IMAGE = "save it as PNG or TIFF"


class Unread(NamedTuple):
    """Formats of one kind that are not read, or not as images."""

    name: str
    endings: tuple[str, ...]
    starts: tuple[bytes, ...]
    remedy: str = _AS_IMAGE


_UNREAD = (
    Unread("HEIC", (".heic", ".heics", ".heif"), ()),
    Unread("JPEG XL", (".jxl",), (b"\x00\x00\x00\x0cJXL ",)),
    Unread(
        "JPEG 2000",
        (".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"),
        (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51"),
    ),
    Unread("JPEG XR", (".jxr", ".hdp", ".wdp"), (b"II\xbc\x01",)),
    Unread("Photoshop", (".psd", ".psb"), (b"8BPS",)),
    Unread("SVG", (".svg", ".svgz"), (b"<svg",), "render it as PNG"),
    Unread(
        "a raw camera file",
        (".arw", ".cr2", ".cr3", ".crw", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"),
        (b"FUJIFILMCCD-RAW", b"IIRO", b"IIU\x00"),
        "develop it as TIFF",
    ),
    Unread("Radiance", (".hdr", ".rgbe"), (b"#?RADIANCE", b"#?RGBE")),
    Unread(
        "Netpbm",
        (".pam", ".pbm", ".pfm", ".pgm", ".pnm", ".ppm"),
        (),
    ),
    Unread("DDS", (".dds",), (b"DDS ",)),
    Unread("QOI", (".qoi",), (b"qoif",)),
    Unread("Sun raster", (".ras",), (b"\x59\xa6\x6a\x95",)),
    Unread("PCX", (".pcx",), ()),
    Unread("SGI", (".sgi",), ()),
    Unread("Targa", (".tga",), ()),
    Unread("an icon", (".ico", ".cur", ".icns"), (b"icns",)),
    Unread("TIFF by another name", (".btf", ".tf2", ".tf8"), (), "call it .tif"),
    Unread("a camera's JPEG of several pictures", (".mpo",), (), "call it .jpg"),
    Unread("NIfTI, a volume", (".nii",), (), "compare volumes: --volume"),
    Unread("a volume", (".mha", ".mhd", ".nrrd"), (b"NRRD0",), "save it as NIfTI"),
    Unread(
        "a microscope's own format",
        (".czi", ".lif", ".nd2", ".oib", ".oif", ".vsi"),
        (b"ZISRAWFILE", b"\xda\xce\xbe\x0a"),
        "export it as OME-TIFF",
    ),
)
"""Formats that are not taken from a folder, by what they are called."""
_OTHERS = (
    # Text may begin like that.
    Unread("Netpbm", (), tuple(b"P%c%c" % two for two in product(b"1234567Ff", b"\n\r\t "))),
    Unread(
        "DICOM without its mark (DICM)", (".dcm", ".dicom", ".ima"), (), "write it anew: dcmconv"
    ),
    Unread("PDF", (), (b"%PDF-",), "render its pages as PNG"),
    Unread(
        "a video",
        (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"),
        (b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"),
        "save its frames as PNG: ffmpeg -i FILE frames/%05d.png",
    ),
    Unread("packed by bzip2", (".bz2",), (b"BZh",), "unpack it: bunzip2 -k"),
    Unread("packed by xz", (".xz",), (b"\xfd7zXZ\x00",), "unpack it: unxz -k"),
    Unread("packed by Zstandard", (".zst",), (b"\x28\xb5\x2f\xfd",), "unpack it: unzstd"),
    Unread("packed by compress", (".z",), (b"\x1f\x9d",), "unpack it: uncompress -k"),
    Unread("an archive", (".7z", ".rar"), (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"), "unpack it"),
    Unread(
        "a pointer of Git LFS, and not the file",
        (),
        (b"version https://git-lfs",),
        "fetch the file: git lfs pull",
    ),
    Unread(
        "a file of MATLAB",
        (".mat",),
        (b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"),
        "save it as TIFF, HDF5 or .npy",
    ),
    Unread("netCDF 3", (), (b"CDF\x01", b"CDF\x02", b"CDF\x05"), "convert it: nccopy -k nc4"),
    Unread("HDF4", (".hdf",), (b"\x0e\x03\x13\x01",), "convert it: h4toh5"),
    Unread(
        "text",
        (),
        (b"<!DOCTYPE", b"<!doctype", b"<html", b"<?xml", b"{"),
        "if it was to be an image, fetch it anew",
    ),
    Unread("a table", (".csv", ".tsv", ".txt"), (), "save it as .npy or TIFF"),
    Unread(
        "a pickle of Python", (".pkl", ".pickle"), (b"\x80\x03", b"\x80\x04"), "save it as .npy"
    ),
)
"""What is no image, or not by itself: in a folder it is passed over."""
STARTS = (
    *(PNG_SIGNATURE, JPEG_SIGNATURE, *TIFF_SIGNATURES, *GIF_SIGNATURES, NPY_SIGNATURE),
    *(FITS_SIGNATURE, EXR_SIGNATURE),
)
_BITMAP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
"""Sizes of the header in a BMP file."""
_BRANDS = (b"hei", b"hev", b"mif", b"msf")
"""How the brand of a HEIF file begins, unless it is AVIF."""


def is_bitmap(start: bytes) -> bool:
    """Tell whether a file begins as BMP does."""
    return start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BITMAP_HEADERS


def is_webp(start: bytes) -> bool:
    """Tell whether a file begins as WebP does."""
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def is_avif(start: bytes) -> bool:
    """Tell whether a file begins as AVIF does, by its brand or those that it is compatible with."""
    if start[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(start[:4], "big"), len(start))
    return any(start[i : i + 4] in (b"avif", b"avis") for i in range(8, end, 4))


def unread(path: str, start: bytes, kinds: tuple[Unread, ...] = _UNREAD) -> Unread | None:
    """Return the format of a file that is not read, by its first bytes or else by its ending."""
    for kind in kinds:
        if kind.starts and start.startswith(kind.starts):
            return kind
    if start[4:8] == b"ftyp" and start[8:11] in _BRANDS and not is_avif(start):
        return _UNREAD[0]
    name = path.lower()
    while name.endswith(_PACKED):
        name = os.path.splitext(name)[0]
    return next((kind for kind in kinds if name.endswith(kind.endings)), None)


def no_image(path: str, start: bytes) -> tuple[str, str]:
    """Say what a file that is not read is instead, and what to do."""
    # What its name tells of a file is believed last.
    by_content = unread("", start, (*_UNREAD, *_OTHERS))
    kind = by_content or unread(path, start, (*_UNREAD, *_OTHERS))
    if kind is None and start[4:8] in (b"ftyp", b"moov", b"mdat"):
        kind = next(other for other in _OTHERS if other.name == "a video")
    if kind is not None:
        return f"is {kind.name}, which is not read", kind.remedy
    return (
        "not a PNG, JPEG, TIFF, WebP, AVIF, GIF, BMP, FITS, OpenEXR, HDF5, .npy, .npz, NIfTI or "
        "DICOM file, nor Zarr",
        _AS_IMAGE,
    )


def why_not_read(path: str) -> str | None:
    """Say why an image is not taken from a folder, and what to do; None: it is no image."""
    start = _start(path)
    kind = unread(path, start)
    if kind is not None:
        return f"is {kind.name}, which is not read; {kind.remedy}"
    name = path.lower()
    if name.endswith(EXTENSIONS):
        return "is an image, and no volume; save it as TIFF of several pages"
    if name.endswith(tuple(ending + packed for ending in EXTENSIONS for packed in _PACKED)):
        return "is packed; unpack it"
    is_image = (
        start.startswith(STARTS)
        or is_bitmap(start)
        or is_webp(start)
        or is_avif(start)
        or start[128:] == DICOM_SIGNATURE
    )
    return (
        "is an image, but does not end like one; add the ending of its format" if is_image else None
    )


def _start(path: str) -> bytes:
    if not os.path.isfile(path):  # reading a pipe or a device might never end
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(_START)
    except OSError:
        return b""
