"""An image that stays on the disk: sliced like an array, and read in parts only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np

from imsim._images.pictures import Array, Contents, Picture, as_mask, several_values

_KEPT = 2**26
"""Most bytes of decoded bands that a raster keeps, but for the last one."""
Read = Callable[[int, int, int, int], Contents]
"""Reads rows and columns: from the first row to one past the last, and likewise the columns."""


class Raster:
    """An image on the disk, whose slices are NumPy arrays.

    Several threads may read from it.

    Parameters
    ----------
    shape : tuple of int
        (height, width) or (height, width, channels).
    dtype : numpy.dtype
        Of the pixels, in the byte order of this machine.
    read : callable
        Reads a part.
    chunks : tuple of int, optional
        Rows and columns that are stored, and have to be decoded, together.
    no_data : str, optional
        What the file declares to stand for "no data". The parts that are read then tell where it
        is; no note tells of it.

    Attributes
    ----------
    guards : list of callable
        Contexts in which every part is read: they name the file in errors.
    said : dict
        The notes on the parts that were read, in their order.
    transparent : bool
        Whether a part that was read is transparent.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        read: Read,
        *,
        chunks: tuple[int, int] = (1, 1),
        no_data: str = "",
    ) -> None:
        self.shape, self.dtype, self.ndim = shape, np.dtype(dtype), len(shape)
        self.chunks = chunks
        self.no_data = no_data
        self.guards: list[Callable[[], AbstractContextManager[Any]]] = []
        self.said: dict[str, None] = {}
        self.transparent = False
        self._read = read
        self._lock = threading.RLock()
        self._bands: OrderedDict[int, Contents] = OrderedDict()
        self._band_bytes = chunks[0] * int(np.prod(shape[1:])) * self.dtype.itemsize

    @property
    def size(self) -> int:
        """The number of samples."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """The bytes that the whole image would take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Array:
        (top, bottom), (left, right), inner = spans(key, self.shape)
        return np.asarray(self.part(top, bottom, left, right).pixels[inner])

    def part(self, top: int, bottom: int, left: int, right: int) -> Contents:
        """Read rows and columns, and where they have data."""
        with self._lock, ExitStack() as stack:
            for guard in self.guards:
                stack.enter_context(guard())
            found = self._part(top, bottom, left, right)
            self.said.update(dict.fromkeys(found.notes))
            self.transparent = self.transparent or found.transparent
            return found

    def mapped(
        self, function: Callable[[Contents], Contents], shape: tuple[int, ...], dtype: Any
    ) -> Raster:
        """Return a raster whose parts are those of this one, through a function of each."""

        def read(*box: int) -> Contents:
            return function(self.part(*box))

        # This one keeps the bands.
        return Raster(shape, np.dtype(dtype), read, no_data=self.no_data)

    def _part(self, top: int, bottom: int, left: int, right: int) -> Contents:
        height = self.chunks[0]
        if height == 1 or self._band_bytes > _KEPT:
            return self._read(top, bottom, left, right)
        first, last = top // height, max(-(-bottom // height), top // height + 1)
        if last == first + 1:
            whole = self._band(first)
            rows = slice(top - first * height, bottom - first * height)
            return whole._replace(
                pixels=whole.pixels[rows, left:right],
                valid=None if whole.valid is None else whole.valid[rows, left:right],
            )
        shape = (bottom - top, right - left, *self.shape[2:])
        pixels = np.empty(shape, self.dtype)
        valid: Array | None = None
        notes: dict[str, None] = {}
        transparent = False
        for band in range(first, last):
            start, end = max(top, band * height), min(bottom, (band + 1) * height)
            there, here = slice(start - top, end - top), slice(start - band * height, None)
            if end - start == min(height, self.shape[0] - band * height) and band < last - 2:
                # Parts follow each other: of all bands, the last two may be needed again.
                found = self._read(start, end, left, right)
                columns = slice(0, right - left)
            else:
                found, columns = self._band(band), slice(left, right)
            taken = slice(here.start, here.start + end - start)
            pixels[there] = found.pixels[taken, columns]
            if found.valid is not None:
                valid = np.ones(shape[:2], bool) if valid is None else valid
                valid[there] = found.valid[taken, columns]
            notes.update(dict.fromkeys(found.notes))
            transparent = transparent or found.transparent
        return Contents(pixels, tuple(notes), valid, transparent)

    def _band(self, band: int) -> Contents:
        """Return all columns of the rows that are stored together."""
        if band not in self._bands:
            height = self.chunks[0]
            end = min((band + 1) * height, self.shape[0])
            found = self._read(band * height, end, 0, self.shape[1])
            found.pixels.flags.writeable = False
            self._bands[band] = found
        self._bands.move_to_end(band)
        while len(self._bands) > 2 or (
            len(self._bands) > 1 and len(self._bands) * self._band_bytes > _KEPT
        ):
            self._bands.popitem(last=False)
        return self._bands[band]


def spans(
    key: Any, shape: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int], tuple[Any, ...]]:
    """Return the rows and the columns that a key needs, and the key within them."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if any(part is Ellipsis for part in parts):
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    if len(parts) != len(shape):
        raise IndexError(f"{len(parts)} indices, but the image has {len(shape)} axes")
    spans, inner = [], []
    for part, length in zip(parts[:2], shape, strict=False):
        if isinstance(part, slice):
            start, stop, step = part.indices(length)
            if step < 1:
                raise IndexError("an image on the disk is sliced forwards only")
            spans.append((start, max(start, stop)))
            inner.append(slice(None, None, step))
        else:
            index = range(length)[part]
            spans.append((index, index + 1))
            inner.append(0)  # type: ignore[arg-type]
    return spans[0], spans[1], (*inner, *parts[2:])


def stacked(rasters: Sequence[Raster]) -> Raster:
    """Return one raster whose channels are grey rasters of one size and type."""
    first = rasters[0]

    def read(*box: int) -> Contents:
        parts = [raster.part(*box) for raster in rasters]
        pixels = np.stack([part.pixels for part in parts], axis=-1)
        valid = None
        for part in parts:
            if part.valid is not None:
                valid = part.valid if valid is None else valid & part.valid
        notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
        return Contents(pixels, notes, valid, any(part.transparent for part in parts))

    no_data = next((raster.no_data for raster in rasters if raster.no_data), "")
    return Raster((*first.shape, len(rasters)), first.dtype, read, no_data=no_data)


def is_raster(*arrays: Any) -> bool:
    """Tell whether any of some arrays is on the disk."""
    return any(isinstance(array, Raster) for array in arrays)


def mask_on_disk(picture: Picture) -> Raster:
    """Take a picture on the disk as a mask, see `as_mask`; its parts are checked as they are read.

    Raises
    ------
    ImageFileError
        By the part that holds another value than those before it.
    """
    raster: Any = picture.pixels
    used: list[Array] = []

    def read(part: Contents) -> Contents:
        piece = Picture(picture.path, part.pixels, valid=part.valid, transparent=part.transparent)
        mask = as_mask(piece)
        first = piece.samples[(piece.samples != 0).any(axis=-1)][:1]
        if used and (first != used[0]).any():
            low, high = sorted((used[0].max(), first.max()))
            raise several_values(picture.path, low, high)
        if len(first) and not used:
            used.append(first.copy())
        return Contents(mask)

    found: Raster = raster.mapped(read, picture.sides, np.dtype(bool))
    return found
