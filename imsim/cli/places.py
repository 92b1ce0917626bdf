"""Whether two images or volumes, their mask and labels lie at one place; options on volumes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable

from imsim._images import ImageFileError, Picture
from imsim._images.places import Space, difference, same_spacing, shift, turned_axes
from imsim.errors import OptionError

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
