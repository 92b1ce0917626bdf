"""Which file is compared with which: one reference with many, or folders by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from imsim._images import EXTENSIONS, ImageFileError

NO_IMAGE = f"holds no image; these endings are looked for: {' '.join(EXTENSIONS)}"


class FilePair(NamedTuple):
    """Two files to compare, each of one image or many."""

    reference: str
    test: str
    mask: str | None
    name: str
    """Of the row on the terminal: the test file, within its folder if that is the only test."""
    stem: str
    """Of the maps: the name without its ending."""


class Pairing(NamedTuple):
    """The result of matching."""

    pairs: list[FilePair]
    reference: str | None
    """The file that is the reference of every pair, if there is one."""
    mask: str | None
    """The file that is the mask of every pair, if there is one."""
    tests: list[str]
    """The test files that were named themselves."""
    folders: bool
    """Whether any folder was named."""
    unmatched: list[str]
    """What is wrong with each file that has no partner."""
    without_mask: list[str]
    """What is wrong with each pair that has no mask in the folder of masks."""
    left_aside: list[str]
    """Files in the folders that are not images, by their endings."""


def pair_files(reference: str, tests: Sequence[str], mask: str | None) -> Pairing:
    """Match files with their reference and their mask.

    In two folders, those files belong together that have the same path below the folder, or
    else the same path but for the ending.

    Parameters
    ----------
    reference : str
        A file, which is that of every test, or a folder.
    tests : sequence of str
        Files or folders.
    mask : str, optional
        A file, which is that of every pair, or a folder.

    Returns
    -------
    Pairing
        Pairs in the order of `tests`, those of a folder by name.

    Raises
    ------
    ImageFileError
        If no pair is left, or a folder is to be compared with a file.
    """
    left_aside: list[str] = []
    references = Folder(reference, left_aside) if os.path.isdir(reference) else None
    masks = Folder(mask, left_aside) if mask is not None and os.path.isdir(mask) else None
    files = [test for test in tests if not os.path.isdir(test)]
    found = Pairing(
        pairs=[],
        reference=None if references else reference,
        mask=None if masks else mask,
        tests=files,
        folders=bool(references or len(files) < len(tests)),
        unmatched=[],
        without_mask=[],
        left_aside=left_aside,
    )
    if references and files:
        if not os.path.exists(files[0]):
            raise ImageFileError(
                f"{files[0]}: cannot be read: there is no such folder; the reference {reference} "
                "is one"
            )
        raise ImageFileError(
            f"{files[0]}: is not a folder, but the reference {reference} is; give two folders, "
            "or a reference file"
        )
    for test in tests:
        folder = None if test in files else Folder(test, left_aside)
        used = set()
        for name in folder.names if folder else [os.path.basename(test)]:
            path = folder.path(name) if folder else test
            partner, own_mask = found.reference, found.mask
            if references:
                match = references.partner(name)
                if match is None:
                    found.unmatched.append(f"{path}: has no partner in {reference}")
                    continue
                used.add(match)
                partner = references.path(match)
            if masks:
                match = masks.partner(name)
                if match is None:
                    found.without_mask.append(f"{path}: has no mask in {mask}")
                    continue
                own_mask = masks.path(match)
            stem = os.path.splitext(name)[0]
            shown = name if folder and len(tests) == 1 else path
            found.pairs.append(FilePair(str(partner), path, own_mask, shown, stem))
        if references:
            found.unmatched.extend(
                f"{references.path(name)}: has no partner in {test}"
                for name in references.names
                if name not in used
            )
    if not found.pairs:
        raise ImageFileError(_nothing(reference, references, tests, mask, found))
    return found


class Folder:
    """The images below a folder, sorted by their paths; hidden files and folders do not count.

    Parameters
    ----------
    root : str
        The folder.
    left_aside : list of str
        Gets the paths of the files that are no images by their endings.

    Raises
    ------
    ImageFileError
        If a folder cannot be read.
    """

    def __init__(self, root: str, left_aside: list[str]) -> None:
        self.root = root
        self.names: list[str] = []
        self._by_stem: dict[str, list[str]] = {}
        for place, folders, files in os.walk(root, onerror=_refuse):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            for file in files:
                if file.startswith("."):
                    continue
                path = os.path.join(place, file)
                if file.lower().endswith(EXTENSIONS):
                    self.names.append(os.path.relpath(path, root))
                else:
                    left_aside.append(path)
        self.names.sort(key=lambda name: name.split(os.sep))
        self._all = set(self.names)
        for name in self.names:
            self._by_stem.setdefault(os.path.splitext(name)[0], []).append(name)

    def path(self, name: str) -> str:
        """Return the whole path of a file."""
        return os.path.join(self.root, name)

    def partner(self, name: str) -> str | None:
        """Return the file of this name, or the only one that has it but for the ending."""
        if name in self._all:
            return name
        alike = self._by_stem.get(os.path.splitext(name)[0], [])
        if len(alike) > 1:
            raise ImageFileError(
                f"{name}: has more than one partner in {self.root}: {', '.join(alike)}; "
                "keep one of them"
            )
        return alike[0] if alike else None


def _refuse(error: OSError) -> None:
    raise ImageFileError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _nothing(
    reference: str,
    references: Folder | None,
    tests: Sequence[str],
    mask: str | None,
    found: Pairing,
) -> str:
    where = ", ".join(tests)
    if references is not None and not references.names:
        return f"{reference}: {NO_IMAGE}"
    if found.without_mask:
        return f"{mask}: has no mask for any image of {where}; masks are matched by name"
    if found.unmatched:
        return (
            f"{where}: no image has the name of one in {reference}; "
            "files are matched by their names without the ending"
        )
    return f"{where}: {NO_IMAGE}"
