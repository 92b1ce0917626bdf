"""Arrays of Zarr, versions 2 and 3, in a folder; of OME-Zarr one level of the pyramid.

Which array, which axes and what is stored is read here, out of the metadata; the pixels by zarr.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from imsim._images.arrays import (
    NO_DATA,
    Axes,
    axes_of,
    channel_of,
    no_data_of,
    number_of,
    pages_of,
)
from imsim._images.metadata import Georeference, Grid, of_attributes, of_ome_zarr
from imsim._images.pictures import OBJECTS, ImageFileError, Pages, listed, needing
from imsim._images.reading import Reading
from imsim._images.zarr_chunks import Unwritten, is_there, missing_chunks

METADATA = ("zarr.json", ".zarray", ".zgroup")
"""Files that make a folder a Zarr array or group: of version 3, and of version 2."""
_NUMBERS = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))
_NUMBERS += ("float16", "float32", "float64")


class Node(NamedTuple):
    """An array or a group."""

    path: str
    meta: Mapping[str, Any]
    attributes: Mapping[str, Any]

    @property
    def is_array(self) -> bool:
        """Whether it is an array."""
        return "shape" in self.meta

    @property
    def name(self) -> str:
        """The last part of the path."""
        return os.path.basename(os.path.normpath(self.path))


class Chosen(NamedTuple):
    """The array to read, and what the group that it lies in tells."""

    array: Node
    axes: tuple[str, ...] | None
    """Names of its axes, if they are told."""
    notes: tuple[str, ...] = ()
    grid: Grid | None = None


def is_zarr(path: str) -> bool:
    """Tell whether a folder is a Zarr array or group, or is called like one."""
    return os.path.isdir(path) and (
        os.path.normpath(path).lower().endswith(".zarr")
        or any(os.path.isfile(os.path.join(path, name)) for name in METADATA)
    )


def node_at(path: str) -> Node | None:
    """Read the metadata of a folder, a JSON object; None if there are none."""
    meta = _json(os.path.join(path, "zarr.json"))
    if meta is not None:
        return Node(path, meta, _mapping(meta.get("attributes", {})))
    for name in METADATA[1:]:
        meta = _json(os.path.join(path, name))
        if meta is not None:
            return Node(path, meta, _json(os.path.join(path, ".zattrs")) or {})
    return None


def _json(path: str) -> Mapping[str, Any] | None:
    if not is_there(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return _mapping(json.load(file))
    except ValueError as error:
        raise ImageFileError(f"damaged: {os.path.basename(path)} is no JSON: {error}") from error


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ImageFileError("damaged: its metadata are no JSON object")
    return value


def choose(path: str, level: int | None) -> Chosen:
    """Find the array that a path names: itself, a level of a pyramid, or the one of a group."""
    node = node_at(path)
    if node is None:
        raise ImageFileError(
            f"damaged or no Zarr: it holds none of {', '.join(METADATA)}",
            "name the folder of an array or a group",
        )
    if node.is_array:
        _check_level(level, 1, "it is one array")
        return Chosen(node, _axes_above(node))
    pyramids = _multiscales(node)
    if pyramids:
        return _level(node, pyramids, level)
    if "plate" in _ome(node) or "well" in _ome(node):
        inner = sorted(child.name for child in _children(node))
        raise ImageFileError(
            "is a plate of many images", f"name one, e.g. {os.path.join(path, *inner[:1])}/..."
        )
    series = [child for child in _children(node) if not child.is_array and _multiscales(child)]
    if len(series) == 1:
        return _level(series[0], _multiscales(series[0]), level)
    if series:
        raise ImageFileError(
            f"holds {len(series)} pyramids ({_names(series)})",
            f"name one: {os.path.join(path, series[0].name)}",
        )
    arrays = [child for child in _children(node) if child.is_array]
    images = [array for array in arrays if len(array.meta["shape"]) > 1]
    _check_level(level, 1, "it is a group without a pyramid")
    if len(images) == 1:
        said = (f"its array {images[0].name!r} is taken",) if len(arrays) > 1 else ()
        return Chosen(images[0], _names_of_axes(images[0]), said)
    if not images:
        raise ImageFileError("is a Zarr group without an array of two or more axes")
    raise ImageFileError(
        f"holds {len(images)} arrays ({_names(images)})",
        f"name one: {os.path.join(path, images[0].name)}",
    )


def _names(nodes: Sequence[Node]) -> str:
    return listed(node.name for node in nodes)


def _children(node: Node) -> list[Node]:
    with os.scandir(node.path) as entries:
        paths = sorted(entry.path for entry in entries if entry.is_dir())
    return [child for child in map(node_at, paths) if child is not None]


def _ome(node: Node) -> Mapping[str, Any]:
    """Return where OME keeps its metadata: since version 0.5, under a name of its own."""
    ome = node.attributes.get("ome")
    return ome if isinstance(ome, Mapping) else node.attributes


def _multiscales(node: Node) -> Sequence[Any]:
    found = _ome(node).get("multiscales")
    return found if isinstance(found, Sequence) and not isinstance(found, str) else ()


def _level(node: Node, pyramids: Sequence[Any], level: int | None) -> Chosen:
    try:
        paths = [str(dataset["path"]) for dataset in pyramids[0]["datasets"]]
    except (KeyError, TypeError) as error:
        raise ImageFileError(f"damaged: its pyramid names no arrays ({error})") from error
    _check_level(level, len(paths), "its pyramid ends before")
    path = paths[level or 0]
    if os.path.isabs(path) or ".." in path.split("/"):
        raise ImageFileError(f"damaged: its pyramid names {path!r}, which lies outside")
    array = node_at(os.path.join(node.path, *path.split("/")))
    if array is None or not array.is_array:
        raise ImageFileError(f"damaged: its pyramid names the array {path!r}, which is not there")
    notes = []
    if len(pyramids) > 1:
        notes.append(f"the first of its {len(pyramids)} pyramids is taken")
    if level is None and len(paths) > 1:
        notes.append(f"level 0 of its {len(paths)} levels is taken; --level names another")
    axes = _axes_of(pyramids[0], array)
    grid = of_ome_zarr(pyramids[0], pyramids[0]["datasets"][level or 0], axes)
    return Chosen(array, axes, tuple(notes), grid)


def _check_level(level: int | None, number: int, why: str) -> None:
    if level is not None and level >= number:
        levels = "1 level" if number == 1 else f"{number} levels"
        raise ImageFileError(f"has no level {level}: {why}; it has {levels}, counted from 0")


def _axes_above(node: Node) -> tuple[str, ...] | None:
    """Return the axes of an array, which may be a level of a pyramid in the group above."""
    above = node_at(os.path.dirname(os.path.normpath(os.path.abspath(node.path))))
    for pyramid in _multiscales(above) if above else ():
        datasets = pyramid.get("datasets", ()) if isinstance(pyramid, Mapping) else ()
        if any(isinstance(d, Mapping) and d.get("path") == node.name for d in datasets):
            return _axes_of(pyramid, node)
    return _names_of_axes(node)


def _axes_of(pyramid: Mapping[str, Any], array: Node) -> tuple[str, ...]:
    # Before version 0.3, there were always these five.
    axes = pyramid.get("axes", ["t", "c", "z", "y", "x"])
    names = [axis.get("name", "?") if isinstance(axis, Mapping) else str(axis) for axis in axes]
    types = [axis.get("type") if isinstance(axis, Mapping) else None for axis in axes]
    if len(names) != len(array.meta["shape"]):
        raise ImageFileError(
            f"damaged: its metadata name {len(names)} axes ({', '.join(names)}), but its array "
            f"has shape {tuple(array.meta['shape'])}"
        )
    return tuple("c" if kind == "channel" else n for n, kind in zip(names, types, strict=True))


def _names_of_axes(array: Node) -> tuple[str, ...] | None:
    names = array.meta.get("dimension_names") or array.attributes.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, Sequence) or len(names) != len(array.meta["shape"]):
        return None
    return tuple(str(name) for name in names)


def check_type(array: Node) -> None:
    """Refuse an array of anything but real numbers, before a decoder sees it.

    Above all Python objects, which a decoder would make by running what the file says.
    """
    meta = array.meta
    kind = meta.get("data_type", meta.get("dtype"))
    codecs = set(_codecs([meta.get("codecs"), meta.get("filters"), meta.get("compressor")]))
    pickled = any("pickle" in name for name in codecs)
    if pickled or (isinstance(kind, str) and "O" in kind):
        raise ImageFileError(OBJECTS)
    if "data_type" in meta:
        known = kind in _NUMBERS
    else:
        try:
            known = isinstance(kind, str) and np.dtype(kind).kind in "biuf"
        except TypeError:
            known = False
    if not known:
        raise ImageFileError(f"its values are of type {kind}, not real numbers")


_INEXACT = (
    *("quantize", "fixedscaleoffset", "scale_offset", "bitround"),
    *("zfpy", "jpeg", "lerc", "sz3"),
)
"""In the names of codecs that may change numbers."""


def inexact_codec(array: Node) -> str | None:
    """Name a codec that may change numbers, if an array has one."""
    meta = array.meta
    names = _codecs([meta.get("codecs"), meta.get("filters"), meta.get("compressor")])
    return next((name for name in names if any(one in name for one in _INEXACT)), None)


def _codecs(value: Any) -> Iterator[str]:
    """Yield the names of all codecs in some metadata, those of the parts of a shard too."""
    if isinstance(value, Mapping):
        for key in ("id", "name"):
            if isinstance(value.get(key), str):
                yield value[key].lower()
        for part in value.values():
            yield from _codecs(part)
    elif isinstance(value, list):
        for part in value:
            yield from _codecs(part)


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
    array = Unwritten(_opened(node), node.path, node.meta)
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
    found = missing_chunks(node.path, node.meta, box)
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
        said = f"its fill value is {value}; if that means no data, --ignore-value leaves it out"
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
