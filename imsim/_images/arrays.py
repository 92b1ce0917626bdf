"""Arrays as images: NumPy's own files, the meaning of axes, and arrays that are read by slices."""

from __future__ import annotations

import base64
import contextlib
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any, BinaryIO, NamedTuple, cast

import numpy as np

from imsim._images.metadata import Georeference, Grid
from imsim._images.pictures import (
    AS_STORED,
    OBJECTS,
    Array,
    Contents,
    ImageFileError,
    Pages,
    listed,
    native,
    said_of_no_data,
    where_equal,
)
from imsim._images.raster import Raster
from imsim._images.reading import Reading, Source

NPY_SIGNATURE = b"\x93NUMPY"
ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")


class Axes(NamedTuple):
    """The axis of channels of an array; the others are images, height and width."""

    shape: tuple[int, ...]
    channel: int | None

    @property
    def others(self) -> list[int]:
        """The axes but that of channels, of which the last two are rows and columns."""
        return [axis for axis in range(len(self.shape)) if axis != self.channel]

    @property
    def image(self) -> tuple[int, ...]:
        """The shape of one image, with the channels last."""
        tail = (self.shape[self.channel],) if self.channel is not None else ()
        return (*(self.shape[axis] for axis in self.others[-2:]), *tail)

    @property
    def leading(self) -> tuple[int, ...]:
        """The lengths of the axes that count images."""
        return tuple(self.shape[axis] for axis in self.others[:-2])

    def at(self, index: int) -> dict[int, int]:
        """Return where an image lies along each axis that counts images."""
        where = np.unravel_index(index, self.leading) if self.leading else ()
        return dict(zip(self.others[:-2], map(int, where), strict=True))

    def __len__(self) -> int:
        return math.prod(self.leading)

    def take(self, array: Array, index: int) -> Array:
        """Return one image as a view, its channels last."""
        if self.channel is not None:
            array = np.moveaxis(array, self.channel, -1)
        image: Array = array[np.unravel_index(index, self.leading)] if self.leading else array
        return image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image


def axes_of(shape: tuple[int, ...], reading: Reading) -> Axes:
    """Tell the meaning of the axes of an array that does not name them; refuse it if uncertain."""
    if 0 in shape or len(shape) < 2:
        raise ImageFileError(
            f"its shape is {shape}; expected (height, width), (images, height, width) or "
            "(images, height, width, channels)"
        )
    axis = reading.channel_axis
    if axis is not None and len(shape) > 2:
        if not -len(shape) <= axis < len(shape):
            raise ImageFileError(
                f"its shape is {shape}, which has no axis {axis} for --channel-axis"
            )
        return Axes(shape, axis % len(shape))
    if len(shape) > 4:
        what = "; expected (height, width)"
        named = (
            ", (images, height, width) or (images, height, width, channels). Name its axis of "
            "channels: --channel-axis -1"
        )
    elif len(shape) == 3 and shape[-1] <= 4:
        what = (
            f", which could be one image with channels or {shape[0]} images {shape[2]} pixels wide"
        )
        named = (
            "; name its axis of channels (--channel-axis -1), or save it as (images, height, "
            "width, channels)"
        )
    elif len(shape) == 4 and shape[-1] > 4 and shape[-1] >= shape[1]:
        what = f", which would be {shape[-1]} channels"
        named = (
            "; channels must be the last axis: (images, height, width, channels), or be named: "
            "--channel-axis 1"
        )
    else:
        return Axes(shape, 3 if len(shape) == 4 else None)
    remedy = "; save grey images as (images, height, width)" if reading.grey else named
    raise ImageFileError(f"its shape is {shape}{what}{remedy}")


_CHANNELS = ("c", "channel", "channels", "band", "bands", "s")
_ROWS, _COLUMNS = ("y", "lat", "latitude", "row"), ("x", "lon", "longitude", "column")


def channel_of(axes: tuple[str, ...]) -> int | None:
    """Return the axis that counts channels; refuse columns before rows."""
    lower = [name.lower() for name in axes]
    channel = next((i for i, name in enumerate(lower) if name in _CHANNELS), None)
    rest = [name for i, name in enumerate(lower) if i != channel]
    if rest[-2:-1] and rest[-2] in _COLUMNS and rest[-1] in _ROWS:
        raise ImageFileError(
            f"its axes are ({', '.join(axes)})", "save it with the rows before the columns: (y, x)"
        )
    return channel


class _ArrayHeader(NamedTuple):
    """The header of an array file, and where the array begins."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def strides(self) -> tuple[int, ...]:
        """The distances of elements along each axis, in bytes."""
        lengths = self.shape if self.fortran else self.shape[::-1]
        steps = [self.dtype.itemsize * math.prod(lengths[:i]) for i in range(len(lengths))]
        return tuple(steps if self.fortran else steps[::-1])

    def array(self, content: bytes) -> Array:
        """Interpret bytes as the array."""
        flat = np.frombuffer(content, self.dtype, math.prod(self.shape))
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


class _Stored:
    """An array file, sliced like its array; each slice is read.

    It is not mapped into memory: if it were cut meanwhile, that would end the process.
    """

    chunks = None

    def __init__(self, source: Source, header: _ArrayHeader) -> None:
        self._source, self._header = source, header
        self.shape, self.dtype = header.shape, header.dtype

    def __getitem__(self, key: Any) -> Array:
        header, first = self._header, np.empty(1, self.dtype)
        view = np.lib.stride_tricks.as_strided(first, header.shape, header.strides)[key]
        start = header.offset + view.__array_interface__["data"][0] - first.ctypes.data
        with self._source.open() as stream:
            return _checked(_gathered(stream, start, view.shape, view.strides, self.dtype))


def open_npy(source: Source, reading: Reading) -> Pages:
    """Open a file, of which the images that are asked for are read."""
    with source.open() as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        header = _header(stream, size)
    axes = axes_of(header.shape, reading)
    return pages_of(_Stored(source, header), axes, reading, None, (), attributes={})


def _gathered(
    stream: BinaryIO,
    start: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Array:
    """Read elements at equal distances, at once if most of what lies between is wanted."""
    span = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + dtype.itemsize
    if span <= 2 * math.prod(shape) * dtype.itemsize:
        content = bytearray(span)
        stream.seek(start)
        if (found := stream.readinto(content)) < span:  # type: ignore[attr-defined]
            raise ImageFileError(f"damaged: it is cut off: {found} of {span} bytes are there")
        return np.ndarray(shape, dtype, content, 0, strides)
    axis = max(range(len(shape)), key=lambda i: strides[i] if shape[i] > 1 else 0)
    others = [tuple(numbers[:axis] + numbers[axis + 1 :]) for numbers in (shape, strides)]
    array = np.empty(shape, dtype)
    for i in range(shape[axis]):
        part = _gathered(stream, start + i * strides[axis], others[0], others[1], dtype)
        array[(slice(None),) * axis + (i,)] = part
    return array


def open_npz(source: Source, name: str | None, reading: Reading) -> Pages:
    """Read a whole array: the one of that name, or the only one of the file."""
    with source.open() as stream, _archive(stream) as archive:
        found = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        members = {info.filename.removesuffix(".npy"): info for info in found}
        names = listed(members)
        if not members:
            raise ImageFileError("is a ZIP file without arrays", "unpack it, if it holds images")
        if len(members) < len(found):
            raise ImageFileError(f"damaged: it holds {len(found)} arrays by {len(members)} names")
        if name is None and len(members) != 1:
            raise ImageFileError(f"holds {len(members)} arrays ({names}); name one: FILE:NAME")
        if name is not None and name not in members:
            raise ImageFileError(f"holds no array {name!r}; it has {names}")
        info = members[next(iter(members)) if name is None else name]
        with archive.open(info) as member:
            header = _header(member, info.file_size)
            axes = axes_of(header.shape, reading)
            height, width, *channels = axes.image
            shape = (len(axes), height, width) if len(axes) > 1 else (height, width)
            reading.check_size(shape, header.dtype.itemsize, *channels)
            content = member.read()  # to its end, where the checksum is compared
    array = header.array(content)

    def read(index: int) -> Contents:
        return Contents(_checked(np.array(axes.take(array, index), subok=False, order="C")))

    return Pages(len(axes), read, counting=axes.leading)


def _archive(stream: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(stream)
    except zipfile.BadZipFile as error:
        raise ImageFileError(f"damaged or not an .npz file: {error}") from error


def _header(stream: IO[bytes], size: int) -> _ArrayHeader:
    """Read the header of an array, and compare it with the length of the file."""
    readers: dict[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise ImageFileError(f"its format has version {version}; save it with numpy.save")
    shape, fortran, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ImageFileError(OBJECTS)
    if dtype.kind not in "biuf":
        raise ImageFileError(f"its values are of type {dtype}, not real numbers")
    offset = stream.tell()
    wanted = math.prod(shape) * dtype.itemsize
    if size - offset != wanted:
        raise ImageFileError(
            f"damaged: an array of shape {shape} and type {dtype} takes {wanted} bytes; "
            f"{size - offset} are there"
        )
    return _ArrayHeader(shape, fortran, dtype, offset)


def _checked(image: Array) -> Array:
    pixels = np.ascontiguousarray(native(image))
    if pixels.dtype == bool and (pixels.view(np.uint8) > 1).any():
        raise ImageFileError("damaged: its booleans hold other numbers than 0 and 1")
    return np.asarray(pixels)


_NAMES = ("_FillValue", "nodata", "missing_value")
"""Attributes that name the value of no data; the first that is there counts."""
NO_DATA = frozenset(_NAMES)
NOT_APPLIED = (
    *("scale_factor", "add_offset", "_Unsigned"),
    *("valid_min", "valid_max", "valid_range"),
)
"""Attributes that would change the pixels, or take some for no data."""
UNIT = "units"
"""The attribute that names the unit of the pixels."""


def pages_of(
    array: Any,
    axes: Axes,
    reading: Reading,
    no_data: tuple[str, float] | None,
    notes: tuple[str, ...],
    *,
    place: Georeference | None = None,
    attributes: Mapping[str, Any],
    grid: Grid | None = None,
    said: Callable[[int], tuple[str, ...]] = lambda _: (),
    white: int | None = None,
    close: Callable[[], None] = lambda: None,
) -> Pages:
    """Return the images of an array; large ones stay where they are.

    `array` has a shape, dtype, chunks and slices; its attributes may tell a unit, and how values
    are packed. `no_data` are the name and the value of that. `said` returns notes on image i,
    beside the `notes` on all. `white` is what 0 stands for; pixels are taken from that.
    """
    dtype = np.dtype(array.dtype).newbyteorder("=")
    height, width, *channels = axes.image
    channels = [] if channels == [1] else channels
    *counting, rows, columns = axes.others
    unit, packing = unit_of(attributes), packing_of(attributes)
    stored = tuple(array.chunks or (1,) * len(axes.shape))
    # Of the axes that are left, the channels are the first, the second or the last.
    left = [axis for axis in range(len(axes.shape)) if axis not in counting]

    def part_of(index: int, top: int, bottom: int, before: int, after: int) -> Contents:
        key: list[Any] = [slice(None)] * len(axes.shape)
        for axis, place in axes.at(index).items():
            key[axis] = place
        key[rows], key[columns] = slice(top, bottom), slice(before, after)
        pixels = native(np.asarray(array[tuple(key)]))
        if axes.channel is not None:
            pixels = np.moveaxis(pixels, left.index(axes.channel), -1)
            pixels = pixels[..., 0] if pixels.shape[-1] == 1 else np.ascontiguousarray(pixels)
        taken = pixels if white is None else np.asarray(pixels.dtype.type(white) ^ pixels)
        if no_data is None:
            return Contents(taken)
        samples = pixels if pixels.ndim == 3 else pixels[..., None]
        empty = np.asarray(where_equal(samples, no_data[1]).any(axis=-1))
        return Contents(taken, valid=~empty if empty.any() else None)

    def read(index: int) -> Contents:
        part = partial(part_of, index)
        own = (*notes, *said(index))
        text = "" if no_data is None else f"{no_data[0]} {no_data[1]:g}"
        if reading.stays_on_disk((height, width), dtype, *channels):
            reading.check_size(stored, dtype.itemsize)
            chunks = stored[rows], stored[columns]
            raster = Raster((height, width, *channels), dtype, part, chunks=chunks, no_data=text)
            found = Contents(cast("Array", raster))
        else:
            reading.check_size((height, width), dtype.itemsize, *channels)
            found = part(0, height, 0, width)
            if found.valid is not None:
                number = int(np.count_nonzero(~found.valid))
                own += (said_of_no_data(text, number, height * width),)
        return found._replace(notes=own, place=place, unit=unit, packing=packing, grid=grid)

    return Pages(len(axes), read, close, counting=axes.leading)


def no_data_of(
    attributes: Mapping[str, Any],
) -> tuple[tuple[str, float] | None, tuple[str, ...]]:
    """Return the attribute that names no data and its value, and notes on others."""
    notes = [
        f"its {name} {attributes[name]} is not applied"
        for name in NOT_APPLIED
        if name in attributes
    ]
    for name in _NAMES:
        if name in attributes:
            value = number_of(attributes[name])
            if value is not None:
                notes += [
                    f"its {other} {attributes[other]} is not applied, beside {name} {value}"
                    for other in _NAMES
                    if other in attributes and not _are_same(number_of(attributes[other]), value)
                ]
                return (name, value), tuple(notes)
            notes.append(f"its {name} {attributes[name]!r} is no number; no data are masked")
            break
    return None, tuple(notes)


def _are_same(one: float | None, other: float) -> bool:
    return one == other or (one != one and other != other)


def unit_of(attributes: Mapping[str, Any]) -> str:
    """Return the unit that attributes name, or nothing."""
    unit = attributes.get(UNIT, "")
    return unit.strip() if isinstance(unit, str) else ""


def packing_of(attributes: Mapping[str, Any]) -> tuple[float, float]:
    """Return the factor and the summand of the values, as netCDF has them."""
    found = (number_of(attributes.get(name)) for name in ("scale_factor", "add_offset"))
    factor, summand = (
        own if value is None else float(value) for value, own in zip(found, AS_STORED, strict=True)
    )
    return factor, summand


def number_of(value: Any) -> float | int | None:
    """Return the number that an attribute holds, if it does."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        return None
    for kind in (int, float):  # integers of 64 bits exceed a float
        with contextlib.suppress(ValueError):
            return kind(value)
    try:  # as xarray has floats in JSON
        content = base64.b64decode(value, validate=True)
        return float(np.frombuffer(content, "<f8")[0]) if len(content) == 8 else None
    except ValueError:
        return None
