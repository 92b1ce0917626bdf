"""Files of maps, which take rows as they become known: `.npy`, TIFF, Zarr and pictures."""

from __future__ import annotations

import math
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
    """A file of numbers in C order from `offset` on, to which blocks are assigned in any order.

    What is assigned, of type `dtype`, is stored as it is, or as the bytes that `made` makes of it.
    """

    def __init__(
        self,
        stream: BinaryIO,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        made: Callable[[Array], Array] | None = None,
    ) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self._stream, self._offset, self._made = stream, offset, made
        self._stored = dtype if made is None else np.dtype(np.uint8)
        self._lock = threading.Lock()

    def __setitem__(self, key: Any, values: Any) -> None:
        first, last, (left, right) = _rows_of(key, self.shape)
        size = self._stored.itemsize
        made = np.asarray(values) if self._made is None else self._made(np.asarray(values))
        sides = (last - first, *self.shape[1:-1], right - left)
        block = np.broadcast_to(made.astype(self._stored, copy=False), sides)
        block = np.ascontiguousarray(block)
        # Whole rows lie one behind the other.
        lines = block.reshape(1, -1) if right - left == self.shape[-1] else block
        with self._lock:
            for row, line in enumerate(lines, first):
                before = row * math.prod(self.shape[1:]) + left
                self._stream.seek(self._offset + before * size)
                self._stream.write(line.data)


def _pack(raw: BinaryIO, shape: tuple[int, int], stream: BinaryIO, palette: Array) -> None:
    """Write a picture of stored indices; the palette has at most 256 colours, (colours, 3)."""
    height, width = shape
    header = ImageHeader(width, height, 8, PALETTE, False).content
    stream.write(PNG_SIGNATURE + chunk(b"IHDR", header))
    stream.write(chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    packed = zlib.compressobj(3)
    together = max(1, _PACKED // width)
    raw.seek(0)
    for top in range(0, height, together):
        content = raw.read(min(together, height - top) * width)
        rows = np.frombuffer(content, np.uint8).reshape(-1, width)
        # Each row begins with the number of its filter, none.
        if more := packed.compress(np.pad(rows, ((0, 0), (1, 0))).data):
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
) -> Iterator[Rows]:
    """Yield a PNG file of a palette, of which `indices` are made of the rows that it takes.

    They are packed at the end; until then they lie in a file without a name.
    """
    # Beside the file: there is room for it, or none for the picture.
    with tempfile.TemporaryFile(dir=os.path.dirname(path) or ".") as raw:
        raw.truncate(shape[0] * shape[1])
        yield Rows(raw, 0, shape, dtype, indices)
        with open(path, "wb") as stream:
            _pack(raw, shape, stream, palette)


def take_place(new: str, path: str) -> None:
    """Put a new folder of Zarr in the place of an old one; nothing else is removed for it."""
    old = None if os.path.islink(path) else node_at(path)
    if old is not None and old.is_array:
        shutil.rmtree(path)
    os.replace(new, path)
