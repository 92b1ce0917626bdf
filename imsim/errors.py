"""Exceptions and warnings; each message says what was given, what was expected and what to do."""

from __future__ import annotations

import contextlib
import copy
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

_silent: ContextVar[tuple[type[Warning], ...]] = ContextVar("imsim_silent", default=())
_collected: ContextVar[tuple[type[Warning], list[str]] | None] = ContextVar(
    "imsim_collected", default=None
)


class ImsimError(ValueError):
    """Base class of every error that imsim raises about its input.

    Parameters
    ----------
    message : str
        What was given, and what is wrong with it.
    remedy : str, optional
        What was expected, or what to do, which a program may want to say in its own words. As
        text, an error is its message, a semicolon and its remedy.
    """

    def __init__(self, message: str = "", remedy: str | None = None) -> None:
        # Not by super(), which torch.compile does not know: it would hide the message.
        self.args = (message if remedy is None else f"{message}; {remedy}",)
        self.message, self.remedy = message, remedy


class ShapeError(ImsimError):
    """Shapes that do not fit together, or an image too small for the metric."""


class DataRangeError(ImsimError):
    """A data range that is missing where it matters, or not a positive finite number."""


class DTypeError(ImsimError, TypeError):
    """An input whose values are not real numbers (complex, object, string, masked array ...)."""


class MaskError(ImsimError):
    """A mask that does not fit the images."""


class MaskTypeError(MaskError, DTypeError):
    """A mask that is neither boolean nor made of the integers 0 and 1, or no array at all."""


class WeightsError(ImsimError):
    """Weights that do not fit the images, or are negative or not finite."""


class OptionError(ImsimError):
    """An option value or a metric name that imsim does not know."""


class AlignmentError(ImsimError):
    """Images of which no shift can be told, or whose shift is larger than was expected.

    Attributes
    ----------
    shift : tuple of float or None
        The shift that was found, (dy, dx), if there is one.
    """

    def __init__(
        self,
        message: str = "",
        remedy: str | None = None,
        *,
        shift: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(message, remedy)
        self.shift = shift


class EmptyMaskWarning(UserWarning):
    """Nothing inside the mask could be scored; the score is NaN."""


class ChannelAxisWarning(UserWarning):
    """A last axis of 3 or 4 was taken for the width of the images; it may hold channels."""


class DataRangeWarning(UserWarning):
    """The values lie beyond the data range by more than the range itself."""


class PrecisionWarning(UserWarning):
    """Integers, or floats wider than float64, were rounded to floats that hold fewer digits."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line outside the package that made the call, however deep this one lies."""
    if is_silent(category):
        return
    collected = _collected.get()
    if collected is not None and issubclass(category, collected[0]):
        collected[1].append(message)
        return
    level, frame = 1, sys._getframe()
    while frame.f_back and str(frame.f_globals.get("__name__")).split(".")[0] == "imsim":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def is_silent(category: type[Warning]) -> bool:
    """Whether warnings of a category are suppressed here."""
    return issubclass(category, _silent.get())


@contextlib.contextmanager
def silent(*categories: type[Warning]) -> Iterator[None]:
    """Suppress warnings of these categories in this thread or task, and in its helper threads.

    The filters of `warnings` belong to the whole process, so that threads cannot change them.
    """
    token = _silent.set((*_silent.get(), *categories))
    try:
        yield
    finally:
        _silent.reset(token)


@contextlib.contextmanager
def collecting(category: type[Warning]) -> Iterator[list[str]]:
    """Collect the messages of warnings of one category, likewise, and yield their list."""
    messages: list[str] = []
    token = _collected.set((category, messages))
    try:
        yield messages
    finally:
        _collected.reset(token)


def each_once(category: type[Warning], compute: Callable[[], Any]) -> Any:
    """Return what a function computes in parts, and warn of each message of a category once."""
    with collecting(category) as messages:
        found = compute()
    for message in dict.fromkeys(messages):
        warn(message, category)
    return found


def without_traceback(error: ImsimError) -> ImsimError:
    """Copy an error without its traceback, which would keep the images."""
    found = copy.copy(error)
    # There are packages, such as tblib, that teach copies to have tracebacks.
    found.__traceback__ = found.__cause__ = None
    return found


def unforeseen(error: BaseException) -> str:
    """Describe an error that imsim does not foresee, and where it arose."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({os.path.basename(frame.filename)}:{frame.lineno})" for frame in place)
    return f"{type(error).__name__}: {error}{where}"


def failed(what: str, error: BaseException) -> str:
    """Say that something was not done, in the past tense, since the memory or the code failed."""
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine"
    return f"could not be {what}: {unforeseen(error)}"


def more_pixels(mask: object, weights: object = None) -> str:
    """Return how to score an image of which no position was, given the mask and the weights."""
    if weights is None:
        return "widen the mask"
    if mask is None:
        return "give more pixels weights > 0"
    return "widen the mask, or give more of its pixels weights > 0"
