"""From two image files to pixels that can be compared, and what there is to say about them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from imsim._images import Array, ImageFileError, Picture, as_mask, sized, widened, without_index
from imsim._images.metadata import (
    Space,
    difference,
    grid_difference,
    profile_difference,
    same_spacing,
    shift,
    turned_axes,
)
from imsim._images.pictures import packed
from imsim._images.raster import is_raster, mask_on_disk
from imsim.errors import OptionError
from imsim.finite import broken_pixels, in_another_unit, value_ends
from imsim.tables import number as written

_UPSIDE = (
    "of this image and {}, one is FITS, whose first row is its bottom one; rows are compared in "
    "the order of the files"
)

_UNITS = (
    "its values are in units of {!r}, and those of the reference of {!r}; they are compared as "
    "stored, so convert one if these are two units"
)
_REMEDY = "--ignore-nan leaves out NaN, and --ignore-value inf infinity"


Files = tuple[Picture, Picture, Picture | None, Picture | None]
"""Reference, test, mask and labels of a pair."""


def mask_of(picture: Picture) -> Picture:
    """Return a picture of the mask that a picture holds; it may stay on the disk."""
    pixels: Any = mask_on_disk(picture) if is_raster(picture.pixels) else as_mask(picture)
    return picture._replace(pixels=pixels, valid=None)


def check_size(picture: Picture, reference: Picture, said: str) -> None:
    """Refuse a mask or labels, as it is said, of another size than the reference."""
    if picture.pixels.shape != reference.sides:
        raise ImageFileError(
            f"{picture.path}: the {said} {sized(picture.pixels.shape)}, but {reference.path} "
            f"is {reference}; they must have the same size"
        )


LABELS_HELP = """\
With --labels, a row is about one label of a pair: it has also "label",
"pixels", and in "bbox-0" to "bbox-3" (JSON: "bbox") the first row and column,
and the row and column after the last ones; of volumes, in "bbox-0" to
"bbox-5", with the planes before these. A region of which nothing is left has 0
pixels and NaN.
"""


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add the option of a label image."""
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="score each region of a label image by itself: a row per label. Labels are whole "
        "numbers, in any format that keeps them, such as PNG, TIFF, .npy or NIfTI, grey or with a "
        "palette; 0 is background. One image for all pairs, or a stack with one for each image",
    )


def check_labels(arguments: argparse.Namespace) -> None:
    """Refuse options that go on with, or draw, whole images."""
    for option in ("resume", "maps", "option"):
        if arguments.labels is not None and getattr(arguments, option):
            raise OptionError(
                f"--{option}: is for whole images, and --labels has a row for each region",
                f"leave out --{option}, or --labels",
            )


def labels_of(labels: Picture, reference: Picture, used: Array | None) -> tuple[Array, Array]:
    """Return labels, 0 where a pixel is left out, and those then gone; a slice may have none."""
    pixels = labels.pixels
    if pixels.ndim != len(reference.sides) or labels.transparent:
        raise _no_labels(labels, "transparent in parts" if labels.transparent else str(labels))
    check_size(labels, reference, "labels are")
    valid = labels.valid
    numbers = _whole(labels) if pixels.dtype.kind == "f" else pixels
    numbers = numbers.astype(np.uint8) if numbers.dtype.kind == "b" else numbers
    background = numbers.dtype.type(0)
    if valid is not None:
        numbers = np.where(valid, numbers, background)
    if not numbers.any() and without_index(labels.path)[1] is None:
        raise ImageFileError(f"{labels.path}: {NO_LABEL}")
    gone = numbers[:0].ravel()
    if used is not None:
        left = np.where(used, numbers, background)
        gone = np.setdiff1d(numbers[~used], np.append(left, background))
        numbers = left
    return numbers, gone


NO_LABEL = "holds no label; 0 is background, or left out"
_EXACT = 2**53
"""Up to which float64 holds every whole number."""


def _whole(labels: Picture) -> Array:
    """Return labels that are stored as floats, as medical formats and networks have them."""
    pixels = labels.pixels if labels.valid is None else np.where(labels.valid, labels.pixels, 0)
    with np.errstate(invalid="ignore"):
        broken = ~(np.abs(pixels) <= _EXACT) | (pixels != np.trunc(pixels))
    if broken.any():
        raise _no_labels(labels, f"{labels}, with the value {pixels[broken][0]:.6g}")
    return np.asarray(pixels.astype(np.int64))


def _no_labels(labels: Picture, what: str) -> ImageFileError:
    return ImageFileError(
        f"{labels.path}: is {what}, but labels are one whole number a pixel",
        "save the numbers as grey PNG or TIFF of 8, 16 or 32 bits, as PNG or TIFF with a "
        "palette, or as .npy or NIfTI",
    )


def comparable(reference: Picture, test: Picture) -> tuple[Picture, Picture]:
    """Widen one picture to the type of the other where that loses nothing.

    A note tells whether their colour profiles, their units, or the size and place of their pixels
    differ, which are not applied. If they still differ in size or type, or their numbers stand for
    values in another way, that is an error instead of a misleading score.
    """
    if reference.packing != test.packing:
        own, other = packed(test.packing), packed(reference.packing)
        raise ImageFileError(
            f"{test.path}: its values are {own}, but those of {reference.path} {other}, as they "
            "say (scale_factor, add_offset); stored numbers do not compare",
            "unpack both: save the values as floats",
        )
    reference, test = widened(reference, test)
    notes = []
    if said := profile_difference(reference.profile, test.profile):
        notes.append(f"{said}; the pixels are compared as stored")
    if said := grid_difference(reference.grid, test.grid):
        notes.append(f"{said}; they are compared one by one")
    if reference.unit and test.unit and reference.unit != test.unit:
        notes.append(_UNITS.format(test.unit, reference.unit))
    if reference.from_bottom != test.from_bottom:
        notes.append(_UPSIDE.format(reference.path))
    test = test._replace(notes=(*test.notes, *notes))
    a, b = reference.pixels, test.pixels
    if a.shape == b.shape and a.dtype == b.dtype:
        return reference, test
    if reference.sides != test.sides:
        raise SizeError(reference, test)
    if a.shape != b.shape:
        remedy = "convert one of them, so that both are grey or both have the same channels"
    elif a.dtype.kind == b.dtype.kind:
        remedy = "save both with the same number of bits"
    else:
        remedy = "save both as one type of numbers"
    # Of one size, which need not be that of the files.
    said = f"{test.path}: is {test.kind}, but {reference.path} is {reference.kind}"
    raise ImageFileError(said, remedy)


class SizeError(ImageFileError):
    """Two images of different sizes; `sizes` says which."""

    def __init__(self, reference: Picture, test: Picture) -> None:
        remedy = "crop or resample one of them, or see --on-size-mismatch"
        super().__init__(
            f"{test.path}: is {test}, but {reference.path} is {reference}",
            remedy + _turned(reference, test),
        )
        self.sizes = f"size {short_size(test.sides)} against {short_size(reference.sides)}"


def short_size(sides: tuple[int, ...]) -> str:
    """Say the sides of an image or a volume, width first: ``512x512``."""
    return "x".join(map(str, reversed(sides)))


def _turned(*pictures: Picture) -> str:
    """Say which of two pictures of other sizes may lie on its side."""
    (*depth, height, width), size = (picture.sides for picture in pictures)
    tagged = [picture for picture in pictures if picture.turned]
    if (*depth, width, height) != size or not tagged:
        return ""
    paths = " and ".join(picture.path for picture in tagged)
    other = "obey" if tagged[0].turned == "ignored" else "ignore"
    return (
        f". Height and width are exchanged: the cause is likely the orientation tag of {paths}, "
        f"which is {tagged[0].turned}; --orientation {other} does otherwise"
    )


def option_notes(
    reference: Picture,
    test: Picture,
    mask: Picture | None,
    used: Array | None,
    data_range: float | None,
) -> list[tuple[str, str]]:
    """Say of which image or mask the data range, the mask or its rows make little sense."""
    said = upside_notes(reference, mask)
    in_mask = mask is None or bool(mask.pixels.any())
    if note := emptied(test, mask, in_mask=in_mask, is_used=used is None or bool(used.any())):
        return [*said, note]
    if data_range is None:
        return said
    inside = used if used is None else used[..., None]
    return said + range_notes(
        test, *value_ends(reference.samples, test.samples, inside), data_range
    )


def upside_notes(reference: Picture, mask: Picture | None) -> list[tuple[str, str]]:
    """Say whether the mask has its first row at the other end."""
    if mask is None or mask.from_bottom == reference.from_bottom:
        return []
    return [(mask.path, _UPSIDE.format(reference.path))]


def range_notes(
    test: Picture, low: float, high: float, data_range: float | None
) -> list[tuple[str, str]]:
    """Say whether the values of two images, which go from `low` to `high`, go beyond the range."""
    if data_range is None or high - low <= data_range * (1 + 1e-6):  # the rounding of floats
        return []
    said = f"pixels span more than --data-range {written(data_range)}, from {_span(low, high)}"
    if in_another_unit(low, high, data_range):
        said += "; that is beyond it by more than the range itself: is it in another unit?"
    return [(test.path, said)]


def _span(low: float, high: float) -> str:
    """Write two values with as many digits as they have, or as tell one from the other."""
    if isinstance(low, int) or written(low) == written(high):
        return f"{low} to {high}"
    return f"{written(low)} to {written(high)}"


def broken_counts(reference: Picture, test: Picture, used: Array | None) -> list[int]:
    """Count the pixels of each image that are NaN or infinite, where they are used."""
    broken = (broken_pixels(picture.samples) for picture in (reference, test))
    return [int(np.count_nonzero(one if used is None else one & used)) for one in broken]


def emptied(
    test: Picture, mask: Picture | None, *, in_mask: bool, is_used: bool
) -> tuple[str, str] | None:
    """Say which file it is if the mask, or all that is left out, leaves no pixel."""
    if mask and not in_mask:
        return mask.path, "this mask leaves out every pixel, so that the scores are NaN"
    if not is_used:
        return test.path, "every pixel is left out, so that the scores are NaN"
    return None


def unknown_notes(
    names: Iterable[str], reference: Picture, test: Picture, used: Array | None
) -> list[tuple[str, str]]:
    """Say how many pixels count as different since they are NaN or infinite."""
    so = f"; NaN differs from everything, in {', '.join(names)}"
    return _on_broken(reference, test, broken_counts(reference, test, used), so)


def _on_broken(
    reference: Picture, test: Picture, counts: Iterable[int], so: str
) -> list[tuple[str, str]]:
    return [
        (picture.path, f"{count} of its pixels are NaN or infinite{so}; {_REMEDY}")
        for picture, count in zip((reference, test), counts, strict=True)
        if count
    ]


def broken_notes(
    names: Iterable[str],
    reference: Picture,
    test: Picture,
    mask: Picture | None,
    is_masked: bool,
    counts: Iterable[int],
) -> list[tuple[str, str]]:
    """Say which scores are NaN, and how many pixels of both images are NaN or infinite."""
    where = "over the pixels that are left" if is_masked else "over all pixels"
    where = f"with the mask {mask.path}" if mask else where
    notes = _on_broken(reference, test, counts, ", so that the scores are NaN")
    return [(test.path, f"NaN {where}: {', '.join(names)}"), *notes]


Spacing = tuple[float, float, float]
VOLUMES_HELP = """\
Volumes: with --volume a stack is one volume, scored as a whole: a row for it
and not for each image. NIfTI (.nii, .nii.gz) and DICOM (a folder of slices, or
a file of frames) need `pip install 'imsim[medical]'`; their spacing counts in
millimetres, their slopes and intercepts are applied. Two volumes that lie
otherwise, or have another spacing, are refused: nothing is turned or resampled.
A mask is a volume too. Metrics that are not defined for volumes are skipped.
Rows then have the "spacing" that ssim, zncc and imed measured in, if any.
"""


def add_volumes(parser: argparse.ArgumentParser) -> None:
    """Add the options on volumes."""
    add = parser.add_argument
    add(
        "--volume",
        action="store_true",
        help="take each stack, NIfTI file or folder of DICOM slices as one volume",
    )
    add(
        "--spacing",
        metavar="dz,dy,dx",
        type=_spacing,
        help="distance of voxels along depth, height and width, in which the windows of ssim and "
        "zncc and the sigma of imed are measured; goes before what the files say, and 1,1,1 counts "
        "in voxels. What the files say of their place is then no error but a note",
    )


def _spacing(text: str) -> Spacing:
    try:
        depth, height, width = (float(number) for number in text.split(","))
        if all(math.isfinite(n) and n > 0 for n in (depth, height, width)):
            return depth, height, width
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not three positive numbers: depth,height,width")


def check_volumes(arguments: argparse.Namespace) -> None:
    """Refuse a spacing of images."""
    if arguments.spacing is not None and not arguments.volume:
        raise OptionError("--spacing: is for volumes; add --volume")


def placed(
    reference: Picture,
    test: Picture,
    others: Iterable[Picture],
    given: Spacing | None,
    *,
    ignore: bool,
) -> tuple[Spacing | None, list[tuple[str, str]]]:
    """Compare what files tell of their place: of images on the ground, of volumes in a patient.

    If they tell different places, and that is not to be ignored, the scores would be those of
    different things. Returns the spacing to score two volumes with, None to count in voxels, and
    notes.
    """
    is_volume = reference.ndim == 3
    option, said = "--spacing compares the voxels", "--spacing is used"
    if not is_volume:
        option = "--ignore-georeference compares the pixels"
        said = "pixels of the same row and column are compared"
    notes: list[tuple[str, str]] = []
    for other in (test, *others):
        if is_volume:
            problem, remedy = _difference(reference, other)
        else:
            problem = difference(reference.place, other.place, reference.sides)
            remedy = "warp one of them to the grid of the other"
        if problem and not (given if is_volume else ignore):
            raise ImageFileError(
                f"{other.path}: {problem} ({reference.path})",
                f"{remedy}; {option} as they are stored",
            )
        if problem:
            notes.append((other.path, f"{problem} ({reference.path}); {said}"))
        distance = shift(reference.space or Space(), other.space or Space())
        if distance is not None:
            begins = f"begins {distance:.3g} mm from where {reference.path} does; voxels of the "
            notes.append((other.path, f"{begins}same index are compared"))
    if given is not None:
        return given, notes
    known = [
        p for p in (reference, test) if (p.space and p.space.spacing if is_volume else p.place)
    ]
    space = known[0].space if is_volume and known else None
    if len(known) == 1:
        one, other = known[0], test if known[0] is reference else reference
        why = f"does not tell its place on the ground, as {one.path} does; {said}"
        if space is not None:
            why = f"has no spacing; that of {one.path} is used, {space}"
        notes.append((other.path, why))
    return space and space.spacing, notes


def _difference(one: Picture, other: Picture) -> tuple[str, str]:
    """Say how the second volume lies otherwise than the first, and what to do; empty if alike."""
    first, second = one.space or Space(), other.space or Space()
    turned = turned_axes(first, second)
    if turned:
        return (
            f"{', '.join(turned)}, as in the reference",
            "turn one of them to the axes of the other",
        )
    if first.spacing and second.spacing and not same_spacing(first, second):
        return f"its spacing is {second}, not {first} as in the reference", "resample one of them"
    return "", ""
