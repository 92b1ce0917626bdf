"""Arrays of Zarr, versions 2 and 3, in a folder; of OME-Zarr one level of the pyramid."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from imsim._images.arrays import Axes, axes_of
from imsim._images.georeference import Georeference, of_attributes
from imsim._images.pictures import Array, Contents, ImageFileError, Pages, native, where_equal
from imsim._images.raster import Raster
from imsim._images.reading import Reading
from imsim._images.zarr_nodes import (
    Node,
    channel_of,
    check_type,
    choose,
    missing_chunks,
    node_at,
)

_NO_DATA = ("_FillValue", "nodata", "missing_value")
"""Attributes that name the value of no data; the first that is there counts."""


def open_zarr(path: str, reading: Reading) -> Pages:
    """Open an array, or the array that a group is about."""
    chosen = choose(path, reading.level)
    node = chosen.array
    check_type(node)
    if chosen.axes is not None and (reading.channel_axis is None or "c" in chosen.axes):
        axes = Axes(tuple(node.meta["shape"]), channel_of(chosen.axes))
        if len(axes.image) < 2 or 0 in axes.shape:
            raise ImageFileError(f"holds no image; its axes are ({', '.join(chosen.axes)})")
    else:
        axes = axes_of(tuple(node.meta["shape"]), reading)
    array = _opened(node)
    dtype = np.dtype(array.dtype).newbyteorder("=")
    height, width, *channels = axes.image
    channels = [] if channels == [1] else channels
    no_data, said = _no_data(node)
    place = _place(node, chosen.axes, axes)
    rows, columns = _image_axes(axes)

    def read(index: int) -> Contents:
        part = _reader(array, axes, index, no_data)
        more = _said_of_missing(node, axes, index)
        notes = (*chosen.notes, *said, *more)
        if reading.stays_on_disk((height, width), dtype, *channels):
            reading.check_size(tuple(array.chunks), dtype.itemsize)
            chunks = array.chunks[rows], array.chunks[columns]
            text = "" if no_data is None else f"{no_data[0]} {no_data[1]:g}"
            shape = (height, width, *channels)
            raster = Raster(shape, dtype, part, chunks=chunks, no_data=text)
            return Contents(cast("Array", raster), notes, place=place)
        reading.check_size((height, width), dtype.itemsize, *channels)
        found = part(0, height, 0, width)
        if found.valid is not None and no_data is not None:
            number = np.count_nonzero(~found.valid)
            notes += (
                f"no data ({no_data[0]} {no_data[1]:g}) at {number} of {height * width} pixels, "
                "which are masked",
            )
        return found._replace(notes=notes, place=place)

    return Pages(len(axes), read, counting=axes.leading)


def _opened(node: Node) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImageFileError("Zarr needs the package zarr", "pip install 'imsim[zarr]'") from error
    return zarr.open_array(node.path, mode="r")


def _image_axes(axes: Axes) -> tuple[int, int]:
    rows, columns = [axis for axis in range(len(axes.shape)) if axis != axes.channel][-2:]
    return rows, columns


def _reader(
    array: Any, axes: Axes, index: int, no_data: tuple[str, float] | None
) -> Callable[[int, int, int, int], Contents]:
    """Return a function that reads a part of image i."""
    where = iter(np.unravel_index(index, axes.leading) if axes.leading else ())
    rows, columns = _image_axes(axes)
    counting = {axis for axis in range(len(axes.shape)) if axis not in (rows, columns)}
    key: list[Any] = [
        int(next(where)) if axis in counting - {axes.channel} else slice(None)
        for axis in range(len(axes.shape))
    ]
    # Of the axes that are left, the channels are the first, the second or the last.
    left = [axis for axis in range(len(axes.shape)) if isinstance(key[axis], slice)]

    def read(top: int, bottom: int, before: int, after: int) -> Contents:
        part = list(key)
        part[rows], part[columns] = slice(top, bottom), slice(before, after)
        pixels = native(np.asarray(array[tuple(part)]))
        if axes.channel is not None:
            pixels = np.moveaxis(pixels, left.index(axes.channel), -1)
            pixels = pixels[..., 0] if pixels.shape[-1] == 1 else np.ascontiguousarray(pixels)
        if no_data is None:
            return Contents(pixels)
        samples = pixels if pixels.ndim == 3 else pixels[..., None]
        empty = np.asarray(where_equal(samples, no_data[1]).any(axis=-1))
        return Contents(pixels, valid=~empty if empty.any() else None)

    return read


def _said_of_missing(node: Node, axes: Axes, index: int) -> tuple[str, ...]:
    """Say which chunks of an image are not stored: writers leave out empty ones, disks lose any."""
    where = iter(np.unravel_index(index, axes.leading) if axes.leading else ())
    image = {*_image_axes(axes), axes.channel}
    box = [
        range(length) if axis in image else (lambda i: range(i, i + 1))(int(next(where)))
        for axis, length in enumerate(axes.shape)
    ]
    found = missing_chunks(node, box)
    if found is None:
        return ("whether all its chunks are stored cannot be told",)
    missing, total = found
    if not missing:
        return ()
    fill = node.meta.get("fill_value")
    return (
        f"{missing} of its {total} chunks are not stored; as Zarr has it, their pixels have the "
        f"fill value {0 if fill is None else fill}",
    )


def _no_data(node: Node) -> tuple[tuple[str, float] | None, tuple[str, ...]]:
    """Return the attribute that names no data and its value, and notes on others."""
    notes = [
        f"its {name} {node.attributes[name]} is not applied"
        for name in ("scale_factor", "add_offset")
        if name in node.attributes
    ]
    for name in _NO_DATA:
        if name in node.attributes:
            value = _number(node.attributes[name])
            if value is None:
                said = f"its {name} {node.attributes[name]!r} is no number; no data are masked"
                notes.append(said)
                return None, tuple(notes)
            return (name, value), tuple(notes)
    # In version 2, xarray has it in the place of Zarr's own fill value.
    fill = node.meta.get("fill_value")
    if node.meta.get("zarr_format") == 2 and "_ARRAY_DIMENSIONS" in node.attributes:
        value = None if fill is None else _number(fill)
        return (None if value is None else ("fill_value", value)), tuple(notes)
    return None, tuple(notes)


def _number(value: Any) -> float | None:
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        return None
    try:
        return float(value)
    except ValueError:
        pass
    try:  # as xarray has floats in JSON
        content = base64.b64decode(value, validate=True)
        return float(np.frombuffer(content, "<f8")[0]) if len(content) == 8 else None
    except ValueError:
        return None


def _place(node: Node, names: tuple[str, ...] | None, axes: Axes) -> Georeference | None:
    """Return where the pixels lie, by the arrays beside: a grid mapping, and coordinates."""
    folder = os.path.dirname(os.path.normpath(os.path.abspath(node.path)))
    mapping = node_at(os.path.join(folder, str(node.attributes.get("grid_mapping", "spatial_ref"))))
    found = None if mapping is None else of_attributes(mapping.attributes)
    if found is not None and found.transform is not None:
        return found
    ends = []
    for axis in _image_axes(axes) if names else ():
        beside = node_at(os.path.join(folder, names[axis])) if names else None
        if beside is None or not beside.is_array or beside.path == node.path:
            return found
        shape = list(beside.meta["shape"])
        if shape != [axes.shape[axis]] or shape[0] < 2:
            return found
        check_type(beside)
        values = _opened(beside)
        ends.append((float(values[0]), float(values[-1]), shape[0]))
    if len(ends) < 2:
        return found
    (y, last_y, height), (x, last_x, width) = ends
    down, right = (last_y - y) / (height - 1), (last_x - x) / (width - 1)
    transform = (right, 0.0, x - right / 2, 0.0, down, y - down / 2)
    return (found or Georeference())._replace(transform=transform)
