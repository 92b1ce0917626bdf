"""Arrays that are not in memory, such as those of Zarr, HDF5 and memory maps, and their reading."""

from __future__ import annotations

import copy
import mmap
import os
from numbers import Integral
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from imsim.errors import DTypeError, ImsimError, ShapeError
from imsim.inputs import check_meaning, kind
from imsim.typing import Array

_MEMORY = (list, tuple, int, float, complex, str, bytes, np.generic)


def is_stored(value: Any) -> bool:
    """Whether a value is read by slices, and is not in memory as a whole."""
    if type(value) is np.ndarray or value is None or isinstance(value, _MEMORY):
        return False
    if isinstance(value, np.ndarray):
        return isinstance(value, np.memmap) and value.ndim > 0
    if is_array_api_obj(value):
        return False
    try:
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    except Exception:  # a store that is closed, say, is named where it is read
        return False
    return (
        isinstance(shape, tuple)
        and len(shape) > 1
        and isinstance(dtype, np.dtype)
        and hasattr(value, "__getitem__")
        and not hasattr(value, "todense")
        and not isinstance(getattr(value, "dims", None), tuple)  # axes with names
    )


Place = tuple[slice, ...]
"""A part of an array, or of the images, by its slice along each axis."""


def lengths_of(place: Place) -> tuple[int, ...]:
    """Return the sides of a part."""
    return tuple(along.stop - along.start for along in place)


def within(own: Place, whole: Place) -> Place:
    """Return the place of some pixels in a part of the images."""
    pairs = zip(own, whole, strict=True)
    return tuple(slice(at.start - part.start, at.stop - part.start) for at, part in pairs)


class Source:
    """An array that is read by slices, and checked as it is read."""

    def __init__(self, name: str, value: Any, *, is_masked: bool = False) -> None:
        if not isinstance(value, np.ndarray):
            check_meaning(name, value, is_stored=True, is_masked=is_masked)
        self.name, self.value = name, value
        if any(side != side for side in value.shape):
            raise ShapeError(
                f"{name} has chunks of unknown size", f"pass {name}.compute_chunk_sizes()"
            )
        if not all(isinstance(side, Integral) and int(side) >= 0 for side in value.shape):
            raise ShapeError(
                f"{name} has shape {value.shape}", "pass an array whose sides are known numbers"
            )
        self.shape: tuple[int, ...] = tuple(int(side) for side in value.shape)
        self.ndim = len(self.shape)
        self.dtype: np.dtype[Any] = np.dtype(value.dtype)
        self._map = _mapping(value)

    def outline(self) -> Source:
        """Return a source of the same shape and dtype that holds nothing; it travels by pickle."""
        found = self.unmapped()
        found.value = None
        return found

    def unmapped(self) -> Source:
        """Return the source without the mapping of its file, which does not travel."""
        found = copy.copy(self)
        found._map = None
        return found

    @property
    def chunks(self) -> tuple[int, ...]:
        """Sides of the parts that are stored together; 1 where any part can be read alone."""
        chunks = getattr(self.value, "shards", None) or getattr(self.value, "chunks", None)
        if not isinstance(chunks, tuple) or len(chunks) != len(self.shape):
            return (1,) * len(self.shape)
        return tuple(one if isinstance(one, int) and one > 0 else 1 for one in chunks)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def stand_in(self) -> Array:
        """Return an array of the same shape and dtype that takes no memory."""
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)

    def __getitem__(self, index: Place) -> Array:
        """Read a part, also as Dask asks for it."""
        place = tuple(slice(*one.indices(n)[:2]) for one, n in zip(index, self.shape, strict=True))
        room = np.empty(lengths_of(place), self.dtype)
        self.read_into(room, place)
        return room

    def read_into(self, room: Array, index: Place) -> None:
        """Read a part; `room` has its shape."""
        try:
            part = self.value[index]
            check_meaning(self.name, part)  # slices of netCDF4 are masked arrays
            found = np.asarray(part)
        except (MemoryError, ImsimError):
            raise
        except Exception as error:  # of a damaged file, or a server that does not answer
            place = ", ".join(f"{one.start}:{one.stop}" for one in index)
            raise ImsimError(
                f"{self.name}[{place}] cannot be read: "
                f"{kind(self.value)} raises {type(error).__name__} ({error})"
            ) from error
        if found.shape != room.shape:
            raise ShapeError(
                f"{self.name} has shape {self.shape}, and a part of {room.shape} of it is read as "
                f"{found.shape}",
                "pass an array whose slices have the shape that they ask for",
            )
        if (found.dtype.kind, found.dtype.itemsize) != (self.dtype.kind, self.dtype.itemsize):
            raise DTypeError(
                f"{self.name} has dtype {self.dtype}, a part of it has {found.dtype}",
                f"pass an array that says what its slices are, e.g. numpy.asarray({self.name})",
            )
        room[...] = found
        self._forget()

    def is_same_as(self, other: Any) -> bool:
        """Whether another array may lie where this one does."""
        own = self.value
        if own is other:
            return True
        files = _file_of(own), _file_of(other)
        if None not in files and _are_one_file(*files):
            return True
        if isinstance(own, np.ndarray) or isinstance(other, np.ndarray):
            both = isinstance(own, np.ndarray) and isinstance(other, np.ndarray)
            return both and bool(np.may_share_memory(own, other))
        return type(own) is type(other) and bool(own == other)

    def _forget(self) -> None:
        """Give back the pages of a mapped file that have been read."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)


def _file_of(value: Any) -> Any:
    """Return the file that an array is mapped from, or the folder of one of Zarr; None of others.

    What is a view of a mapped array is mapped, too.
    """
    root = getattr(getattr(value, "store", None), "root", None)
    if isinstance(root, str | os.PathLike):
        return os.path.join(root, str(getattr(value, "path", "")))
    while isinstance(value, np.ndarray):
        if isinstance(value, np.memmap) and value.filename is not None:
            return value.filename
        value = value.base
    return None


def _are_one_file(one: Any, other: Any) -> bool:
    """Whether two paths, of which one may be a link, lead to one file."""
    try:
        return os.path.samefile(one, other)
    except OSError:  # of a file that was deleted
        return bool(one == other)


def _mapping(value: Any) -> mmap.mmap | None:
    """Return the mapping of a file, unless changes of its pages would be lost with them."""
    if not isinstance(value, np.memmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    if value.mode == "c":
        return None
    base: Any = value
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
