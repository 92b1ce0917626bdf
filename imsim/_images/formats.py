"""Formats by their endings and first bytes, and what to do with those that are not read."""

from __future__ import annotations

import os
from typing import NamedTuple

from imsim._images.arrays import NPY_SIGNATURE
from imsim._images.dicom import SIGNATURE as DICOM_SIGNATURE
from imsim._images.exr import SIGNATURE as EXR_SIGNATURE
from imsim._images.fits import SIGNATURE as FITS_SIGNATURE
from imsim._images.gif import SIGNATURES as GIF_SIGNATURES
from imsim._images.jpeg import SIGNATURE as JPEG_SIGNATURE
from imsim._images.png import SIGNATURE as PNG_SIGNATURE
from imsim._images.source import is_regular
from imsim._images.tiff import SIGNATURES as TIFF_SIGNATURES
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


class Unread(NamedTuple):
    """Formats of one kind that are not read, or not as images."""

    name: str
    endings: tuple[str, ...]
    starts: tuple[bytes, ...]
    remedy: str = "save it as PNG or TIFF"


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
    Unread("an icon", (".ico", ".cur"), ()),
    Unread("TIFF by another name", (".btf", ".tf2", ".tf8"), (), "call it .tif"),
    Unread("a camera's JPEG of several pictures", (".mpo",), (), "call it .jpg"),
    Unread("NIfTI, a volume", (".nii",), (), "compare volumes: --volume"),
    Unread("a volume", (".mha", ".nrrd"), (), "save it as NIfTI"),
)
"""Formats that are not taken from a folder, by what they are called."""
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


def unread(path: str, start: bytes) -> Unread | None:
    """Return the format of a file that is not read, by its first bytes or else by its ending."""
    for kind in _UNREAD:
        if kind.starts and start.startswith(kind.starts):
            return kind
    if start[4:8] == b"ftyp" and start[8:11] in _BRANDS and not is_avif(start):
        return _UNREAD[0]
    name = path.lower()
    while name.endswith(_PACKED):
        name = os.path.splitext(name)[0]
    return next((kind for kind in _UNREAD if name.endswith(kind.endings)), None)


def looks_like_an_image(path: str) -> bool:
    """Tell whether a file that is not taken from a folder is an image, by its name or content."""
    return why_not_read(path) is not None


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
    if not is_regular(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(_START)
    except OSError:
        return b""
