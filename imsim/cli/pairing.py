"""Which file is compared with which: one reference with many, or folders by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from imsim._images import (
    ImageFileError,
    is_zarr,
)
from imsim.cli.folders import NO_IMAGE, NO_VOLUME, Folder, is_folder, stem_of


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
    unmatched: list[Failure]
    """The files that have no partner."""
    failed: list[Failure]
    """The pairs whose files are not certain, or missing, and folders that cannot be read."""
    left_aside: list[str]
    """Files in the folders that are not read, by their endings."""
    odd: list[str]
    """Pipes and devices in the folders that are called like images."""
    inputs: list[str]
    """All that is read: what was named, and the linked folders in the folders."""
    unmasked: Sequence[str] = ()
    """The test files without a mask of their own, where some may have none."""
    pairless: str = ""
    """Why there is no pair, if there is none and no failure says it."""
    idle_masks: Sequence[str] = ()
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
        pairs=[],
        reference=None if is_folder(reference, volumes) else reference,
        mask=None if mask is None or is_folder(mask, volumes) else mask,
        tests=[test for test in tests if not is_folder(test, volumes)],
        folders=any(is_folder(path, volumes) for path in [reference, *tests]),
        unmatched=[],
        failed=[],
        left_aside=[],
        odd=[],
        inputs=[reference, *tests, *([mask] if mask else [])],
    )
    references = None if found.reference else _folder(reference, found, volumes)
    masks = None if mask is None or found.mask else _folder(mask, found, volumes)
    if references and found.tests:
        raise _no_folder(found.tests[0], reference, volumes)
    matching = _Matching(found, (reference, references), (mask, masks), masks_may_miss)
    empty: list[Failure] = []
    for test in tests:
        folder = None if test in found.tests else _folder(test, found, volumes)
        if folder and not folder.names:
            empty.append(Failure(f"{test}: {NO_VOLUME if volumes else NO_IMAGE}", None, test))
        for name in folder.names if folder else [os.path.basename(os.path.normpath(test))]:
            path = folder.path(name) if folder else test
            matching.match(name, path, name if folder and len(tests) == 1 else path)
        matching.end_of(test, folder)
    if not (found.pairs or found.failed):
        nothing = NO_VOLUME if volumes else NO_IMAGE
        why = _nothing(reference, references, tests, found, nothing)
        if not (pairs_may_miss and found.unmatched):
            raise ImageFileError(why)
        found = found._replace(pairless="" if empty else why)
    found.failed.extend(empty)
    return found._replace(unmasked=matching.unmasked, idle_masks=matching.idle_masks())


class _Matching:
    """Matches the files of a run, one by one, with their references and masks.

    Each of these two is the path that was named, and the folder there if it is one.
    """

    def __init__(
        self,
        found: Pairing,
        reference: tuple[str, Folder | None],
        mask: tuple[str | None, Folder | None],
        masks_may_miss: bool,
    ) -> None:
        self._found = found
        self._reference, self._references = reference
        self._mask, self._masks = mask
        self._masks_may_miss = masks_may_miss
        self._used: set[str] = set()
        self._masking: set[str] = set()
        self.unmasked: list[str] = []

    def match(self, name: str, path: str, shown: str) -> None:
        """Note the pair of a test file, or why there is none."""
        folder, masks = self._references, self._masks
        partners = folder.partners(name) if folder else [self._reference]
        self._used.update(partners)
        if not partners:
            alone = _alone(path, name, self._reference, folder)
            self._found.unmatched.append(Failure(alone, None, path))
            return
        own_masks = masks.partners(name) if masks else [self._mask]
        self._masking.update(map(str, own_masks))
        partner = folder.path(partners[0]) if folder else self._reference
        if why := self._uncertain(partners, own_masks):
            one = partner if len(partners) == 1 else None
            self._found.failed.append(Failure(f"{path}: {why}", one, path))
            return
        mask = self._mask
        if masks:
            mask = masks.path(str(own_masks[0])) if own_masks else None
            self.unmasked += [] if own_masks else [path]
        stem = stem_of(name)
        if stem == name and not os.path.isdir(path):
            stem = os.path.splitext(name)[0]
        self._found.pairs.append(FilePair(partner, path, mask, shown, stem))

    def _uncertain(self, partners: Sequence[str], masks: Sequence[str | None]) -> str:
        """Say why it is not certain what belongs to a file."""
        if len(partners) > 1:
            return _several("partner", partners, self._reference)
        if len(masks) > 1:
            return _several("mask", masks, self._mask)
        return "" if masks or self._masks_may_miss else f"has no mask in {self._mask}"

    def end_of(self, test: str, folder: Folder | None) -> None:
        """Note the references that no file of a test folder belonged to."""
        if self._references:
            for name in self._references.names:
                if name not in self._used:
                    path = self._references.path(name)
                    alone = _alone(path, name, test, folder)
                    self._found.unmatched.append(Failure(alone, path))
        self._used = set()

    def idle_masks(self) -> list[str]:
        """Return the masks that are of none of the files."""
        masks = self._masks
        return [masks.path(n) for n in masks.names if n not in self._masking] if masks else []


def _no_folder(file: str, reference: str, volumes: bool) -> ImageFileError:
    """Say why a file cannot be compared with a folder."""
    if not os.path.exists(file):
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
    folder = Folder(path, found.left_aside, volumes=volumes)
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
