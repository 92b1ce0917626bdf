"""What files tell of the size of their pixels and where they lie, which pixels do not show.

Nothing is moved or resampled by it: whether two images differ in it is said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

Grid = Mapping[str, float | str]
"""What each keyword or attribute says."""

_SAME = 1e-6
"""Relative difference of numbers that are taken for equal."""
_OF_FITS = re.compile(r"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)[1-3]|(CD|PC)[1-3]_[1-3]|EQUINOX")
_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_SIZES = re.compile(r"\b(PhysicalSize[XYZ](?:Unit)?)=\"([^\"]*)\"")


def difference(reference: Grid | None, test: Grid | None) -> str:
    """Say in what two grids differ, or "" if they do not, or one of them is not known."""
    if not (reference and test):
        return ""
    both = sorted(reference.keys() | test.keys())
    other = [name for name in both if not _is_same(reference.get(name), test.get(name))]
    if not other:
        return ""
    said = [f"{name} {_text(test.get(name))}, not {_text(reference.get(name))}" for name in other]
    more = f" and {len(said) - 3} more" if len(said) > 3 else ""
    return (
        "its pixels are said to be of another size or to lie elsewhere than those of the reference "
        f"({'; '.join(said[:3])}{more})"
    )


def _is_same(one: float | str | None, other: float | str | None) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_SAME, abs_tol=1e-12)
    return one == other


def _text(value: float | str | None) -> str:
    return "none" if value is None else f"{value:.9g}" if isinstance(value, float) else value


def of_fits(header: Any) -> Grid:
    """Return where the pixels lie on the sky, as the header of an HDU tells."""
    return _values({name: header[name] for name in header if _OF_FITS.fullmatch(name)})


def of_ome(description: str) -> Grid:
    """Return the sizes of pixels in a description by OME; of several images, none."""
    found = _PIXELS.findall(description)
    return _values(dict(_SIZES.findall(found[0]))) if len(found) == 1 else {}


def of_imagej(metadata: Mapping[str, Any], resolution: Any) -> Grid:
    """Return the sizes of pixels in the metadata of ImageJ, and what the tags add to that."""
    if not metadata.get("unit"):
        return {}
    found = {name: metadata[name] for name in ("unit", "spacing") if name in metadata}
    for axis, value in zip("XY", resolution, strict=True):
        if isinstance(value, tuple) and value[1]:
            found[f"{axis}Resolution"] = value[0] / value[1]
    return _values(found)


def of_ome_zarr(pyramid: Any, level: Any, axes: Sequence[str]) -> Grid:
    """Return the scale and the place of a level of a pyramid along the axes of space."""
    found: dict[str, Any] = {}
    try:
        for transformation in level.get("coordinateTransformations", ()):
            kind = transformation["type"]
            if kind in ("scale", "translation"):
                named = dict(zip(axes, transformation[kind], strict=True))
                found |= {f"{kind} {name}": named[name] for name in "zyx" if name in named}
        for axis in pyramid.get("axes", ()):
            if axis["name"] in "zyx" and "unit" in axis:
                found[f"unit {axis['name']}"] = axis["unit"]
    except (AttributeError, KeyError, TypeError, ValueError):  # damaged ones stop nothing
        return {}
    return _values(found)


def of_dicom(header: Any) -> Grid:
    """Return the distances of pixels in the header of an image."""
    names = ("PixelSpacing", "ImagerPixelSpacing")
    return _values(
        {f"{name}[{i}]": value for name in names for i, value in enumerate(header.get(name) or [])}
    )


def _values(found: Mapping[str, Any]) -> Grid:
    """Return numbers as floats, also those that are text, and all else as text."""
    values: dict[str, float | str] = {}
    for name, value in found.items():
        try:
            values[name] = float(value)
        except (TypeError, ValueError):
            values[name] = str(value).strip()
    return values
