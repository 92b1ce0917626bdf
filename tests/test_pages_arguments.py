"""What pages are given besides images is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import imsim
from imsim import pages

IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)
VOLUME = np.stack([IMAGE] * 8)
OF_BOTH: list[tuple[str, Any, str]] = [
    ("names", "ab", "expected a list of texts"),
    ("names", ("a",), "expected 2 texts"),
    ("names", ("a", None), "expected a list of texts"),
    ("reasons", "it fails", "expected a list of texts"),
    ("notes", "a note", "expected a list of texts"),
    ("notes", 3, "expected a list of texts"),
    ("home", 3, "expected a text"),
    ("scores", {"se": 1.0}, "expected what imsim.compare returns"),
    ("map_scale", "large", "expected one of"),
]
OF_PAIRS: list[tuple[str, Any, str]] = [
    ("metrics", "se", "expected a list of names"),
    ("metrics", 3, "expected a list of names"),
    ("is_moved", 1, "expected True or False"),
    ("boxes", [(1, 2, 3)], "expected the integers x, y, width and height"),
    ("boxes", [(1, 2, 3, 0.5)], "expected the integers x, y, width and height"),
    ("boxes", 3, "expected the integers x, y, width and height"),
]


@pytest.mark.parametrize(("name", "value", "words"), [*OF_BOTH, *OF_PAIRS])
def test_pages_of_images(name: str, value: Any, words: str) -> None:
    with pytest.raises(imsim.OptionError, match=f"{name}.*{words}"):
        pages.pair_report(IMAGE, IMAGE, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        *OF_BOTH,
        ("directions", np.eye(2), "expected finite x, y and z"),
        ("directions", [[np.nan] * 3] * 3, "expected finite x, y and z"),
        ("directions", "LPS", "no array"),
    ],
)
def test_pages_of_volumes(name: str, value: Any, words: str) -> None:
    with pytest.raises(imsim.ImsimError, match=f"{name}.*{words}"):
        pages.volume_report(VOLUME, VOLUME, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("entries", 3, "expected a list, of imsim.pages.Entry each"),
        ("entries", pages.Entry("a.png", "equal"), "expected a list, of imsim.pages.Entry each"),
        ("entries", ["a.png"], "expected each as imsim.pages.Entry"),
        ("folders", "ab", "expected a list of texts"),
        ("folders", ["a"], "expected 2 texts"),
        ("metrics", "ssim", "expected a list of names"),
        ("metrics", ["similarity"], "expected names of"),
        ("facts", ["a"], "expected a mapping"),
    ],
)
def test_an_index(name: str, value: Any, words: str) -> None:
    given: dict[str, Any] = {"entries": [], "folders": ("a", "b"), name: value}
    with pytest.raises(imsim.OptionError, match=f"{name}.*{words}"):
        pages.folder_report(**given)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("name", 3, "expected a text"),
        ("status", "worse", "expected one of 'could not be scored'"),
        ("scores", 0.5, "expected a mapping"),
        ("scores", {"ssim": "high"}, "expected a number"),
        ("reasons", "it fails", "expected a list of texts"),
        ("notes", None, "expected a list of texts"),
        ("thumbnails", [], "expected a mapping"),
        ("page", 3, "expected a text"),
        ("accept", 3, "expected a text"),
    ],
)
def test_a_row_of_an_index(name: str, value: Any, words: str) -> None:
    given: dict[str, Any] = {"name": "a.png", "status": "equal", name: value}
    with pytest.raises(imsim.OptionError, match=f"{name}.*{words}"):
        pages.Entry(**given)
