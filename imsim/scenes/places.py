"""Whether labelled arrays lie at the same places: their sizes, coordinates and reference system."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from imsim.errors import ShapeError

REFERENCE = ("crs_wkt", "spatial_ref")
"""Attributes of a grid mapping that hold its coordinate reference system as text."""


def check_places(arrays: Mapping[str, Any], axes: tuple[Hashable, ...]) -> None:
    """Refuse DataArrays that differ in a size or a coordinate they share.

    `axes` are those of the images. What is no index, and lies on none of these, may differ: the
    times of two images, or the names of their files.
    """
    for (first, one), (name, other) in itertools.combinations(arrays.items(), 2):
        for dim in one.dims:
            if dim not in other.dims:
                continue
            _check_size(dim, first, one, name, other, is_image=dim in axes)
            if not (dim in one.indexes and dim in other.indexes):
                continue  # as in arithmetic, an array without coordinates lies where the other does
            if not one.indexes[dim].equals(other.indexes[dim]):
                raise _apart(dim, first, one.indexes[dim], name, other.indexes[dim])
        _check_other_coordinates(first, one, name, other, axes)
        _check_reference(first, one, name, other, axes)


def _check_size(
    dim: Hashable, first: str, one: Any, name: str, other: Any, *, is_image: bool
) -> None:
    sizes = one.sizes[dim], other.sizes[dim]
    for key, size in zip((first, name), sizes, strict=True):
        if size != size:
            raise ShapeError(
                f"{key} has chunks of unknown size along {dim!r}",
                f"pass {key}.copy(data={key}.data.compute_chunk_sizes())",
            )
    if sizes[0] == sizes[1]:
        return
    remedy = "crop or resample one"
    if not is_image:
        short = name if sizes[1] == 1 else first
        remedy = "select what both have"
        if 1 in sizes:
            remedy = f"one against many lacks the dimension: {short}.squeeze({dim!r}, drop=True)"
    raise ShapeError(
        f"dimension {dim!r} has length {sizes[0]} in {first} and {sizes[1]} in {name}", remedy
    )


def _apart(dim: Hashable, first: str, one: Any, name: str, other: Any) -> ShapeError:
    """Say where two indexes of one length differ, and what may help."""
    differs = np.asarray([x != y and (x == x or y == y) for x, y in zip(one, other, strict=True)])
    places = np.flatnonzero(differs)
    where = ""
    if places.size:
        k = places[0]
        where = (
            f" at {places.size} of {len(one)} places, first at {dim}[{k}]: "
            f"{one[k]} in {first}, {other[k]} in {name}"
        )
    remedy = (
        f"select what both have, xarray.align({first}, {name}, join='inner'), or resample, "
        f"{name}.interp_like({first})"
    )
    if one.is_unique and other.is_unique and not one.difference(other).size:
        remedy = f"put one in the order of the other, {name}.reindex_like({first})"
    elif _is_rounding(one, other):
        remedy = f"if only rounding sets them apart, {name}.assign_coords({dim}={first}[{dim!r}])"
    return ShapeError(f"the coordinates {dim!r} of {first} and {name} differ{where}", remedy)


def _is_rounding(one: Any, other: Any) -> bool:
    """Whether two numeric indexes differ by less than a hundredth of a step."""
    if one.dtype.kind not in "iuf" or other.dtype.kind not in "iuf" or len(one) < 2:
        return False
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return bool(np.abs(one - other).max() < np.abs(np.diff(one)).min() / 100)


def _check_other_coordinates(
    first: str, one: Any, name: str, other: Any, axes: tuple[Hashable, ...]
) -> None:
    """Compare coordinates without an index, such as latitudes of a curved grid."""
    for key in one.coords.keys() & other.coords.keys():
        x, y = one.coords[key], other.coords[key]
        if key in one.dims or not set(axes) & (set(x.dims) | set(y.dims)):
            continue
        if x.chunks is not None or y.chunks is not None:
            continue  # lazy: nothing is computed before it is asked for
        same = set(x.dims) == set(y.dims)
        if not (same and x.variable.equals(y.variable.transpose(*x.dims))):
            raise ShapeError(
                f"the coordinates {key!r} of {first} and {name} differ, which lie on the images",
                f"resample one, or drop those that do not count: {name}.drop_vars({key!r})",
            )


def _check_reference(
    first: str, one: Any, name: str, other: Any, axes: tuple[Hashable, ...]
) -> None:
    """Compare the coordinate reference systems, and the grids of arrays without coordinates."""
    mappings = _grid_mapping(one), _grid_mapping(other)
    systems = [_system(array, m) for array, m in zip((one, other), mappings, strict=True)]
    if None not in systems and systems[0] != systems[1]:
        key = mappings[1] or "crs"
        raise ShapeError(
            f"{first} and {name} are in different coordinate reference systems "
            f"({_short(systems[0])}, {_short(systems[1])})",
            f"reproject one, e.g. {name}.rio.reproject_match({first}); where the texts mean the "
            f"same, {name}.assign_coords({key}={first}[{key!r}])",
        )
    if any(axis in array.indexes for axis in axes for array in (one, other)):
        return
    grids = [
        array.coords[m].attrs.get("GeoTransform") if m is not None else None
        for array, m in zip((one, other), mappings, strict=True)
    ]
    if None not in grids and str(grids[0]).split() != str(grids[1]).split():
        raise ShapeError(
            f"the GeoTransform of {first} and {name} differ ({grids[0]}; {grids[1]})",
            f"resample one, e.g. {name}.rio.reproject_match({first})",
        )


def grid_mapping_name(array: Any) -> Any:
    """Return the name of the variable that holds the reference system of a DataArray."""
    given = array.encoding.get("grid_mapping", array.attrs.get("grid_mapping"))
    return "spatial_ref" if given is None else given


def _grid_mapping(array: Any) -> Any:
    name = grid_mapping_name(array)
    return name if name in array.coords else None


def _system(array: Any, mapping: Any) -> str | None:
    attributes = array.attrs if mapping is None else array.coords[mapping].attrs
    for key in REFERENCE if mapping is not None else ("crs",):
        if attributes.get(key) is not None:
            return str(attributes[key])
    return None


def _short(text: Any) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
