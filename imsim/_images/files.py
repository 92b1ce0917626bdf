"""Opening a file of one or many images, whatever its format, or saying why it is not read."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple

from imsim._images import dicom
from imsim._images.animation import GIF_SIGNATURES, open_apng, open_gif
from imsim._images.arrays import NPY_SIGNATURE, ZIP_SIGNATURES, open_npy, open_npz
from imsim._images.bmp import is_bitmap, open_bmp
from imsim._images.exr import EXR_SIGNATURE, open_exr
from imsim._images.fits import FITS_SIGNATURE, open_fits
from imsim._images.hdf5 import HDF5_EXTENSIONS, HDF5_SIGNATURE, has_user_block, open_hdf5
from imsim._images.jpeg import JPEG_SIGNATURE, open_jpeg
from imsim._images.nifti import HEADER_BYTES, NIFTI_SIGNATURES, is_nifti, open_nifti
from imsim._images.pictures import ImageFileError, Pages, Picture
from imsim._images.png import PNG_SIGNATURE, is_animated, open_png
from imsim._images.raster import Raster
from imsim._images.reading import (
    GZIP_SIGNATURE,
    Reading,
    Source,
    State,
    beginning,
    check_unchanged,
    find,
    first_bytes,
    state_of,
    unpacked,
)
from imsim._images.tiff import open_tiff
from imsim._images.tiff_checks import TIFF_SIGNATURES
from imsim._images.volumes import FITS_EXTENSIONS, as_volume
from imsim._images.webp_avif import is_avif, is_webp, open_avif, open_webp
from imsim._images.zarr_arrays import is_zarr, open_zarr

EXTENSIONS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".avif"),
    *(".gif", ".bmp", ".dib", ".npy", ".npz", ".dcm", ".exr", *FITS_EXTENSIONS),
)
"""Extensions of files that are taken from a folder; the content tells the format."""
_PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Extensions of packed files, behind the one that tells what is packed."""
_NAMED = (".npz", ".exr", *FITS_EXTENSIONS, *HDF5_EXTENSIONS)
"""Extensions of files whose parts have names."""
_INDEXED = re.compile(r"(.+)\[(\d+)\]", re.DOTALL)
_IN_BRACKETS = re.compile(r"([^\[]+)\[.*\]", re.DOTALL)


class ImageFile:
    """An open file of one or many images; to be closed, or used in a ``with`` statement.

    Several threads may read from it. Pixels that stay on the disk can be read until it is closed.

    The path is that of a file; ``FILE:NAME`` for one array of .npz or HDF5, HDU of FITS or layer of
    OpenEXR, ``FILE[i]`` for one image of several, counted from 0; ``-`` for the standard input; a
    folder of Zarr. A pipe is read once: `reading` is one for all files of a run, since it keeps the
    content of pipes. As a volume, a folder of DICOM files is a file of one volume, and so is a
    stack of images.
    """

    def __init__(self, path: str, reading: Reading | None = None) -> None:
        self.path = path
        self._reading = reading or Reading()
        self._lock = threading.Lock()
        self._closed = False
        self._state: State | None = None
        with _naming(path):
            place = os.path.join(self._reading.folder, path)
            self._file = file_of(place)
            self._state = state_of(self._file)
            self._pages = _open(place, self._reading)

    def __len__(self) -> int:
        return self._pages.number

    def label(self, index: int) -> str:
        """Name an image: the path, with the index if the file holds several."""
        return self.path if len(self) == 1 else f"{self.path}[{index}]"

    def read(self, index: int) -> Picture:
        """Read one image, with notes on what was left aside or converted, and where it has data."""
        label = self.label(index)
        with self._lock, _naming(label):
            if self._closed:
                raise ImageFileError("is closed; nothing more is read from it")
            with self._unchanged():
                found = self._pages.read(index)
        if isinstance(found.pixels, Raster):
            found.pixels.guards.insert(0, self._unchanged)
            found.pixels.guards.insert(0, lambda: _naming(label))
        return Picture(*found[:-1], path=label)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Refuse what is read of a file that somebody writes: it may be of two files."""
        try:
            yield
        finally:
            # It may be gone: what was open is read to its end.
            if (now := state_of(self._file)) is not None:
                check_unchanged(self._state, now)

    def close(self) -> None:
        """Let go of the file, once no thread reads from it."""
        with self._lock:
            self._closed = True
            self._pages.close()

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_picture(path: str, reading: Reading | None = None) -> Picture:
    """Read a file that holds one image, as `ImageFile` does."""
    with ImageFile(path, reading) as file:
        if len(file) != 1:
            file.read(len(file) - 1)  # the error of a damaged file comes first
            raise ImageFileError(
                f"{path}: holds {len(file)} images; name one of them: '{path}[0]' to "
                f"'{path}[{len(file) - 1}]'"
            )
        return file.read(0)


def same_file(one: str, other: str) -> bool:
    """Tell whether two names, which need not exist, name one file, also by links."""
    first, second = file_of(one), file_of(other)
    try:
        return os.path.samefile(first, second)
    except (OSError, ValueError):  # one of them does not exist, or no file can have that name
        return os.path.realpath(first) == os.path.realpath(second)


def file_of(path: str) -> str:
    """Return the file in a name that may also choose an array or an image."""
    return _split(without_index(path)[0])[0]


def _open(path: str, reading: Reading) -> Pages:
    file, index = without_index(path)
    odd = _IN_BRACKETS.fullmatch(file)
    if odd and not os.path.exists(file) and os.path.exists(_split(odd[1])[0]):
        one = f"'{odd[1]}[0]'"
        raise ImageFileError(
            f"{path[len(odd[1]) :]} chooses no image; give one number, counted from 0: {one}"
        )
    pages = _open_all(file, reading)
    if index is None:
        return pages
    number = pages.number + pages.further
    if index >= number:
        pages.close()
        raise ImageFileError(f"there is no such image; {file} holds {number}, counted from 0")
    return Pages(1, lambda _: pages.read(index), pages.close)


def _open_all(path: str, reading: Reading) -> Pages:
    file, name = _split(path)
    if is_zarr(file):
        pages = open_zarr(file, reading)
        return as_volume(pages, reading) if reading.volume else pages
    if reading.volume and os.path.isdir(file):
        return dicom.open_series(file, reading)
    source = find(file, reading, _is_known)
    with source.open() as stream:
        start = stream.read(132)  # DICOM has its mark at their end
    if not start:
        raise ImageFileError("is empty")
    if start.startswith((GZIP_SIGNATURE, *NIFTI_SIGNATURES)):
        content = beginning(source, HEADER_BYTES)
        if is_nifti(content):
            return open_nifti(source, reading)
        if start.startswith(GZIP_SIGNATURE):
            if not content.startswith(FITS_SIGNATURE):
                raise ImageFileError(
                    "is packed by gzip, which is read of FITS and NIfTI", "unpack it: gunzip -k"
                )
            source, start = unpacked(source, reading), content[:132]
    if start[128:] == dicom.DICOM_SIGNATURE:
        return dicom.open_file(source, reading)
    pages = _open_images(source, start, name, reading)
    return as_volume(pages, reading) if reading.volume else pages


def _open_images(source: Source, start: bytes, name: str | None, reading: Reading) -> Pages:
    if start.startswith(TIFF_SIGNATURES):
        return open_tiff(source, reading)
    if reading.level:
        raise ImageFileError(f"has no level {reading.level}: it holds no pyramid")
    for signatures, open_part in _OF_PARTS:
        if start.startswith(signatures):
            return open_part(source, name, reading)
    for is_one, open_one in _PICTURES:
        if is_one(start):
            return open_one(source, reading)
    if has_user_block(source):
        return open_hdf5(source, name, reading)
    raise ImageFileError(*_no_image(source.path, start))


def _open_png(source: Source, reading: Reading) -> Pages:
    return (open_apng if is_animated(source) else open_png)(source, reading)


_OF_PARTS: tuple[tuple[Any, Callable[[Source, str | None, Reading], Pages]], ...] = (
    (FITS_SIGNATURE, open_fits),
    (EXR_SIGNATURE, open_exr),
    (HDF5_SIGNATURE, open_hdf5),
    (ZIP_SIGNATURES, open_npz),
)
"""How files begin whose parts have names, and what opens them."""
_PICTURES: tuple[tuple[Callable[[bytes], bool], Callable[[Source, Reading], Pages]], ...] = (
    (lambda start: start.startswith(NPY_SIGNATURE), open_npy),
    (lambda start: start.startswith(PNG_SIGNATURE), _open_png),
    (lambda start: start.startswith(JPEG_SIGNATURE), open_jpeg),
    (lambda start: start.startswith(GIF_SIGNATURES), open_gif),
    (is_webp, open_webp),
    (is_avif, open_avif),
    (is_bitmap, open_bmp),
)
"""What tells other files by their first bytes, and opens them."""


def _is_image(start: bytes) -> bool:
    """Tell by its first bytes whether a file is of a format that is taken from a folder."""
    known = start.startswith((*TIFF_SIGNATURES, FITS_SIGNATURE, EXR_SIGNATURE))
    known = known or start[128:132] == dicom.DICOM_SIGNATURE
    return known or any(is_one(start) for is_one, _ in _PICTURES)


def _is_known(start: bytes) -> bool:
    others = (HDF5_SIGNATURE, *ZIP_SIGNATURES, GZIP_SIGNATURE, *NIFTI_SIGNATURES)
    return _is_image(start) or start.startswith(others)


def without_index(path: str) -> tuple[str, int | None]:
    """Split ``FILE[i]``, unless there is a file of that very name."""
    match = _INDEXED.fullmatch(path)
    if match is None or os.path.exists(path):
        return path, None
    return match[1], int(match[2])


def _split(path: str) -> tuple[str, str | None]:
    """Split ``FILE.npz:NAME``, unless there is a file of that very name; NAME may have colons."""
    if os.path.exists(path):
        return path, None
    colons = (place for place, letter in enumerate(path) if letter == ":")
    ends = [end for end in colons if path[:end].lower().endswith(_NAMED)]
    if not ends:
        return path, None
    end = next((end for end in ends if os.path.exists(path[:end])), ends[0])
    return path[:end], path[end + 1 :]


@contextmanager
def _naming(label: str) -> Iterator[None]:
    """Turn every exception of a reader into an error that names the image."""
    try:
        yield
    except ImageFileError as error:
        raise ImageFileError(str(error), image=label) from error
    except MemoryError as error:
        raise ImageFileError("too large for the memory of this machine", image=label) from error
    except ZeroDivisionError as error:
        raise ImageFileError("damaged: a size or count in it is 0", image=label) from error
    except OSError as error:
        # Decoders also raise OSError, without a number, for damaged files.
        reason = f"cannot be read: {error.strerror}" if error.errno else _damaged(error)
        raise ImageFileError(reason, image=label) from error
    except Exception as error:
        # Decoders also raise a dozen other exceptions.
        null = "\0" in label  # no file can have such a name
        reason = f"cannot be read: {error}" if null else _damaged(error)
        raise ImageFileError(reason, image=label) from error


def _damaged(error: Exception) -> str:
    return f"damaged or not an image: {error}"


_AS_IMAGE = "save it as PNG or TIFF"


class Unread(NamedTuple):
    """Formats of one kind that are not read, or not as images."""

    name: str
    endings: str
    """Without their points, one behind the other."""
    starts: tuple[bytes, ...] = ()
    remedy: str = _AS_IMAGE

    def is_called(self, name: str) -> bool:
        """Tell whether a name in small letters ends like such a file."""
        return name.endswith(tuple(f".{ending}" for ending in self.endings.split()))


_JP2 = (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")
_RAW = "arw cr2 cr3 crw dng nef orf pef raf rw2 srw"
_UNREAD = (
    Unread("HEIC", "heic heics heif"),
    Unread("JPEG XL", "jxl", (b"\x00\x00\x00\x0cJXL ",)),
    Unread("JPEG 2000", "j2c j2k jp2 jpc jpf jpx", _JP2),
    Unread("JPEG XR", "jxr hdp wdp", (b"II\xbc\x01",)),
    Unread("Photoshop", "psd psb", (b"8BPS",)),
    Unread("SVG", "svg svgz", (b"<svg",), "render it as PNG"),
    Unread(
        "a raw camera file", _RAW, (b"FUJIFILMCCD-RAW", b"IIRO", b"IIU\x00"), "develop it as TIFF"
    ),
    Unread("Radiance", "hdr rgbe", (b"#?RADIANCE", b"#?RGBE")),
    Unread("Netpbm", "pam pbm pfm pgm pnm ppm"),
    Unread("DDS", "dds", (b"DDS ",)),
    Unread("QOI", "qoi", (b"qoif",)),
    Unread("Sun raster", "ras", (b"\x59\xa6\x6a\x95",)),
    Unread("PCX", "pcx"),
    Unread("SGI", "sgi"),
    Unread("Targa", "tga"),
    Unread("an icon", "ico cur icns", (b"icns",)),
    Unread("TIFF by another name", "btf tf2 tf8", (), "call it .tif"),
    Unread("a camera's JPEG of several pictures", "mpo", (), "call it .jpg"),
    Unread("NIfTI, a volume", "nii", (), "compare volumes: --volume"),
    Unread("a volume", "mha mhd nrrd", (b"NRRD0",), "save it as NIfTI"),
    Unread(
        "a microscope's own format",
        "czi lif nd2 oib oif vsi",
        (b"ZISRAWFILE", b"\xda\xce\xbe\x0a"),
        "export it as OME-TIFF",
    ),
)
"""Formats that are not taken from a folder, by what they are called."""
_VIDEO = Unread(
    "a video",
    "avi m4v mkv mov mp4 mpeg mpg webm wmv",
    (b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"),
    "save its frames as PNG: ffmpeg -i FILE frames/%05d.png",
)
_TEXT = (b"<!DOCTYPE", b"<!doctype", b"<html", b"<?xml", b"{")
_MATLAB = (b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file")
_OTHERS = (
    # Text may begin like that.
    Unread("Netpbm", "", tuple(b"P%c%c" % two for two in product(b"1234567Ff", b"\n\r\t "))),
    Unread("DICOM without its mark (DICM)", "dcm dicom ima", (), "write it anew: dcmconv"),
    Unread("PDF", "", (b"%PDF-",), "render its pages as PNG"),
    _VIDEO,
    Unread("packed by bzip2", "bz2", (b"BZh",), "unpack it: bunzip2 -k"),
    Unread("packed by xz", "xz", (b"\xfd7zXZ\x00",), "unpack it: unxz -k"),
    Unread("packed by Zstandard", "zst", (b"\x28\xb5\x2f\xfd",), "unpack it: unzstd"),
    Unread("packed by compress", "z", (b"\x1f\x9d",), "unpack it: uncompress -k"),
    Unread("an archive", "7z rar", (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"), "unpack it"),
    Unread(
        "a pointer of Git LFS, and not the file",
        "",
        (b"version https://git-lfs",),
        "fetch the file: git lfs pull",
    ),
    Unread("a file of MATLAB", "mat", _MATLAB, "save it as TIFF, HDF5 or .npy"),
    Unread("netCDF 3", "", (b"CDF\x01", b"CDF\x02", b"CDF\x05"), "convert it: nccopy -k nc4"),
    Unread("HDF4", "hdf", (b"\x0e\x03\x13\x01",), "convert it: h4toh5"),
    Unread("text", "", _TEXT, "if it was to be an image, fetch it anew"),
    Unread("a table", "csv tsv txt", (), "save it as .npy or TIFF"),
    Unread("a pickle of Python", "pkl pickle", (b"\x80\x03", b"\x80\x04"), "save it as .npy"),
)
"""What is no image, or not by itself: in a folder it is passed over."""


_BRANDS = (b"hei", b"hev", b"mif", b"msf")
"""How the brand of a HEIF file begins, unless it is AVIF."""


def _unread(path: str, start: bytes, kinds: tuple[Unread, ...] = _UNREAD) -> Unread | None:
    """Return the format of a file that is not read, by its first bytes or else by its ending."""
    for kind in kinds:
        if kind.starts and start.startswith(kind.starts):
            return kind
    if start[4:8] == b"ftyp" and start[8:11] in _BRANDS and not is_avif(start):
        return _UNREAD[0]
    name = path.lower()
    while name.endswith(_PACKED):
        name = os.path.splitext(name)[0]
    return next((kind for kind in kinds if kind.is_called(name)), None)


def _no_image(path: str, start: bytes) -> tuple[str, str]:
    """Say what a file that is not read is instead, and what to do."""
    # What its name tells of a file is believed last.
    by_content = _unread("", start, (*_UNREAD, *_OTHERS))
    kind = by_content or _unread(path, start, (*_UNREAD, *_OTHERS))
    if kind is None and start[4:8] in (b"ftyp", b"moov", b"mdat"):
        kind = _VIDEO
    if kind is not None:
        return f"is {kind.name}, which is not read", kind.remedy
    return (
        "not a PNG, JPEG, TIFF, WebP, AVIF, GIF, BMP, FITS, OpenEXR, HDF5, .npy, .npz, NIfTI or "
        "DICOM file, nor Zarr",
        _AS_IMAGE,
    )


def why_not_read(path: str) -> str | None:
    """Say why an image is not taken from a folder, and what to do; None: it is no image."""
    start = first_bytes(path)
    kind = _unread(path, start)
    if kind is not None:
        return f"is {kind.name}, which is not read; {kind.remedy}"
    name = path.lower()
    if name.endswith(EXTENSIONS):
        return "is an image, and no volume; save it as TIFF of several pages"
    if name.endswith(tuple(ending + packed for ending in EXTENSIONS for packed in _PACKED)):
        return "is packed; unpack it"
    if _is_image(start):
        return "is an image, but does not end like one; add the ending of its format"
    return None
