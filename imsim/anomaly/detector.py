"""The anomaly detector: preprocess, reconstruct, compare, decide."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

import imsim
from imsim.anomaly import combined, parts, scoring
from imsim.anomaly.batches import TOGETHER, divided
from imsim.anomaly.inputs import as_stack, check_images, check_masks
from imsim.anomaly.quiet import quiet
from imsim.anomaly.threshold import FOLDS, check_folds, check_rate, deal, threshold_at
from imsim.anomaly.unscorable import UnscorableImageWarning, check_usable, warn_unscorable

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
    n_features_in_ : int
        Pixels of an image.

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
            If a parameter, the images or the masks are not as said, or fewer than three can
            be used.

        Warns
        -----
        UnscorableImageWarning
            If images cannot be used; UserWarning if they are too few for the false-alarm rate.
        """
        if np.ndim(y) > 1:
            raise imsim.OptionError("y has several axes, but is not used: pass masks=... by name")
        aggregate = self._check_parameters()
        generator = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
        frames = as_stack("images", good)
        self.n_features_in_ = int(np.prod(frames.shape[1:]))
        self.aggregate_ = aggregate
        self.preprocess_ = parts.new_preprocess(self.preprocess)
        if self.preprocess_ is not None:
            with quiet():  # one warning below
                self.preprocess_.fit(frames)
        inputs, used = self._prepare(frames, masks)
        self.data_range_ = parts.find_data_range(
            self.data_range, self.preprocess_, frames.dtype, inputs, used
        )
        usable = np.ones(len(inputs), bool) if used is None else used.any(axis=(1, 2))
        check_usable(usable)
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
        check_is_fitted(self, "threshold_")
        frames = as_stack("images", images)
        used = None if masks is None else check_masks(masks, frames.shape)
        scores = np.empty(len(frames))
        for part in divided(len(frames), _TOGETHER):
            inside = None if used is None else used[part]
            compared = self._compare(*self.reconstruct(frames[part], inside))
            scores[part] = combined.largest(compared, self.scales_)
        if np.isnan(scores).any():
            warn_unscorable(np.isnan(scores), "have no score")
        return scores

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
        check_is_fitted(self, "threshold_")
        inputs, used = self._prepare(as_stack("images", images), masks)
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
        check_rate(self.false_alarm_rate)
        scoring.check_window(self.window)
        check_folds(self.folds)
        return aggregate

    def _prepare(self, frames: NDArray[Any], masks: Any) -> tuple[Any, Any]:
        """Return preprocessed images and their masks."""
        if self.preprocess_ is None:
            return check_images(frames, masks)
        with quiet():  # one warning says it of all images, with their indices in the whole batch
            images, inside = self.preprocess_.transform(frames)
        if masks is not None:
            inside = inside & check_masks(masks, frames.shape)
        inputs, used = check_images(images, inside)
        return inputs, np.ones(inputs.shape, bool) if used is None else used

    def _new_model(self, inputs: Any, used: Any, index: Any, seed: int) -> Any:
        return parts.fitted_model(
            self.model, self.metric, self.preprocess_, inputs, used, index, seed
        )

    def _compare(self, inputs: Any, reconstructions: Any, used: Any) -> NDArray[np.float64]:
        how = {"masks": used, "data_range": self.data_range_, "window": self.window}
        return combined.every_score(self.metric, self.aggregate_, inputs, reconstructions, **how)
