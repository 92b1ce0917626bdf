"""Which file is compared with which: one reference with many, or folders by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from imsim._images import ImageFileError
from imsim.cli.folders import NO_IMAGE, Folder


class FilePair(NamedTuple):
    """Two files to compare, each of one image or many."""

    reference: str
    test: str
    mask: str | None
    name: str
    """Of the row on the terminal: the test file, within its folder if that is the only test."""
    stem: str
    """Of the maps: the name without its ending."""


class Failure(NamedTuple):
    """A pair that could not be scored, or whatever else a run was to look at and did not."""

    message: str
    reference: str | None = None
    test: str | None = None


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


def pair_files(reference: str, tests: Sequence[str], mask: str | None) -> Pairing:
    """Match files with their reference and their mask.

    In two folders, those files belong together that have the same path below the folder, or
    else the same path but for the ending. A name that fits several files ends in `failed`.

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
        If there is nothing to compare, or a folder is to be compared with a file.
    """
    found = Pairing(
        pairs=[],
        reference=None if os.path.isdir(reference) else reference,
        mask=None if mask is None or os.path.isdir(mask) else mask,
        tests=[test for test in tests if not os.path.isdir(test)],
        folders=any(map(os.path.isdir, [reference, *tests])),
        unmatched=[],
        failed=[],
        left_aside=[],
        odd=[],
        inputs=[reference, *tests, *([mask] if mask else [])],
    )
    references = None if found.reference else _folder(reference, found)
    masks = None if mask is None or found.mask else _folder(mask, found)
    if references and found.tests:
        file = found.tests[0]
        if not os.path.exists(file):
            raise ImageFileError(
                f"{file}: cannot be read: there is no such folder; the reference {reference} is one"
            )
        raise ImageFileError(
            f"{file}: is not a folder, but the reference {reference} is; give two folders, "
            "or a reference file"
        )
    empty: list[Failure] = []
    for test in tests:
        folder = None if test in found.tests else _folder(test, found)
        if folder and not folder.names:
            empty.append(Failure(f"{test}: {NO_IMAGE}", None, test))
        used: set[str] = set()
        for name in folder.names if folder else [os.path.basename(test)]:
            path = folder.path(name) if folder else test
            partners = references.partners(name) if references else [reference]
            used.update(partners)
            if not partners:
                found.unmatched.append(
                    Failure(f"{path}: has no partner in {reference}", None, path)
                )
                continue
            partner = references.path(partners[0]) if references else reference
            own_masks = masks.partners(name) if masks else [mask]
            if len(partners) > 1:
                why = _several("partner", partners, reference)
            elif len(own_masks) > 1:
                why = _several("mask", own_masks, mask)
            elif not own_masks:
                why = f"has no mask in {mask}"
            else:
                own_mask = masks.path(str(own_masks[0])) if masks else mask
                stem = os.path.splitext(name)[0]
                shown = name if folder and len(tests) == 1 else path
                found.pairs.append(FilePair(partner, path, own_mask, shown, stem))
                continue
            one = partner if len(partners) == 1 else None
            found.failed.append(Failure(f"{path}: {why}", one, path))
        if references:
            left = [references.path(name) for name in references.names if name not in used]
            found.unmatched.extend(
                Failure(f"{path}: has no partner in {test}", path, None) for path in left
            )
    if not (found.pairs or found.failed):
        raise ImageFileError(_nothing(reference, references, tests, found))
    found.failed.extend(empty)
    return found


def _folder(path: str, found: Pairing) -> Folder:
    folder = Folder(path, found.left_aside)
    found.odd.extend(folder.odd)
    found.failed.extend(Failure(f"{place}: {reason}") for place, reason in folder.unread)
    found.inputs.extend(folder.linked)
    return folder


def _several(what: str, names: Sequence[str | None], place: str | None) -> str:
    return f"has more than one {what} in {place}: {', '.join(map(str, names))}; keep one of them"


def _nothing(
    reference: str,
    references: Folder | None,
    tests: Sequence[str],
    found: Pairing,
) -> str:
    where = ", ".join(tests)
    if references is not None and not references.names:
        return f"{reference}: {NO_IMAGE}"
    if found.unmatched:
        return (
            f"{where}: no image has the name of one in {reference}; "
            "files are matched by their names without the ending"
        )
    return f"{where}: {NO_IMAGE}"
