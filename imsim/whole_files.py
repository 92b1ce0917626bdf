"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from imsim.errors import ImsimError

Path = str | os.PathLike[str]


@contextmanager
def replacing(path: Path, put: Callable[[str, str], object] = os.replace) -> Iterator[str]:
    """Yield the name of a new file or folder, which takes the place of an old one once written.

    Whatever fails, the old one stays as it is, and nothing is left of the new one. Where several
    threads write to one name, the last one wins. The new file has the permissions of the old one. A
    link is replaced: no link, whoever made it, leads to another file that is written over. A device
    or a pipe is written to.

    Parameters
    ----------
    path : path
        The name; its folder exists.
    put : callable
        ``put(new, path)`` puts the new one in the place of the old one.

    Raises
    ------
    OSError
        If that fails.
    """
    path = os.fspath(path)
    is_special = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    if is_special and not os.path.islink(path):
        yield path
        return
    new = os.path.join(os.path.dirname(path), f".imsim-{secrets.token_hex(8)}.part")
    try:
        yield new
        if os.path.isfile(path):
            shutil.copymode(path, new)
        put(new, path)
    finally:
        with suppress(OSError):
            shutil.rmtree(new) if os.path.isdir(new) else os.remove(new)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Say which file or folder cannot be written, where a block fails for that reason.

    Raises
    ------
    ImsimError
        Instead of each OSError.
    """
    try:
        yield
    except OSError as error:
        raise ImsimError(f"{path}: cannot be written: {error.strerror or error}") from error
