"""What labelled arrays say: unit, pixels without data, places; and what a result says of itself."""

from __future__ import annotations

import contextlib
import itertools
import math
import numbers
from collections.abc import Hashable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from imsim.errors import DTypeError, ShapeError
from imsim.portable.windows import Window
from imsim.registry import METRICS
from imsim.typing import Array
from imsim.validation import usual_data_range

PIXELS = "I"
"""The unit of the pixels in that of a metric."""
PACKING = {"scale_factor": 1.0, "add_offset": 0.0}
"""Attributes by which netCDF stores values as integers, while these are not decoded."""
PURE = "1"
"""The unit of pure numbers, as the conventions of netCDF write it."""


def described(
    metric: str, data_range: Any, options: Mapping[str, Any], images: Sequence[Any], *, is_map: bool
) -> tuple[str, dict[str, Any]]:
    """Return the name of a result and its attributes, which netCDF and Zarr can store."""
    facts = METRICS[metric]
    found = {
        "long_name": facts.map_title if is_map else facts.title,
        "units": _unit(facts.unit, unit_of(*images), options),
        "metric": metric,
    }
    if data_range is None and facts.needs_data_range:
        data_range = usual_data_range([image.dtype for image in images])
    for key, value in {"data_range": data_range, **options}.items():
        found |= _stored(key, value)
    return f"{metric}_map" if is_map else metric, found


def unit_of(a: Any, b: Any) -> str | None:
    """Return the unit of the pixels of two images, if one says it; refuse two different ones.

    Packed numbers have none: the unit is that of the values that they stand for.
    """
    for name, image in (("a", a), ("b", b)):
        _check_sign(name, image)
    packings = [packing for packing in map(_packing, (a, b)) if packing is not None]
    if len(set(packings)) > 1:
        raise DTypeError(
            "a and b hold numbers that stand for different values: (scale_factor, add_offset) = "
            f"{packings[0]} of a, {packings[1]} of b",
            "decode what is packed, e.g. xarray.decode_cf(a.to_dataset(name='a'))['a']",
        )
    units = [str(v.attrs["units"]).strip() for v in (a, b) if v.attrs.get("units") is not None]
    if len(set(units)) > 1:
        raise DTypeError(
            f"a is in units of {units[0]!r} and b of {units[1]!r}",
            "convert one; where both mean the same, b.assign_attrs(units=a.units)",
        )
    return units[0] if units and not {*packings} - {tuple(PACKING.values())} else None


def _check_sign(name: str, image: Any) -> None:
    """Refuse integers that netCDF stores in a type of the other sign, and are not decoded."""
    said, kind = str(image.attrs.get("_Unsigned")).lower(), image.dtype.kind
    if (kind, said) in (("i", "true"), ("u", "false")):
        right = image.dtype.str.replace(*("i", "u") if kind == "i" else ("u", "i"))
        raise DTypeError(
            f"{name} has dtype {image.dtype} and the attribute _Unsigned={said}",
            f"decode it, e.g. xarray.decode_cf, or pass {name}.astype({right!r})",
        )


def _packing(image: Any) -> tuple[Any, ...] | None:
    """Return what makes values of the numbers of an image, if it says so; a decoded one does."""
    if not any(key in said for key in PACKING for said in (image.attrs, image.encoding)):
        return None
    given = [image.attrs.get(key, usual) for key, usual in PACKING.items()]
    return tuple(v.item() if getattr(v, "size", 0) == 1 else v for v in map(np.asarray, given))


def _unit(unit: str, of_pixels: str | None, options: Mapping[str, Any]) -> str:
    if options.get("degrees"):
        return "degree"
    if not unit or options.get("normalize") == "range":
        return PURE
    if unit.startswith(PIXELS) and of_pixels is not None:
        power = unit.removeprefix(PIXELS)
        return f"({of_pixels}){power}" if power else of_pixels
    return unit


def _stored(key: str, value: Any) -> dict[str, Any]:
    """Write a parameter as text, a number or a list of numbers."""
    if value is None:
        return {}
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, Mapping):
        return {k: v for name, one in value.items() for k, v in _stored(name, one).items()}
    if isinstance(value, Window):
        size = {f"{key}_size": list(value.lengths)}
        if not value.sigmas:
            return {key: "uniform", **size}
        return {key: "gaussian", **size, "sigma": list(value.sigmas)}
    if isinstance(value, bool):
        return {key: str(value)}
    if isinstance(value, (str, numbers.Real)):
        return {key: value}
    if isinstance(value, (tuple, list)) and all(isinstance(v, numbers.Real) for v in value):
        return {key: list(value)}
    return {}


MARKS = ("_FillValue", "missing_value", "fill_value", "nodata")
"""Attributes that hold the value of pixels without data, of netCDF, Zarr, rioxarray and GDAL."""


def without_data(
    name: str, attributes: Mapping[Any, Any], encoding: Mapping[Any, Any], pixels: Array
) -> Array | None:
    """Find the pixels of a DataArray that hold no data; None if nothing says which these are.

    A value in the attributes is still among the pixels. One in the encoding was replaced by NaN
    when the file was decoded. NaN of an array without either is a pixel whose value is wrong.
    """
    values = list(_marks(name, attributes))
    if list(_marks(name, encoding)):
        values.append(math.nan)
    found = None
    for value in dict.fromkeys(values):
        equal = _equal(pixels, value)
        if equal is not None:
            found = equal if found is None else found | equal
    return found


def _marks(name: str, attributes: Mapping[Any, Any]) -> Iterator[float | int]:
    """Yield the values that mark what is no data; netCDF allows several."""
    for key in MARKS:
        given = attributes.get(key)
        if given is None or (isinstance(given, str) and given.strip().lower() in ("", "none")):
            continue
        try:
            for one in given if isinstance(given, list | tuple) else [given]:
                yield from map(_number, np.asarray(one).ravel().tolist())
        except (TypeError, ValueError) as error:
            raise DTypeError(
                f"{name} has the attribute {key}={given!r}, which is no number",
                f"name the value of pixels without data, {name}.attrs[{key!r}], or delete it",
            ) from error


def _number(value: Any) -> float | int:
    """Return a number, or that of a text; whole ones as they are, since 64 bits exceed a float."""
    if isinstance(value, str | bytes | Integral):
        with contextlib.suppress(ValueError):
            return int(value)
    return float(value)


def _equal(pixels: Array, value: float | int) -> Array | None:
    """Compare with a value in the dtype of the pixels; None if that dtype cannot hold it."""
    kind = pixels.dtype.kind
    if kind == "f":
        if value != value:
            return pixels != pixels
        try:
            with np.errstate(over="ignore"):
                own = pixels.dtype.type(value)
        except OverflowError:  # of an integer beyond all floats
            return None
        return None if math.isinf(own) and value not in (math.inf, -math.inf) else pixels == own
    if kind not in "iu" or not (isinstance(value, int) or value.is_integer()):
        return None
    limits = np.iinfo(pixels.dtype)
    return pixels == int(value) if limits.min <= value <= limits.max else None


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
    known = np.isfinite(one)
    if (known != np.isfinite(other)).any() or known.sum() < 2:
        return False
    one, other = one[known], other[known]
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
