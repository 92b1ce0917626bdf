"""What files tell of colours and of the size and place of pixels, which pixels do not show.

Nothing is moved, resampled or converted by it: whether two images differ in it is said.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_TABLE = 128
"""Where the table of tags begins, behind the header."""
_WORDS = {b"desc", b"cprt", b"dmnd", b"dmdd", b"vued", b"tech", b"targ", b"meta"}
"""Tags that do not say which colours are meant."""


_CURVES = {b"rTRC", b"gTRC", b"bTRC", b"kTRC"}


class Profile(NamedTuple):
    """What a profile is called, and what says which colours are meant."""

    name: str
    colours: frozenset[tuple[bytes, bytes]]
    """The other tags, with their content."""

    @property
    def is_srgb(self) -> bool:
        """Whether it is one of the many profiles of sRGB, as images without a profile are taken."""
        return "srgb" in self.name.lower() and not any(
            kind in _CURVES and _is_gamma_1(body) for kind, body in self.colours
        )


def profile_of(content: bytes | None) -> Profile | None:
    """Return the profile that a file embeds; of a damaged one, what is there stands for colours."""
    if not content:
        return None
    tags: dict[bytes, bytes] = {}
    try:
        (count,) = struct.unpack_from(">I", content, _TABLE)
        for i in range(min(count, 256)):
            kind, start, size = struct.unpack_from(">4sII", content, _TABLE + 4 + 12 * i)
            tags[kind] = content[start : start + size]
        name = _text_of(tags.get(b"desc", b""))
    except (struct.error, UnicodeError):
        tags, name = {b"": content}, ""
    colours = frozenset((kind, body) for kind, body in tags.items() if kind not in _WORDS)
    return Profile(name or "without a name", colours)


def _is_gamma_1(curve: bytes) -> bool:
    """Tell whether a curve is a straight line: of no point, or a power of 1, in either version."""
    if curve[:4] == b"para":
        return curve[8:16] == b"\0\0\0\0\0\1\0\0"
    return curve[:12] == b"curv" + bytes(8) or curve[8:14] == b"\0\0\0\1\1\0"


def _text_of(tag: bytes) -> str:
    """Return the text of a tag, of either version of the format."""
    if tag[:4] == b"mluc":
        size, start = struct.unpack_from(">II", tag, 20)
        return tag[start : start + size].decode("utf-16-be").strip("\0 ")
    (size,) = struct.unpack_from(">I", tag, 8)
    return tag[12 : 12 + size].decode("latin-1").strip("\0 ")


def profile_difference(reference: Profile | None, test: Profile | None) -> str:
    """Say how two profiles differ, or "": the same colours, or sRGB in other words or in none."""
    plain = [profile is None or profile.is_srgb for profile in (reference, test)]
    if all(plain):
        return ""
    if reference and test and reference.colours == test.colours:
        return ""
    names = [f"{profile.name!r}" if profile else "none" for profile in (test, reference)]
    return "its colour profile is {}, and that of the reference {}".format(*names)


Grid = Mapping[str, float | str]
"""What each keyword or attribute says."""

_SAME = 1e-6
"""Relative difference of numbers that are taken for equal."""
_OF_FITS = re.compile(r"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)[1-3]|(CD|PC)[1-3]_[1-3]|EQUINOX")
_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_SIZES = re.compile(r"\b(PhysicalSize[XYZ](?:Unit)?)=\"([^\"]*)\"")


def grid_difference(reference: Grid | None, test: Grid | None) -> str:
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
