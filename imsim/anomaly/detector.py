"""The anomaly detector: preprocess, reconstruct, compare, decide.

Longer than 450 lines: it is one class, in scikit-learn's manner.
"""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

import imsim
from imsim.anomaly import detector_state, learning, scoring
from imsim.anomaly.card import Card, digests_of
from imsim.anomaly.pca import MeanModel, PCAAutoencoder
from imsim.anomaly.pose import Pose, moved_back
from imsim.anomaly.raw import RANGES, raw_statistics, times_the_contrast
from imsim.anomaly.stacks import (
    NOT_FINITE,
    Booleans,
    Doubles,
    Floats,
    as_stack,
    batch_images,
    check_images,
    check_masks,
    depth_of,
    filled,
    listed,
    masks_at,
    sample_of,
)
from imsim.anomaly.statistics import METRIC, SAMPLE, GoodStatistics, place_surprise
from imsim.anomaly.storage import Arrays, State, Stored
from imsim.anomaly.xray.frames import VARIED, UnlikelyItemWarning, UnusableImageWarning
from imsim.anomaly.xray.peel import VirtualPeel
from imsim.errors import silent, warn
from imsim.validation import (
    check_between,
    check_choice,
    check_data_range,
    check_integer,
    check_number,
    usual_data_range,
)
from imsim.workers import divided, in_parts

__all__ = ["AnomalyDetector", "Inspection", "Reconstruction", "UnscorableImageWarning"]

COMPONENTS = 60
"""Components of the default reconstruction of whole images, see docs/decisions.md."""
PATCH, PATCH_COMPONENTS = 8, 4
"""Side in pixels and components of patches, for peeled images if the metric needs contrast."""
LEAST_SIDE = 16
"""Least side in pixels of images whose items may be brought into one pose."""
LEARNED_BEFORE = "was learned from before"
LEAST_IMAGES = 3
"""Least number of good images: one is held out, and two are left to learn from."""
NOTHING_LEFT = "leaves nothing to compare"


class UnscorableImageWarning(UserWarning):
    """Some images have no score, since no part of them could be compared."""


class OddImageWarning(UserWarning):
    """Some good images are so unlike the others that they are not learned from."""


class Reconstruction(NamedTuple):
    """The images that the metric compares."""

    inputs: Floats
    """Preprocessed images, (n, height, width)."""
    reconstructions: Floats
    """The reconstructions by the model, of the same shape."""
    masks: Booleans | None
    """Where they are compared; None: everywhere."""


class Inspection(NamedTuple):
    """Scores of images, and the reasons why some have none."""

    scores: Doubles
    """Larger = more anomalous; NaN for an image of which no part could be compared."""
    problems: dict[int, str]
    """The reasons, by the indices of these images."""


@dataclass(eq=False, repr=False)
class AnomalyDetector(OutlierMixin, Stored):  # type: ignore[misc]
    """Tell anomalous images from good ones, having learned from good ones only.

    An image is preprocessed, a model that knows only good images reconstructs it, a metric measures
    how unlike the two are, and a threshold decides. The class follows scikit-learn's conventions
    for outlier detectors, on images of shape (n, height, width).

    The threshold comes from good images that were held out. Its rank among their scores is chosen
    so that a fresh good image is above it with a probability of at most `false_alarm_rate`; with
    fewer than ``1 / false_alarm_rate - 1`` the tail of their scores has to be extrapolated, and a
    warning says so. `false_alarms_` has the rate to expect and its interval.
    With ``aggregate="both"`` and ``"statistics"`` the probability is approximate: the same images
    also set the scales. The pose, and whether places mean something, are learned from all of them.

    Parameters
    ----------
    model : object, optional
        Anything with ``fit(images, masks)`` and ``reconstruct(images, masks)``, such as
        `PCAAutoencoder` and `ConvAutoencoder`. By default, without a preprocess,
        ``GoodStatistics(60)``, or ``PCAAutoencoder(60)`` for other metrics than FSIM or a given
        aggregate (fewer components where images have few pixels). After a preprocess, which
        removes what can be predicted, the mean of good texture (`imsim.anomaly.pca.MeanModel`).
    preprocess : {"xray", None} or object, optional
        ``"xray"`` is `imsim.anomaly.xray.VirtualPeel`; None compares images as they are.
        An object needs ``fit(images)`` and ``transform(images)``, which returns images and masks,
        and may add a dictionary from the index of an image to why it cannot be used.
    metric : str
        A name in `imsim.METRICS`.
    aggregate : {None, "mean", "worst", "highest", "both", "statistics"}
        See `imsim.anomaly.scoring`. ``"both"`` takes the larger of mean and worst window, each
        above the median of held-out good images, in units of the distance from there to their
        95 % quantile. ``"statistics"`` does the same with the distances of `GoodStatistics`, in
        the language of FSIM; the metric's map explains them. The default is ``"statistics"``
        for a model that has such distances, and for FSIM without a preprocess; else, for a metric
        with a map, ``"worst"`` after a preprocess and ``"both"`` without one; for any other metric
        it is ``"mean"``.
    window : int, optional
        Side of the worst window in pixels.
    false_alarm_rate : float
        The share of good images that may be flagged, between 0 and 1.
    folds : int, optional
        Number of parts of the good images. Each part is scored by a model of the others, and the
        final model learns from all. 1 trains once, and a fifth of the images is never learned from.
        The default is 5 for closed-form models, such as the default ones, and 1 for others.
    data_range : float, optional
        The metric's `data_range`. The default is that of the preprocess; without a preprocess, 255
        for uint8, 1 for bool, and else the range of the pixels of all good images.
    random_state : int, RandomState instance or None
        Seeds the folds, and the model if it has a parameter ``random_state`` or ``seed`` that is
        None.
    pose : {"auto", None}
        ``"auto"``, without a preprocess and masks, brings single items into one pose (``Pose`` in
        ``imsim.anomaly.pose``) if held-out good images are then more alike, place by place.
    fence : float or None
        Images among the good ones that are unlike the others are left out, and named by an
        `OddImageWarning`: those whose held-out scores are beyond Tukey's upper fence, this number
        of interquartile ranges above the upper quartile. At least 5 % and five images have to be
        so, and a quarter at most. None keeps all images.
    note : str
        Any text, kept with the model: which line, which product, which harvest.

    Attributes
    ----------
    threshold_ : float
        Images with a larger anomaly score are anomalous.
    false_alarms_ : Threshold
        The threshold with the false-alarm rate expected at it, and the interval of that rate with a
        confidence of 95 %: `value`, `rate`, `low`, `high`.
    offset_ : float
        ``-threshold_``; ``decision_function = score_samples - offset_``.
    model_, preprocess_, pose_ : object
        The fitted parts; `preprocess_` is None without a preprocess, `pose_` if images are compared
        as they lie.
    data_range_ : float
        The data range passed to the metric.
    aggregate_ : str
        The aggregate that is used.
    scales_ : float64 array, shape (2, columns)
        Median, and distance from it to the 95 % quantile, of each number of ``"both"`` and
        ``"statistics"``; 0 and 1 where there is one number.
    held_out_scores_ : float64 array, shape (n,)
        Anomaly scores of the usable good images by models that did not learn from them; NaN for
        images that were not held out. Those of an update follow.
    held_out_columns_ : float64 array, shape (n, columns)
        The numbers, before they are scaled, of which these scores are made.
    raw_statistics_ : float64 array, shape (n, 7)
        Of the good images that were learned from, for `DriftAlarm`.
    shape_, depth_ : (int, int) and str
        Height and width of the images learned from, and their type of number: the name of the
        dtype, or "float" for any precision. Other images are refused.
    n_features_in_ : int
        Pixels of an image.
    left_out_ : dict of int to str
        Why good images were left out of the training, by their indices.
    odd_ : dict of int to float
        Scores of good images that are so unlike the others that they were left out, by their
        indices.
    card_ : Card
        When the model learned from how many images, with which versions of the libraries, and
        whether it knows an image: ``card_.knows(images)``.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import AnomalyDetector
    >>> y, x = np.mgrid[:32, :32]
    >>> rng = np.random.default_rng(0)
    >>> good = 0.5 + 0.2 * np.sin(x / 3 + rng.random((40, 1, 1))) + 0.01 * rng.random((40, 32, 32))
    >>> bad = good[:2].copy()
    >>> bad[:, 10:14, 10:14] = 1
    >>> detector = AnomalyDetector(preprocess=None, data_range=1.0, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1, -1])
    """

    model: Any = None
    preprocess: Any = "xray"
    metric: str = "fsim"
    aggregate: str | None = None
    window: int = scoring.WINDOW
    false_alarm_rate: float = 0.05
    folds: int | None = None
    data_range: float | None = None
    random_state: Any = None
    pose: str | None = "auto"
    fence: float | None = 1.5
    note: str = ""

    def fit(self, good: Any, y: Any = None, masks: Any = None, groups: Any = None) -> Self:
        """Learn from good images, at least three of them usable; the others are left out.

        scikit-learn passes `y`, which is not used. The masks of a preprocess are intersected with
        the given ones. ``groups`` gives each image a name or a number: images of one group, such as
        versions of one item, are held out together, so that none is scored by a model that saw
        another. So are equal images.

        Raises
        ------
        ImsimError
            If a parameter, the images or the masks are not as described; if fewer than three
            images can be used; if the threshold would be infinite; or if, with
            ``preprocess="xray"``, most images do not look like X-ray images of single items.

        Warns
        -----
        UnscorableImageWarning
            If images cannot be used; UserWarning if they are too few for the false-alarm rate.
        UnlikelyItemWarning
            If most images do not look like X-ray images of single items, but a `VirtualPeel` was
            passed, or only their patterns are the reason.
        """
        if getattr(y, "ndim", 0) > 1:
            raise imsim.OptionError("y has several axes, but is not used: pass masks=... by name")
        self.model_: Any
        self.aggregate_ = self._check_parameters()
        generator = np.random.default_rng(_random_state(self.random_state).randint(2**31))
        frames = as_stack("images", good)
        named = learning.check_groups(groups, len(frames))
        given = None if masks is None else check_masks(masks, frames.shape)
        given = None if given is not None and given.all() else given
        self.shape_, self.depth_ = frames.shape[1:], depth_of(frames)
        self.n_features_in_ = int(np.prod(self.shape_))
        self._fit_preprocess(filled(frames, given))
        self._fit_pose(frames, given)
        inputs, used, problems = self._prepare(frames, given)
        usable: Any = np.ones(len(inputs), bool) if used is None else used.any(axis=(1, 2))
        self.left_out_ = _reasons(frames, given, ~usable, problems)
        _check_usable(usable, self.left_out_)
        seen = (inputs, used)
        if self.pose_ is not None:  # turned images have other pixels
            seen = check_images(frames, given, leave_out=True)
        self.data_range_ = self._find_data_range(frames.dtype, *seen)
        inputs, used = inputs[usable], masks_at(used, usable)
        seed = int(generator.integers(2**31))
        if named is not None:
            learning.check_left(named[usable], len(inputs))
        dealt = learning.deal_folds(
            len(inputs),
            self.folds or (learning.FOLDS if self._is_closed() else 1),
            generator,
            _groups_of(frames, usable, named),
        )
        # With masks of the caller, the distances from the rim that was peeled are not known.
        peel = self.preprocess_ if given is None else None
        columns, odd = self._learn(inputs, used, dealt, seed, peel)
        self._decide(columns, odd, np.flatnonzero(usable), [int((~odd).sum())])
        learned = np.flatnonzero(usable)[~odd]
        self.raw_statistics_ = raw_statistics(frames[learned], masks_at(given, learned))
        self.card_ = Card.of(frames[learned], self.note, len(self.left_out_))
        return self

    def update(self, good: Any, masks: Any = None, groups: Any = None) -> Self:
        """Learn further good images, such as those of a new harvest, and set the threshold anew.

        The new images are scored, part by part, by models that learned from the others: these
        scores join those of the earlier good images. The threshold keeps the false-alarm rate among
        all of them, and among those of each update of at least 20 images. The preprocess and the
        pose stay as they were learned; images that were learned before are left out.

        Raises
        ------
        ImsimError
            If the images are not like those learned from, none of them can be used or is new, or
            the model cannot learn further: fit again, with all images, earlier and new ones.

        Warns
        -----
        UnscorableImageWarning, OddImageWarning, UserWarning
            As in `fit`; also if the images seem to have another range of numbers.
        """
        before = self.__dict__.copy()
        try:
            self._update(*self._check_images(good, masks), groups)
        except BaseException:  # what is learned by half is not kept
            self.__dict__ = before
            raise
        return self

    def _update(self, frames: NDArray[Any], given: Booleans | None, groups: Any) -> None:
        named = learning.check_groups(groups, len(frames))
        earlier: Any = self.model_
        if not hasattr(self.model_, "partial_fit"):
            raise imsim.OptionError(
                f"a {type(self.model_).__name__} cannot learn further: call fit(good) with all "
                "good images, earlier and new ones"
            )
        inputs, used, problems = self._prepare(frames, given)
        usable: Any = np.ones(len(inputs), bool) if used is None else used.any(axis=(1, 2))
        self.left_out_ = _reasons(frames, given, ~usable, problems)
        unusable = len(self.left_out_)
        for i in np.flatnonzero(usable & self.card_.knows(frames)):
            self.left_out_[int(i)], usable[i] = LEARNED_BEFORE, False
        if not usable.any():
            raise imsim.ImsimError(
                f"none of {len(frames)} images can be learned from: {listed(self.left_out_)}"
            )
        _warn_of(self.left_out_, len(frames))
        inputs, used = inputs[usable], masks_at(used, usable)
        dealt = learning.deal_folds(
            len(inputs),
            learning.FOLDS,
            np.random.default_rng(_random_state(self.random_state).randint(2**31)),
            _groups_of(frames, usable, named),
        )
        odd: Booleans = np.zeros(len(inputs), np.bool_)
        before = self.held_out_columns_
        columns = self._cross_update(inputs, used, dealt, odd)
        if self.fence is not None and len(inputs) >= learning.LEAST_UPDATE:
            odd = learning.odd_ones(columns, self.fence)
            if odd.any():
                self.model_ = earlier
                columns = self._cross_update(inputs, used, dealt, odd)
        self._decide(
            np.concatenate([before, columns]),
            np.concatenate([np.zeros(len(before), np.bool_), odd]),
            np.concatenate([np.full(len(before), -1), np.flatnonzero(usable)]),
            [*(lesson.images for lesson in self.card_.lessons), int((~odd).sum())],
        )
        learned = np.flatnonzero(usable)[~odd]
        raw = raw_statistics(frames[learned], masks_at(given, learned))
        times = times_the_contrast(raw, self.raw_statistics_)
        if not 1 / RANGES < times < RANGES:
            warn(
                f"the new images have {times:.3g} times the contrast of those learned from before: "
                "if they have another range of numbers, convert them, and update the detector as "
                "it was saved before; a model of both hardly finds what is wrong in either",
                UserWarning,
            )
        self.raw_statistics_ = np.concatenate([self.raw_statistics_, raw])
        self.card_ = self.card_.extended(frames[learned], self.note, unusable)

    def inspect(self, images: Any, masks: Any = None) -> Inspection:
        """Return scores as `anomaly_score` does, with the reasons of NaN instead of a warning."""
        frames, used = self._check_images(images, masks)
        scores = np.empty(len(frames))
        reasons: dict[int, str] = {}

        def judge(part: slice) -> dict[int, str]:
            batch, given = frames[part], masks_at(used, part)
            inputs, inside, problems = self._prepare(batch, given)
            scores[part] = scoring.most_anomalous(self._compare(inputs, inside), self.scales_)
            found = _reasons(batch, given, np.isnan(scores[part]), problems)
            return {part.start + i: reason for i, reason in found.items()}

        parts = (self.model_, self.preprocess_ or self.model_)
        if all(type(part).__module__.startswith("imsim.") for part in parts):
            # Images are peeled and compared side by side: these need Python at different times.
            found = in_parts(judge, len(frames), batch_images(frames))
        else:  # what others wrote or derived may not expect several threads
            found = [judge(part) for part in divided(len(frames), 4 * batch_images(frames))]
        for part in found:
            reasons |= part
        return Inspection(scores, reasons)

    def anomaly_score(self, images: Any, masks: Any = None) -> Doubles:
        """Return how anomalous images are, float64 of shape (n,); larger = more.

        The score is NaN for an image of which no part could be compared, such as an empty frame;
        an `UnscorableImageWarning` names these images.
        """
        scores, problems = self.inspect(images, masks)
        if problems:
            message = f"{len(problems)} of {len(scores)} images have no score: {listed(problems)}"
            warn(message, UnscorableImageWarning)
        return scores

    def problems(self, images: Any, masks: Any = None) -> dict[int, str]:
        """Return the reasons why images have no score, by their indices."""
        return self.inspect(images, masks).problems

    def score_samples(self, images: Any, masks: Any = None) -> Doubles:
        """Return ``-anomaly_score(images, masks)``, scikit-learn's orientation."""
        return -self.anomaly_score(images, masks)

    def decision_function(self, images: Any, masks: Any = None) -> Doubles:
        """Return ``threshold_ - anomaly_score(images, masks)``: negative for anomalies."""
        return self.score_samples(images, masks) - self.offset_

    def predict(self, images: Any, masks: Any = None) -> NDArray[np.int_]:
        """Return +1 for good images and -1 for anomalous ones, and for those without a score.

        An image that could not be inspected must not pass as good.
        """
        return np.where(self.anomaly_score(images, masks) <= self.threshold_, 1, -1)

    def anomaly_map(self, images: Any, masks: Any = None) -> Doubles:
        """Return the metric's map, larger = more anomalous, NaN where nothing was compared.

        Raises
        ------
        OptionError
            If the metric has no map.
        """
        inputs, reconstructions, used = self.reconstruct(images, masks)
        found = scoring.dissimilarity_map(
            self.metric, inputs, reconstructions, masks=used, data_range=self.data_range_
        )
        if self.pose_ is None:
            return found
        frames, given = self._check_images(images, masks)
        unposed, _ = check_images(frames, given, leave_out=True)
        return moved_back(found.astype(np.float64), self.pose_.placements(unposed))

    def reconstruct(self, images: Any, masks: Any = None) -> Reconstruction:
        """Return what the metric compares: preprocessed images, reconstructions and masks.

        Where poses are learned, all three show the items in their common pose.
        """
        inputs, used, _ = self._prepare(*self._check_images(images, masks))
        return Reconstruction(inputs, self.model_.reconstruct(inputs, used), used)

    def describe(self) -> dict[str, str]:
        """Return what there is to say about the fitted detector, in words, by subject."""
        check_is_fitted(self, "threshold_")
        height, width = self.shape_
        found = {
            "metric": f"{self.metric}, {imsim.METRICS[self.metric].title}",
            "what counts": self.aggregate_,
            "preprocess": "none" if self.preprocess_ is None else repr(self.preprocess_),
            "model": repr(self.model_),
            "threshold": f"{self.threshold_:.6g}",
            "false alarms asked for": f"{self.false_alarm_rate:.3g}",
            "false alarms expected": str(self.false_alarms_),
            "learned from": f"{self.card_.images} good images of {width} x {height} pixels "
            f"({self.depth_}), {self.false_alarms_.number} of them held out in turn",
        }
        for number, lesson in enumerate(self.card_.lessons):
            versions = [f"{name} {version}" for name, version in lesson.versions.items()]
            words = [lesson.date, f"{lesson.images} images", lesson.note, *versions]
            found[f"update {number}" if number else "fit"] = ", ".join(filter(None, words))
        return found

    def __sklearn_tags__(self) -> Any:
        """Say that the input is three-dimensional."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    def _check_parameters(self) -> str:
        """Check what `fit` needs; return the aggregate."""
        plain = self.preprocess is None
        has_distances = hasattr(self.model, "distances")
        if self.model is None and plain and isinstance(self.metric, str) and self.metric == METRIC:
            has_distances = self.aggregate in (None, scoring.STATISTICS)
        aggregate = scoring.choose_aggregate(
            self.aggregate, self.metric, not plain, has_distances=has_distances
        )
        check_choice("pose", self.pose, ("auto", None))
        check_between("false_alarm_rate", self.false_alarm_rate)
        check_integer("window", self.window, 1)
        if self.folds is not None:
            check_integer("folds", self.folds, 1)
        if self.fence is not None:
            check_number("fence", self.fence)
        if not isinstance(self.note, str):
            raise imsim.OptionError(f"note={self.note!r}; expected a text")
        if self.data_range is not None:
            check_data_range(self.data_range, (), None, np)
        _check_part("model", self.model, "reconstruct", (None,), "PCAAutoencoder(components=60)")
        _check_part("preprocess", self.preprocess, "transform", ("xray", None), "VirtualPeel()")
        return aggregate

    def _check_images(self, images: Any, masks: Any) -> tuple[NDArray[Any], Booleans | None]:
        """Return images like those learned from, and their masks or None."""
        check_is_fitted(self, "threshold_")
        frames = as_stack("images", images)
        if frames.shape[1:] != self.shape_:
            raise imsim.ShapeError(
                "images are {1} x {0} pixels, those learned from {3} x {2}: resize them, or fit a "
                "detector to images of this size".format(*frames.shape[1:], *self.shape_)
            )
        if depth_of(frames) != self.depth_:
            raise imsim.DTypeError(
                f"images are of type {depth_of(frames)}, those learned from {self.depth_}, and may "
                "mean something else: convert them, or fit a detector to images of this type"
            )
        return frames, None if masks is None else check_masks(masks, frames.shape)

    def _is_closed(self) -> bool:
        """Whether the model is learned in one step, so that folds cost little."""
        closed = PCAAutoencoder | MeanModel | GoodStatistics
        return self.model is None or isinstance(self.model, closed)

    def _fit_preprocess(self, frames: NDArray[Any]) -> None:
        """Fit a fresh preprocess; refuse the peel of images that hardly show single items.

        About 100 images are looked at. If the caller passed a peel, or if patterns are the only
        reason, there is a warning instead.
        """
        given = VirtualPeel() if isinstance(self.preprocess, str) else self.preprocess
        self.preprocess_ = None if given is None else clone(given)
        if self.preprocess_ is None:
            return
        with silent(imsim.EmptyMaskWarning, UnusableImageWarning):  # `fit` warns of them together
            self.preprocess_.fit(frames)
        if not isinstance(self.preprocess_, VirtualPeel):
            return
        sample = frames[sample_of(len(frames), 100)]
        doubts = self.preprocess_.doubts(sample)
        if len(doubts) <= len(sample) / 2:
            return
        reasons = Counter(doubts.values())
        reason = reasons.most_common(1)[0][0]
        message = (
            "most of the good images do not look like X-ray images of single items with the open "
            f"beam around them, as the peel needs them ({len(doubts)} of {len(sample)}; the "
            f"commonest reason: one {reason}): for other images pass preprocess=None, on the "
            "command line --preprocess none; for X-ray images take a larger frame, or pass "
            "preprocess=VirtualPeel()"
        )
        if isinstance(self.preprocess, str) and len(doubts) - reasons[VARIED] > len(sample) / 2:
            raise imsim.ImsimError(message)
        warn(message, UnlikelyItemWarning)

    def _fit_pose(self, frames: NDArray[Any], used: Booleans | None) -> None:
        """Fit a pose if it makes good images more alike, place by place."""
        self.pose_: Pose | None = None
        if self.pose is None or self.preprocess_ is not None or used is not None:
            return
        images, inside = check_images(frames, leave_out=True)
        images = images if inside is None else images[inside.any(axis=(1, 2))]
        if len(images) < LEAST_IMAGES or min(self.shape_) < LEAST_SIDE:
            return
        pose = Pose().fit(images)
        sample = images[sample_of(len(images), SAMPLE)]
        if pose.is_found_ and place_surprise(pose.transform(sample)[0]) < place_surprise(sample):
            self.pose_ = pose

    def _prepare(
        self, frames: NDArray[Any], used: Booleans | None
    ) -> tuple[Floats, Booleans | None, dict[int, str]]:
        """Return preprocessed images, their masks, and the problems named by the preprocess.

        An image that cannot be used has an empty mask.
        """
        if self.preprocess_ is None:
            images, inside = check_images(frames, used, leave_out=True)
            if self.pose_ is not None:
                images, inside = self.pose_.transform(images, inside)
            return images, inside, {}
        with silent(imsim.EmptyMaskWarning, UnusableImageWarning):
            images, inside, *problems = self.preprocess_.transform(filled(frames, used))
        inputs, inside = check_images(
            images, inside if used is None else inside & used, leave_out=True
        )
        inside = np.ones(inputs.shape, bool) if inside is None else inside
        return inputs, inside, problems[0] if problems else {}

    def _find_data_range(self, dtype: Any, inputs: Floats, used: Booleans | None) -> float:
        """Return the given range, or that of preprocess or dtype, or that of the images."""
        if self.data_range is not None:
            return float(self.data_range)
        if self.preprocess_ is None:
            known = usual_data_range([dtype])
        else:
            known = getattr(self.preprocess_, "data_range", None)
        if known is not None:
            return float(known)
        return float(np.ptp(inputs if used is None else inputs[used])) or 1.0

    def _new_model(self, inputs: Floats, seed: int) -> Any:
        """Return a fresh model."""
        # With as many components as pixels, the model would reproduce anomalies too.
        components = max(1, min(COMPONENTS, inputs[0].size // 8))
        if self.model is not None:
            model: Any = clone(self.model)
        elif self.aggregate_ == scoring.STATISTICS:
            model = GoodStatistics(components)
        elif self.preprocess_ is None:
            model = PCAAutoencoder(components)
        elif imsim.METRICS[self.metric].needs_contrast:
            model = PCAAutoencoder(PATCH_COMPONENTS, patch=PATCH)
        else:
            model = MeanModel()
        for name in ("random_state", "seed"):
            if model.get_params().get(name, 0) is None:
                model.set_params(**{name: seed})
        return model

    def _fit_model(self, inputs: Floats, used: Booleans | None, index: Any, seed: int) -> Any:
        """Fit a fresh model to some of the images."""
        model = self._new_model(inputs, seed)
        self.model_ = model.fit(inputs[index], masks_at(used, index))
        return self.model_

    def _learn(
        self,
        inputs: Floats,
        used: Booleans | None,
        dealt: list[NDArray[np.intp]],
        seed: int,
        peel: Any,
    ) -> tuple[Doubles, Booleans]:
        """Learn from images that are no odd ones; return columns of scores, and which are odd."""
        odd: Booleans = np.zeros(len(inputs), np.bool_)
        columns = self._cross_fit(inputs, used, dealt, odd, seed, peel)
        if self.fence is None:
            return columns, odd
        first = 0
        for _ in range(learning.ROUNDS):
            found = learning.odd_ones(columns, self.fence, odd)
            first = first or int(found.sum())
            most = min(learning.MOST_ODD * len(odd), learning.GROWTH * first)
            if found.sum() > most:  # good images simply differ
                found = np.zeros_like(odd)
            if (found == odd).all():
                break
            odd = found
            if used is not None and isinstance(peel, VirtualPeel):
                inputs = peel.learn_rim(inputs, used, np.flatnonzero(~odd))
            columns = self._cross_fit(inputs, used, dealt, odd, seed, peel)
            if not odd.any():
                break
        return columns, odd

    def _cross_fit(
        self,
        inputs: Floats,
        used: Booleans | None,
        dealt: list[NDArray[np.intp]],
        odd: Booleans,
        seed: int,
        peel: Any,
    ) -> Doubles:
        """Return columns of scores of held-out images; NaN for those that are in no fold.

        Each part is scored by a model of the others, of which none learns from odd images. The
        final model is left in `model_`; with a single fold it is the one that scored.
        """
        learned = np.flatnonzero(~odd)
        if self.aggregate_ == scoring.STATISTICS and len(dealt) > 1:
            self.model_ = self._new_model(inputs, seed)
            if isinstance(self.model_, GoodStatistics):
                return self.model_.cross_fit(inputs, used, dealt, learned)
        final = None
        if len(dealt) > 1:
            final = self._fit_model(inputs, used, learned, seed)
        found = []
        for held_out in dealt:
            these, others = inputs, np.setdiff1d(learned, held_out)
            if used is not None and isinstance(peel, VirtualPeel):
                these = peel.with_rim_of(inputs, used, others)
            self._fit_model(these, used, others, seed)
            found.append(self._compare(these[held_out], masks_at(used, held_out)))
        if final is not None:
            self.model_ = final
        columns = np.full((len(inputs), found[0].shape[1]), np.nan)
        columns[np.concatenate(dealt)] = np.concatenate(found)
        return columns

    def _cross_update(
        self,
        inputs: Floats,
        used: Booleans | None,
        dealt: list[NDArray[np.intp]],
        odd: Booleans,
    ) -> Doubles:
        """Return columns of scores of new images, each held out; `model_` learns all but odd ones.

        A single new image is scored by the earlier model.
        """
        earlier, learned = self.model_, np.flatnonzero(~odd)

        def extended(some: NDArray[np.intp]) -> Any:
            model = deepcopy(earlier)
            return model.partial_fit(inputs[some], masks_at(used, some))

        columns = []
        for held_out in dealt:
            others = np.setdiff1d(learned, held_out)
            self.model_ = extended(others) if others.size else earlier
            columns.append(self._compare(inputs[held_out], masks_at(used, held_out)))
        self.model_ = extended(learned)
        result = np.empty((len(inputs), columns[0].shape[1]))
        result[np.concatenate(dealt)] = np.concatenate(columns)
        return result

    def _decide(
        self,
        columns: Doubles,
        odd: Booleans,
        places: NDArray[np.intp],
        sizes: list[int],
    ) -> None:
        """Set the threshold by held-out images that are not odd; name the odd ones.

        `places` are the indices of the images among those that the caller gave, `sizes` the numbers
        of images, without odd ones, of the fit and of each update.
        """
        self.scales_ = scoring.scales(columns[~odd])
        every = scoring.most_anomalous(columns, self.scales_)
        scores = every[~odd]
        if np.isnan(scores).all():
            raise imsim.ImsimError(
                f"{self.metric} gives no score for any good image: are the masks too small?"
            )
        found = learning.threshold_of(scores, sizes, self.false_alarm_rate)
        if not found.value < np.inf:
            raise imsim.ImsimError(
                f"{self.metric} gives good images infinite scores, to which there is no threshold: "
                "the model reproduces them exactly; take another metric, or images with noise"
            )
        self.held_out_columns_, self.held_out_scores_ = columns[~odd], scores
        self.threshold_, self.offset_ = found.value, -found.value
        self.false_alarms_ = found
        pairs = zip(places[odd].tolist(), every[odd].tolist(), strict=True)
        self.odd_: dict[int, float] = dict(pairs)
        if self.odd_:
            shown = ", ".join(map(str, sorted(self.odd_)[:10])) + (
                ", ..." if odd.sum() > 10 else ""
            )
            warn(
                f"{len(self.odd_)} good images are unlike the others (index {shown}) and are not "
                "learned from: look at them, and if they are good, pass fence=None",
                OddImageWarning,
            )

    def _compare(self, inputs: Floats, used: Booleans | None) -> Doubles:
        """Return a column of scores for each aggregate."""
        if self.aggregate_ == scoring.STATISTICS:
            distances: Doubles = np.asarray(self.model_.distances(inputs, used), dtype=np.float64)
            return distances
        made = self.model_.reconstruct(inputs, used)
        how = {"masks": used, "data_range": self.data_range_, "window": self.window}
        return scoring.every_score(self.metric, self.aggregate_, inputs, made, **how)

    def get_state(self) -> State:
        """Return what `from_state` needs; model and preprocess must be of `imsim.anomaly`."""
        return detector_state.state_of(self)

    @classmethod
    def from_state(cls, parameters: dict[str, Any], arrays: Arrays) -> Self:
        """Make a fitted detector from the result of `get_state`."""
        detector = cls()
        detector_state.restore(detector, parameters, arrays)
        return detector


def _groups_of(
    frames: NDArray[Any], usable: Booleans, named: NDArray[Any] | None
) -> NDArray[Any] | None:
    """Return the groups of usable images: those that were named, with equal images together."""
    return learning.with_twins(None if named is None else named[usable], digests_of(frames[usable]))


def _reasons(
    frames: NDArray[Any], used: Booleans | None, which: Booleans, problems: dict[int, str]
) -> dict[int, str]:
    """Return why the marked images cannot be compared, by their indices."""
    found = {}
    for i in np.flatnonzero(which).tolist():
        with np.errstate(over="ignore"):
            sound = np.isfinite(frames[i].astype(np.float32))
        unsound = not (sound if used is None else sound | ~used[i]).all()
        found[i] = problems.get(i) or (NOT_FINITE if unsound else NOTHING_LEFT)
    return found


def _check_usable(usable: Booleans, problems: dict[int, str]) -> None:
    """Warn of good images that cannot be used; refuse if too few are left."""
    if usable.sum() < LEAST_IMAGES:
        why = "".join(f"; images[{i}] {reason}" for i, reason in [*problems.items()][:1])
        raise imsim.ImsimError(
            f"{usable.sum()} of {len(usable)} good images can be used; expected at least "
            f"{LEAST_IMAGES}: pass more images{why}"
        )
    _warn_of(problems, len(usable))


def _warn_of(problems: dict[int, str], count: int) -> None:
    """Warn of images that are left out of the training."""
    if problems:
        message = f"{len(problems)} of {count} images are left out of the training"
        warn(f"{message}: {listed(problems)}", UnscorableImageWarning)


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


def _random_state(given: Any) -> Any:
    try:
        if not isinstance(given, bool | np.bool_):
            return check_random_state(given)
    except ValueError:
        pass
    raise imsim.OptionError(
        f"random_state={given!r}; expected None, an integer from 0 to 2**32 - 1, or a RandomState"
    )
