"""The card of a model: dates, numbers and digests of its images, versions of the libraries."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly.stacks import Booleans
from imsim.anomaly.storage import Arrays
from imsim.errors import OptionError

LIBRARIES = ("numpy", "scipy", "scikit-learn")
"""Libraries whose versions the results depend on, beside Python and imsim."""
DIGEST = 16
"""Bytes that tell an image from others: two of 10^9 images are alike with 10^-21."""


@dataclass(frozen=True)
class Lesson:
    """One time of learning: the fit, or an update."""

    date: str
    """In ISO 8601, UTC."""
    images: int
    """Images that were learned from; of a detector with one fold, with those held out."""
    left_out: int
    """Images that were given, but could not be used."""
    versions: dict[str, str]
    """From the name of a library to its version."""
    note: str
    """What the user wrote about it."""


@dataclass(frozen=True, eq=False)
class Card:
    """What is known about how a model was made.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly.card import Card
    >>> images = np.arange(8.0).reshape(2, 2, 2)
    >>> card = Card.of(images[:1], "line 3")
    >>> card.images, card.lessons[0].note, card.knows(images).tolist()
    (1, 'line 3', [True, False])
    """

    lessons: tuple[Lesson, ...]
    """The fit, and the updates in their order."""
    digests: NDArray[np.uint8]
    """The first 16 bytes of the SHA-256 of each image that was learned from, shape (n, 16)."""

    @property
    def images(self) -> int:
        """Number of images that were learned from."""
        return sum(lesson.images for lesson in self.lessons)

    @property
    def left_out(self) -> int:
        """Number of images that could not be used."""
        return sum(lesson.left_out for lesson in self.lessons)

    @classmethod
    def of(cls, images: NDArray[Any], note: str, left_out: int = 0) -> Self:
        """Make the card of a model that has just learned from these images."""
        versions = {"imsim": imsim.__version__, "python": platform.python_version()}
        versions |= {name: metadata.version(name) for name in LIBRARIES}
        date = datetime.now(UTC).isoformat(timespec="seconds")
        lesson = Lesson(date, len(images), left_out, versions, note)
        return cls((lesson,), digests_of(images))

    def extended(self, images: NDArray[Any], note: str, left_out: int = 0) -> Self:
        """Return the card after an update with these images."""
        new = type(self).of(images, note, left_out)
        digests = np.concatenate([self.digests, new.digests])
        return replace(self, lessons=self.lessons + new.lessons, digests=digests)

    def knows(self, images: NDArray[Any]) -> Booleans:
        """Return which images were learned from, bit for bit."""
        known = {digest.tobytes() for digest in self.digests}
        return np.array([digest.tobytes() in known for digest in digests_of(images)], np.bool_)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the lessons in types of JSON."""
        return [asdict(lesson) for lesson in self.lessons]

    @classmethod
    def from_list(cls, lessons: Any, arrays: Arrays) -> Self:
        """Make a card from `to_list` and the array "digests"; refuse everything else."""
        made = tuple(Lesson(**lesson) for lesson in lessons)
        for lesson in made:
            texts = (lesson.date, lesson.note, *lesson.versions, *lesson.versions.values())
            counts = (lesson.images, lesson.left_out)
            if not all(isinstance(t, str) for t in texts) or not all(map(_is_count, counts)):
                raise OptionError("its card is none that a model has")
            datetime.fromisoformat(lesson.date)
        card = cls(made, arrays.take("digests", np.uint8, None, DIGEST))
        if not made or card.images != len(card.digests):
            raise OptionError("its card does not count the images that were learned from")
        return card


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def digests_of(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return what tells images from others: type, shape and pixels; uint8 of shape (n, 16)."""
    kind = f"{images.dtype.str} {images.shape[1:]}".encode()
    found = [hashlib.sha256(kind + np.ascontiguousarray(image).data).digest() for image in images]
    joined = np.frombuffer(b"".join(d[:DIGEST] for d in found), np.uint8)
    return joined.reshape(len(images), DIGEST)
