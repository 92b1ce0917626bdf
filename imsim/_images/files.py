"""Opening a file of one or many images, whatever its format."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from imsim._images import dicom
from imsim._images.animation import GIF_SIGNATURES, open_apng, open_gif
from imsim._images.arrays import NPY_SIGNATURE, ZIP_SIGNATURES, open_npy, open_npz
from imsim._images.bmp import open_bmp
from imsim._images.exr import EXR_SIGNATURE, open_exr
from imsim._images.fits import FITS_SIGNATURE, open_fits
from imsim._images.formats import STARTS, is_avif, is_bitmap, is_webp, no_image
from imsim._images.hdf5 import HDF5_EXTENSIONS, HDF5_SIGNATURE, has_user_block, open_hdf5
from imsim._images.jpeg import JPEG_SIGNATURE, open_jpeg
from imsim._images.nifti import HEADER_BYTES, NIFTI_SIGNATURES, is_nifti, open_nifti
from imsim._images.pictures import ImageFileError, Pages, Picture
from imsim._images.png import PNG_SIGNATURE, is_animated, open_png
from imsim._images.raster import Raster
from imsim._images.reading import GZIP_SIGNATURE, Reading, Source, beginning, find, unpacked
from imsim._images.tiff import open_tiff
from imsim._images.tiff_checks import TIFF_SIGNATURES
from imsim._images.volumes import FITS_EXTENSIONS, as_volume
from imsim._images.webp_avif import open_avif, open_webp
from imsim._images.zarr_arrays import open_zarr
from imsim._images.zarr_nodes import is_zarr

_KNOWN = (
    *STARTS,
    HDF5_SIGNATURE,
    *ZIP_SIGNATURES,
    GZIP_SIGNATURE,
    *NIFTI_SIGNATURES,
    b"BM",
    b"RIFF",
)
_BOXES = tuple(bytes([0, 0, 0, size]) + b"ftyp" for size in range(16, 128, 4))
"""How a file of boxes, such as AVIF, begins."""
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
        self._state: _State | None = None
        with _naming(path):
            place = os.path.join(self._reading.folder, path)
            self._file = file_of(place)
            self._state = _state_of(self._file)
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
            if (now := _state_of(self._file)) is not None and now != self._state:
                raise ImageFileError(
                    "was changed while it was read", "compare it again when nothing writes to it"
                )

    def close(self) -> None:
        """Let go of the file, once no thread reads from it."""
        with self._lock:
            self._closed = True
            self._pages.close()

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_State = tuple[int, int, int]
"""Size, time of change and number of a file: it is the same while these are."""


def _state_of(path: str) -> _State | None:
    """Return the state of a file; None of a pipe, of a folder, and where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


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
        start = stream.read(132)
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


def _is_known(start: bytes) -> bool:
    return start.startswith((*_KNOWN, *_BOXES)) or start[128:132] == dicom.DICOM_SIGNATURE


def _open_images(source: Source, start: bytes, name: str | None, reading: Reading) -> Pages:
    if start.startswith(TIFF_SIGNATURES):
        return open_tiff(source, reading)
    if reading.level:
        raise ImageFileError(f"has no level {reading.level}: it holds no pyramid")
    if start.startswith(NPY_SIGNATURE):
        return open_npy(source, reading)
    if start.startswith(FITS_SIGNATURE):
        return open_fits(source, name, reading)
    if start.startswith(EXR_SIGNATURE):
        return open_exr(source, name, reading)
    if start.startswith(HDF5_SIGNATURE):
        return open_hdf5(source, name, reading)
    if start.startswith(ZIP_SIGNATURES):
        return open_npz(source, name, reading)
    if start.startswith(PNG_SIGNATURE):
        return (open_apng if is_animated(source) else open_png)(source, reading)
    if start.startswith(JPEG_SIGNATURE):
        return open_jpeg(source, reading)
    if start.startswith(GIF_SIGNATURES):
        return open_gif(source, reading)
    if is_webp(start):
        return open_webp(source, reading)
    if is_avif(start):
        return open_avif(source, reading)
    if is_bitmap(start):
        return open_bmp(source, reading)
    if has_user_block(source):
        return open_hdf5(source, name, reading)
    raise ImageFileError(*no_image(source.path, start))


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
