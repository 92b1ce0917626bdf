"""What files tell beside the pixels: which colours are meant, how large pixels are, where they lie.

Nothing is moved, resampled or converted by it: whether two images differ in it is said.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from imsim.typing import Array

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


SAME_SPACING = 1e-3
"""Relative difference of spacings that are taken for equal; NIfTI stores them as float32."""
SAME_DIRECTION = np.cos(np.radians(1.0))
"""Cosine of the largest angle between axes that are taken for parallel."""
SAME_PLACE = 0.1
"""Largest distance of first voxels that are taken for one place, in the smallest spacing."""
AXES = ("depth", "height", "width")
_WAYS = (("left", "right"), ("back", "front"), ("feet", "head"))
"""Where x, y and z begin and end."""


class Space(NamedTuple):
    """The geometry that a file gives its volume; None for what it does not tell.

    Lengths are in millimetres. x goes to the right of the patient, y to the front, z to the head,
    as in NIfTI; DICOM has x and y the other way.
    """

    spacing: tuple[float, float, float] | None = None
    """Distance of voxels along depth, height and width."""
    directions: Array | None = None
    """Shape (3, 3): for depth, height and width, the unit vector along which the index grows."""
    origin: Array | None = None
    """The middle of the first voxel."""

    def __str__(self) -> str:
        """Describe the spacing, width first, as sizes are: ``0.7 x 0.7 x 3 mm``."""
        if self.spacing is None:
            return "unknown"
        return " x ".join(f"{length:g}" for length in reversed(self.spacing)) + " mm"


def rounded(lengths: tuple[float, ...] | Array) -> tuple[float, float, float]:
    """Return lengths with six digits: float32 has no more, and 0.7 is then 0.7."""
    depth, height, width = (float(f"{length:.6g}") for length in lengths)
    return depth, height, width


def same_spacing(one: Space, other: Space) -> bool:
    """Tell whether two spacings, both known, are equal."""
    return bool(np.allclose(one.spacing or (), other.spacing or (), rtol=SAME_SPACING, atol=0))


def turned_axes(one: Space, other: Space) -> list[str]:
    """Name the axes that go another way in the second volume; none if a way is unknown."""
    if one.directions is None or other.directions is None:
        return []
    cosines = (one.directions * other.directions).sum(axis=1)
    return [
        f"its {axis} goes {way_of(second)}, not {way_of(first)}"
        if way_of(first) != way_of(second)
        else f"its {axis} is turned by {np.degrees(np.arccos(np.clip(cosine, -1, 1))):.1f} degrees"
        for axis, first, second, cosine in zip(
            AXES, one.directions, other.directions, cosines, strict=True
        )
        if cosine < SAME_DIRECTION
    ]


def way_of(direction: Array) -> str:
    """Say where a direction leads: to the right, front or head, or away from there."""
    axis = int(np.abs(direction).argmax())
    return f"to the {_WAYS[axis][int(direction[axis] > 0)]}"


def shift(one: Space, other: Space) -> float | None:
    """Return the distance of the first voxels in mm; None if it is small or unknown."""
    if one.origin is None or other.origin is None:
        return None
    distance = float(np.linalg.norm(one.origin - other.origin))
    return None if distance <= SAME_PLACE * min(one.spacing or (1.0,)) else distance


SCALE, TIEPOINTS, TRANSFORM = 33550, 33922, 34264
KEYS, DOUBLES, TEXTS = 34735, 34736, 34737
TAGS = {SCALE: "d", TIEPOINTS: "d", TRANSFORM: "d", KEYS: "H", DOUBLES: "d", TEXTS: "s"}
"""The tags of GeoTIFF by their numbers, and the types of their values."""
NO_DATA = 42113
"""The tag of GDAL that names the value of pixels without data."""
EPSG = "EPSG"
_MODEL_TYPE, _RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1024, 1025, 2048, 3072
_CITATIONS = (1026, 2049, 3073, 4097)
_POINT, _GEOGRAPHIC_MODEL, _USER_DEFINED = 2, 2, 32767
_SAME_PLACE = 0.1
"""The part of a pixel by which two places may differ and be one; files round their coordinates."""

Affine = tuple[float, float, float, float, float, float]
"""x = a column + b row + c and y = d column + e row + f, of the corner of a pixel."""


class Georeference(NamedTuple):
    """What a file tells of the place of its pixels; empty fields are what it does not tell."""

    transform: Affine | None = None
    crs: tuple[str, Any] | None = None
    """How the reference system is told, and as what: an EPSG code, the keys of GeoTIFF, a name."""
    name: str = ""
    """Of the reference system, for people."""
    points: tuple[float, ...] = ()
    """Ground control points, where no transform tells the place."""
    tags: tuple[tuple[int, Any], ...] = ()
    """The tags of GeoTIFF as they are stored."""

    def extratags(self) -> list[tuple[int, str, int, Any, bool]]:
        """Return the tags for the writer of TIFF; they tell the same of a map of these pixels."""
        return [
            (code, TAGS[code], 0 if TAGS[code] == "s" else len(value), value, True)
            for code, value in self.tags
        ]


def of_tags(values: Mapping[int, Any]) -> Georeference | None:
    """Return what the tags of a TIFF page tell, None if nothing; a ValueError: they contradict."""
    found = {code: _plain(code, values[code]) for code in TAGS if values.get(code) is not None}
    if not found:
        return None
    keys = _keys(found)
    transform = _transform(found, is_point=keys.get(_RASTER_TYPE) == _POINT)
    points = tuple(found.get(TIEPOINTS, ())) if transform is None else ()
    return Georeference(transform, *_crs(keys), points, tuple(found.items()))


def difference(one: Georeference | None, other: Georeference | None, sides: Any) -> str:
    """Say how the second picture lies elsewhere than the first; empty if alike, or not told."""
    if one is None or other is None:
        return ""
    told = one.crs is not None and other.crs is not None and one.crs[0] == other.crs[0]
    if told and one.crs != other.crs:
        return f"its reference system is {other.name}, not {one.name}"
    if one.transform and other.transform:
        far = _distance(one.transform, other.transform, sides)
        if far > _SAME_PLACE:
            first, second = _size(one.transform), _size(other.transform)
            if not math.isclose(first, second, rel_tol=1e-6):
                return f"its pixels are {second:.6g} wide on the ground, not {first:.6g}"
            return f"it lies {far:.3g} pixels away on the ground"
    elif one.points and other.points and one.points != other.points:
        return "its ground control points are others"
    return ""


def _distance(one: Affine, other: Affine, sides: Any) -> float:
    """Return by how many pixels of the first picture the corners of two are apart, at most."""
    if one == other:
        return 0.0
    height, width = sides
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    first, second = (np.reshape(transform, (2, 3)) for transform in (one, other))
    if not abs(np.linalg.det(first[:, :2])) > 0:  # its pixels have no area
        return math.inf
    return float(np.hypot(*np.linalg.solve(first[:, :2], (second - first) @ corners)).max())


def _size(transform: Affine) -> float:
    return math.hypot(transform[0], transform[3])


def _plain(code: int, value: Any) -> Any:
    if TAGS[code] == "s":
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)
    values = value if isinstance(value, Sequence) or hasattr(value, "__iter__") else (value,)
    numbers = tuple(float(v) if TAGS[code] == "d" else int(v) for v in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"tag {code} holds what is not finite")
    return numbers


def _keys(found: Mapping[int, Any]) -> dict[int, Any]:
    """Read the directory of keys, whose values may lie in two other tags."""
    directory = found.get(KEYS, ())
    keys: dict[int, Any] = {}
    if not directory:
        return keys
    if len(directory) < 4 or len(directory) < 4 * (directory[3] + 1):
        raise ValueError("its directory of keys is cut off")
    for place in range(4, 4 * (directory[3] + 1), 4):
        key, home, count, value = directory[place : place + 4]
        if home == 0:
            keys[key] = value
            continue
        if home not in (DOUBLES, TEXTS) or value + count > len(found.get(home, ())):
            raise ValueError(f"key {key} has no value")
        part = found[home][value : value + count]
        keys[key] = part.rstrip("|\0") if home == TEXTS else part
    return keys


def _crs(keys: Mapping[int, Any]) -> tuple[tuple[str, Any] | None, str]:
    """Return what tells the reference system, and its name."""
    # A projected system is made of a geographic one, which need not be told.
    is_geographic = keys.get(_MODEL_TYPE) == _GEOGRAPHIC_MODEL
    code = keys.get(_GEOGRAPHIC if is_geographic else _PROJECTED)
    if isinstance(code, int) and 0 < code < _USER_DEFINED:
        return (EPSG, code), f"{EPSG}:{code}"
    # Citations are free text.
    rest = {key: v for key, v in keys.items() if key not in (*_CITATIONS, _RASTER_TYPE)}
    names = [keys[key] for key in _CITATIONS if isinstance(keys.get(key), str)]
    name = names[0] if names else "one without a name"
    return (("keys", tuple(sorted(rest.items()))) if rest else None), name


def _transform(found: Mapping[int, Any], *, is_point: bool) -> Affine | None:
    matrix, scale, ties = (found.get(code, ()) for code in (TRANSFORM, SCALE, TIEPOINTS))
    if len(matrix) == 16:
        a, b, _, c, d, e, _, f = matrix[:8]
    elif len(scale) >= 2 and len(ties) >= 6:
        column, row, _, x, y, _ = ties[:6]
        a, b, d, e = scale[0], 0.0, 0.0, -scale[1]
        c, f = x - a * column, y - e * row
    else:
        return None
    if is_point:  # the place of the middle of a pixel
        c, f = c - (a + b) / 2, f - (d + e) / 2
    return a, b, c, d, e, f


def of_attributes(attributes: Mapping[str, Any]) -> Georeference | None:
    """Return what the attributes of a grid mapping tell, as GDAL and rioxarray write them."""
    text = attributes.get("crs_wkt") or attributes.get("spatial_ref")
    crs, name = _of_wkt(text) if isinstance(text, str) else (None, "")
    transform: Affine | None = None
    numbers = attributes.get("GeoTransform")
    if isinstance(numbers, str):
        numbers = numbers.split()
    if isinstance(numbers, Sequence) and len(numbers) == 6:
        with suppress(TypeError, ValueError):
            c, a, b, f, d, e = map(float, numbers)
            transform = (a, b, c, d, e, f)
    return Georeference(transform, crs, name) if crs or transform else None


def _of_wkt(text: str) -> tuple[tuple[str, Any], str]:
    """Take the code at the end of a description in WKT, or the name that it begins with."""
    code = re.search(r'(?:AUTHORITY|ID)\["EPSG",\s*"?(\d+)"?\]\s*\]\s*$', text)
    if code:
        return (EPSG, int(code[1])), f"{EPSG}:{code[1]}"
    name = text.split('"')[1] if text.count('"') > 1 else text[:40]
    return ("name", name), name
