"""What a labelled result says of itself: the metric, its unit, and the parameters of the call."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from imsim.errors import DTypeError
from imsim.portable.windows import Window
from imsim.registry import METRICS
from imsim.validation import usual_data_range

PIXELS = "I"
"""The unit of the pixels in that of a metric."""
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
    """Return the unit of the pixels of two images, if one says it; refuse two different ones."""
    units = [str(v.attrs["units"]).strip() for v in (a, b) if v.attrs.get("units") is not None]
    if len(set(units)) > 1:
        raise DTypeError(
            f"a is in units of {units[0]!r} and b of {units[1]!r}",
            "convert one; where both mean the same, b.assign_attrs(units=a.units)",
        )
    return units[0] if units else None


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
