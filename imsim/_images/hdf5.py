"""HDF5, and netCDF 4, which is HDF5: one dataset of numbers, read by h5py in parts.

The old index of chunks has no checksum. Where a search in it fails, the library takes pixels for
fill values, without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from imsim._images.arrays import (
    NO_DATA,
    NOT_APPLIED,
    UNIT,
    Axes,
    axes_of,
    channel_of,
    no_data_of,
    number_of,
    pages_of,
)
from imsim._images.metadata import Grid
from imsim._images.pictures import Array, ImageFileError, Pages, listed, needing
from imsim._images.reading import Reading, Source

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
        """Return the numbers of the chunks in the index, each of its own place, in their order."""
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


_SCALE_OFFSET = 6
_INEXACT = {_SCALE_OFFSET, 32013, 32017, 32018, 32019, 32022, 32023, 32024, 32027, 32028}
"""Numbers of filters that may change values: ZFP, SZ, JPEG, rounding of bits and others."""
_INTERLACED = {"INTERLACE_PIXEL": 2, "INTERLACE_LINE": 1, "INTERLACE_PLANE": 0}
"""The axis of colours of three, by an attribute of the HDF5 Image specification."""
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HDF5_EXTENSIONS = (".h5", ".hdf5", ".he5", ".nc", ".nc4")
"""Extensions of files whose datasets are named by ``FILE.h5:/PATH``."""


def has_user_block(source: Source) -> bool:
    """Tell whether HDF5 begins behind other bytes: 512, or twice as many once or more.

    MATLAB's files do, which name no axes, and whose rows are columns: those are not read.
    """
    with source.open() as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        if stream.read(7) == b"MATLAB ":
            return False
        place = 512
        while place < size:
            stream.seek(place)
            if stream.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:
                return True
            place *= 2
    return False


def open_hdf5(source: Source, name: str | None, reading: Reading) -> Pages:
    """Open a file, and the dataset of that name, or the only one of two or more axes."""
    with needing("HDF5 needs", "h5py", "hdf5"):
        import h5py
    file = h5py.File(source.path if source.content is None else source.open(), "r")
    try:
        dataset, notes = _chosen(file, name)
        _check(file, dataset)
        attributes = _attributes(dataset)
        no_data, said = no_data_of(attributes)
        axes = _axes(dataset, reading)
        _check_exact(dataset, reading)
        white, more = _as_image(dataset, reading)
        said += more
        stored = Stored(dataset)
        notes = (*notes, *said, *stored.notes)
        return pages_of(
            stored,
            axes,
            reading,
            no_data,
            notes,
            attributes=attributes,
            grid=_grid(dataset, axes),
            white=white,
            close=file.close,
        )
    except BaseException:
        file.close()
        raise


def _chosen(file: Any, name: str | None) -> tuple[Any, tuple[str, ...]]:
    """Return a dataset, and what to say of the choice."""
    import h5py

    if name is not None:
        found = file.get(name)
        if isinstance(found, h5py.Dataset):
            return found, ()
        if isinstance(found, h5py.Group):
            raise ImageFileError(f"its {name!r} is a group", f"name one of {_named(file)}")
        raise ImageFileError(f"has no dataset {name!r}", f"name one of {_named(file)}")
    images = [dataset for dataset in _datasets(file) if _is_image(dataset)]
    if not images:
        raise ImageFileError("holds no dataset of numbers with two or more axes")
    if len(images) > 1:
        raise ImageFileError(
            f"holds {len(images)} arrays ({_named(file)})",
            f"name one: FILE.h5:{images[0].name}",
        )
    others = len(_datasets(file)) > 1
    return images[0], (f"its dataset {images[0].name} is taken",) if others else ()


def _datasets(file: Any) -> list[Any]:
    """Return all datasets that lie in the file itself, once each; links are not followed.

    `visititems` reads the index of every chunked dataset too, and a damaged one ends the process.
    """
    import h5py

    def number(group: Any, name: str) -> tuple[int, ...]:
        key = name.encode("utf-8", "surrogateescape")
        return tuple(h5py.h5g.get_objinfo(group.id, key).objno)

    found: dict[str, Any] = {}
    groups = [file["/"]]
    seen = {number(groups[0], ".")}
    while groups:
        group = groups.pop()
        for name in group:
            is_own = isinstance(group.get(name, getlink=True), h5py.HardLink)
            if not is_own or number(group, name) in seen:
                continue
            seen.add(number(group, name))
            node = group[name]
            if isinstance(node, h5py.Group):
                groups.append(node)
            elif isinstance(node, h5py.Dataset):
                found[node.name] = node
    return [found[name] for name in sorted(found)]


def _is_image(dataset: Any) -> bool:
    return len(dataset.shape or ()) > 1 and dataset.dtype.kind in "biuf"


def _named(file: Any) -> str:
    return listed(dataset.name for dataset in _datasets(file) if _is_image(dataset))


def _check(file: Any, dataset: Any) -> None:
    """Refuse what is no array of numbers, and what lies in other files, which nobody named."""
    if dataset.file.filename != file.filename or dataset.external or dataset.is_virtual:
        raise ImageFileError(
            f"its dataset {dataset.name} lies in other files", "name the file that holds it"
        )
    if dataset.shape is None:
        raise ImageFileError(f"its dataset {dataset.name} holds no values")
    if dataset.dtype.kind not in "biuf":
        raise ImageFileError(f"its values are of type {dataset.dtype}, not real numbers")


def _check_exact(dataset: Any, reading: Reading) -> None:
    """Refuse numbers that a filter may have changed, if they are taken as stored."""
    properties = dataset.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, values, name = properties.get_filter(number)
        kept = code == _SCALE_OFFSET and dataset.dtype.kind in "iu" and values[1:2] == (0,)
        if code in _INEXACT and not kept:
            reading.check_exact(name.decode("utf-8", "replace").split(";")[0] or f"filter {code}")
    for name in dataset.attrs:
        if name.startswith("_Quantize"):
            reading.check_exact(name.removeprefix("_"))


def _axes(dataset: Any, reading: Reading) -> Axes:
    """Return the meaning of the axes, by their names if all have one."""
    shape = tuple(dataset.shape)
    names = [side.label or (side[0].name if len(side) else "") for side in dataset.dims]
    if reading.channel_axis is None and all(names) and len(shape) > 1 and 0 not in shape:
        return Axes(shape, channel_of(tuple(name.rsplit("/", 1)[-1] for name in names)))
    interlaced = _INTERLACED.get(str(_attribute(dataset, "INTERLACE_MODE")))
    if reading.channel_axis is None and interlaced is not None and len(shape) == 3:
        return Axes(shape, interlaced)
    return axes_of(shape, reading)


def _as_image(dataset: Any, reading: Reading) -> tuple[int | None, tuple[str, ...]]:
    """Heed what the HDF5 Image specification says of grey levels and of the first row.

    Returns the value from which others are taken, where 0 is white, and notes on that, and on rows
    that are to be shown upside down.
    """
    if _attribute(dataset, "CLASS") != "IMAGE":
        return None, ()
    notes: tuple[str, ...] = ()
    is_indexed = _attribute(dataset, "IMAGE_SUBCLASS") == "IMAGE_INDEXED"
    if is_indexed and "PALETTE" in dataset.attrs and not reading.as_stored:
        raise ImageFileError(
            f"its dataset {dataset.name} holds numbers of a palette (PALETTE), not grey levels",
            "save its colours",
        )
    origin = _attribute(dataset, "DISPLAY_ORIGIN")
    if origin not in (None, "UL"):
        notes = (f"its DISPLAY_ORIGIN {origin} is not applied; rows stay in the order of the file",)
    if is_indexed or not number_of(_attribute(dataset, "IMAGE_WHITE_IS_ZERO")):
        return None, notes
    if dataset.dtype.kind not in "bu":
        raise ImageFileError(
            f"its dataset {dataset.name} is stored with 0 as white, in numbers that have no "
            f"largest one ({dataset.dtype})",
            "save it with 0 as black",
        )
    if dataset.dtype.kind != "b":
        reading.check_black_is_0()
    white = 1 if dataset.dtype.kind == "b" else int(np.iinfo(dataset.dtype).max)
    said = f"stored with 0 as white (IMAGE_WHITE_IS_ZERO); {white} - stored is taken"
    return white, (*notes, said)


def _attribute(dataset: Any, name: str) -> Any:
    """Return a plain value of an attribute; None if there is none that can be read."""
    value = None
    with suppress(OSError, TypeError, ValueError):
        value = dataset.attrs.get(name)
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _grid(dataset: Any, axes: Axes) -> Grid:
    """Return the first and the last coordinates of rows and columns, by the scales of axes."""
    found: dict[str, float | str] = {}
    for axis in axes.others[-2:]:
        scales = dataset.dims[axis]
        scale = scales[0] if len(scales) else None
        if scale is None or scale.shape != (axes.shape[axis],) or scale.dtype.kind not in "iuf":
            continue
        name, last = scale.name.rsplit("/", 1)[-1], scale.shape[0] - 1
        with suppress(ImageFileError):  # damaged ones stop nothing
            stored = Stored(scale)
            for index, end in ((0, 0), (last, -1)):
                found[f"{name}[{end}]"] = float(np.asarray(stored[(slice(index, index + 1),)])[0])
    return found


def _attributes(dataset: Any) -> Mapping[str, Any]:
    """Return those attributes that tell about the pixels, as plain values."""
    names = [name for name in (*NO_DATA, *NOT_APPLIED, UNIT) if name in dataset.attrs]
    return {name: _attribute(dataset, name) for name in names}
