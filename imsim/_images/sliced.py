"""Images of an array that is read by slices, as those of Zarr and HDF5 are, with attributes."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import numpy as np

from imsim._images.arrays import Axes
from imsim._images.metadata import Georeference, Grid
from imsim._images.pictures import (
    AS_STORED,
    Array,
    Contents,
    Pages,
    native,
    said_of_no_data,
    where_equal,
)
from imsim._images.raster import Raster
from imsim._images.reading import Reading

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
    rows, columns = image_axes(axes)
    unit, packing = unit_of(attributes), packing_of(attributes)
    stored = tuple(array.chunks or (1,) * len(axes.shape))
    counting = [
        axis for axis in range(len(axes.shape)) if axis not in (rows, columns, axes.channel)
    ]
    # Of the axes that are left, the channels are the first, the second or the last.
    left = [axis for axis in range(len(axes.shape)) if axis not in counting]

    def part_of(index: int, top: int, bottom: int, before: int, after: int) -> Contents:
        where = np.unravel_index(index, axes.leading) if axes.leading else ()
        key: list[Any] = [slice(None)] * len(axes.shape)
        for axis, place in zip(counting, where, strict=True):
            key[axis] = int(place)
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


def image_axes(axes: Axes) -> tuple[int, int]:
    """Return the axes of rows and columns."""
    rows, columns = [axis for axis in range(len(axes.shape)) if axis != axes.channel][-2:]
    return rows, columns


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
