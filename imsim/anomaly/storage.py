"""Fitted objects as safetensors files: arrays and a JSON header, without pickles.

A file may come from anybody. Of its arrays only those are used that a class asks for, after their
type and shape were checked; a digest tells whether anything was changed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

import imsim
from imsim.anomaly import optional
from imsim.anomaly.stacks import check_kind
from imsim.whole_files import replacing

FORMAT = 10
"""Version of the layout; a file with another one is refused."""
ANOTHER_VERSION = "train it again, or use the version of imsim that wrote it"
_HEADER, _DIGEST = "imsim", "imsim_sha256"
State = tuple[dict[str, Any], dict[str, NDArray[Any]]]
"""Parameters and fitted arrays."""
Method = TypeVar("Method", bound=Callable[..., Any])


class UnfittedError(imsim.ImsimError, NotFittedError):  # type: ignore[misc]
    """What was not fitted cannot be used; an error of `imsim`, and of scikit-learn too."""


def all_or_nothing(learn: Method) -> Method:
    """Make a method that learns leave an object as it was if it fails or is interrupted.

    An object that learned by half would go on with parts that do not belong together.
    """

    @functools.wraps(learn)
    def learn_all(self: Any, *images: Any, **options: Any) -> Any:
        before = self.__dict__.copy()
        try:
            return learn(self, *images, **options)
        except BaseException:
            self.__dict__ = before
            raise

    return cast("Method", learn_all)


class Stored(BaseEstimator):  # type: ignore[misc]
    """An estimator with `save` and `load` of its fitted state."""

    _LEARNED: ClassVar[tuple[tuple[Any, ...], ...]] = ()
    """Learned numbers: name, type and axes; None is any length, axes of one name are as long.
    The attributes have an underscore at the end. Integers come back as Python's."""
    _MAYBE_ODD: ClassVar[tuple[str, ...]] = ()
    """Those that may hold NaN and infinities."""
    _TOLD: ClassVar[tuple[str, ...]] = ()
    """Learned texts."""
    _PARTS: ClassVar[tuple[tuple[Any, ...], ...]] = ()
    """Fitted parts, which may be parameters too: name and classes, of which a text needs JAX."""

    def get_state(self) -> State:
        """Return what ``from_state`` needs: parameters, texts, parts, and arrays."""
        self._check_fitted()
        arrays = {name: np.asarray(getattr(self, f"{name}_")) for name, *_ in self._LEARNED}
        told: dict[str, Any] = {name: getattr(self, f"{name}_") for name in self._TOLD}
        for name, *kinds in self._PARTS:
            if (part := getattr(self, f"{name}_")) is not None:
                names = [known if isinstance(known, str) else known.__name__ for known in kinds]
                kind = type(part).__name__
                if kind not in names or type(part) is not _class_of(kinds, kind):
                    raise imsim.OptionError(
                        f"{name}={part!r} cannot be saved; expected one of {', '.join(names)}: "
                        "save it by its own means"
                    )
                state, found = part.get_state()
                told[name] = state | {"class": kind}
                arrays |= {f"{name}/{key}": value for key, value in found.items()}
        return {"parameters": self._plain_parameters(), **told}, arrays

    def _plain_parameters(self) -> dict[str, Any]:
        """Return the parameters; parts among them as their kind and parameters."""
        own: dict[str, Any] = self.get_params(deep=False)
        for name, *_ in self._PARTS:
            if isinstance(given := own.get(name), Stored):
                kind = type(given).__name__
                own[name] = {"class": kind, "parameters": given._plain_parameters()}
        return own

    @classmethod
    def with_parameters(cls, parameters: dict[str, Any]) -> Self:
        """Make an object that is not fitted; refuse parameters of another version of `imsim`."""
        for name in sorted(parameters.keys() ^ cls._get_param_names()):
            has, does = ("a", "does not know") if name in parameters else ("no", "needs")
            raise imsim.OptionError(
                f"its {cls.__name__} has {has} parameter {name!r}, which this imsim {does}: "
                f"{ANOTHER_VERSION}"
            )
        own = {n: tuple(v) if isinstance(v, list) else v for n, v in parameters.items()}
        for name, *kinds in cls._PARTS:
            if isinstance(given := own.get(name), dict):
                own[name] = _class_of(kinds, given["class"]).with_parameters(given["parameters"])
        return cls(**own)

    @classmethod
    def from_state(cls, parameters: dict[str, Any], arrays: Arrays) -> Self:
        """Make a fitted object from the result of `get_state`; refuse everything else."""
        told = dict(parameters)
        made = cls.with_parameters(told.pop("parameters"))
        made._check_parameters()
        for name in cls._TOLD:
            check_kind(isinstance(told[name], str), f"{name}_", told[name], "a text")
            setattr(made, f"{name}_", told.pop(name))
        for name, *kinds in cls._PARTS:
            if (state := told.pop(name, None)) is not None:
                rest = {**state}
                kind = _class_of(kinds, rest.pop("class"))
                state = kind.from_state(rest, arrays.under(f"{name}/"))
            setattr(made, f"{name}_", state)
        if told:
            raise imsim.OptionError(f"it holds other things than a {cls.__name__} learns")
        for name, value in arrays.listed(cls._LEARNED, cls._MAYBE_ODD).items():
            setattr(made, f"{name}_", value)
        made._check_learned(arrays)
        return made

    def _check_parameters(self) -> object:
        """Refuse parameters that make no sense."""

    def _check_learned(self, arrays: Arrays) -> None:
        """Refuse what cannot have been learned; take what only some objects have."""

    def _check_fitted(self) -> None:
        if not hasattr(self, f"{self._LEARNED[0][0]}_"):
            raise UnfittedError(
                f"this {type(self).__name__} is not fitted: call fit(good_images) first"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted state as one safetensors file of this name, which replaces an old one.

        Raises
        ------
        UnfittedError, OptionError
            If nothing was fitted; if a parameter is nothing that JSON can hold, or was changed
            after the fit, so that the file could not be loaded.
        """
        _check_path(path)
        write(path, type(self).__name__, *self.get_state(), self._check_state)

    @classmethod
    def _check_state(cls, parameters: dict[str, Any], arrays: Arrays) -> None:
        """Refuse a state that could not be loaded: the file would replace one that can."""
        try:
            cls.from_state(parameters, arrays)
        except ImportError:
            raise
        except Exception as error:  # as in `load`
            reason = error if isinstance(error, imsim.ImsimError) else repr(error)
            raise imsim.OptionError(
                f"this {cls.__name__} cannot be saved, since it could not be loaded: {reason}",
                "set back what was changed after the fit, or call fit(good_images) again",
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load a file of `save`; the object gives the same results, to the last bit.

        Raises
        ------
        OptionError
            If the file is damaged, was changed, or holds something else.
        OSError
            If it does not exist or cannot be opened.
        ImportError
            If it holds a model that needs a package which is not installed.
        """
        _check_path(path)
        try:
            if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
                raise imsim.OptionError("it is no regular file")
            parameters, arrays = _read(path, cls.__name__)
            found = cls.from_state(parameters, arrays)
            arrays.end()
        except (OSError, ImportError):  # the second says what to install
            raise
        except imsim.ImsimError as error:
            raise imsim.OptionError(f"{os.fspath(path)} cannot be loaded: {error}") from error
        except Exception as error:  # what feeds on odd values raises a dozen kinds
            raise imsim.OptionError(
                f"{os.fspath(path)} cannot be loaded: its contents do not fit together ({error!r})"
            ) from error
        return found


def _class_of(kinds: list[type | str], kind: str) -> Any:
    """Return the class of a part by its name."""
    for known in kinds:
        if known == kind:
            return optional.loaded("imsim.anomaly", kind, {kind: "convolutional"})
        if isinstance(known, type) and known.__name__ == kind:
            return known
    raise imsim.OptionError(f"there is no {kind!r} among the classes of this part")


def _check_path(path: Any) -> None:
    """Refuse what is no path: a number would name an open file."""
    check_kind(isinstance(path, str | os.PathLike), "path", path, "the path of a file")


class Arrays:
    """The arrays of a file; each can be taken once."""

    def __init__(self, arrays: dict[str, NDArray[Any]], prefix: str = "") -> None:
        self._left, self._prefix = arrays, prefix

    def under(self, prefix: str) -> Arrays:
        """Return the arrays whose names begin with a prefix, named without it."""
        return Arrays(self._left, self._prefix + prefix)

    def take(
        self, name: str, dtype: DTypeLike, *shape: int | None, finite: bool = True
    ) -> NDArray[Any]:
        """Return an array of this type and shape, in which None is any length; refuse others."""
        name = self._prefix + name
        if name not in self._left:
            raise imsim.OptionError(f"it has no {name}: {ANOTHER_VERSION}")
        array, wanted = self._left.pop(name), np.dtype(dtype)
        fits = len(array.shape) == len(shape) and all(
            side in (length, None) for length, side in zip(array.shape, shape, strict=True)
        )
        if array.dtype != wanted or not fits:
            sides = ", ".join("any" if side is None else str(side) for side in shape)
            raise imsim.OptionError(
                f"{name} has dtype {array.dtype} and shape {array.shape}; expected {wanted} and "
                f"({sides})"
            )
        if finite and not np.isfinite(array).all():
            raise imsim.OptionError(f"{name} holds NaN or infinity")
        return array

    def listed(
        self, table: Iterable[tuple[Any, ...]], maybe_odd: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return what a table as `Stored._LEARNED` lists; single numbers as those of Python."""
        sizes: dict[Any, int] = {}
        found: dict[str, Any] = {}
        for name, dtype, *axes in table:
            lengths = [sizes.get(n) if isinstance(n, str) else n for n in axes]
            array = self.take(name, dtype, *lengths, finite=name not in maybe_odd)
            sizes |= dict(zip(axes, array.shape, strict=True))
            plain = array.tolist() if not axes or dtype is np.int64 else array
            found[name] = tuple(plain) if isinstance(plain, list) else plain
        return found

    def end(self) -> None:
        """Refuse a file with further arrays."""
        if self._left:
            raise imsim.OptionError(f"it holds more than it should: {', '.join(self._left)}")


def write(
    path: str | os.PathLike[str],
    kind: str,
    parameters: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    check: Callable[[dict[str, Any], Arrays], object] = lambda *_: None,
) -> None:
    """Write a file for a class; it replaces an old file only when it is complete.

    `check` gets what a reader of the file does, and raises if that is no use.
    """
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
    check(json.loads(text)["parameters"], Arrays(dict(checked)))
    checked[_DIGEST] = np.frombuffer(_digest(text, checked), dtype=np.uint8)
    content = save(checked, {_HEADER: text})
    with replacing(os.path.realpath(path)) as new:  # a link stays
        Path(new).write_bytes(content)


def _read(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], Arrays]:
    """Return parameters and arrays of a file that holds an object of this class."""
    try:
        with safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get(_HEADER)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise imsim.OptionError(f"it is no safetensors file, or damaged ({error})") from error
    if text is None:
        raise imsim.OptionError("imsim did not write it")
    try:
        header = json.loads(text)
        version, stored_kind = header["format"], header["kind"]
        parameters = dict(header["parameters"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise imsim.OptionError(f"its header is damaged ({error!r})") from error
    if version != FORMAT or isinstance(version, bool):
        raise imsim.OptionError(
            f"its format is {version!r}, written by imsim {header.get('imsim')}; this imsim "
            f"({imsim.__version__}) reads format {FORMAT}: train it again, or use the version "
            "that wrote it"
        )
    if stored_kind != kind:
        raise imsim.OptionError(f"it holds a {stored_kind}: use {stored_kind}.load")
    taken = Arrays(arrays)
    expected = taken.take(_DIGEST, np.uint8, 32)
    if expected.tobytes() != _digest(text, arrays):
        raise imsim.OptionError("its contents were changed after imsim wrote them")
    return parameters, taken


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """Return the name of the class whose object a file says it holds; None if it says nothing."""
    try:
        if os.path.isfile(path):
            with safe_open(path, "numpy") as file:
                kind = json.loads(file.metadata()[_HEADER])["kind"]
            return kind if isinstance(kind, str) else None
    except Exception:  # whatever is wrong with it, loading it says so
        return None
    return None


def _digest(header: str, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the SHA-256 of the header, and of names, types, shapes and values."""
    total = hashlib.sha256(header.encode())
    for name, array in sorted(arrays.items()):
        total.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.digest()


def _plain(value: Any) -> Any:
    """Turn NumPy's scalars, which JSON does not know, into Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is of type {type(value).__name__}")
