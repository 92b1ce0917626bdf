"""Checks of what pages are given besides images; metrics check these."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imsim import Comparison, OptionError, ShapeError
from imsim.tensors import as_numpy
from imsim.typing import Array, ImageLike


def check_text(name: str, given: Any) -> None:
    """Refuse what is no text."""
    if not isinstance(given, str):
        raise OptionError(f"{name}={given!r}", "expected a text")


def check_texts(name: str, given: Any, number: int | None = None) -> None:
    """Refuse what is no list of so many texts: of one text, each letter would be taken for one."""
    is_list = isinstance(given, Sequence) and not isinstance(given, str)
    if not is_list or not all(isinstance(one, str) for one in given):
        raise OptionError(f"{name}={given!r}", "expected a list of texts")
    if number is not None and len(given) != number:
        raise OptionError(f"{name}={given!r}", f"expected {number} texts")


def check_mapping(name: str, given: Any) -> None:
    """Refuse what has no values by name."""
    if not isinstance(given, Mapping):
        raise OptionError(f"{name}={given!r}", "expected a mapping by name, such as a dict")


def check_said(names: Any, reasons: Any, notes: Any, home: Any, scores: Any) -> None:
    """Refuse what the page of a pair cannot say."""
    check_texts("names", names, 2)
    check_texts("reasons", reasons)
    check_texts("notes", notes)
    if home is not None:
        check_text("home", home)
    if scores is not None and not isinstance(scores, Comparison):
        raise OptionError(f"scores={scores!r}", "expected what imsim.compare returns")


def checked_boxes(boxes: Any) -> list[list[int]]:
    """Return places as integers."""
    remedy = "expected the integers x, y, width and height of each place"
    try:
        found = [[operator.index(number) for number in box] for box in boxes]
    except TypeError as error:
        raise OptionError(f"boxes={boxes!r}", remedy) from error
    if any(len(box) != 4 for box in found):
        raise OptionError(f"boxes={boxes!r}", remedy)
    return found


def checked_directions(directions: ImageLike | None) -> Array | None:
    """Return the unit vectors of the axes of a volume."""
    if directions is None:
        return None
    ways: Array = np.asarray(as_numpy("directions", directions), np.float64)
    remedy = "expected finite x, y and z for each of depth, height and width"
    if ways.shape != (3, 3):
        raise ShapeError(f"directions has shape {ways.shape}", remedy)
    if not np.isfinite(ways).all():
        raise OptionError("directions holds NaN or infinity", remedy)
    return ways
