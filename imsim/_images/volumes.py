"""Volumes: the images of a stack, one behind the other, and what formats of volumes need."""

from __future__ import annotations

import math

import numpy as np

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
