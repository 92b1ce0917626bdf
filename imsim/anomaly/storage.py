"""Saving what was fitted: one .npz file with a JSON header and plain arrays, no pickle."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import imsim

FORMAT = 1
"""Version of the layout; a file with another one is refused."""
_HEADER = "imsim_header"
_DAMAGE = (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)


class Stored:
    """Give a class `save` and `load` from its `get_state` and `from_state`."""

    def get_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what `from_state` needs: parameters, and what was fitted, as arrays.

        Raises
        ------
        ImsimError
            If nothing was fitted.
        """
        raise NotImplementedError

    @classmethod
    def from_state(cls, parameters: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Make a fitted object of what `get_state` returned."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save what was fitted as one .npz file without pickles, replacing an old file.

        Parameters
        ----------
        path : path
            The file, under exactly this name; its folder must exist.

        Raises
        ------
        ImsimError
            If nothing was fitted.
        OptionError
            If a parameter is nothing that JSON can hold.
        """
        write(path, type(self).__name__, *self.get_state())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load what `save` has written.

        Parameters
        ----------
        path : path
            The file.

        Returns
        -------
        object of this class
            Fitted; it gives the same results, to the last bit.

        Raises
        ------
        OptionError
            If the file is damaged, or holds something else.
        OSError
            If it does not exist or cannot be read.
        """
        parameters, arrays = read(path, cls.__name__)
        try:
            return cls.from_state(parameters, arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise _refused(path, f"its contents do not fit together ({error!r})") from error


def write(
    path: str | os.PathLike[str],
    kind: str,
    parameters: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write parameters and arrays; an old file is replaced only once the new one is complete.

    Parameters
    ----------
    path : path
        The file, under exactly this name; its folder must exist.
    kind : str
        Name of the class that can read it.
    parameters : mapping
        What JSON can hold: None, booleans, numbers, strings, lists and mappings of these.
    arrays : mapping of str to array
        Arrays of numbers or booleans.

    Raises
    ------
    OptionError
        If a parameter cannot be written as JSON, or an array not without a pickle.
    """
    target = Path(path)
    header = {"format": FORMAT, "kind": kind, "imsim": imsim.__version__}
    try:
        text = json.dumps({**header, "parameters": dict(parameters)}, default=_plain)
    except (TypeError, ValueError) as error:
        raise imsim.OptionError(
            f"the parameters of this {kind} cannot be saved ({error}): use numbers, strings, "
            "booleans, None, and lists or dictionaries of these"
        ) from error
    checked = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in checked.items():
        if array.dtype.kind not in "buif":
            raise imsim.OptionError(
                f"{name} of this {kind} has dtype {array.dtype}, which cannot be saved; "
                "expected booleans, integers or real floats"
            )
    checked[_HEADER] = np.frombuffer(text.encode(), dtype=np.uint8)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            np.savez(file, allow_pickle=False, **checked)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def read(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the parameters and the arrays that `write` put into a file.

    Parameters
    ----------
    path : path
        The file.
    kind : str
        Name of the class that reads it; a file of another class is refused.

    Returns
    -------
    parameters : dict
        Sequences come back as lists.
    arrays : dict of str to array
        All arrays of the file, in memory.

    Raises
    ------
    OptionError
        If the file was not written by imsim, is damaged, or holds another class or version.
    OSError
        If it does not exist or cannot be read.
    """
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise _refused(path, "it is no .npz file, or it was cut off")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except _DAMAGE as error:
            raise _refused(path, f"it is damaged, or not imsim's ({error})") from error
    try:
        header = json.loads(arrays.pop(_HEADER).tobytes().decode())
        version, stored_kind = header["format"], header["kind"]
        parameters = dict(header["parameters"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _refused(path, "imsim did not write it, or its header is damaged") from error
    if version != FORMAT:
        raise _refused(
            path,
            f"its format is {version!r}, written by imsim {header.get('imsim')}; this imsim "
            f"({imsim.__version__}) reads format {FORMAT}: use the version that wrote it",
        )
    if stored_kind != kind:
        raise _refused(path, f"it holds a {stored_kind}: use {stored_kind}.load")
    return parameters, arrays


def _plain(value: Any) -> Any:
    """Turn NumPy's scalars, which JSON does not know, into Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is of type {type(value).__name__}")


def _refused(path: str | os.PathLike[str], reason: str) -> imsim.OptionError:
    return imsim.OptionError(f"{os.fspath(path)} cannot be loaded: {reason}")
