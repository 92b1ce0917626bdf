"""What lies in folders of images, and which file is compared with which."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from imsim._images import (
    EXTENSIONS,
    STDIN,
    VOLUME_EXTENSIONS,
    ImageFile,
    ImageFileError,
    Reading,
    is_series,
    is_zarr,
)
from imsim.errors import ImsimError

NO_IMAGE = f"holds no image; these endings are looked for: {' '.join(EXTENSIONS)}"
NO_VOLUME = (
    "holds no volume; looked for are folders of DICOM files and the endings "
    f"{' '.join(VOLUME_EXTENSIONS)}"
)
Identity = tuple[int, int]
"""Device and inode: the same for all names of a folder."""


def is_folder(path: str, volumes: bool) -> bool:
    """Tell whether a path is a folder of images; one of Zarr is one, of DICOM files a volume."""
    return os.path.isdir(path) and not (is_zarr(path) or (volumes and is_series(path)))


class Folder:
    """The images below a folder, sorted by their paths; hidden files and folders do not count.

    Links to files and folders are followed, but for those that lead back to a folder that they lie
    in. With `volumes`, a folder of DICOM files is one.
    """

    def __init__(self, root: str, *, volumes: bool = False) -> None:
        self.root = root
        self._volumes = volumes
        self._endings = VOLUME_EXTENSIONS if volumes else EXTENSIONS
        self.names: list[str] = []
        self.linked: list[str] = []
        """The links to folders that were followed."""
        self.left_aside: list[str] = []
        """The files that are no images by their endings."""
        self.odd: list[str] = []
        """Pipes and devices that are called like images: reading one might never end."""
        self.unread: list[tuple[str, str]] = []
        """Each sub-folder that cannot be read, and why."""
        self._walk()
        self._by: list[dict[str, list[str]]] = [{} for _ in _WAYS]
        for name in self.names:
            for way, names in zip(_WAYS, self._by, strict=True):
                names.setdefault(way(name), []).append(name)

    def _walk(self) -> None:
        """Take the files of all folders, which may lie deeper in each other than calls may."""
        folders: list[tuple[str, frozenset[Identity]]] = [("", frozenset())]
        while folders:
            inside, above = folders.pop()
            place = os.path.join(self.root, inside) if inside else self.root
            try:
                above |= {_identity(place)}
                with os.scandir(place) as entries:
                    found = [entry for entry in entries if not entry.name.startswith(".")]
            except OSError as error:
                why = f"cannot be read: {error.strerror}"
                if not inside:
                    raise ImageFileError(why, image=place) from error
                self.unread.append((place, why))
                continue
            for entry in found:
                name = os.path.join(inside, entry.name)
                if os.path.isdir(entry.path):
                    if self._is_entered(entry, name, above):
                        folders.append((name, above))
                elif not entry.name.lower().endswith(self._endings):
                    if os.path.exists(entry.path):
                        self.left_aside.append(entry.path)
                    else:  # it may have been one to a folder of images
                        self.unread.append((entry.path, "is a link that leads nowhere"))
                elif os.path.isfile(entry.path) or not os.path.exists(entry.path):
                    self.names.append(name)  # a link to nothing is an image that cannot be read
                else:
                    self.odd.append(entry.path)
        for paths in (self.names, self.linked, self.left_aside, self.odd):
            paths.sort(key=lambda path: path.split(os.sep))
        self.unread.sort(key=lambda unread: unread[0].split(os.sep))

    def _is_entered(self, entry: os.DirEntry[str], name: str, above: frozenset[Identity]) -> bool:
        """Tell whether a folder is one of images, and no image itself, which is taken."""
        try:
            if is_zarr(entry.path) or (self._volumes and is_series(entry.path)):
                self.names.append(name)
                return False
            if _identity(entry.path) in above:
                return False  # all that lies there is taken already, or will be
            if entry.is_symlink():
                self.linked.append(entry.path)
        except OSError as error:
            self.unread.append((entry.path, f"cannot be read: {error.strerror}"))
            return False
        return True

    def path(self, name: str) -> str:
        """Return the whole path of a file."""
        return os.path.join(self.root, name)

    def partners(self, name: str) -> list[str]:
        """Return the files of this name, or else those that have it but for the ending.

        Of each kind, names of the same characters go before those that only look the same.
        """
        found = (names.get(way(name)) for way, names in zip(_WAYS, self._by, strict=True))
        return next((names for names in found if names), [])

    def in_another_case(self, name: str) -> list[str]:
        """Return the files of this name, but for the ending and for small and capital letters."""
        return self._in_any_case.get(_without_case(name), [])

    @cached_property
    def _in_any_case(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.names:
            found.setdefault(_without_case(name), []).append(name)
        return found


def composed(name: str) -> str:
    """Write accents in one of the two ways of Unicode; systems differ in which they use."""
    return unicodedata.normalize("NFC", name)


def stem_of(name: str) -> str:
    """Take off a known ending: the name of a folder of DICOM files may have points."""
    known = (*EXTENSIONS, *VOLUME_EXTENSIONS, ".zarr")
    endings = (e for e in known if name.lower().endswith(e))
    return name[: len(name) - len(next(endings, ""))]


def _without_case(name: str) -> str:
    return stem_of(composed(name)).casefold()


_WAYS: tuple[Callable[[str], str], ...] = (
    str,
    composed,
    stem_of,
    lambda name: stem_of(composed(name)),
)


def _identity(path: str) -> Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino


class FilePair(NamedTuple):
    """Two files to compare, each of one image or many."""

    reference: str
    test: str
    mask: str | None
    name: str
    """Of the row on the terminal: the test file, within its folder if that is the only test."""
    stem: str
    """Of the maps: the name without its ending."""

    @property
    def path(self) -> str:
        """The path of the test file below the folder that was named, without the ending."""
        return self.stem


class Failure(NamedTuple):
    """A pair that could not be scored, or whatever else a run was to look at and did not."""

    message: str
    reference: str | None = None
    test: str | None = None
    sizes: str = ""
    """Of a pair of different sizes, which."""


@dataclass
class Pairing:
    """The result of matching."""

    reference: str | None = None
    """The file that is the reference of every pair, if there is one."""
    mask: str | None = None
    """The file that is the mask of every pair, if there is one."""
    tests: list[str] = field(default_factory=list)
    """The test files that were named themselves."""
    folders: bool = False
    """Whether any folder was named."""
    inputs: list[str] = field(default_factory=list)
    """All that is read: what was named, and the linked folders in the folders."""
    pairs: list[FilePair] = field(default_factory=list)
    unmatched: list[Failure] = field(default_factory=list)
    """The files that have no partner."""
    failed: list[Failure] = field(default_factory=list)
    """The pairs whose files are not certain, or missing, and folders that cannot be read."""
    left_aside: list[str] = field(default_factory=list)
    """Files in the folders that are not read, by their endings."""
    odd: list[str] = field(default_factory=list)
    """Pipes and devices in the folders that are called like images."""
    unmasked: list[str] = field(default_factory=list)
    """The test files without a mask of their own, where some may have none."""
    pairless: str = ""
    """Why there is no pair, if there is none and no failure says it."""
    idle_masks: list[str] = field(default_factory=list)
    """The masks that are of none of the images."""


def pair_files(
    reference: str,
    tests: Sequence[str],
    mask: str | None,
    volumes: bool = False,
    *,
    masks_may_miss: bool = False,
    pairs_may_miss: bool = False,
) -> Pairing:
    """Match files with their reference and their mask.

    In two folders, those files belong together that have the same path below the folder, or else
    the same path but for the ending. A name that fits several files ends in `failed`. Pairs are in
    the order of `tests`, those of a folder by name.

    Where masks may miss, images without one in a folder of masks have none; else they fail. Where
    pairs may miss, files without any pair are a result, whose attribute `pairless` says why; else
    it is an error, as is a file that is to be compared with a folder.
    """
    found = Pairing(
        None if is_folder(reference, volumes) else reference,
        None if mask is None or is_folder(mask, volumes) else mask,
        [test for test in tests if not is_folder(test, volumes)],
        any(is_folder(path, volumes) for path in [reference, *tests]),
        [reference, *tests, *([mask] if mask else [])],
    )
    references = None if found.reference else _folder(reference, found, volumes)
    masks = None if mask is None or found.mask else _folder(mask, found, volumes)
    if references and found.tests:
        raise _no_folder(found.tests[0], reference, volumes)
    used: set[str] = set()
    masking: set[str] = set()

    def match(name: str, path: str, shown: str) -> None:
        """Note the pair of a test file, or why there is none."""
        partners = references.partners(name) if references else [reference]
        used.update(partners)
        if not partners:
            alone = _alone(path, name, reference, references)
            found.unmatched.append(Failure(alone, None, path))
            return
        own_masks = masks.partners(name) if masks else [mask]
        masking.update(map(str, own_masks))
        partner = references.path(partners[0]) if references else reference
        why = "" if own_masks or masks_may_miss else f"has no mask in {mask}"
        if len(partners) > 1:
            why = _several("partner", partners, reference)
        elif len(own_masks) > 1:
            why = _several("mask", own_masks, mask)
        if why:
            one = partner if len(partners) == 1 else None
            found.failed.append(Failure(f"{path}: {why}", one, path))
            return
        own_mask = mask
        if masks:
            own_mask = masks.path(str(own_masks[0])) if own_masks else None
            found.unmasked += [] if own_masks else [path]
        stem = stem_of(name)
        if stem == name and not os.path.isdir(path):
            stem = os.path.splitext(name)[0]
        found.pairs.append(FilePair(partner, path, own_mask, shown, stem))

    nothing = NO_VOLUME if volumes else NO_IMAGE
    empty: list[Failure] = []
    for test in tests:
        folder = None if test in found.tests else _folder(test, found, volumes)
        if folder and not folder.names:
            empty.append(Failure(f"{test}: {nothing}", None, test))
        for name in folder.names if folder else [os.path.basename(os.path.normpath(test))]:
            path = folder.path(name) if folder else test
            match(name, path, name if folder and len(tests) == 1 else path)
        for name in references.names if references else ():
            if references and name not in used:
                path = references.path(name)
                found.unmatched.append(Failure(_alone(path, name, test, folder), path))
        used.clear()
    if not (found.pairs or found.failed):
        why = _nothing(reference, references, tests, found, nothing)
        if not (pairs_may_miss and found.unmatched):
            raise ImageFileError(why)
        found.pairless = "" if empty else why
    found.failed.extend(empty)
    if masks:
        found.idle_masks = [masks.path(n) for n in masks.names if n not in masking]
    return found


def _no_folder(file: str, reference: str, volumes: bool) -> ImageFileError:
    """Say why a file cannot be compared with a folder."""
    if file != STDIN and not os.path.exists(file):
        why = f"cannot be read: there is no such folder; the reference {reference} is one"
    elif os.path.isdir(file):
        kind = "image, a folder of Zarr" if is_zarr(file) else "volume, a folder of DICOM files"
        why = (
            f"is one {kind}, but the reference {reference} is a folder of "
            f"{'volumes' if volumes else 'images'}; give two of a kind"
        )
    else:
        why = (
            f"is not a folder, but the reference {reference} is; give two folders, "
            "or a reference file"
        )
    return ImageFileError(f"{file}: {why}")


def _folder(path: str, found: Pairing, volumes: bool) -> Folder:
    folder = Folder(path, volumes=volumes)
    found.left_aside.extend(folder.left_aside)
    found.odd.extend(folder.odd)
    found.failed.extend(Failure(f"{place}: {reason}") for place, reason in folder.unread)
    found.inputs.extend(folder.linked)
    return folder


def _alone(path: str, name: str, place: str, folder: Folder | None) -> str:
    """Say that a file has no partner, and whether it is due to small and capital letters."""
    said = f"{path}: has no partner in {place}"
    others = folder.in_another_case(name) if folder else []
    return f"{said}; {others[0]} there is written in other letters" if others else said


def _several(what: str, names: Sequence[str | None], place: str | None) -> str:
    return f"has more than one {what} in {place}: {', '.join(map(str, names))}; keep one of them"


def _nothing(
    reference: str,
    references: Folder | None,
    tests: Sequence[str],
    found: Pairing,
    nothing: str,
) -> str:
    where = ", ".join(tests)
    if references is not None and not references.names:
        return f"{reference}: {nothing}"
    if found.unmatched:
        return (
            f"{where}: no image has the name of one in {reference}; "
            "files are matched by their names without the ending"
        )
    return f"{where}: {nothing}"


def contested_stems(pairs: Iterable[FilePair], reading: Reading) -> dict[str, str]:
    """Return the image that has the maps of a stem, where two images ask for it.

    Image 0 of a stack ``a`` asks for that of a file ``a_0``. Only files that may be such stacks
    are opened.
    """
    order = {pair.stem: place for place, pair in enumerate(pairs)}
    by_stem = {pair.stem: pair for pair in pairs}
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for stem, pair in by_stem.items():
        head, _, digits = stem.rpartition("_")
        if not (digits.isdecimal() and head in by_stem):
            continue
        for one in (head, stem):
            if one not in counts:
                counts[one] = number_of_images(by_stem[one].test, reading)
        number = counts[head]
        is_asked_for = number > 1 and int(digits) < number
        if is_asked_for and len(digits) == len(str(number - 1)) and counts[stem] == 1:
            first = min(stem, head, key=order.__getitem__)
            image = f"{by_stem[head].test}[{int(digits)}]"
            found[stem] = pair.test if first == stem else image
    return found


def number_of_images(path: str, reading: Reading) -> int:
    """Return how many images a file holds; of one that cannot be read, that is said later."""
    try:
        with ImageFile(path, reading) as file:
            return len(file)
    except ImsimError:
        return 1
