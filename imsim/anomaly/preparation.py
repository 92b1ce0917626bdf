"""What a detector is given and what it learned from: parameters, preprocess, pose, and its card."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

import imsim
from imsim import validation
from imsim.anomaly import scoring, stacks
from imsim.anomaly.descriptions import place_surprise
from imsim.anomaly.pca import MeanModel, PCAAutoencoder
from imsim.anomaly.pose import Pose
from imsim.anomaly.stacks import Booleans, Doubles, Floats
from imsim.anomaly.statistics import METRIC, SAMPLE, GoodStatistics
from imsim.anomaly.storage import Arrays, State
from imsim.anomaly.xray.frames import VARIED, UnlikelyItemWarning, UnusableImageWarning
from imsim.anomaly.xray.peel import VirtualPeel
from imsim.errors import silent, warn

COMPONENTS = 60
"""Components of the default reconstruction of whole images, see docs/decisions.md."""
PATCH, PATCH_COMPONENTS = 8, 4
"""Side in pixels and components of patches, for peeled images if the metric needs contrast."""
LEAST_IMAGES = 3
"""Least number of good images: one is held out, and two are left to learn from."""
LEAST_SIDE = 16
"""Least side in pixels of images whose items may be brought into one pose."""
_DOUBTED = 100
"""Most good images that are looked at for whether they show single items."""
_ROUNDING = 1e-12
"""Most contrast of a constant image, in units of its level: the rounding of its mean."""
_NOTHING_LEFT = "leaves nothing to compare"
CONSTANT = "is constant: it shows nothing to learn from"
_LIBRARIES = ("numpy", "scipy", "scikit-learn")
"""Libraries whose versions the results depend on, beside Python and imsim."""
_IMAGE_DIGEST = 16
"""Bytes that tell an image from others: two of 10^9 images are alike with 10^-21."""


def check_parameters(detector: Any) -> str:
    """Refuse parameters that are none of those allowed; return the aggregate."""
    plain = detector.preprocess is None
    has_distances = hasattr(detector.model, "distances")
    # Anything may be given as the metric, which is checked below.
    is_fsim = isinstance(detector.metric, str) and detector.metric == METRIC
    if detector.model is None and plain and is_fsim:
        has_distances = detector.aggregate in (None, scoring.STATISTICS)
    aggregate = scoring.choose_aggregate(
        detector.aggregate, detector.metric, not plain, has_distances=has_distances
    )
    validation.check_choice("pose", detector.pose, ("auto", None))
    validation.check_between("false_alarm_rate", detector.false_alarm_rate)
    validation.check_integer("window", detector.window, 1)
    if detector.folds is not None:
        validation.check_integer("folds", detector.folds, 1)
    if detector.fence is not None:
        validation.check_number("fence", detector.fence)
    if not isinstance(detector.note, str):
        raise imsim.OptionError(f"note={detector.note!r}; expected a text")
    if detector.data_range is not None:
        validation.check_data_range(detector.data_range, (), None, np)
    model, preprocess = detector.model, detector.preprocess
    _check_part("model", model, "reconstruct", (None,), "PCAAutoencoder(components=60)")
    _check_part("preprocess", preprocess, "transform", ("xray", None), "VirtualPeel()")
    return aggregate


def _check_part(name: str, given: Any, method: str, names: tuple[Any, ...], example: str) -> None:
    """Refuse a value that is neither a part of a detector nor the name of one."""
    if given is None or (isinstance(given, str) and given in names):
        return
    methods = ("fit", method, "get_params")
    if isinstance(given, type) or not all(hasattr(given, m) for m in methods):
        raise imsim.OptionError(
            f"{name}={given!r}; expected {', '.join(map(repr, names))}, or an object with "
            f"{', '.join(methods)}, such as {example}"
        )


def random_generator(random_state: Any) -> np.random.Generator:
    """Return a generator that the given `random_state` seeds."""
    try:
        if not isinstance(random_state, bool | np.bool_):
            return np.random.default_rng(check_random_state(random_state).randint(2**31))
    except ValueError:
        pass
    raise imsim.OptionError(
        f"random_state={random_state!r}; expected None, an integer from 0 to 2**32 - 1, or a "
        "RandomState"
    )


def data_range_of(detector: Any, dtype: Any, inputs: Floats, used: Booleans | None) -> float:
    """Return the given data range, or that of preprocess or dtype, or that of the images."""
    if detector.data_range is not None:
        if detector.preprocess_ is None:
            validation.check_capacity(detector.data_range, dtype)
        return float(detector.data_range)
    if detector.preprocess_ is None:
        known = validation.usual_data_range([dtype])
    else:
        known = getattr(detector.preprocess_, "data_range", None)
    if known is not None:
        return float(known)
    return float(np.ptp(inputs if used is None else inputs[used])) or 1.0


def new_model(detector: Any, pixels: int, seed: int) -> Any:
    """Return a fresh model for images of so many pixels."""
    # With as many components as pixels, the model would reproduce anomalies too.
    components = max(1, min(COMPONENTS, pixels // 8))
    if detector.model is not None:
        model: Any = clone(detector.model)
    elif detector.aggregate_ == scoring.STATISTICS:
        model = GoodStatistics(components)
    elif detector.preprocess_ is None:
        model = PCAAutoencoder(components)
    elif imsim.METRICS[detector.metric].needs_contrast:
        model = PCAAutoencoder(PATCH_COMPONENTS, patch=PATCH)
    else:
        model = MeanModel()
    for name in ("random_state", "seed"):
        if model.get_params().get(name, 0) is None:
            model.set_params(**{name: seed})
    return model


class Prepared(NamedTuple):
    """Images as they are compared."""

    images: Floats
    masks: Booleans | None
    """Where they are compared; None: everywhere. Empty for an image that cannot be used."""
    problems: dict[int, str]
    """Why images cannot be used, as far as the preprocess says."""

    @property
    def usable(self) -> Booleans:
        """Which images can be used."""
        if self.masks is None:
            return np.ones(len(self.images), np.bool_)
        usable: Any = self.masks.any(axis=(1, 2))
        return np.asarray(usable)


def prepared(
    frames: NDArray[Any], used: Booleans | None, preprocess: Any, pose: Pose | None
) -> Prepared:
    """Return preprocessed images, in their common pose if there is one."""
    if preprocess is None:
        images, inside = stacks.check_images(frames, used, leave_out=True)
        if pose is not None:
            images, inside = pose.transform(images, inside)
        return Prepared(images, inside, {})
    with silent(imsim.EmptyMaskWarning, UnusableImageWarning):
        images, inside, *problems = preprocess.transform(stacks.finite_outside(frames, used))
    inputs, inside = stacks.check_images(
        images, inside if used is None else inside & used, leave_out=True
    )
    inside = np.ones(inputs.shape, bool) if inside is None else inside
    return Prepared(inputs, inside, problems[0] if problems else {})


def few_constant(found: Prepared, earlier: Doubles | None = None) -> Booleans:
    """Return which usable images are constant, such as a black frame; none if most good ones are.

    Good ones are these, and those learned from before, of which `earlier` has the raw statistics.
    """
    usable, used = found.usable, True if found.masks is None else found.masks
    highest = found.images.max(axis=(1, 2), initial=-np.inf, where=used)
    lowest = found.images.min(axis=(1, 2), initial=np.inf, where=used)
    constant: Booleans = usable & (highest == lowest)
    level, contrast = np.empty((2, 0)) if earlier is None else earlier[:, :2].T
    before = (contrast <= _ROUNDING * np.abs(level)).sum()
    number = int(constant.sum())
    if 2 * (number + before) < usable.sum() + len(level):
        return constant
    if number >= LEAST_IMAGES:
        warn(
            f"{number} of {usable.sum()} good images are constant, such as black frames, and are "
            "learned from, since most good ones are: such images pass as good; leave them out if "
            "they show nothing",
            UserWarning,
        )
    return np.zeros_like(constant)


def reasons(
    frames: NDArray[Any], used: Booleans | None, which: Booleans, problems: dict[int, str]
) -> dict[int, str]:
    """Return why the marked images cannot be compared, by their indices."""
    return {
        i: problems.get(i) or stacks.damage(frames[i], stacks.masks_at(used, i)) or _NOTHING_LEFT
        for i in np.flatnonzero(which).tolist()
    }


def fitted_preprocess(given: Any, frames: NDArray[Any]) -> Any:
    """Return a fresh preprocess that was fitted; refuse the peel of images without single items.

    There is a warning instead if the caller passed a peel, or if patterns are the only reason.
    """
    if given is None:
        return None
    preprocess = clone(VirtualPeel() if isinstance(given, str) else given)
    with silent(imsim.EmptyMaskWarning, UnusableImageWarning):  # the detector warns of them
        preprocess.fit(frames)
    if not isinstance(preprocess, VirtualPeel):
        return preprocess
    sample = frames[stacks.sample_of(len(frames), _DOUBTED)]
    doubts = preprocess.doubts(sample)
    if len(doubts) <= len(sample) / 2:
        return preprocess
    counts = Counter(doubts.values())
    reason = counts.most_common(1)[0][0]
    message = (
        "most of the good images do not look like X-ray images of single items with the open "
        f"beam around them, as the peel needs them ({len(doubts)} of {len(sample)}; the "
        f"commonest reason: one {reason}): for other images pass preprocess=None, on the "
        "command line --preprocess none; for X-ray images take a larger frame, or pass "
        "preprocess=VirtualPeel()"
    )
    if isinstance(given, str) and len(doubts) - counts[VARIED] > len(sample) / 2:
        raise imsim.ImsimError(message)
    warn(message, UnlikelyItemWarning)
    return preprocess


def fitted_pose(frames: NDArray[Any]) -> Pose | None:
    """Return a pose that makes good images more alike, place by place; None if none does."""
    images, inside = stacks.check_images(frames, leave_out=True)
    images = images if inside is None else images[inside.any(axis=(1, 2))]
    with silent(UserWarning):  # the detector warns of them
        images = images[~few_constant(Prepared(images, None, {}))]
    if len(images) < LEAST_IMAGES or min(images.shape[1:]) < LEAST_SIDE:
        return None
    pose = Pose().fit(images)
    sample = images[stacks.sample_of(len(images), SAMPLE)]
    if pose.is_found_ and place_surprise(pose.transform(sample)[0]) < place_surprise(sample):
        return pose
    return None


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
    """What is known about how a model was made."""

    lessons: tuple[Lesson, ...]  # the fit, and the updates in their order
    digests: NDArray[np.uint8]
    """The first 16 bytes of the SHA-256 of each image that was learned from, shape (n, 16)."""

    @property
    def sizes(self) -> list[int]:
        """Number of images that were learned from each time."""
        return [lesson.images for lesson in self.lessons]

    @property
    def images(self) -> int:
        """Number of images that were learned from."""
        return sum(self.sizes)

    @property
    def left_out(self) -> int:
        """Number of images that could not be used."""
        return sum(lesson.left_out for lesson in self.lessons)

    @classmethod
    def of(
        cls, images: NDArray[Any], note: str, left_out: int = 0, earlier: Self | None = None
    ) -> Self:
        """Make the card of a model that has just learned from these images, and `earlier` ones."""
        versions = {"imsim": imsim.__version__, "python": platform.python_version()}
        versions |= {name: metadata.version(name) for name in _LIBRARIES}
        date = datetime.now(UTC).isoformat(timespec="seconds")
        lesson = Lesson(date, len(images), left_out, versions, note)
        if earlier is None:
            return cls((lesson,), digests_of(images))
        return cls(
            (*earlier.lessons, lesson), np.concatenate([earlier.digests, digests_of(images)])
        )

    def knows(self, images: NDArray[Any]) -> Booleans:
        """Return which images were learned from, bit for bit."""
        known = {digest.tobytes() for digest in self.digests}
        return np.array([digest.tobytes() in known for digest in digests_of(images)], np.bool_)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the lessons in types of JSON."""
        return [asdict(lesson) for lesson in self.lessons]

    def get_state(self) -> State:
        """Return what ``from_state`` needs."""
        return {"lessons": self.to_list()}, {"digests": self.digests}

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: Arrays) -> Self:
        """Make a card from the result of `get_state`; refuse everything else."""
        made = tuple(Lesson(**lesson) for lesson in state.pop("lessons"))
        for lesson in made:
            texts = (lesson.date, lesson.note, *lesson.versions, *lesson.versions.values())
            are_counts = all(type(n) is int and n >= 0 for n in (lesson.images, lesson.left_out))
            if state or not all(isinstance(t, str) for t in texts) or not are_counts:
                raise imsim.OptionError("its card is none that a model has")
            datetime.fromisoformat(lesson.date)
        card = cls(made, arrays.take("digests", np.uint8, None, _IMAGE_DIGEST))
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
    joined = np.frombuffer(b"".join(d[:_IMAGE_DIGEST] for d in found), np.uint8)
    return joined.reshape(len(images), _IMAGE_DIGEST)
