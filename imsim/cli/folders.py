"""The images below a folder: the one walk over folders of all commands."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable

from imsim._images import EXTENSIONS, ImageFileError, is_regular

NO_IMAGE = f"holds no image; these endings are looked for: {' '.join(EXTENSIONS)}"

Identity = tuple[int, int]
"""Device and inode: the same for all names of a folder."""


class Folder:
    """The images below a folder, sorted by their paths; hidden files and folders do not count.

    Links to files and folders are followed, but for those that lead back to a folder that they
    lie in.

    Parameters
    ----------
    root : str
        The folder.
    left_aside : list of str
        Gets the paths of the files that are no images by their endings.

    Attributes
    ----------
    names : list of str
        The paths of the images below the folder.
    linked : list of str
        The links to folders that were followed.
    odd : list of str
        What is called like an image and is none: a pipe, a device. It is not opened, since
        reading it might never end.
    unread : list of tuple of str
        Each sub-folder that cannot be read, and why.

    Raises
    ------
    ImageFileError
        If the folder itself cannot be read.
    """

    def __init__(self, root: str, left_aside: list[str]) -> None:
        self.root = root
        self.names: list[str] = []
        self.linked: list[str] = []
        self.odd: list[str] = []
        self.unread: list[tuple[str, str]] = []
        self._left_aside = left_aside
        try:
            self._walk(root, "", frozenset())
        except OSError as error:
            raise ImageFileError(f"{root}: cannot be read: {error.strerror}") from error
        self.names.sort(key=lambda name: name.split(os.sep))
        self._by: list[dict[str, list[str]]] = [{} for _ in _WAYS]
        for name in self.names:
            for way, names in zip(_WAYS, self._by, strict=True):
                names.setdefault(way(name), []).append(name)

    def _walk(self, place: str, inside: str, above: frozenset[Identity]) -> None:
        """Take the files of a folder, then those of its folders."""
        above |= {_identity(place)}
        for entry in sorted(_entries(place), key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            name = os.path.join(inside, entry.name)
            if os.path.isdir(entry.path):
                self._enter(entry, name, above)
            elif not entry.name.lower().endswith(EXTENSIONS):
                if os.path.exists(entry.path):
                    self._left_aside.append(entry.path)
                else:  # it may have been one to a folder of images
                    self.unread.append((entry.path, "is a link that leads nowhere"))
            elif is_regular(entry.path) or not os.path.exists(entry.path):
                self.names.append(name)  # a link to nothing is an image that cannot be read
            else:
                self.odd.append(entry.path)

    def _enter(self, entry: os.DirEntry[str], name: str, above: frozenset[Identity]) -> None:
        try:
            if _identity(entry.path) in above:
                return  # all that lies there is taken already, or will be
            if entry.is_symlink():
                self.linked.append(entry.path)
            self._walk(entry.path, name, above)
        except OSError as error:
            self.unread.append((entry.path, f"cannot be read: {error.strerror}"))

    def path(self, name: str) -> str:
        """Return the whole path of a file."""
        return os.path.join(self.root, name)

    def partners(self, name: str) -> list[str]:
        """Return the files of this name, or else those that have it but for the ending.

        Of each kind, names of the same characters go before those that only look the same.
        """
        found = (names.get(way(name)) for way, names in zip(_WAYS, self._by, strict=True))
        return next((names for names in found if names), [])


def _composed(name: str) -> str:
    """Write accents in one of the two ways of Unicode; systems differ in which they use."""
    return unicodedata.normalize("NFC", name)


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


_WAYS: tuple[Callable[[str], str], ...] = (
    str,
    _composed,
    _stem,
    lambda name: _stem(_composed(name)),
)


def _entries(place: str) -> list[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        return list(entries)


def _identity(path: str) -> Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino
