"""Volumes: images of a stack, or slices of a DICOM series, one behind the other, and their values.

Slices are ordered by their positions along the normal of their planes, and their distance is that
of these positions. SliceThickness tells how much a slice sums up, and the numbers of instances how
they were stored: neither tells where slices are.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from imsim._images.metadata import Space, rounded
from imsim._images.pictures import Array, Contents, ImageFileError, Pages
from imsim._images.reading import Reading

_FITS = (".fits", ".fit", ".fts")
FITS_EXTENSIONS = (
    *_FITS,
    *(ending + packed for packed in (".fz", ".gz") for ending in _FITS),
    ".fz",
)
VOLUME_EXTENSIONS = (".tif", ".tiff", ".npy", ".npz", ".nii", ".nii.gz", *FITS_EXTENSIONS)
"""Extensions of files that are taken from a folder as volumes; the content tells the format."""
ADD_VOLUME = "compare it as one: --volume"


def as_volume(pages: Pages, reading: Reading) -> Pages:
    """Take the images of a file, along one axis, as the slices of one volume."""
    lengths = [length for length in pages.counting if length > 1]
    if len(lengths) > 1:
        pages.close()
        raise ImageFileError(
            f"counts images along {len(lengths)} axes, of lengths "
            f"{' and '.join(map(str, lengths))}",
            "a volume has one, its depth: save each volume in a file of its own",
        )
    if pages.number < 2:
        pages.close()
        raise ImageFileError(
            "holds one image, and no volume",
            "--volume takes TIFF files of several pages and arrays (depth, height, width)",
        )
    return Pages(1, lambda _: _stack(pages, reading), pages.close)


def _stack(pages: Pages, reading: Reading) -> Contents:
    first = pages.read(0)
    height, width, *channels = first.pixels.shape
    kind = first.pixels.dtype
    reading.check_size((pages.number, height, width), kind.itemsize, *channels)
    pixels = np.empty((pages.number, *first.pixels.shape), kind)
    notes: dict[str, None] = {}
    valid: Array | None = None
    transparent, turned = False, ""
    for index in range(pages.number):
        part = pages.read(index) if index else first
        if part.pixels.shape != first.pixels.shape or part.pixels.dtype != kind:
            raise ImageFileError(
                f"its image {index} has shape {part.pixels.shape} and type {part.pixels.dtype}, "
                f"but the first {first.pixels.shape} and {kind}",
                "the slices of a volume are of one size and type",
            )
        pixels[index] = part.pixels
        notes.update(dict.fromkeys(part.notes))
        transparent, turned = transparent or part.transparent, turned or part.turned
        if part.valid is not None:
            valid = np.ones(pixels.shape[:3], bool) if valid is None else valid
            valid[index] = part.valid
    found = first._replace(pixels=pixels, notes=tuple(notes), valid=valid, ndim=3, place=None)
    return found._replace(transparent=transparent, turned=turned)


def rescaled_type(
    kind: np.dtype[np.generic],
    slope: float,
    intercept: float,
    ends: tuple[int, int] | None = None,
) -> np.dtype[np.generic]:
    """Return the type of ``slope * stored + intercept``; whole numbers stay whole where they can.

    `ends` are the least and the largest whole number that can be stored; by default, those of the
    type. A slope that makes one number of all values, or of none, is damage.
    """
    if not (slope and math.isfinite(slope) and math.isfinite(intercept)):
        raise ImageFileError(
            f"damaged: its values would be {slope:g} x stored + {intercept:g}, as its header says",
            "correct the header; stored values stand for themselves with slope 1 and intercept 0",
        )
    if (slope, intercept) == (1, 0):
        return kind.newbyteorder("=")
    if kind.kind == "f":
        # What is added may be large, and leave few digits.
        return np.dtype(np.float32 if kind.itemsize <= 4 and not intercept else np.float64)
    own = np.iinfo(kind.name)
    is_whole = slope == int(slope) and intercept == int(intercept)
    if is_whole:
        slope, intercept = int(slope), int(intercept)
    values = [slope * end + intercept for end in ends or (own.min, own.max)]
    for bits in (16, 32, 64) if is_whole else ():
        limits = np.iinfo(f"i{bits // 8}")
        if limits.min <= min(values) and max(values) <= limits.max:
            return np.dtype(f"i{bits // 8}")
    # A float32 tells neighbours apart up to 2**24 times their distance.
    is_told = max(map(abs, values)) <= 2**24 * abs(slope)
    return np.dtype(np.float32 if is_told else np.float64)


def rescaled(stored: Array, slope: float, intercept: float, kind: np.dtype[np.generic]) -> Array:
    """Return ``slope * stored + intercept`` in a type of `rescaled_type`, or a wider one."""
    if (slope, intercept) == (1, 0):
        return stored.astype(kind, copy=False)
    if kind.kind == "i":
        return np.asarray(stored.astype(kind) * kind.type(slope) + kind.type(intercept))
    return (stored.astype(np.float64) * slope + intercept).astype(kind)


def scaling_notes(slope: float, intercept: float) -> list[str]:
    """Say what was done to the stored values, if anything was."""
    if (slope, intercept) == (1, 0):
        return []
    sign = "-" if intercept < 0 else "+"
    return [f"its values are {slope:g} x stored {sign} {abs(intercept):g}, as its header says"]


Headers = dict[str, Any]
"""The header of each file by its name."""

MOST_FRAMES = 10**5
SAME_PLANE = 1e-3
"""Largest difference of the cosines of slices that are parallel."""
UNEVEN = 0.1
"""Largest deviation of a distance of slices from the usual one, in that."""
DRIFT = 0.5
"""Largest shift of slices against each other within their planes, in pixels."""
_TO_RIGHT_FRONT_HEAD = np.array([-1.0, -1.0, 1.0])
_ALIKE = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation")
ONE_SERIES = "keep one series in a folder"


class Frame(NamedTuple):
    """A slice, and what the header tells of it."""

    file: str
    number: int
    """Of the frame in the file, counted from 0."""
    position: Array | None
    """The middle of its first pixel, in mm."""
    axes: Array | None
    """Shape (2, 3): the unit vectors along its rows and its columns."""
    spacing: tuple[float, float] | None
    """The distances of rows and of columns, in mm."""
    slope: float
    intercept: float

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return self.file or f"frame {self.number}"


def check_alike(headers: Headers) -> None:
    """Refuse files that are no slices of one series."""
    series: dict[str, str] = {}
    for name, header in headers.items():
        series.setdefault(str(header.get("SeriesInstanceUID", "")), name)
    if len(series) > 1:
        raise ImageFileError(
            f"holds {len(series)} series, which begin with {', '.join(list(series.values())[:3])}",
            ONE_SERIES,
        )
    first, *others = headers.items()
    for name, header in others:
        for keyword in _ALIKE:
            one, other = (h.get(keyword) for h in (first[1], header))
            if one != other:
                raise ImageFileError(
                    f"{name}: its {keyword} is {other}, but that of {first[0]} is {one}",
                    f"the slices of a volume are of one size and kind; {ONE_SERIES}",
                )


def frames_of(file: str, header: Any) -> list[Frame]:
    """Return the frames of a file in the order they are stored in."""
    if header.get("ModalityLUTSequence"):
        raise ImageFileError(
            "its values go through a table (ModalityLUTSequence)", "save it with RescaleSlope"
        )
    number = int(header.get("NumberOfFrames") or 1)
    if not 1 <= number <= MOST_FRAMES:
        raise ImageFileError(f"damaged: it has {number} frames")
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    groups = header.get("PerFrameFunctionalGroupsSequence") or []
    if groups and len(groups) != number:
        raise ImageFileError(f"damaged: it describes {len(groups)} of its {number} frames")
    frames = []
    for index in range(number):
        holders = (groups[index] if groups else {}, shared)

        def value(sequence: str, keyword: str, holders: tuple[Any, ...] = holders) -> Any:
            for holder in holders:
                items = holder.get(sequence)
                if items and items[0].get(keyword) is not None:
                    return items[0].get(keyword)
            # What stands outside the groups holds for one frame.
            return header.get(keyword) if number == 1 or "Image" not in keyword else None

        position = value("PlanePositionSequence", "ImagePositionPatient")
        axes = value("PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = value("PixelMeasuresSequence", "PixelSpacing")
        scales = [
            value("PixelValueTransformationSequence", f"Rescale{part}")
            for part in ("Slope", "Intercept")
        ]
        slope, intercept = (
            d if v is None else float(v) for v, d in zip(scales, (1, 0), strict=True)
        )
        frames.append(
            Frame(
                file,
                index,
                _numbers(position, (3,), "ImagePositionPatient"),
                _axes(_numbers(axes, (2, 3), "ImageOrientationPatient")),
                _spacing(_numbers(spacing, (2,), "PixelSpacing")),
                float(slope),
                float(intercept),
            )
        )
    return frames


def _numbers(values: Any, shape: tuple[int, ...], keyword: str) -> Array | None:
    if values is None or len(values) == 0:
        return None
    numbers = np.array([float(value) for value in values])
    if numbers.size != np.prod(shape) or not np.isfinite(numbers).all():
        raise ImageFileError(f"damaged: its {keyword} is {list(values)}")
    return numbers.reshape(shape)


def _axes(axes: Array | None) -> Array | None:
    if axes is None:
        return None
    lengths = np.linalg.norm(axes, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(axes[0] @ axes[1]) > 0.01:
        raise ImageFileError(
            f"damaged: its ImageOrientationPatient {axes.ravel().tolist()} is no right angle"
        )
    result: Array = axes / lengths[:, None]
    return result


def _spacing(spacing: Array | None) -> tuple[float, float] | None:
    if spacing is None:
        return None
    if (spacing <= 0).any():
        raise ImageFileError(f"damaged: its PixelSpacing is {spacing.tolist()}")
    rows, columns = spacing.tolist()
    return rows, columns


def arranged(frames: list[Frame]) -> tuple[list[Frame], Space, list[str]]:
    """Return the slices in the order of their places, an even row, their geometry, and notes."""
    if len(frames) == 1:
        raise ImageFileError(
            "holds one slice, and no volume", "put all slices of the series into the folder"
        )
    lost = [frame for frame in frames if frame.position is None or frame.axes is None]
    if lost and not frames[0].file:
        note = "its frames have no positions; they are taken for slices in the order of the file"
        return frames, Space(), [note]
    if lost:
        raise ImageFileError(
            f"{lost[0].name}: has no ImagePositionPatient or ImageOrientationPatient, so that "
            "the order of the slices is not known",
            "convert the series to NIfTI or to an array (depth, height, width)",
        )
    planes = np.array([frame.axes for frame in frames])
    turned = np.flatnonzero(np.abs(planes - planes[0]).max(axis=(1, 2)) > SAME_PLANE)
    if turned.size:
        raise ImageFileError(
            f"{frames[turned[0]].name}: its plane is not parallel to that of {frames[0].name}",
            f"take out localisers; {ONE_SERIES}",
        )
    rows, columns = planes[0]
    normal = np.cross(rows, columns)
    positions = np.array([frame.position for frame in frames])
    order = np.argsort(positions @ normal, kind="stable")
    frames, positions = [frames[i] for i in order], positions[order]
    distance = _distance(frames, positions @ normal)
    spacings = {frame.spacing for frame in frames}
    notes = []
    if len(spacings) > 1:
        raise ImageFileError(f"its slices have {len(spacings)} values of PixelSpacing", ONE_SERIES)
    within = spacings.pop()
    _check_upright(frames, positions, normal, min(within or (1.0,)))
    spacing = None
    if within is None:
        notes.append("its slices have no PixelSpacing, so that the spacing is not known")
    else:
        spacing = rounded((distance, *within))
    directions = np.array([normal, columns, rows]) * _TO_RIGHT_FRONT_HEAD
    return frames, Space(spacing, directions, positions[0] * _TO_RIGHT_FRONT_HEAD), notes


def _distance(frames: list[Frame], heights: Array) -> float:
    """Return the distance of slices; refuse two at one place, and gaps."""
    steps = np.diff(heights)
    for (one, other), step in zip(pairwise(frames), steps, strict=True):
        if step <= SAME_PLANE * steps.max():
            raise ImageFileError(
                f"{one.name} and {other.name} lie at the same place",
                "keep one volume: one echo, phase or time",
            )
    usual = float(np.median(steps))
    worst = int(np.abs(steps - usual).argmax())
    if abs(steps[worst] - usual) > UNEVEN * usual:
        raise ImageFileError(
            f"{frames[worst].name} and {frames[worst + 1].name} are {steps[worst]:g} mm apart, "
            f"but most slices {usual:g} mm",
            "add what is missing, or resample the series to even distances",
        )
    return float(heights[-1] - heights[0]) / len(steps)


def _check_upright(frames: list[Frame], positions: Array, normal: Array, pixel: float) -> None:
    """Refuse slices that are shifted against each other, as by a tilted gantry."""
    offsets = positions - positions[0]
    offsets -= np.outer(offsets @ normal, normal)
    drift = np.linalg.norm(offsets, axis=1)
    worst = int(drift.argmax())
    if drift[worst] > DRIFT * pixel:
        raise ImageFileError(
            f"{frames[worst].name} is shifted by {drift[worst]:.3g} mm against {frames[0].name} "
            "within its plane, as with a tilted gantry",
            "resample the series to a grid of right angles",
        )
