"""What is stored of a dataset of HDF5, whose old index of chunks has no checksum.

Where a search in that index fails, the library takes pixels for fill values, without a word.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim._images.pictures import Array, ImageFileError

_FIRST = 48  # bytes of the shortest superblock, with which a file begins


class Stored:
    """A dataset that is sliced like an array, and raises where its index of chunks is damaged.

    Its `notes` are on pixels that are not stored: writers leave out empty chunks, or did not end.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.shape, self.dtype = tuple(dataset.shape), dataset.dtype
        self.chunks: tuple[int, ...] | None = dataset.chunks
        self.notes: tuple[str, ...] = ()
        if self.chunks is None:
            self._check_whole()
        else:
            self._grid = [-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True)]
            self._places = self._listed()
            total = math.prod(self._grid)
            if missing := total - len(self._places):
                self.notes = (self._said(f"{missing} of its {total} chunks are"),)

    def __getitem__(self, key: Any) -> Array:
        values = np.asarray(self._dataset[key])
        if self.chunks is not None and values.size:
            self._check_found(values, key)
        return values

    def _said(self, what: str) -> str:
        return (
            f"{what} not stored; as HDF5 has it, their pixels have the fill value "
            f"{self._dataset.fillvalue}"
        )

    def _check_whole(self) -> None:
        size, wanted = self._dataset.id.get_storage_size(), self._dataset.nbytes
        if not size:
            self.notes = (self._said("its values are"),)
        elif size < wanted:
            raise ImageFileError(f"damaged: {size} of the {wanted} bytes of its values are stored")
        elif size > wanted:
            raise ImageFileError(f"damaged: its values take {wanted} bytes; {size} are stored")
        elif (self._dataset.id.get_offset() or _FIRST) < _FIRST:
            raise ImageFileError("damaged: its values begin in the header of the file")

    def _listed(self) -> Array:
        """Return the numbers of the chunks in the index, which are in the order of the pixels.

        If two have one place, in the image or in the file, or one has none, that is damage.
        """
        found: list[Any] = []
        self._dataset.id.chunk_iter(found.append)
        if not found:
            return np.empty(0, np.int64)
        offsets = np.array([one.chunk_offset for one in found], np.uint64)
        starts, sizes = (
            np.array([getattr(one, name) for one in found], np.uint64)
            for name in ("byte_offset", "size")
        )
        places, astray = np.divmod(offsets, np.array(self.chunks, np.uint64))
        ends = starts + sizes
        order = starts.argsort()
        whole = math.prod(self.chunks or ()) * self.dtype.itemsize
        plain = self._dataset.id.get_create_plist().get_nfilters() == 0
        outside = (places >= np.array(self._grid, np.uint64)).any()
        length = self._dataset.file.id.get_filesize()
        if (
            outside
            or astray.any()
            or (sizes == 0).any()
            or (plain and (sizes != whole).any())
            or (ends > length).any()
            or (starts > ends).any()
            or (starts < _FIRST).any()
            or (starts[order][1:] < ends[order][:-1]).any()
        ):
            raise _damaged("has chunks of impossible places or sizes")
        numbers = np.ravel_multi_index(tuple(places.astype(np.int64).T), self._grid)
        if (np.diff(numbers) <= 0).any():
            raise _damaged("has chunks twice, or in a wrong order")
        return np.asarray(numbers)

    def _check_found(self, values: Array, key: Any) -> None:
        """Look for those chunks that are listed, but were read as nothing but fill values."""
        fill = self._dataset.fillvalue
        empty = values == fill
        if self.dtype.kind == "f" and np.isnan(fill):
            empty = np.isnan(values)
        if not empty.any():
            return
        # The axes of single planes, which `values` lacks, are put back.
        parts = [k if isinstance(k, slice) else slice(k, k + 1) for k in key]
        spans = [range(*part.indices(n)) for part, n in zip(parts, self.shape, strict=True)]
        empty = empty.reshape([len(span) for span in spans])
        chunks = self.chunks or ()
        grids = [
            range(span.start // c, (span.stop - 1) // c + 1)
            for span, c in zip(spans, chunks, strict=True)
        ]
        for index in np.ndindex(*map(len, grids)):
            place = [grid[i] for grid, i in zip(grids, index, strict=True)]
            inner = tuple(
                slice(max(p * c - span.start, 0), max((p + 1) * c - span.start, 0))
                for p, c, span in zip(place, chunks, spans, strict=True)
            )
            if empty[inner].all() and self._is_listed(place):
                self._look_for(tuple(p * c for p, c in zip(place, chunks, strict=True)))

    def _is_listed(self, place: list[int]) -> bool:
        number = int(np.ravel_multi_index(tuple(place), self._grid))
        at = int(self._places.searchsorted(number))
        return at < len(self._places) and int(self._places[at]) == number

    def _look_for(self, offset: tuple[int, ...]) -> None:
        try:
            self._dataset.id.read_direct_chunk(offset)
        except (OSError, RuntimeError, ValueError) as error:
            raise _damaged(f"does not lead to the chunk at {offset}") from error


def _damaged(what: str) -> ImageFileError:
    return ImageFileError(f"damaged: its index of chunks {what}")
