"""Files of maps, which take rows as they become known: `.npy`, TIFF, Zarr and pictures."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from imsim._images.metadata import NO_DATA, Georeference
from imsim._images.pictures import Array, needing
from imsim._images.png import PALETTE, PNG_SIGNATURE, ImageHeader, chunk
from imsim._images.zarr_arrays import node_at

_CHUNK = 512
_PACKED = 2**22
"""Pixels of a picture that are packed at once."""


class Rows:
    """A file of numbers in C order from `offset` on, to which rows are assigned."""

    def __init__(
        self, stream: BinaryIO, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self._stream, self._offset = stream, offset
        self._lock = threading.Lock()

    def __setitem__(self, key: Any, values: Any) -> None:
        first, last, columns = _rows_of(key, self.shape)
        row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        width = self.shape[-1]
        with self._lock:
            if columns == (0, width):
                shape = (last - first, *self.shape[1:])
                content = np.broadcast_to(np.asarray(values, self.dtype), shape)
                self._stream.seek(self._offset + first * row)
                self._stream.write(np.ascontiguousarray(content).data)
                return
            part = np.broadcast_to(
                np.asarray(values, self.dtype), (last - first, columns[1] - columns[0])
            )
            for number, line in enumerate(part):
                place = (first + number) * row + columns[0] * self.dtype.itemsize
                self._stream.seek(self._offset + place)
                self._stream.write(line.tobytes())


class PictureRows:
    """A PNG file of a palette, to which blocks are assigned in any order.

    Its rows are packed at the end; until then they lie in `stream`, a file without a name.
    `indices` makes indices of the palette from what is assigned, of type `dtype`.
    """

    ndim = 2

    def __init__(
        self,
        stream: BinaryIO,
        shape: tuple[int, int],
        indices: Callable[[Array], Array],
        dtype: np.dtype[Any],
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._stream, self._indices = stream, indices
        self._rows = Rows(stream, 0, shape, np.dtype(np.uint8))

    def __setitem__(self, key: Any, values: Any) -> None:
        self._rows[key] = self._indices(np.asarray(values))

    def pack(self, stream: BinaryIO, palette: Array) -> None:
        """Write the picture; the palette has at most 256 colours, shape (colours, 3)."""
        height, width = self.shape
        header = ImageHeader(width, height, 8, PALETTE, False).content
        stream.write(PNG_SIGNATURE + chunk(b"IHDR", header))
        stream.write(chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
        packed = zlib.compressobj(3)
        together = max(1, _PACKED // width)
        self._stream.seek(0)
        for top in range(0, height, together):
            content = self._stream.read(min(together, height - top) * width)
            rows = np.frombuffer(content, np.uint8).reshape(-1, width)
            # Each row begins with the number of its filter, none.
            lines = np.zeros((len(rows), width + 1), np.uint8)
            lines[:, 1:] = rows
            if more := packed.compress(lines.data):
                stream.write(chunk(b"IDAT", more))
        stream.write(chunk(b"IDAT", packed.flush()) + chunk(b"IEND", b""))


def _rows_of(key: Any, shape: tuple[int, ...]) -> tuple[int, int, tuple[int, int]]:
    """Return the rows that a key names, and the columns."""
    parts = list(key) if isinstance(key, tuple) else [key]
    parts = [part for part in parts if part is not Ellipsis]
    rows = parts[0] if parts else slice(None)
    columns = parts[1] if len(parts) > 1 and len(shape) == 2 else slice(None)
    start, stop, step = rows.indices(shape[0])
    left, right, across = columns.indices(shape[-1])
    if step != 1 or across != 1:
        raise IndexError("a file of a map takes rows that follow each other")
    return start, max(start, stop), (left, right)


@contextmanager
def npy_rows(path: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Rows]:
    """Yield a `.npy` file that takes rows."""
    with open(path, "wb") as stream:
        descr = np.lib.format.dtype_to_descr(dtype)
        header = {"shape": shape, "fortran_order": False, "descr": descr}
        np.lib.format.write_array_header_2_0(stream, header)
        offset = stream.tell()
        stream.truncate(offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        yield Rows(stream, offset, shape, dtype)


@contextmanager
def tiff_rows(
    path: str, shape: tuple[int, ...], dtype: np.dtype[Any], place: Georeference | None
) -> Iterator[Rows]:
    """Yield a TIFF file that takes rows, at the place on the ground that is told."""
    import tifffile

    tags: list[Any] = [] if place is None else place.extratags()
    found = tifffile.imwrite(
        path,
        shape=shape,
        dtype=dtype,
        bigtiff=int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > 2**32 - 2**25,
        photometric="minisblack",
        metadata=None,
        extratags=[*tags, (NO_DATA, "s", 0, "nan", True)],
        returnoffset=True,
    )
    with open(path, "r+b") as stream:
        yield Rows(stream, 0 if found is None else found[0], shape, dtype)


@contextmanager
def zarr_rows(path: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Any]:
    """Yield a Zarr array, NaN where nothing is written."""
    with needing("maps as Zarr need", "zarr", "zarr"):
        import zarr
    names = ("z", "y", "x")[-len(shape) :]
    chunks = tuple(min(length, _CHUNK) for length in shape[-2:])
    yield zarr.create_array(
        path,
        shape=shape,
        dtype=dtype,
        chunks=(1,) * (len(shape) - 2) + chunks,
        fill_value=float("nan"),
        dimension_names=names,
    )


@contextmanager
def picture_rows(
    path: str,
    shape: tuple[int, int],
    palette: Array,
    indices: Callable[[Array], Array],
    dtype: np.dtype[Any],
) -> Iterator[PictureRows]:
    """Yield a PNG file that takes rows."""
    # Beside the file: there is room for it, or none for the picture.
    with tempfile.TemporaryFile(dir=os.path.dirname(path) or ".") as raw:
        raw.truncate(shape[0] * shape[1])
        rows = PictureRows(raw, shape, indices, dtype)
        yield rows
        with open(path, "wb") as stream:
            rows.pack(stream, palette)


def take_place(new: str, path: str) -> None:
    """Put a new folder of Zarr in the place of an old one; nothing else is removed for it."""
    old = None if os.path.islink(path) else node_at(path)
    if old is not None and old.is_array:
        shutil.rmtree(path)
    os.replace(new, path)
