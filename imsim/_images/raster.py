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
"""Most bytes of a decoded band that a raster keeps."""
Read = Callable[[int, int, int, int], Contents]
"""Reads rows and columns: from the first row to one past the last, and likewise the columns."""


class Raster:
    """An image on the disk, whose slices are NumPy arrays; several threads may read from it.

    `chunks` are the rows and columns that are stored, and have to be decoded, together; `stored`
    those of another raster that this one reads from, and that keeps them. `no_data` is what the
    file declares to stand for "no data": the parts that are read then tell where it is, and no note
    does.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        read: Read,
        *,
        chunks: tuple[int, int] = (1, 1),
        stored: tuple[int, int] | None = None,
        no_data: str = "",
    ) -> None:
        self.shape, self.dtype, self.ndim = shape, np.dtype(dtype), len(shape)
        self.chunks: tuple[int, ...] = chunks
        self.stored = stored or chunks
        self.no_data = no_data
        self.guards: list[Callable[[], AbstractContextManager[Any]]] = []
        """Contexts in which every part is read: they name the file in errors."""
        self.said: dict[str, None] = {}
        """The notes on the parts that were read, in their order."""
        self.transparent = False
        """Whether a part that was read is."""
        self._read = read
        self._lock = threading.RLock()
        self._bands: OrderedDict[tuple[int, int, int], Contents] = OrderedDict()

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
        return Raster(shape, np.dtype(dtype), read, stored=self.stored, no_data=self.no_data)

    def _part(self, top: int, bottom: int, left: int, right: int) -> Contents:
        height, width = self.chunks
        # The columns of whole chunks.
        start = left // width * width
        stop = min(max(-(-right // width) * width, start + 1), self.shape[1])
        size = height * (stop - start) * int(np.prod(self.shape[2:])) * self.dtype.itemsize
        if height == 1 or size > _KEPT:
            return self._read(top, bottom, left, right)
        columns = slice(left - start, right - start)
        first, last = top // height, max(-(-bottom // height), top // height + 1)
        shape = (bottom - top, right - left, *self.shape[2:])
        pixels = np.empty(shape, self.dtype)
        valid: Array | None = None
        notes: dict[str, None] = {}
        transparent = False
        for band in range(first, last):
            begin, end = max(top, band * height), min(bottom, (band + 1) * height)
            is_whole = end - begin == min(height, self.shape[0] - band * height)
            taken: tuple[slice, slice] = (
                slice(begin - band * height, end - band * height),
                columns,
            )
            if is_whole and band < last - 1:
                # Parts follow each other downwards: only the last band may be needed again.
                found, taken = self._read(begin, end, left, right), (slice(None), slice(None))
            else:
                found = self._band(band, start, stop)
            there = slice(begin - top, end - top)
            pixels[there] = found.pixels[taken]
            if found.valid is not None:
                valid = np.ones(shape[:2], bool) if valid is None else valid
                valid[there] = found.valid[taken]
            notes.update(dict.fromkeys(found.notes))
            transparent = transparent or found.transparent
        return Contents(pixels, tuple(notes), valid, transparent)

    def _band(self, band: int, start: int, stop: int) -> Contents:
        """Return rows that are stored together, from the first column to one past the last."""
        key = band, start, stop
        if key not in self._bands:
            height = self.chunks[0]
            end = min((band + 1) * height, self.shape[0])
            found = self._read(band * height, end, start, stop)
            found.pixels.flags.writeable = False
            self._bands[key] = found
        self._bands.move_to_end(key)
        while len(self._bands) > 2:
            self._bands.popitem(last=False)
        return self._bands[key]


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
    shape = (*first.shape, len(rasters))
    return Raster(shape, first.dtype, read, stored=first.stored, no_data=no_data)


def is_raster(*arrays: Any) -> bool:
    """Tell whether any of some arrays is on the disk."""
    return any(isinstance(array, Raster) for array in arrays)


def mask_on_disk(picture: Picture) -> Raster:
    """Take a picture on the disk as a mask, see `as_mask`; parts are checked as they are read."""
    raster: Any = picture.pixels
    used: list[Array] = []

    def read(part: Contents) -> Contents:
        piece = Picture(*part[:-1], path=picture.path)
        mask = as_mask(piece)
        first = piece.samples[(piece.samples != 0).any(axis=-1)][:1]
        if used and (first != used[0]).any():
            low, high = sorted((used[0].max(), first.max()))
            raise several_values(picture.path, low, high)
        if len(first) and not used:
            used.append(first.copy())
        return Contents(mask, part.notes)

    found: Raster = raster.mapped(read, picture.sides, np.dtype(bool))
    return found
