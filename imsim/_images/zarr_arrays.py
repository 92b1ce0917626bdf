"""Arrays of Zarr, versions 2 and 3, in a folder; of OME-Zarr one level of the pyramid."""

from __future__ import annotations

import os
from typing import Any

from imsim._images.arrays import NO_DATA, Axes, axes_of, no_data_of, number_of, pages_of
from imsim._images.metadata import Georeference, of_attributes
from imsim._images.pictures import ImageFileError, Pages, needing
from imsim._images.reading import Reading
from imsim._images.zarr_nodes import (
    Node,
    channel_of,
    check_type,
    choose,
    inexact_codec,
    missing_chunks,
    node_at,
)


def open_zarr(path: str, reading: Reading) -> Pages:
    """Open an array, or the array that a group is about."""
    chosen = choose(path, reading.level)
    node = chosen.array
    check_type(node)
    if codec := inexact_codec(node):
        reading.check_exact(codec)
    if chosen.axes is not None and (reading.channel_axis is None or "c" in chosen.axes):
        axes = Axes(tuple(node.meta["shape"]), channel_of(chosen.axes))
        if len(axes.image) < 2 or 0 in axes.shape:
            raise ImageFileError(f"holds no image; its axes are ({', '.join(chosen.axes)})")
    else:
        axes = axes_of(tuple(node.meta["shape"]), reading)
    array = _opened(node)
    no_data, said = _no_data(node)
    place = _place(node, chosen.axes, axes)

    def missing(index: int) -> tuple[str, ...]:
        return _said_of_missing(node, axes, index)

    notes = (*chosen.notes, *said)
    return pages_of(
        array,
        axes,
        reading,
        no_data,
        notes,
        place=place,
        attributes=node.attributes,
        grid=chosen.grid,
        said=missing,
    )


def _opened(node: Node) -> Any:
    with needing("Zarr needs", "zarr", "zarr"):
        import zarr
    return zarr.open_array(node.path, mode="r")


def _said_of_missing(node: Node, axes: Axes, index: int) -> tuple[str, ...]:
    """Say which chunks of an image are not stored: writers leave out empty ones, disks lose any."""
    at = axes.at(index)
    box = [
        range(at[axis], at[axis] + 1) if axis in at else range(length)
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
    found, notes = no_data_of(node.attributes)
    # In version 2, xarray has it in the place of Zarr's own fill value.
    fill = node.meta.get("fill_value")
    is_of_xarray = node.meta.get("zarr_format") == 2 and "_ARRAY_DIMENSIONS" in node.attributes
    value = None if NO_DATA & {*node.attributes} else number_of(fill)
    if value is not None and is_of_xarray:
        return ("fill_value", value), notes
    if value and value == value and not isinstance(fill, bool):  # 0, NaN and True mark nothing
        said = f"pixels of its fill value {value} are scored; --ignore-value leaves them out"
        return found, (*notes, said)
    return found, notes


def _place(node: Node, names: tuple[str, ...] | None, axes: Axes) -> Georeference | None:
    """Return where the pixels lie, by the arrays beside: a grid mapping, and coordinates."""
    folder = os.path.dirname(os.path.normpath(os.path.abspath(node.path)))
    mapping = node_at(os.path.join(folder, str(node.attributes.get("grid_mapping", "spatial_ref"))))
    found = None if mapping is None else of_attributes(mapping.attributes)
    if found is not None and found.transform is not None:
        return found
    ends = []
    for axis in axes.others[-2:] if names else ():
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
