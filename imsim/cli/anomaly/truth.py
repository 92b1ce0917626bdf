"""What is known of bad images: the kind and size of each defect, and where it is."""

from __future__ import annotations

import csv
import os
from itertools import groupby

import numpy as np

from imsim._images import Array, ImageFile, ImageFileError, Reading, file_of, without_index
from imsim.cli.messages import say
from imsim.cli.pairing import Folder
from imsim.cli.reading import mask_of


def defect_masks(path: str, bad: str, names: list[str], size: tuple[int, ...]) -> Array:
    """Read the mask of each bad image.

    Parameters
    ----------
    path : str
        A folder of masks, or a file with as many as the file `bad`.
    bad : str
        The folder or file of the bad images.
    names : list of str
        The images in it that are used.
    size : tuple of int
        Their height and width.

    Returns
    -------
    numpy.ndarray of bool, shape (n, height, width)
        True where the defect is.

    Raises
    ------
    ImageFileError
        If a mask is missing, ambiguous, empty, of another size, or holds more than two values; if a
        file does not hold as many masks as that of the images has images.
    """
    folder = Folder(path, []) if os.path.isdir(path) else None
    if folder is None and os.path.isdir(bad):
        raise ImageFileError(
            f"{path}: is no folder, but {bad} is one; name the folder with a mask for each image"
        )
    places = [path if folder is None else _partner(folder, bad, name) for name in names]
    if folder is not None and (unused := {*map(folder.path, folder.names)} - {*places}):
        say(f"note: masks of none of the bad images: {len(unused)}, e.g. {min(unused)}")
    masks = np.zeros((len(names), *size), dtype=np.bool_)
    reading = Reading(grey=True)
    for place, group in groupby(range(len(names)), key=places.__getitem__):
        members = [*group]
        with ImageFile(place, reading) as file:
            _check_number(file, names[members[0]])
            for i in members:
                masks[i] = _mask(file, names[i], size)
    return masks


def _check_number(file: ImageFile, name: str) -> None:
    """Refuse a file that has not as many masks as the file of an image has images."""
    images, index = without_index(name)
    if not index and len(file) == 1:
        return
    with ImageFile(images) as other:
        count = len(other)
    if count != len(file):
        raise ImageFileError(
            f"{file.path}: the number of masks is {len(file)}, that of the images in {images} "
            f"{count}; each image needs its own mask"
        )


def _mask(file: ImageFile, name: str, size: tuple[int, ...]) -> Array:
    """Read the mask of an image out of a file, which may hold those of others too."""
    mask = mask_of(file.read(without_index(name)[1] or 0))
    if mask.pixels.shape != size:
        height, width = mask.pixels.shape
        raise ImageFileError(
            f"{mask.picture.path}: the mask is {width} x {height} pixels, but {name} is "
            f"{size[1]} x {size[0]}; they must have the same size"
        )
    if not mask.pixels.any():
        raise ImageFileError(
            f"{mask.picture.path}: marks no pixel, but {name} is among the bad images; mark its "
            "defect, or leave the image out"
        )
    found: Array = mask.pixels
    return found


def _partner(folder: Folder, bad: str, name: str) -> str:
    """Return the mask of an image: of its name, with any ending, or with ``_mask`` behind."""
    file = file_of(name)
    inside = os.path.relpath(file, bad) if os.path.isdir(bad) else os.path.basename(file)
    stem, ending = os.path.splitext(inside)
    found = folder.partners(inside) or folder.partners(f"{stem}_mask{ending}")
    if len(found) == 1:
        return folder.path(found[0])
    if found:
        raise ImageFileError(
            f"{folder.root}: has more than one mask of {name}: {', '.join(found)}; keep one of them"
        )
    raise ImageFileError(
        f"{folder.root}: has no mask of {name}; expected {inside} or {stem}_mask, with any ending"
    )


def kinds_and_sizes(path: str, names: list[str], labels: Array) -> tuple[list[str], list[float]]:
    """Read the kind and the size of each anomaly from a file like that of the simulation."""
    folder = os.path.dirname(path)
    rows: dict[str, tuple[str, float]] = {}
    try:
        # Excel writes the mark of UTF-8 in front.
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            for row in csv.DictReader(file):
                name = os.path.normpath(os.path.join(folder, row["file"]))
                found = row["kind"], _size(row["size"], row["file"])
                if str(rows.setdefault(name, found)) != str(found):  # NaN is no other size
                    raise ImageFileError(
                        f"has {row['file']} twice, of different kinds or sizes; name one of them"
                    )
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read: {error.strerror}") from error
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error
    except (KeyError, TypeError, csv.Error) as error:
        raise ImageFileError(
            f"{path}: expected a CSV file with the columns file, kind and size, separated by commas"
        ) from error
    known = [rows.get(os.path.normpath(name), ("good", np.nan)) for name in names]
    for name, (_, size), is_bad in zip(names, known, labels, strict=True):
        if is_bad and np.isnan(size):
            raise ImageFileError(f"{path}: has no kind and size of {name}")
    return [kind for kind, _ in known], [size for _, size in known]


def _size(text: str, file: str) -> float:
    try:
        return float(text or "nan")
    except ValueError as error:
        raise ImageFileError(f"the size of {file}, {text!r}, is not a number") from error
