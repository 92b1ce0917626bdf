"""Whether two images, their mask and their labels lie at one place on the ground."""

from __future__ import annotations

from collections.abc import Iterable

from imsim._images import ImageFileError, Picture
from imsim._images.places import difference


def check_places(
    reference: Picture, test: Picture, others: Iterable[Picture], *, ignore: bool
) -> list[tuple[str, str]]:
    """Compare what files tell of their place on the ground, and return notes.

    If they tell different places, and that is not to be ignored, the scores would be those of
    different things.
    """
    notes = []
    for other in (test, *others):
        problem = difference(reference.place, other.place, reference.sides)
        if not problem:
            continue
        if not ignore:
            raise ImageFileError(
                f"{other.path}: {problem} ({reference.path})",
                "warp one of them to the grid of the other; --ignore-georeference compares the "
                "pixels as they are stored",
            )
        said = f"{problem} ({reference.path}); pixels of the same row and column are compared"
        notes.append((other.path, said))
    known = [picture for picture in (reference, test) if picture.place is not None]
    if len(known) == 1:
        other = test if known[0] is reference else reference
        notes.append(
            (
                other.path,
                f"does not tell its place on the ground, as {known[0].path} does; pixels of the "
                "same row and column are compared",
            )
        )
    return notes
