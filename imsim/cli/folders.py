"""Folders of images: what lies in them, and the files of a name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from functools import cached_property

from imsim._images import (
    EXTENSIONS,
    VOLUME_EXTENSIONS,
    ImageFileError,
    is_regular,
    is_series,
    is_zarr,
)

NO_IMAGE = f"holds no image; these endings are looked for: {' '.join(EXTENSIONS)}"
NO_VOLUME = (
    "holds no volume; looked for are folders of DICOM files and the endings "
    f"{' '.join(VOLUME_EXTENSIONS)}"
)
Identity = tuple[int, int]
"""Device and inode: the same for all names of a folder."""
_Below = tuple[str, str, frozenset[Identity]]
"""A folder, its path below that of the run, and the folders it lies in."""


def is_folder(path: str, volumes: bool) -> bool:
    """Tell whether a path is a folder of images; one of Zarr is one, of DICOM files a volume."""
    return os.path.isdir(path) and not (is_zarr(path) or (volumes and is_series(path)))


class Folder:
    """The images below a folder, sorted by their paths; hidden files and folders do not count.

    Links to files and folders are followed, but for those that lead back to a folder that they lie
    in. `left_aside` gets the paths of the files that are no images by their endings. With
    `volumes`, a folder of DICOM files is one.
    """

    def __init__(self, root: str, left_aside: list[str], *, volumes: bool = False) -> None:
        self.root = root
        self._volumes = volumes
        self._endings = VOLUME_EXTENSIONS if volumes else EXTENSIONS
        self.names: list[str] = []
        self.linked: list[str] = []
        """The links to folders that were followed."""
        self.odd: list[str] = []
        """Pipes and devices that are called like images: reading one might never end."""
        self.unread: list[tuple[str, str]] = []
        """Each sub-folder that cannot be read, and why."""
        self._left_aside = left_aside
        try:
            self._walk()
        except OSError as error:
            raise ImageFileError(f"cannot be read: {error.strerror}", image=root) from error
        self.names.sort(key=lambda name: name.split(os.sep))
        self._by: list[dict[str, list[str]]] = [{} for _ in _WAYS]
        for name in self.names:
            for way, names in zip(_WAYS, self._by, strict=True):
                names.setdefault(way(name), []).append(name)

    def _walk(self) -> None:
        """Take the files of all folders, which may lie deeper in each other than calls may."""
        walking = [(self.root, self._taken(self.root, "", frozenset()))]
        while walking:
            place, below = walking[-1]
            try:
                found = next(below, None)
            except OSError as error:
                if len(walking) == 1:
                    raise
                self.unread.append((place, f"cannot be read: {error.strerror}"))
                found = None
            if found is None:
                walking.pop()
            else:
                walking.append((found[0], self._taken(*found)))

    def _taken(self, place: str, inside: str, above: frozenset[Identity]) -> Iterator[_Below]:
        """Take the files of a folder, and yield its folders."""
        above |= {_identity(place)}
        for entry in sorted(_entries(place), key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            name = os.path.join(inside, entry.name)
            if os.path.isdir(entry.path):
                if self._is_entered(entry, name, above):
                    yield entry.path, name, above
            elif not entry.name.lower().endswith(self._endings):
                if os.path.exists(entry.path):
                    self._left_aside.append(entry.path)
                else:  # it may have been one to a folder of images
                    self.unread.append((entry.path, "is a link that leads nowhere"))
            elif is_regular(entry.path) or not os.path.exists(entry.path):
                self.names.append(name)  # a link to nothing is an image that cannot be read
            else:
                self.odd.append(entry.path)

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


def _entries(place: str) -> list[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        return list(entries)


def _identity(path: str) -> Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino
