"""Attributes of labelled arrays: the unit, pixels without data, and those of a result."""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from imsim.errors import DTypeError
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
    """Return the name of a result and its attributes, which netCDF and Zarr can store.

    `images` are the labelled ones, whose attribute may name a unit.
    """
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
