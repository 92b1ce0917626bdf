"""The anomaly detector: preprocess, reconstruct, compare, decide."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

import imsim
from imsim.anomaly import combined, parts, scoring
from imsim.anomaly.batches import TOGETHER, divided
from imsim.anomaly.inputs import (
    NOT_FINITE,
    as_stack,
    check_images,
    check_masks,
    depth,
    filled,
)
from imsim.anomaly.quiet import quiet
from imsim.anomaly.threshold import FOLDS, deal, threshold_at
from imsim.anomaly.unscorable import UnscorableImageWarning, check_usable, warn_unscorable
from imsim.validation import check_between, check_data_range, check_integer

_TOGETHER = 4 * TOGETHER
"""Images scored at a time, which bounds the memory."""


class Reconstruction(NamedTuple):
    """What the metric compares."""

    inputs: NDArray[np.float32]
    """Preprocessed images, (n, height, width)."""
    reconstructions: NDArray[np.float32]
    """What the model made of them, likewise."""
    masks: NDArray[np.bool_] | None
    """Where they are compared; None: everywhere."""


__all__ = ["AnomalyDetector", "Reconstruction", "UnscorableImageWarning"]


class AnomalyDetector(parts.Saved, OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Tell anomalous images from good ones, having seen good ones only.

    An image is preprocessed, a model that knows only good images reconstructs it, a metric says
    how unlike the two are, and a threshold decides. It follows scikit-learn's conventions for
    outlier detectors, on images of shape (n, height, width).

    The threshold comes from good images that were held out. Its rank among their scores is chosen
    so that a fresh good image is above it with a probability of at most `false_alarm_rate`; with
    fewer than ``1 / false_alarm_rate - 1`` no threshold can promise that, and a warning says so.
    With ``aggregate="both"`` it is about that probability, as the same images give the scales.

    Parameters
    ----------
    model : object, optional
        Anything with ``fit(images, masks)`` and ``reconstruct(images, masks)``, such as
        `PCAAutoencoder` and `ConvAutoencoder`. By default ``PCAAutoencoder(60)`` of whole images
        without a preprocess (fewer components where images have few pixels); after one, which
        has taken out what can be predicted, the mean of good texture
        (`imsim.anomaly.mean.MeanModel`).
    preprocess : {"xray", None} or object, optional
        ``"xray"`` is `imsim.anomaly.xray.VirtualPeel`; None compares aligned images as they are;
        or any object with ``fit(images)`` and ``transform(images)`` that returns images and masks.
    metric : str
        A name in `imsim.METRICS`.
    aggregate : {None, "mean", "worst", "both"}
        See `imsim.anomaly.scoring`. ``"both"`` takes the larger of the two, each in standard
        deviations above the median of held-out good images, by robust estimates. By default, where
        the metric has a map, the worst window after a preprocess and both without; the mean where
        it has none.
    window : int, optional
        Side of the worst window in pixels.
    false_alarm_rate : float
        The share of good images that may be flagged, between 0 and 1.
    folds : int, optional
        Into how many parts the good images are dealt; each in turn is scored by a model of the
        others, and the final model learns from all. 1 trains once: a fifth is held out for good.
        By default 5 for closed-form models, the default ones among them, and 1 for others.
    data_range : float, optional
        The metric's `data_range`. By default that of the preprocess, or, without one, 255 for
        uint8, 1 for bool, and for others the range of all good images together.
    random_state : int, RandomState instance or None
        Seeds the folds, and the model if it has a parameter ``random_state`` or ``seed`` that is
        None.

    Attributes
    ----------
    threshold_ : float
        Images with a larger anomaly score are anomalous.
    offset_ : float
        ``-threshold_``; ``decision_function = score_samples - offset_``.
    model_, preprocess_ : object
        The fitted parts; `preprocess_` is None without.
    data_range_ : float
        What the metric gets.
    aggregate_ : str
        What is done with the metric.
    scales_ : float64 array, shape (2, 1) or (2, 2)
        Median and standard deviation of what ``"both"`` compares; 0 and 1 otherwise.
    held_out_scores_ : float64 array, shape (n,)
        Anomaly scores of the usable good images by models that have not seen them; NaN for those
        that were not held out.
    shape_, depth_ : (int, int) and str
        Height and width of the images learned from, and what their numbers are: the name of the
        dtype, or "float" whatever the precision. Other images are refused.
    n_features_in_ : int
        Pixels of an image.
    left_out_ : dict of int to str
        Why good images were left out of the training, by their indices.

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

    def __init__(
        self,
        model: Any = None,
        preprocess: Any = "xray",
        metric: str = "fsim",
        aggregate: str | None = None,
        window: int = scoring.WINDOW,
        false_alarm_rate: float = 0.05,
        folds: int | None = None,
        data_range: float | None = None,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.preprocess = preprocess
        self.metric = metric
        self.aggregate = aggregate
        self.window = window
        self.false_alarm_rate = false_alarm_rate
        self.folds = folds
        self.data_range = data_range
        self.random_state = random_state

    def fit(self, good: Any, y: Any = None, masks: Any = None) -> Self:
        """Learn from good images.

        Parameters
        ----------
        good : array_like, shape (n, height, width)
            At least three usable ones. Images that cannot be used are left out, with a warning.
        y : ignored
            Here for scikit-learn's sake.
        masks : array_like of bool, shape (n, height, width) or (height, width), optional
            True = use; a preprocess makes masks of its own, of which these leave their part.

        Returns
        -------
        self

        Raises
        ------
        ImsimError
            If a parameter, the images or the masks are not as said, fewer than three can be used,
            the threshold would be infinite, or, with ``preprocess="xray"``, most images do not look
            like X-ray images of single items.

        Warns
        -----
        UnscorableImageWarning
            If images cannot be used; UserWarning if they are too few for the false-alarm rate.
        UnlikelyItemWarning
            If most images do not look like X-ray images of single items, but a `VirtualPeel` was
            passed, or only their patterns speak against it.
        """
        if getattr(y, "ndim", 0) > 1:
            raise imsim.OptionError("y has several axes, but is not used: pass masks=... by name")
        self.aggregate_ = self._check_parameters()
        generator = np.random.default_rng(_random_state(self.random_state).randint(2**31))
        frames = as_stack("images", good)
        given = None if masks is None else check_masks(masks, frames.shape)
        self.shape_, self.depth_ = frames.shape[1:], depth(frames)
        self.n_features_in_ = int(np.prod(self.shape_))
        self.preprocess_ = parts.new_preprocess(self.preprocess)
        if self.preprocess_ is not None:
            with quiet():  # one warning below
                self.preprocess_.fit(filled(frames, given))
            parts.check_single_items(self.preprocess, self.preprocess_, filled(frames, given))
        inputs, used = self._prepare(frames, given)
        usable = np.ones(len(inputs), bool) if used is None else used.any(axis=(1, 2))
        self.left_out_ = self._reasons(frames, given, np.flatnonzero(~usable))
        check_usable(usable, self.left_out_)
        self.data_range_ = parts.find_data_range(
            self.data_range, self.preprocess_, frames.dtype, inputs, used
        )
        inputs, used = inputs[usable], None if used is None else used[usable]
        seed = int(generator.integers(2**31))
        dealt = deal(
            len(inputs), self.folds or (FOLDS if parts.is_fast(self.model) else 1), generator
        )
        everything = np.arange(len(inputs))
        found = []
        for held_out in dealt:
            model = self._new_model(inputs, used, np.setdiff1d(everything, held_out), seed)
            x, inside = inputs[held_out], None if used is None else used[held_out]
            found.append(self._compare(x, model.reconstruct(x, inside), inside))
        if len(dealt) > 1:
            model = self._new_model(inputs, used, everything, seed)
        columns = np.concatenate(found)
        self.model_, self.scales_ = model, combined.scales(columns)
        scores = self.held_out_scores_ = np.full(len(inputs), np.nan)
        scores[np.concatenate(dealt)] = combined.largest(columns, self.scales_)
        valid = scores[~np.isnan(scores)]
        if not valid.size:
            raise imsim.ImsimError(
                f"{self.metric} gives no score for any good image: are the masks too small?"
            )
        self.threshold_ = threshold_at(valid, self.false_alarm_rate)
        if not self.threshold_ < np.inf:
            raise imsim.ImsimError(
                f"{self.metric} gives good images infinite scores, to which there is no threshold: "
                "the model reproduces them exactly; take another metric, or images with noise"
            )
        self.offset_ = -self.threshold_
        return self

    def anomaly_score(self, images: Any, masks: Any = None) -> NDArray[np.float64]:
        """Return how anomalous images are; larger = more.

        Parameters
        ----------
        images : array_like, shape (n, height, width)
            As in `fit`.
        masks : array_like of bool, shape (n, height, width) or (height, width), optional
            True = use.

        Returns
        -------
        float64 array, shape (n,)
            NaN for an image of which nothing could be compared, such as an empty frame.

        Warns
        -----
        UnscorableImageWarning
            If there are such images; it names them.
        """
        frames, used = self._check_images(images, masks)
        scores = np.empty(len(frames))
        for part in divided(len(frames), _TOGETHER):
            inside = None if used is None else used[part]
            compared = self._compare(*self.reconstruct(frames[part], inside))
            scores[part] = combined.largest(compared, self.scales_)
        if np.isnan(scores).any():
            missing = np.isnan(scores)
            first = self._reasons(frames, used, np.flatnonzero(missing)[:1])
            warn_unscorable(missing, "have no score", first)
        return scores

    def problems(self, images: Any, masks: Any = None) -> dict[int, str]:
        """Return why images have no score, by their indices; nothing of the others."""
        frames, used = self._check_images(images, masks)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnscorableImageWarning)
            missing = np.flatnonzero(np.isnan(self.anomaly_score(frames, used)))
        return self._reasons(frames, used, missing)

    def score_samples(self, images: Any, masks: Any = None) -> NDArray[np.float64]:
        """Return ``-anomaly_score(images, masks)``, scikit-learn's orientation."""
        return -self.anomaly_score(images, masks)

    def decision_function(self, images: Any, masks: Any = None) -> NDArray[np.float64]:
        """Return ``threshold_ - anomaly_score(images, masks)``: negative for anomalies."""
        return self.score_samples(images, masks) - self.offset_

    def predict(self, images: Any, masks: Any = None) -> NDArray[np.int_]:
        """Return +1 for good images and -1 for anomalous ones, and for those without a score.

        What could not be inspected is not passed.
        """
        return np.where(self.anomaly_score(images, masks) <= self.threshold_, 1, -1)

    def anomaly_map(self, images: Any, masks: Any = None) -> NDArray[np.float64]:
        """Return the metric's map, larger = more anomalous, NaN where nothing was compared.

        Raises
        ------
        OptionError
            If the metric has no map.
        """
        inputs, reconstructions, used = self.reconstruct(images, masks)
        return scoring.dissimilarity_map(
            self.metric, inputs, reconstructions, masks=used, data_range=self.data_range_
        )

    def reconstruct(self, images: Any, masks: Any = None) -> Reconstruction:
        """Return what the metric compares: preprocessed images, reconstructions and masks."""
        inputs, used = self._prepare(*self._check_images(images, masks))
        return Reconstruction(inputs, self.model_.reconstruct(inputs, used), used)

    def __sklearn_tags__(self) -> Any:
        """Say that the input is three-dimensional."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    def _check_parameters(self) -> str:
        """Check what `fit` needs; return the aggregate."""
        aggregate = combined.choose(self.aggregate, self.metric, self.preprocess is not None)
        check_between("false_alarm_rate", self.false_alarm_rate)
        check_integer("window", self.window, 1)
        if self.folds is not None:
            check_integer("folds", self.folds, 1)
        if self.data_range is not None:
            check_data_range(self.data_range, (), None, np)
        parts.check_parts(self.model, self.preprocess)
        return aggregate

    def _check_images(self, images: Any, masks: Any) -> tuple[NDArray[Any], Any]:
        """Return images like those learned from, and their masks or None."""
        check_is_fitted(self, "threshold_")
        frames = as_stack("images", images)
        if frames.shape[1:] != self.shape_:
            raise imsim.ShapeError(
                "images are {1} x {0} pixels, those learned from {3} x {2}: resize them, or fit a "
                "detector to images of this size".format(*frames.shape[1:], *self.shape_)
            )
        if depth(frames) != self.depth_:
            raise imsim.DTypeError(
                f"images are of type {depth(frames)}, those learned from {self.depth_}, and may "
                "mean something else: convert them, or fit a detector to images of this type"
            )
        return frames, None if masks is None else check_masks(masks, frames.shape)

    def _prepare(self, frames: NDArray[Any], used: Any) -> tuple[Any, Any]:
        """Return preprocessed images and their masks, empty for an image that cannot be used."""
        if self.preprocess_ is None:
            return check_images(frames, used, leave_out=True)
        with quiet():  # one warning says it of all images, with their indices in the whole batch
            images, inside = self.preprocess_.transform(filled(frames, used))
        inputs, inside = check_images(
            images, inside if used is None else inside & used, leave_out=True
        )
        return inputs, np.ones(inputs.shape, bool) if inside is None else inside

    def _reasons(self, frames: NDArray[Any], used: Any, which: NDArray[np.intp]) -> dict[int, str]:
        """Return why some images cannot be compared, by their indices."""
        found: dict[int, str] = {}
        for i in which.tolist():
            image, inside = frames[i : i + 1], None if used is None else used[i : i + 1]
            known: dict[int, str] = {}
            if hasattr(self.preprocess_, "problems"):
                known = self.preprocess_.problems(filled(image, inside))
            _, left = check_images(image, inside, leave_out=True)
            unsound = left is not None and not left.any() and (inside is None or inside.any())
            found[i] = known.get(0) or (NOT_FINITE if unsound else "leaves nothing to compare")
        return found

    def _new_model(self, inputs: Any, used: Any, index: Any, seed: int) -> Any:
        return parts.fitted_model(
            self.model, self.metric, self.preprocess_, inputs, used, index, seed
        )

    def _compare(self, inputs: Any, reconstructions: Any, used: Any) -> NDArray[np.float64]:
        how = {"masks": used, "data_range": self.data_range_, "window": self.window}
        return combined.every_score(self.metric, self.aggregate_, inputs, reconstructions, **how)


def _random_state(given: Any) -> Any:
    try:
        if not isinstance(given, bool | np.bool_):
            return check_random_state(given)
    except ValueError:
        pass
    raise imsim.OptionError(
        f"random_state={given!r}; expected None, an integer from 0 to 2**32 - 1, or a RandomState"
    )
