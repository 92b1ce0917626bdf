"""Pixels that hold no data, by what a labelled array says of itself."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any

import numpy as np

from imsim.errors import DTypeError
from imsim.typing import Array

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
