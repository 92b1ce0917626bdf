"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path as _Path

from imsim.errors import ImsimError, OptionError

Path = str | os.PathLike[str]
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}
"""Errors of a folder that takes no new file."""
_MOUNTED = {errno.EBUSY, errno.EXDEV}
"""Errors where a file that is mounted by itself, as into a container, is to be replaced."""
_START, _END = ".imsim-", ".part"
"""Of the name of a new file until it takes the place of the old one."""
_STREAMS = ("/dev/", "/proc/")
"""Where names stand for what is open already, such as /dev/stdout."""


@contextmanager
def replacing(path: Path, put: Callable[[str, str], object] | None = None) -> Iterator[str]:
    """Yield the name of a new file or folder, which takes the place of an old one once written.

    Whatever fails, the old one stays as it is, and nothing is left of the new one. Where several
    threads write to one name, the last one wins. The new file has the permissions of the old one. A
    link is replaced: no link, whoever made it, leads to another file that is written over. A device
    or a pipe is written to, and a file that is mounted by itself is written over once the new one
    is whole. The folder exists; ``put(new, path)`` puts the new one in the place of the old one.
    """
    path = os.fspath(path)
    is_special = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    if is_special and not os.path.islink(path):
        yield path
        return
    new = os.path.join(os.path.dirname(path), f"{_START}{secrets.token_hex(8)}{_END}")
    try:
        yield new
        if os.path.isfile(path):
            shutil.copymode(path, new)
            with suppress(OSError, AttributeError):  # of another user; Windows has none
                before = os.stat(path)
                os.chown(new, before.st_uid, before.st_gid)
        try:
            (put or os.replace)(new, path)
        except OSError as error:
            if error.errno not in _MOUNTED or os.path.islink(path) or not os.path.isfile(new):
                raise
            shutil.copyfile(new, path)
    finally:
        with suppress(OSError):
            shutil.rmtree(new) if os.path.isdir(new) else os.remove(new)


def is_part(name: str) -> bool:
    """Tell whether a name is that of a file that is being written."""
    return name.startswith(_START) and name.endswith(_END)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that somebody named: whatever fails, an old one stays as it is.

    A link is followed. A device or a pipe is written to, and so is a file that cannot be replaced
    but takes other content: one that is mounted by itself, or in a folder that takes no new files.
    """
    place = os.path.realpath(path)
    is_special = os.path.exists(path) and not os.path.isfile(path)
    is_protected = os.path.isfile(place) and not os.access(place, os.W_OK)
    if not (is_special or is_protected or os.path.abspath(path).startswith(_STREAMS)):
        try:
            with replacing(place) as new:
                _Path(new).write_bytes(content)
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
        else:
            return
    _Path(path).write_bytes(content)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Say by an ImsimError which file or folder cannot be written, where a block fails for that."""
    if not isinstance(path, str | os.PathLike) or "\0" in str(path):
        raise OptionError(f"path={path!r}", "expected the name of a file")
    try:
        yield
    except OSError as error:
        raise ImsimError(f"{path}: cannot be written: {error.strerror or error}") from error
