"""The anomaly detector: preprocess, reconstruct, compare, decide.

Longer than 450 lines: it is one class, in scikit-learn's manner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin

import imsim
from imsim.anomaly import held_out, preparation, scoring, stacks
from imsim.anomaly.descriptions import RAW, check_raw, raw_statistics, warn_of_other_range
from imsim.anomaly.pca import MeanModel, PCAAutoencoder
from imsim.anomaly.pose import Pose, moved_back
from imsim.anomaly.stacks import Booleans, Doubles, Floats
from imsim.anomaly.statistics import GoodStatistics
from imsim.anomaly.storage import Arrays, Stored, all_or_nothing
from imsim.anomaly.xray.peel import VirtualPeel
from imsim.errors import silent, warn
from imsim.validation import check_choice, check_data_range, check_integer
from imsim.workers import divided, in_parts

__all__ = ["AnomalyDetector", "Inspection", "Reconstruction", "UnscorableImageWarning"]

LEARNED_BEFORE = "was learned from before"


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
    With ``aggregate="both"`` and ``"statistics"``, each of these images has its score in the scales
    of the others. The pose, and whether places mean something, are learned from all of them.

    Parameters
    ----------
    model : object, optional
        Anything with ``fit(images, masks)`` and ``reconstruct(images, masks)``, such as
        `PCAAutoencoder` and `ConvAutoencoder`. By default, without a preprocess,
        ``GoodStatistics(60)``, or ``PCAAutoencoder(60)`` for other metrics than FSIM or a given
        aggregate (fewer components where images have few pixels). After a preprocess, which
        removes what can be predicted, the mean of good texture (`imsim.anomaly.pca.MeanModel`);
        for UIQ and ZNCC, which need contrast, a `PCAAutoencoder` of patches.
    preprocess : {"xray", None} or object, optional
        ``"xray"`` is `imsim.anomaly.xray.VirtualPeel`; None compares images as they are.
        An object needs ``fit(images)`` and ``transform(images)``, which returns images and masks,
        and may add a dictionary from the index of an image to why it cannot be used.
    metric : str
        A name in `imsim.METRICS`.
    aggregate : {None, "mean", "worst", "highest", "both", "statistics"}
        See `imsim.anomaly.scoring`. ``"both"`` takes the larger of mean and worst window, each
        above the median of held-out good images, in units of the distance from there to their
        95 % quantile. ``"statistics"`` does the same with the logarithms of the distances of
        `GoodStatistics`, in the language of FSIM; the metric's map explains them. The default is
        ``"statistics"`` for a model that has such distances, and for FSIM without a preprocess;
        else, for a metric with a map, ``"worst"`` after a preprocess and ``"both"`` without one;
        for any other metric it is ``"mean"``.
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
        of interquartile ranges above the upper quartile. At least 5 % and two images have to be
        so, of at least 40, and a quarter at most; of fewer than 100 that are not peeled, those
        twice as far. In case they are good after all, the threshold keeps 2.5 times the rate among
        all images, these included. None keeps all images.
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
        Anomaly scores of the usable good images by models that did not learn from them, in the
        scales of the other images; NaN for images that were not held out. Those of an update
        follow.
    held_out_columns_ : float64 array, shape (n, columns)
        The numbers, before they are scaled, of which these scores are made.
    odd_columns_ : float64 array, shape (m, columns)
        The same of the images that were left out as odd.
    raw_statistics_ : float64 array, shape (n, 11)
        Of the good images that were learned from, for `DriftAlarm`.
    shape_, depth_ : (int, int) and str
        Height and width of the images learned from, and their type of number: the name of the
        dtype, or "float" for any precision. Other images are refused.
    n_features_in_ : int
        Pixels of an image.
    left_out_ : dict of int to str
        Why good images were left out of the training, by their indices. Without a preprocess, so
        are constant ones, such as a black frame, unless most good images are constant, those
        learned before among them.
    odd_ : dict of int to float
        Scores of good images that are so unlike the others that they were left out, by their
        indices.
    unusual_ : dict of int to float
        Scores of the images of the last `update` that were anomalies before it, by their indices.
        Empty after `fit`.
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

    _LEARNED = (
        ("data_range", np.float64),
        ("shape", np.int64, 2),
        ("held_out_columns", np.float64, None, None),
        ("odd_columns", np.float64, None, None),
        ("raw_statistics", np.float64, None, len(RAW)),
        ("threshold", np.float64),
    )
    _MAYBE_ODD = ("held_out_columns", "odd_columns", "raw_statistics", "threshold")
    _TOLD = ("aggregate", "depth")
    _PARTS = (
        ("model", MeanModel, PCAAutoencoder, GoodStatistics, "ConvAutoencoder"),
        ("preprocess", VirtualPeel),
        ("pose", Pose),
        ("card", preparation.Card),
    )

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

    @all_or_nothing
    def fit(self, good: Any, y: Any = None, masks: Any = None, groups: Any = None) -> Self:
        """Learn from good images, at least three of them usable; the others are left out.

        scikit-learn passes `y`, which is not used. The masks of a preprocess are intersected with
        the given ones; the preprocess itself sees the whole image, since the peel needs the open
        beam, but for NaN and infinity outside the masks: these take the nearest finite value. Of a
        pixel outside all masks nothing is learned: leave it out of images to score, too. ``groups``
        gives each image a name or a number: images of one group, such as versions of one item, are
        held out together, so that none is scored by a model that saw another. So are equal images.

        Raises
        ------
        ImsimError
            If a parameter, the images or the masks are not as described; if fewer than three
            images can be used; if the threshold would be infinite; or if, with
            ``preprocess="xray"``, most images do not look like X-ray images of single items.

        Warns
        -----
        UnscorableImageWarning
            If images cannot be used; UserWarning if they are too few for the false-alarm rate, or
            are copies of too few.
        UnlikelyItemWarning
            If most images do not look like X-ray images of single items, but a `VirtualPeel` was
            passed, or only their patterns are the reason.
        """
        if getattr(y, "ndim", 0) > 1:
            raise imsim.OptionError("y has several axes, but is not used: pass masks=... by name")
        self.aggregate_ = preparation.check_parameters(self)
        generator = preparation.random_generator(self.random_state)
        frames = stacks.as_stack("images", good)
        named = held_out.check_groups(groups, len(frames))
        given = None if masks is None else stacks.check_masks(masks, frames.shape)
        given = None if given is not None and given.all() else given
        self.shape_, self.depth_ = frames.shape[1:], stacks.depth_of(frames)
        self.n_features_in_ = int(np.prod(self.shape_))
        self.preprocess_ = preparation.fitted_preprocess(
            self.preprocess, stacks.finite_outside(frames, given)
        )
        is_posed = self.pose is not None and self.preprocess_ is None and given is None
        self.pose_ = preparation.fitted_pose(frames) if is_posed else None
        found = self._prepared(frames, given)
        usable, self.left_out_ = self._usable(frames, given, found)
        if usable.sum() < preparation.LEAST_IMAGES:
            why = "".join(f"; images[{i}] {text}" for i, text in [*self.left_out_.items()][:1])
            raise imsim.ImsimError(
                f"{usable.sum()} of {len(usable)} good images can be used; expected at least "
                f"{preparation.LEAST_IMAGES}: pass more images{why}"
            )
        _warn_of(self.left_out_, len(usable))
        seen = (found.images[usable], stacks.masks_at(found.masks, usable))
        if self.pose_ is not None:  # turned images have other pixels
            seen = stacks.check_images(frames[usable], stacks.masks_at(given, usable))
        self.data_range_ = preparation.data_range_of(self, frames.dtype, *seen)
        digests = preparation.digests_of(frames[usable])
        held_out.warn_of_copies(digests, self.false_alarm_rate)
        seed = int(generator.integers(2**31))
        if named is not None:
            named = named[usable]
            held_out.check_left(named, len(named))
        closed = PCAAutoencoder | MeanModel | GoodStatistics | None  # learned in one step
        count = self.folds or (held_out.FOLDS if isinstance(self.model, closed) else 1)
        # With masks of the caller, the distances from the rim that was peeled are not known.
        peel = self.preprocess_ if given is None else None
        cross_fit = self._cross_fit(digests, found, usable, named, count, generator, peel)
        self.model_, columns, odd = cross_fit.fit_without_odd(
            lambda: preparation.new_model(self, self.n_features_in_, seed), self.fence
        )
        self.unusual_: dict[int, float] = {}
        self._decide(frames, given, found, usable, columns, odd)
        return self

    @all_or_nothing
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
            As in `fit`; also if the images seem to have another range of numbers, or if more of
            them are above the threshold so far than good images are: look at these first.
        """
        frames, given = self._check_images(good, masks)
        named = held_out.check_groups(groups, len(frames))
        earlier = self.model_
        if not hasattr(earlier, "partial_fit"):
            raise imsim.OptionError(
                f"a {type(earlier).__name__} cannot learn further: call fit(good) with all "
                "good images, earlier and new ones"
            )
        found = self._prepared(frames, given)
        usable, self.left_out_ = self._usable(frames, given, found, self.raw_statistics_)
        for i in np.flatnonzero(usable & self.card_.knows(frames)):
            self.left_out_[int(i)], usable[i] = LEARNED_BEFORE, False
        if not usable.any():
            raise imsim.ImsimError(
                f"none of {len(frames)} images can be learned from: {stacks.listed(self.left_out_)}"
            )
        _warn_of(self.left_out_, len(frames))
        named = None if named is None else named[usable]
        generator = preparation.random_generator(self.random_state)
        columns = self._compare(earlier, found.images[usable], stacks.masks_at(found.masks, usable))
        columns = scoring.as_counted(columns, self.aggregate_)
        scores = scoring.most_anomalous(columns, self.scales_)
        places = np.flatnonzero(usable)
        self.unusual_ = held_out.unusual_among(places, scores, self.false_alarms_)
        digests = preparation.digests_of(frames[usable])
        cross_fit = self._cross_fit(digests, found, usable, named, held_out.FOLDS, generator)
        self.model_, columns, odd = cross_fit.update_without_odd(earlier, self.fence)
        self._decide(frames, given, found, usable, columns, odd, self.card_)
        return self

    def inspect(self, images: Any, masks: Any = None) -> Inspection:
        """Return scores as `anomaly_score` does, with the reasons of NaN instead of a warning."""
        frames, used = self._check_images(images, masks)
        scores = np.empty(len(frames))
        problems: dict[int, str] = {}

        def judge(part: slice) -> dict[int, str]:
            batch, given = frames[part], stacks.masks_at(used, part)
            inputs, inside, known = self._prepared(batch, given)
            columns = self._compare(self.model_, inputs, inside)
            columns = scoring.as_counted(columns, self.aggregate_)
            scores[part] = scoring.most_anomalous(columns, self.scales_)
            found = preparation.reasons(batch, given, np.isnan(scores[part]), known)
            return {part.start + i: reason for i, reason in found.items()}

        parts = (self.model_, self.preprocess_ or self.model_)
        if all(type(part).__module__.startswith("imsim.") for part in parts):
            # Images are peeled and compared side by side: these need Python at different times.
            found = in_parts(judge, len(frames), stacks.batch_images(frames))
        else:  # what others wrote or derived may not expect several threads
            found = [judge(part) for part in divided(len(frames), 4 * stacks.batch_images(frames))]
        for part in found:
            problems |= part
        return Inspection(scores, problems)

    def anomaly_score(self, images: Any, masks: Any = None) -> Doubles:
        """Return how anomalous images are, float64 of shape (n,); larger = more.

        The score is NaN for an image of which no part could be compared, such as an empty frame;
        an `UnscorableImageWarning` names these images.
        """
        scores, problems = self.inspect(images, masks)
        if problems:
            message = (
                f"{len(problems)} of {len(scores)} images have no score: {stacks.listed(problems)}"
            )
            warn(message, UnscorableImageWarning)
        return scores

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
        frames, given = self._check_images(images, masks)
        inputs, used, _ = self._prepared(frames, given)
        reconstructions = self.model_.reconstruct(inputs, used)
        found = scoring.dissimilarity_map(
            self.metric, inputs, reconstructions, masks=used, data_range=self.data_range_
        )
        if self.pose_ is None:
            return found
        unposed, _ = stacks.check_images(frames, given, leave_out=True)
        return moved_back(found.astype(np.float64), self.pose_.placements(unposed))

    def reconstruct(self, images: Any, masks: Any = None) -> Reconstruction:
        """Return what the metric compares: preprocessed images, reconstructions and masks.

        Where poses are learned, all three show the items in their common pose.
        """
        inputs, used, _ = self._prepared(*self._check_images(images, masks))
        return Reconstruction(inputs, self.model_.reconstruct(inputs, used), used)

    def describe(self) -> dict[str, str]:
        """Return what there is to say about the fitted detector, in words, by subject."""
        self._check_fitted()
        height, width = self.shape_
        number = self.false_alarms_.number
        few = ""
        if self.false_alarm_rate * (number + 1) < 1:
            few = (
                f"; beyond the largest of {number} scores, which promise {1 / (number + 1):.2g} at "
                "best, their tail is extrapolated"
            )
        found = {
            "metric": f"{self.metric}, {imsim.METRICS[self.metric].title}",
            "what counts": self.aggregate_,
            "preprocess": "none" if self.preprocess_ is None else repr(self.preprocess_),
            "model": repr(self.model_),
            "threshold": f"{self.threshold_:.6g}",
            "false alarms asked for": f"{self.false_alarm_rate:.3g}",
            "false alarms expected": f"{self.false_alarms_}{few}",
            "learned from": f"{self.card_.images} good images of {width} x {height} pixels "
            f"({self.depth_}), {number} of them held out in turn",
        }
        for k, lesson in enumerate(self.card_.lessons):
            versions = [f"{name} {version}" for name, version in lesson.versions.items()]
            words = [lesson.date, f"{lesson.images} images", lesson.note, *versions]
            found[f"update {k}" if k else "fit"] = ", ".join(filter(None, words))
        return found

    def __sklearn_tags__(self) -> Any:
        """Say that the input is three-dimensional."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    def _check_fitted(self) -> None:
        super()._check_fitted()
        now = self.metric, self.window
        if getattr(self, "_measured_by", now) != now:
            was = "metric={!r}, window={!r}".format(*self._measured_by)
            raise imsim.OptionError(
                f"metric={self.metric!r}, window={self.window!r}, but the threshold is of {was}: "
                "set them back, or call fit(good_images) again"
            )

    def _check_images(self, images: Any, masks: Any) -> tuple[NDArray[Any], Booleans | None]:
        """Return images like those learned from, and their masks or None."""
        self._check_fitted()
        frames = stacks.as_stack("images", images)
        stacks.check_size(
            frames, self.shape_, "resize them, or fit a detector to images of this size"
        )
        if stacks.depth_of(frames) != self.depth_:
            raise imsim.DTypeError(
                f"images are of type {stacks.depth_of(frames)}, those learned from {self.depth_}, "
                "and may mean something else: convert them, or fit a detector to images of this "
                "type"
            )
        return frames, None if masks is None else stacks.check_masks(masks, frames.shape)

    def _prepared(self, frames: NDArray[Any], used: Booleans | None) -> preparation.Prepared:
        return preparation.prepared(frames, used, self.preprocess_, self.pose_)

    def _usable(
        self,
        frames: NDArray[Any],
        given: Booleans | None,
        found: preparation.Prepared,
        earlier: Doubles | None = None,
    ) -> tuple[Booleans, dict[int, str]]:
        """Return which good images can be learned from, and why others cannot."""
        usable, problems = found.usable, found.problems
        if self.preprocess_ is None:  # a preprocess knows itself what shows nothing
            constant = preparation.few_constant(found, earlier)
            usable = usable & ~constant
            problems = problems | dict.fromkeys(
                np.flatnonzero(constant).tolist(), preparation.CONSTANT
            )
        return usable, preparation.reasons(frames, given, ~usable, problems)

    def _cross_fit(
        self,
        digests: NDArray[np.uint8],
        found: preparation.Prepared,
        usable: Booleans,
        named: NDArray[Any] | None,
        count: int,
        generator: np.random.Generator,
        peel: Any = None,
    ) -> held_out.CrossFit:
        """Deal usable images into so many folds; those of one group, and equal ones, together."""
        groups = held_out.with_twins(named, digests)
        folds = held_out.deal_folds(int(usable.sum()), count, generator, groups)
        return held_out.CrossFit(
            found.images[usable],
            stacks.masks_at(found.masks, usable),
            folds,
            self._compare,
            by_distances=self.aggregate_ == scoring.STATISTICS,
            peel=peel if isinstance(peel, VirtualPeel) else None,
            is_peeled=isinstance(self.preprocess_, VirtualPeel),
        )

    def _decide(
        self,
        frames: NDArray[Any],
        given: Booleans | None,
        found: preparation.Prepared,
        usable: Booleans,
        columns: Doubles,
        odd: Booleans,
        earlier: preparation.Card | None = None,
    ) -> None:
        """Set the threshold by held-out images that are not odd, and name the odd ones.

        Columns and what is odd are those of the usable frames.
        """
        places = np.flatnonzero(usable)
        learned = places[~odd]
        every, left_out = columns[~odd], columns[odd]
        raw = raw_statistics(frames[learned], stacks.masks_at(given, learned))
        if earlier is not None:
            every = np.concatenate([self.held_out_columns_, every])
            left_out = np.concatenate([self.odd_columns_, left_out])
        self.card_: preparation.Card = preparation.Card.of(
            frames[learned], self.note, int((~found.usable).sum()), earlier
        )
        self.held_out_columns_: Doubles = every
        self.odd_columns_: Doubles = left_out
        far = self._set_threshold()[len(left_out) - int(odd.sum()) :].tolist()
        self.odd_: dict[int, float] = dict(zip(places[odd].tolist(), far, strict=True))
        if self.odd_:
            which = stacks.indices(self.odd_)
            warn(
                f"good images unlike the others, and not learned from: {len(self.odd_)} ({which}); "
                "look at them, and if they are good, pass fence=None",
                OddImageWarning,
            )
        if earlier is not None:
            warn_of_other_range(raw, self.raw_statistics_)
            raw = np.concatenate([self.raw_statistics_, raw])
        self.raw_statistics_: Doubles = raw

    def _set_threshold(self) -> Doubles:
        """Set scales, scores and threshold by the columns of good images; return odd scores."""
        counted = scoring.as_counted(self.held_out_columns_, self.aggregate_)
        self.scales_ = scoring.scales(counted)
        self.held_out_scores_ = scores = scoring.most_anomalous_of_others(counted)
        if np.isnan(scores).all():
            raise imsim.ImsimError(
                f"{self.metric} gives no score for any good image: are the masks too small?"
            )
        far = scoring.as_counted(self.odd_columns_, self.aggregate_)
        odd = scoring.most_anomalous(far, self.scales_)
        rate = self.false_alarm_rate
        found = held_out.threshold_of(scores, self.card_.sizes, rate, odd[~np.isnan(odd)])
        if not found.value < np.inf:
            raise imsim.ImsimError(
                f"{self.metric} gives good images infinite scores, to which there is no threshold: "
                "the model reproduces them exactly; take another metric, or images with noise"
            )
        self._measured_by = self.metric, self.window
        self.false_alarms_ = found
        self.threshold_, self.offset_ = found.value, -found.value
        return odd

    def _compare(self, model: Any, inputs: Floats, used: Booleans | None) -> Doubles:
        """Return a column of scores for each aggregate."""
        if self.aggregate_ == scoring.STATISTICS:
            return np.asarray(model.distances(inputs, used), dtype=np.float64)
        made = model.reconstruct(inputs, used)
        names = ("mean", "worst") if self.aggregate_ == scoring.BOTH else (self.aggregate_,)
        how: Any = {"masks": used, "data_range": self.data_range_, "window": self.window}
        columns = [
            scoring.anomaly_scores(self.metric, inputs, made, aggregate=name, **how)
            for name in names
        ]
        return np.stack(columns, axis=1)

    def _plain_parameters(self) -> dict[str, Any]:
        own = super()._plain_parameters()
        if not isinstance(self.random_state, int | np.integer):
            own["random_state"] = None  # a generator has changed since; the model is fitted anyway
        return own

    def _check_learned(self, arrays: Arrays) -> None:
        check_data_range(self.data_range_, (), None, np)
        check_choice("aggregate_", self.aggregate_, (preparation.check_parameters(self),))
        for side in self.shape_:
            check_integer("shape_", side, 1)
        columns = 2 if self.aggregate_ == scoring.BOTH else 1
        if self.aggregate_ == scoring.STATISTICS:
            columns = self.model_.columns_
        has_parts = (self.preprocess is None) == (self.preprocess_ is None)
        has_parts &= self.pose is not None or self.pose_ is None
        shape = (self.card_.images, columns)
        fits = self.held_out_columns_.shape == shape and self.odd_columns_.shape[1] == columns
        if not has_parts or self.model_ is None or not fits:
            raise imsim.OptionError("it holds other things than a detector learns")
        check_raw(self.raw_statistics_)
        if self.pose_ is not None and self.pose_.mean_.shape != self.shape_:
            raise imsim.OptionError("its pose was learned from images of another size")
        threshold = self.threshold_
        with silent(UserWarning):  # `fit` has warned
            self._set_threshold()
        if not np.isclose(threshold, self.threshold_, rtol=1e-9, atol=0):
            raise imsim.OptionError("its threshold does not come from its scores of good images")
        self.n_features_in_ = int(np.prod(self.shape_))


def _warn_of(problems: dict[int, str], count: int) -> None:
    """Warn of images that are left out of the training."""
    if problems:
        message = f"{len(problems)} of {count} images are left out of the training"
        warn(f"{message}: {stacks.listed(problems)}", UnscorableImageWarning)
