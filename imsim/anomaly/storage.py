"""Saving what was fitted: one .npz file with a JSON header and plain arrays, no pickle.

A file may come from anybody. Of its arrays only those are read that a class asks for, after their
type, shape and size were checked; a digest tells whether anything else was changed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

import imsim

FORMAT = 2
"""Version of the layout; a file with another one is refused."""
_HEADER, _DIGEST = "imsim_header", "imsim_sha256"
_LONGEST_HEADER = 1 << 20
"""Bytes; a header has a few thousand."""

State = tuple[dict[str, Any], dict[str, NDArray[Any]]]
"""Parameters, and what was fitted, as arrays."""


class Stored:
    """Give a class `save` and `load` from its `get_state` and `from_state`."""

    def get_state(self) -> State:
        """Return what `from_state` needs: parameters, and what was fitted, as arrays.

        Raises
        ------
        ImsimError
            If nothing was fitted.
        """
        raise NotImplementedError

    @classmethod
    def from_state(cls, parameters: dict[str, Any], arrays: Arrays) -> Self:
        """Make a fitted object of what `get_state` returned; whatever does not fit is refused."""
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
            If the file is damaged, was changed, or holds something else.
        OSError
            If it does not exist or cannot be opened.
        """
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
            raise _refused(path, "it is no regular file")
        with open(path, "rb") as file:
            try:
                with zipfile.ZipFile(file) as archive:
                    arrays = Arrays(archive)
                    found = cls.from_state(arrays.parameters(cls.__name__), arrays)
                    arrays.end()
            except zipfile.BadZipFile as error:
                raise _refused(path, f"it is no .npz file, or damaged ({error})") from error
            except imsim.ImsimError as error:
                raise _refused(path, str(error)) from error
            except Exception as error:  # zipfile, json and what is fed by them raise a dozen kinds
                raise _refused(path, f"its contents do not fit together ({error!r})") from error
        return found


class Arrays:
    """The arrays of an open file, each read when it is taken.

    Parameters
    ----------
    archive : zipfile.ZipFile
        As `write` makes them: nothing is compressed, so that nothing can grow in memory.

    Raises
    ------
    OptionError
        If the archive is of another make.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive, self._prefix = archive, ""
        self._left: dict[str, zipfile.ZipInfo] = {}
        self._taken: dict[str, NDArray[Any]] = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in self._left or name == member.filename:
                raise imsim.OptionError(f"{member.filename} is no array, or there twice")
            if member.compress_type != zipfile.ZIP_STORED or member.compress_size != (
                member.file_size
            ):
                raise imsim.OptionError(f"{name} is compressed, which imsim never does")
            self._left[name] = member

    def under(self, prefix: str) -> Arrays:
        """Return the arrays whose names begin with a prefix, under what follows it."""
        part = copy.copy(self)  # what is taken is common to both
        part._prefix += prefix
        return part

    def take(
        self, name: str, dtype: DTypeLike, *shape: int | None, finite: bool = True
    ) -> NDArray[Any]:
        """Read an array.

        Parameters
        ----------
        name : str
            The name.
        dtype : dtype
            Its type.
        *shape : int or None
            Its shape; None is any length.
        finite : bool
            Whether NaN and infinity are refused.

        Returns
        -------
        numpy.ndarray

        Raises
        ------
        OptionError
            If there is no such array, or it is another.
        """
        name = self._prefix + name
        member = self._left.pop(name, None)
        if member is None:
            raise imsim.OptionError(f"it has no {name}")
        wanted = np.dtype(dtype)
        with self._archive.open(member) as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise imsim.OptionError(f"{name} is of another version of the format of arrays")
            found, is_fortran, given = np.lib.format.read_array_header_1_0(stream)
            fits = len(found) == len(shape) and all(
                side in (length, None) for length, side in zip(found, shape, strict=True)
            )
            if given != wanted or not fits:
                sides = ", ".join("any" if side is None else str(side) for side in shape)
                raise imsim.OptionError(
                    f"{name} has dtype {given} and shape {found}; expected {wanted} and ({sides})"
                )
            size = math.prod(found) * wanted.itemsize
            if is_fortran or stream.tell() + size != member.file_size:
                raise imsim.OptionError(f"{name} has not the {size} bytes that it promises")
            array = np.frombuffer(stream.read(), dtype=wanted).reshape(found).copy()
        if finite and not np.isfinite(array).all():
            raise imsim.OptionError(f"{name} holds NaN or infinity")
        self._taken[name] = array
        return array

    def number(self, name: str, dtype: DTypeLike = np.float64) -> Any:
        """Read an array that holds a single number."""
        return self.take(name, dtype).item()

    def parameters(self, kind: str) -> dict[str, Any]:
        """Read the header, and return the parameters.

        Parameters
        ----------
        kind : str
            Name of the class that reads them; those of another one are refused.

        Raises
        ------
        OptionError
            If imsim did not write them, or another version did.
        """
        foreign = "imsim did not write it, or its header is damaged"
        if _HEADER not in self._left or self._left[_HEADER].file_size > _LONGEST_HEADER:
            raise imsim.OptionError(foreign)
        try:
            header = json.loads(
                self.take(_HEADER, np.uint8, None).tobytes(),
                parse_constant=_not_finite,
                parse_float=_finite,
            )
            version, stored_kind = header["format"], header["kind"]
            parameters = dict(header["parameters"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise imsim.OptionError(f"{foreign} ({error!r})") from error
        if version != FORMAT or isinstance(version, bool):
            raise imsim.OptionError(
                f"its format is {version!r}, written by imsim {header.get('imsim')}; this imsim "
                f"({imsim.__version__}) reads format {FORMAT}: train it again, or use the version "
                "that wrote it"
            )
        if stored_kind != kind:
            raise imsim.OptionError(f"it holds a {stored_kind}: use {stored_kind}.load")
        return parameters

    def end(self) -> None:
        """Refuse arrays that nobody took, and contents that are not those that were written."""
        expected = self.take(_DIGEST, np.uint8, 32)
        del self._taken[_DIGEST]
        if self._left:
            raise imsim.OptionError(f"it holds more than it should: {', '.join(self._left)}")
        if expected.tobytes() != _digest(self._taken):
            raise imsim.OptionError("its contents were changed after imsim wrote them")


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
        What JSON can hold: None, booleans, finite numbers, strings, lists and mappings of these.
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
        text = json.dumps(
            {**header, "parameters": dict(parameters)}, default=_plain, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise imsim.OptionError(
            f"the parameters of this {kind} cannot be saved ({error}): use finite numbers, "
            "strings, booleans, None, and lists or dictionaries of these"
        ) from error
    checked = {name: np.array(array, order="C") for name, array in arrays.items()}
    for name, array in checked.items():
        if array.dtype.kind not in "buif":
            raise imsim.OptionError(
                f"{name} of this {kind} has dtype {array.dtype}, which cannot be saved; "
                "expected booleans, integers or real floats"
            )
    checked[_HEADER] = np.frombuffer(text.encode(), dtype=np.uint8)
    checked[_DIGEST] = np.frombuffer(_digest(checked), dtype=np.uint8)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            np.savez(file, allow_pickle=False, **checked)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _digest(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the SHA-256 of names, types, shapes and values."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.digest()


def _plain(value: Any) -> Any:
    """Turn NumPy's scalars, which JSON does not know, into Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is of type {type(value).__name__}")


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is no finite number")


def _finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _not_finite(text)


def _refused(path: str | os.PathLike[str], reason: str) -> imsim.OptionError:
    return imsim.OptionError(f"{os.fspath(path)} cannot be loaded: {reason}")
