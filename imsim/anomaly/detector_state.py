"""The state of a detector, as a file holds it, and its card: what it learned from, and when."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly import optional, scoring
from imsim.anomaly.descriptions import RAW, check_raw
from imsim.anomaly.held_out import Threshold, threshold_of
from imsim.anomaly.pca import MeanModel, PCAAutoencoder
from imsim.anomaly.pose import Pose
from imsim.anomaly.preparation import check_parameters
from imsim.anomaly.stacks import Booleans
from imsim.anomaly.statistics import GoodStatistics
from imsim.anomaly.storage import Arrays, State
from imsim.anomaly.xray.peel import VirtualPeel
from imsim.errors import silent
from imsim.validation import check_choice, check_data_range, check_integer

FITTED = ("data_range_", "aggregate_", "shape_", "depth_")
"""What a detector learns, beside its parts and its scores."""
PARTS = ("model", "preprocess", "pose")
_NETWORK = "ConvAutoencoder"  # needs JAX
_CLASSES = (MeanModel, PCAAutoencoder, GoodStatistics, VirtualPeel, Pose)
KINDS = (*(known.__name__ for known in _CLASSES), _NETWORK)
"""Classes of the parts that can be saved."""
_LIBRARIES = ("numpy", "scipy", "scikit-learn")
"""Libraries whose versions the results depend on, beside Python and imsim."""
_DIGEST = 16
"""Bytes that tell an image from others: two of 10^9 images are alike with 10^-21."""


@dataclass(frozen=True)
class Lesson:
    """One time of learning: the fit, or an update."""

    date: str  # in ISO 8601, UTC
    images: int  # images that were learned from; of a detector with one fold, with those held out
    left_out: int  # images that were given, but could not be used
    versions: dict[str, str]  # from the name of a library to its version
    note: str  # what the user wrote about it


@dataclass(frozen=True, eq=False)
class Card:
    """What is known about how a model was made.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly.detector_state import Card
    >>> images = np.arange(8.0).reshape(2, 2, 2)
    >>> card = Card.of(images[:1], "line 3")
    >>> card.images, card.lessons[0].note, card.knows(images).tolist()
    (1, 'line 3', [True, False])
    """

    lessons: tuple[Lesson, ...]  # the fit, and the updates in their order
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
        versions |= {name: metadata.version(name) for name in _LIBRARIES}
        date = datetime.now(UTC).isoformat(timespec="seconds")
        lesson = Lesson(date, len(images), left_out, versions, note)
        return cls((lesson,), digests_of(images))

    def extended(self, images: NDArray[Any], note: str, left_out: int = 0) -> Self:
        """Return the card after an update with these images."""
        new = self.of(images, note, left_out)
        digests = np.concatenate([self.digests, new.digests])
        return type(self)(self.lessons + new.lessons, digests)

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
            are_counts = all(type(n) is int and n >= 0 for n in (lesson.images, lesson.left_out))
            if not all(isinstance(t, str) for t in texts) or not are_counts:
                raise imsim.OptionError("its card is none that a model has")
            datetime.fromisoformat(lesson.date)
        card = cls(made, arrays.take("digests", np.uint8, None, _DIGEST))
        if not made or card.images != len(card.digests):
            raise imsim.OptionError("its card does not count the images that were learned from")
        return card


def digests_of(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return what tells images from others: type, shape and pixels; uint8 of shape (n, 16).

    The order of bytes does not: a file has the same pixels in either.
    """
    images = images.astype(images.dtype.newbyteorder("<"), copy=False)
    kind = f"{images.dtype.str} {images.shape[1:]}".encode()
    found = [hashlib.sha256(kind + np.ascontiguousarray(image).data).digest() for image in images]
    joined = np.frombuffer(b"".join(d[:_DIGEST] for d in found), np.uint8)
    return joined.reshape(len(images), _DIGEST)


def class_of(kind: str) -> Any:
    """Return the class of a part by its name."""
    if kind == _NETWORK:
        return optional.found("imsim.anomaly", kind, "convolutional")
    for known in _CLASSES:
        if kind == known.__name__:
            return known
    raise imsim.OptionError(f"there is no {kind!r} among {', '.join(KINDS)}")


def state_of(detector: Any) -> State:
    """Return what `restore` needs; model and preprocess must be of `imsim.anomaly`."""
    own = detector.get_params(deep=False)
    stored: dict[str, Any] = {}
    arrays = {  # scores may be infinite or NaN, which JSON cannot hold
        "threshold": np.array(detector.false_alarms_[:4]),
        "number": np.array(detector.false_alarms_.number),
        "held_out_columns": detector.held_out_columns_,
        "raw_statistics": detector.raw_statistics_,
        "scales": detector.scales_,
        "digests": detector.card_.digests,
    }
    for name in PARTS:
        part = getattr(detector, f"{name}_")
        if part is None:
            continue
        kind = type(part).__name__
        if kind not in KINDS or type(part) is not class_of(kind):
            raise imsim.OptionError(
                f"{name}={part!r} cannot be saved; expected one of {', '.join(KINDS)}: "
                "save it by its own means"
            )
        # None and "xray" are stored as they are, an object as its parameters.
        if own[name] is not None and not isinstance(own[name], str):
            own[name] = {"kind": kind, "parameters": own[name].get_params()}
        state, found = part.get_state()
        stored[name] = {"kind": kind, "state": state}
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    if not isinstance(own["random_state"], int | np.integer):
        own["random_state"] = None  # a generator has changed since; the model is fitted anyway
    fitted = {name: getattr(detector, name) for name in FITTED}
    lessons = detector.card_.to_list()
    return {"fitted": fitted, "parts": stored, "parameters": own, "card": lessons}, arrays


def restore(detector: Any, parameters: dict[str, Any], arrays: Arrays) -> None:
    """Make a fresh detector what `state_of` was told of; refuse everything else."""
    own, fitted, stored = (dict(parameters.pop(k)) for k in ("parameters", "fitted", "parts"))
    detector.card_ = Card.from_list(parameters.pop("card"), arrays)
    if parameters or own.keys() != detector.get_params(deep=False).keys():
        raise imsim.OptionError("its parameters are not those of a detector")
    for name in PARTS:
        if isinstance(own[name], dict):
            own[name] = class_of(own[name]["kind"]).with_parameters(own[name]["parameters"])
        part = None
        optional = name == "pose" and name not in stored
        if name == "model" or (own[name] is not None and not optional):
            state = stored.pop(name)
            part = class_of(state["kind"]).from_state(state["state"], arrays.under(f"{name}/"))
        setattr(detector, f"{name}_", part)
    detector.set_params(**own)
    detector._measured_by = detector.metric, detector.window
    fitted["shape_"] = tuple(fitted["shape_"])
    if stored or fitted.keys() != set(FITTED):
        raise imsim.OptionError("it holds other things than a detector learns")
    for name, value in fitted.items():
        setattr(detector, name, value)
    check_data_range(detector.data_range_, (), None, np)
    check_choice("aggregate_", detector.aggregate_, (check_parameters(detector),))
    for side in detector.shape_:
        check_integer("shape_", side, 1)
    if len(detector.shape_) != 2 or not isinstance(detector.depth_, str):
        raise imsim.OptionError(
            f"shape_={detector.shape_}, depth_={detector.depth_!r} make no sense"
        )
    columns: int | None = 2 if detector.aggregate_ == scoring.BOTH else 1
    if detector.aggregate_ == scoring.STATISTICS:
        columns = getattr(detector.model_, "columns_", None)
    detector.scales_ = arrays.take("scales", np.float64, 2, columns)
    detector.held_out_columns_ = arrays.take(
        "held_out_columns", np.float64, None, columns, finite=False
    )
    raw = arrays.take("raw_statistics", np.float64, None, len(RAW), finite=False)
    detector.raw_statistics_ = check_raw(raw)
    if detector.pose_ is not None and detector.pose_.mean_.shape != detector.shape_:
        raise imsim.OptionError("its pose was learned from images of another size")
    counted = scoring.as_counted(detector.held_out_columns_, detector.aggregate_)
    scores = scoring.most_anomalous_of_others(counted)
    detector.held_out_scores_ = scores
    # Of good images that are all reproduced exactly, the threshold may be minus infinity.
    value, rate, low, high = arrays.take("threshold", np.float64, 4, finite=False).tolist()
    number = arrays.number("number", np.int64)
    found = detector.false_alarms_ = Threshold(value, rate, low, high, number)
    detector.threshold_, detector.offset_ = found.value, -found.value
    sizes = [lesson.images for lesson in detector.card_.lessons]
    if len(scores) != sum(sizes):
        raise imsim.OptionError("its scores of good images are not as many as its card counts")
    with silent(UserWarning):  # `fit` has warned
        expected = threshold_of(scores, sizes, detector.false_alarm_rate).value
    if not np.isclose(found.value, expected, rtol=1e-9, atol=0):
        raise imsim.OptionError("its threshold does not come from its scores of good images")
    is_share = 0 <= found.low <= found.high <= 1 and 0 < found.rate < 1 <= found.number
    is_share &= found.value < np.inf  # above which nothing would be an anomaly
    if not (detector.scales_[1] > 0).all() or not is_share:
        raise imsim.OptionError("its scales or its false-alarm rate are none that exist")
    detector.n_features_in_ = int(np.prod(detector.shape_))
