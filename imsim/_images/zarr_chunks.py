"""Chunks of an array of Zarr: where they lie, which of them are there, and whether one changes."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from imsim._images.pictures import ImageFileError
from imsim._images.reading import check_unchanged, state_of

_NO_CHUNK = 2**64 - 1


class Unwritten:
    """An array that refuses to be read while somebody writes to it: it may be of two images.

    That is told for what is read at once, by the files of its chunks.
    """

    def __init__(self, array: Any, folder: str, meta: Mapping[str, Any]) -> None:
        self._array, self._folder, self._meta = array, folder, meta
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, array.chunks

    def __getitem__(self, key: tuple[int | slice, ...]) -> Any:
        box = [
            range(length)[part if isinstance(part, slice) else slice(part, part + 1)]
            for part, length in zip(key, self.shape, strict=True)
        ]
        before = self._states(box)
        found = self._array[key]
        check_unchanged(before, self._states(box))
        return found

    def _states(self, box: Sequence[range]) -> list[Any]:
        return [state_of(path) for _, path in files_of(self._folder, self._meta, box)]


def _shape_of(meta: Mapping[str, Any]) -> Sequence[int]:
    """Return the shape of a chunk, or of a shard."""
    found: Sequence[int] = (
        meta["chunks"] if "chunks" in meta else meta["chunk_grid"]["configuration"]["chunk_shape"]
    )
    return found


def files_of(
    folder: str, meta: Mapping[str, Any], box: Sequence[range]
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield the place of each chunk of a part of an array, and where it would be stored."""
    chunks = _shape_of(meta)
    if not all(chunks):
        return
    if "chunks" in meta:
        separator, start = meta.get("dimension_separator", "."), []
    else:
        encoding = meta.get("chunk_key_encoding", {"name": "default"})
        own = encoding.get("configuration", {})
        is_default = encoding["name"] == "default"
        separator, start = own.get("separator", "/" if is_default else "."), ["c"] * is_default
    spans = [range(r.start // c, (r.stop - 1) // c + 1) for r, c in zip(box, chunks, strict=True)]
    for place in product(*spans):
        name = separator.join([*start, *map(str, place)])
        yield place, os.path.join(folder, *name.split("/"))


def missing_chunks(
    folder: str, meta: Mapping[str, Any], box: Sequence[range]
) -> tuple[int, int] | None:
    """Count the chunks of a part of an array that are not stored, and all of them.

    Zarr gives their pixels the fill value. The part is a range of indices along each axis. None:
    the way they are stored is not known.
    """
    chunks = _shape_of(meta)
    first = (meta.get("codecs") or [{}])[0]
    sharded = first.get("configuration", {}) if first.get("name") == "sharding_indexed" else None
    if not all(chunks):
        return None
    missing = total = 0
    for place, path in files_of(folder, meta, box):
        if sharded is None:
            total += 1
            missing += not is_there(path)
            continue
        inner = sharded["chunk_shape"]
        within = tuple(
            slice(max(r.start - p * c, 0) // i, (min(r.stop - p * c, c) - 1) // i + 1)
            for r, p, c, i in zip(box, place, chunks, inner, strict=True)
        )
        grid = [c // i for c, i in zip(chunks, inner, strict=True)]
        number = math.prod(span.stop - span.start for span in within)
        total += number
        if not is_there(path):
            missing += number
            continue
        index = _index(path, grid, sharded)
        if index is None:
            return None
        missing += int((index[within] == _NO_CHUNK).all(axis=-1).sum())
    return missing, total


def _index(path: str, grid: Sequence[int], sharding: Mapping[str, Any]) -> Any:
    """Read where the chunks lie in a shard: pairs of offset and length."""
    names = [codec.get("name") for codec in sharding.get("index_codecs", [{"name": "bytes"}])]
    if names not in (["bytes"], ["bytes", "crc32c"]):
        return None
    size = 16 * math.prod(grid)
    whole = size + 4 * (len(names) - 1)
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        if length < whole:
            raise ImageFileError(f"damaged: its shard {os.path.basename(path)} is cut off")
        file.seek(0 if sharding.get("index_location", "end") == "start" else length - whole)
        return np.frombuffer(file.read(size), "<u8").reshape(*grid, 2)


def is_there(path: str) -> bool:
    """Tell whether there is a file; refuse a pipe or a device, since reading it might never end."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ImageFileError(f"its {os.path.basename(path)} is no file", "write the array anew")
    return stat.S_ISREG(mode)
