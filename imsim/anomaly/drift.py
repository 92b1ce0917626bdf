"""The drift alarm: control charts that compare live images with the good ones learned from."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats import beta

import imsim
from imsim.anomaly import stacks
from imsim.anomaly.descriptions import RAW, STRUCTURES, TEXTURES, of_image
from imsim.anomaly.stacks import Doubles
from imsim.validation import check_integer

__all__ = ["Chart", "Drift", "DriftAlarm"]

SCORE, MISSED = "anomaly score", "not inspected"
"""Names of the other two charts."""
_LOWEST = {SCORE: -np.inf, MISSED: 0.0}
"""Lower limits of charts that have one of their own. Live images score lower than held-out ones,
since the detector has learned from more images than the models that scored these."""
_COARSER = ("level", "contrast", *TEXTURES)
GIVEN = dict(zip(STRUCTURES, (_COARSER, (*_COARSER[:2], *_COARSER[3:])), strict=True))
"""The statistics from which each structure is predicted: what is coarser."""
LEAST_PREDICTED = 20
"""Good images from which predictions are learned: of fewer, these would be too uncertain."""
SMOOTHING = 0.05
"""Weight of the newest image in a chart: it remembers about 20 images. A lasting change is to be
seen within 100 images, and a tenth of rejects among them is to change little."""
RUN_LENGTH = 100_000
"""Images between two false alarms of all charts together, on average: three hours of ten images a
second. Within 2,000 images, 2 % of the alarms then speak without a cause."""
LONGEST_DELAY = 100
"""Images within which a chart must be able to speak; one that cannot is left out."""
DEAD_BAND = 0.005
"""Relative change of a raw statistic that is none: the border of images after a flat-field
correction differs by 0.1 % from one detector to the next, and good images may not differ at all."""
RECENT, HISTORY = 100, 10_000
"""Images whose values tell what the state is now, and of which the chart is kept."""
_ROUNDING = 1e-6
"""Relative deviation of a statistic of good images below which it does not vary."""
_NODES = 121
"""Values of the chart at which its mean run length is computed; 241 change limits by 0.3 %."""
_SURE = 0.95
"""The share of images that cannot be inspected is taken for as large as it is with this
probability, given those of the training."""


class Drift(NamedTuple):
    """Something that is no longer as it is in good images. As text, it is a sentence."""

    name: str
    """The chart, see `DriftAlarm`."""
    since: int
    """The image from which on it is so, about; images are counted from 0, since the last reset."""
    now: float
    """Median since then, of the last 100 images at most that have the number; of
    `"not inspected"`, their share."""
    usual: float
    """The same in good images."""
    value: float
    """Of the chart."""
    limit: float
    """Of the chart, which `value` is beyond."""

    def __str__(self) -> str:
        """Return a sentence without an end."""
        if self.name == MISSED:
            share = f"{self.now:.0%} of the images cannot be inspected"
            return f"{share}, of the good ones {self.usual:.0%}"
        if self.name == SCORE or not min(self.now, self.usual) > 0:
            return f"{self.name} is {self.now:.4g}, that of the good images {self.usual:.4g}"
        return f"{self.name} is {self.now / self.usual:.3g} times that of the good images"


class Chart(NamedTuple):
    """A control chart, to be drawn: something drifts where a value is beyond the limits."""

    values: Doubles
    """Of the last 10,000 images at most."""
    limits: tuple[float, float]
    """Lower and upper limit; the lower one of the anomaly score is minus infinity."""


class DriftAlarm:
    r"""Say that live images are no longer like the good ones, before false alarms do.

    Each image has thirteen numbers: eleven raw statistics, its anomaly score, and whether it could
    not be inspected. A chart follows each of them. Of raw statistics and score, it follows the rank
    r among the n good images, as a number of a normal distribution, so that no distribution is
    assumed and a single image, however odd, weighs little:

    .. math::
        z = \Phi^{-1}\left(\frac{r + 1/2}{n + 1}\right), \qquad
        E_t = (1 - \lambda) E_{t-1} + \lambda z_t, \qquad
        |E_t| > k \sqrt{\frac{\lambda}{2 - \lambda} + \frac{1}{n}}

    is drift, with :math:`\lambda = 0.05`. The limit k is the one at which the mean run length of a
    chart is `run_length` times the number of charts, if good images were known exactly; 1/n widens
    it by what they leave unknown. With few images, limits are wide, and small changes are not seen.
    Of the score only a rise is drift: that of live images is lower than that of the good images,
    which were held out of models that had learned from fewer. Of images that cannot be inspected,
    the chart follows the share, one-sided, from the largest share that is likely given those of the
    training.

    The raw statistics, in the units of pixels:

    - *level*: the mean, *contrast*: the standard deviation, *border*: the median of a strip of 3
      pixels along the frame, which is the open beam of an X-ray image;
    - *noise*: the strength of details of one pixel, *texture*, of two, *coarse texture*, of four,
      and *lumps*, of eight: the mean of :math:`|a - b - c + d| / 2` over squares of four pixels, or
      of four blocks of so many pixels, but for the largest tenth of them, and from four pixels on
      the largest quarter;
    - *column pattern*, *row pattern*: the mean absolute second difference of the means over the
      columns, or rows, but for the largest tenth: stripes of the detector;
    - *fine structure*, of one pixel, *structure*, of two: the strength of all details, less what
      level, contrast and coarser details let expect, by least squares on the good images. Good
      items that differ in shape and place hide small changes of their texture from the others. The
      good images have each the prediction that the others make, and below 20 there is none.

    An image that cannot be inspected counts in the chart of these only.

    Parameters
    ----------
    detector : AnomalyDetector or ItemDetector
        Fitted; with one of items, the images are their crops. It may change afterwards.
    run_length : int
        Mean number of images between two false alarms, all charts together; 100 to 1e9.

    Attributes
    ----------
    names : tuple of str
        The charts: ``"level"``, ``"contrast"``, ``"border"``, ``"noise"``, ``"texture"``, ``"coarse
        texture"``, ``"lumps"``, ``"column pattern"``, ``"row pattern"``, ``"fine structure"``,
        ``"structure"``, ``"anomaly score"``, ``"not inspected"``. Those are left out that cannot
        speak within 100 images, whatever these show, since too few good images are known.
    limits : dict of str to float
        By name: of the share not inspected, of the chart of the score, and of the absolute value of
        the other charts.
    count : int
        Images since the last reset.

    Raises
    ------
    ImsimError
        If the detector is not fitted, or its good images are too few for any raw statistic.

    References
    ----------
    Roberts 1959, Control chart tests based on geometric moving averages, Technometrics 1(3),
    239-250, doi:10.1080/00401706.1959.10489860.
    Hackl and Ledolter 1991, A control chart based on ranks, Journal of Quality Technology 23(2),
    117-124, doi:10.1080/00224065.1991.11979302.
    Jones, Champ and Rigdon 2001, The performance of exponentially weighted moving average charts
    with estimated parameters, Technometrics 43(2), 156-167, doi:10.1198/004017001750386279.
    Page 1954, Continuous inspection schemes, Biometrika 41(1-2), 100-115,
    doi:10.1093/biomet/41.1-2.100, for `Drift.since`.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import AnomalyDetector, DriftAlarm
    >>> rng = np.random.default_rng(0)
    >>> good, live = 100 + rng.normal(0, 2, (2, 40, 16, 16))
    >>> detector = AnomalyDetector(preprocess=None, random_state=0).fit(good)
    >>> alarm = DriftAlarm(detector)
    >>> alarm.update(live, detector.inspect(live))
    []
    >>> noisy = 100 + rng.normal(0, 4, (40, 16, 16))
    >>> found = alarm.update(noisy, detector.inspect(noisy))
    >>> "noise" in [drift.name for drift in found]
    True
    """

    def __init__(self, detector: Any, *, run_length: int = RUN_LENGTH) -> None:
        check_integer("run_length", run_length, 100, 10**9)
        missed = getattr(detector, "missed_", 0)  # of the good frames of a detector of items
        detector = getattr(detector, "detector_", detector)
        if not hasattr(detector, "raw_statistics_"):
            raise imsim.OptionError(
                f"detector={detector!r}; expected an AnomalyDetector: call fit(good_images) first"
            )
        raw, scores = detector.raw_statistics_, detector.held_out_scores_
        # A preprocess of the caller may have repaired images whose statistics are not finite.
        known = raw[np.isfinite(raw).all(axis=1)]
        columns = dict(zip(RAW, known.T, strict=True))
        self._predictions = {
            name: _Prediction.of(columns, name, others)
            for name, others in GIVEN.items()
            if len(known) >= LEAST_PREDICTED
        }
        for name in GIVEN:
            prediction = self._predictions.get(name)
            columns[name] = prediction.values if prediction else np.empty(0)
        references = {name: np.sort(column) for name, column in columns.items()}
        references[SCORE] = np.sort(scores[~np.isnan(scores)])
        length = float(run_length) * (len(references) + 1)
        reached = 1 - (1 - SMOOTHING) ** LONGEST_DELAY
        self._good: dict[str, tuple[Doubles, float]] = {}  # and their median
        self.limits: dict[str, float] = {}
        for name, values in references.items():
            limit = _rank_limit(len(values), length)
            most = _normal_scores(len(values))[-1] if len(values) else 0.0
            if limit <= most * reached:
                self._good[name] = values, float(np.median(values))
                self.limits[name] = limit
        if not set(RAW) & set(self._good):
            raise imsim.ImsimError(
                f"{len(known)} good images are too few for a drift alarm with a false one in "
                f"{run_length} images: fit the detector to more images, or pass a smaller "
                "run_length"
            )
        missed, self._shape = missed + detector.card_.left_out, detector.shape_
        self._missed = missed / (missed + len(raw))
        most_missed = float(beta.ppf(_SURE, missed + 1, len(raw)))
        limit = _share_limit(most_missed, length)
        if limit <= reached:
            self.limits[MISSED] = limit
        self.names = tuple(self.limits)
        self.reset()

    def reset(self) -> None:
        """Forget all live images: after the cause is mended, or with a new detector."""
        self.count = 0
        self._chart = dict.fromkeys(self.names, 0.0)
        self._since = dict.fromkeys(self.names, ((0.0, 0), (0.0, 0)))
        self._past: dict[str, deque[float]] = {n: deque(maxlen=HISTORY) for n in self.names}
        self._recent: dict[str, deque[tuple[int, float]]] = {
            n: deque(maxlen=RECENT) for n in self.names
        }

    def update(self, images: Any, inspection: Any, masks: Any = None) -> list[Drift]:
        """Take images in their order; return what is drifting after the last of them.

        Images and masks are as passed to `AnomalyDetector.inspect`, `inspection` is what it
        returned.

        Raises
        ------
        ImsimError
            If the images are no stack of the size that was learned from, or not as many as the
            scores, or if `inspection` is nothing that ``inspect`` returns.
        """
        frames = stacks.as_stack("images", images)
        stacks.check_size(frames, self._shape, "pass the images that were inspected")
        is_pair = isinstance(inspection, tuple) and len(inspection) == 2
        stacks.check_kind(
            is_pair and isinstance(inspection[1], Mapping),
            "inspection",
            inspection,
            "scores and problems, as detector.inspect(images) returns them",
        )
        scores, problems = stacks.as_real("inspection.scores", inspection[0]), inspection[1]
        if scores.shape != frames.shape[:1]:
            raise imsim.ShapeError(
                f"inspection has scores of shape {scores.shape}, images has {len(frames)} images: "
                "pass what inspect(images) returned for these images"
            )
        used = None if masks is None else stacks.check_masks(masks, frames.shape)
        for i, frame in enumerate(frames):
            if i in problems or np.isnan(scores[i]):
                self._take({MISSED: 1.0})
                continue
            found = of_image(frame, stacks.masks_at(used, i))
            # A preprocess of the caller may repair what is not finite.
            values = dict(zip(RAW, found, strict=True)) if np.isfinite(found).all() else {}
            self._take({**values, SCORE: float(scores[i]), MISSED: 0.0})
        return self.drifts()

    def miss(self) -> list[Drift]:
        """Count an image that could not even be read; return what is drifting then."""
        self._take({MISSED: 1.0})
        return self.drifts()

    def drifts(self) -> list[Drift]:
        """Return what is drifting after the last image."""
        bounds = ((name, *self._bounds(name)) for name in self.names)
        return [self._drift(n) for n, low, high in bounds if not low <= self._chart[n] <= high]

    def charts(self) -> dict[str, Chart]:
        """Return the charts by name, to be drawn."""
        return {name: Chart(np.array(self._past[name]), self._bounds(name)) for name in self.names}

    def _bounds(self, name: str) -> tuple[float, float]:
        """Return the lower and the upper limit of a chart."""
        return _LOWEST.get(name, -self.limits[name]), self.limits[name]

    def _take(self, values: dict[str, float]) -> None:
        """Go on with the charts by one image."""
        if RAW[0] in values:
            values = values | {n: p.corrected(values) for n, p in self._predictions.items()}
        for name in self.names:
            if name in values:
                self._recent[name].append((self.count, values[name]))
                z = values[name] if name == MISSED else self._normal_score(name, values[name])
                self._chart[name] += SMOOTHING * (z - self._chart[name])
                # Page's sums up and down: a drift began where its sum was last 0.
                slack, chart, after = self.limits[name] / 2, self._chart[name], self.count + 1
                (up, first), (down, second) = self._since[name]
                up = max(up + z - slack, 0.0) if chart > 0 else 0.0
                down = max(down - z - slack, 0.0) if chart < 0 else 0.0
                self._since[name] = (
                    (up, first if up else after),
                    (down, second if down else after),
                )
            self._past[name].append(self._chart[name])
        self.count += 1

    def _normal_score(self, name: str, value: float) -> float:
        """Return that of the rank among good images; values in a dead band have the middle one."""
        good, middle = self._good[name]
        # Scores, which may be infinite, have no band.
        band = 0.0 if name == SCORE else DEAD_BAND * abs(middle)
        below, reached = good.searchsorted(value - band), good.searchsorted(value + band, "right")
        return float(_normal_scores(len(good))[below + reached])

    def _drift(self, name: str) -> Drift:
        since = min(self._since[name][self._chart[name] < 0][1], self.count - 1)
        recent = self._recent[name]
        # The images since then may all have been missed.
        values = [value for image, value in recent if image >= since] or [recent[-1][1]]
        if name == MISSED:
            now, usual = float(np.mean(values)), self._missed
        else:
            now, usual = float(np.median(values)), self._good[name][1]
        return Drift(name, since, now, usual, self._chart[name], self.limits[name])


class _Prediction(NamedTuple):
    """What other statistics let expect of one, by least squares on good images."""

    name: str
    others: tuple[str, ...]
    middles: Doubles
    """Means of the others."""
    slopes: Doubles
    values: Doubles
    """Of good images, as they would be if the others were at their means."""

    @classmethod
    def of(cls, columns: Mapping[str, Doubles], name: str, others: tuple[str, ...]) -> _Prediction:
        """Learn from the columns of good images."""
        known = np.stack([columns[other] for other in others], axis=1)
        middles, spreads = known.mean(axis=0), known.std(axis=0)
        varies = spreads > _ROUNDING * np.abs(middles)
        spreads[~varies] = np.inf
        left, sizes, right = np.linalg.svd((known - middles) / spreads, full_matrices=False)
        kept = sizes > _ROUNDING * max(sizes[0], 1.0)
        left, right = left[:, kept], right[kept] / sizes[kept, None]
        values = columns[name]
        away = values - values.mean()
        along = left.T @ away
        # So each image has the prediction that is learned from the others.
        own = 1 / len(values) + (left**2).sum(axis=1)
        rest = (away - left @ along) / np.maximum(1 - own, _ROUNDING)
        return cls(name, others, middles, (along @ right) / spreads, values.mean() + rest)

    def corrected(self, values: Mapping[str, float]) -> float:
        """Return the value of an image as it would be if the others were at their means."""
        others = np.array([values[other] for other in self.others])
        with np.errstate(over="ignore", invalid="ignore"):  # of pixels up to the largest float
            return float(values[self.name] - self.slopes @ (others - self.middles))


@lru_cache
def _normal_scores(n: int) -> Doubles:
    """Return the normal scores of the ranks 0, 1/2, 1, ... n among n values."""
    found: Doubles = ndtri((np.arange(2 * n + 1) / 2 + 0.5) / (n + 1))
    return found


@lru_cache
def _rank_limit(n: int, length: float) -> float:
    """Return the limit of a chart of ranks among n good images with this mean run length."""
    if not n:
        return np.inf
    scores = _normal_scores(n)[::2]  # a fresh good image has each rank with the same probability
    if n > 400:  # 400 ranks give a limit 0.4 % below that of any number
        scores = ndtri((np.arange(400) + 0.5) / 400)
    exact = _limit(-1, scores, np.full(len(scores), 1 / len(scores)), length)
    return exact * float(np.sqrt(1 + (2 - SMOOTHING) / (SMOOTHING * n)))


@lru_cache
def _share_limit(share: float, length: float) -> float:
    """Return the limit of a chart of a share; a single image never goes beyond it."""
    return _limit(0, np.array([0.0, 1.0]), np.array([1 - share, share]), length)


def _limit(side: int, values: Doubles, weights: Doubles, length: float) -> float:
    """Return the limit with this mean run length, to 0.1 %; the other one is `side` times it."""

    def is_short(limit: float) -> bool:
        return _mean_run_length(side * limit, limit, values, weights) < length

    highest = float(values[-1])
    low = high = min(SMOOTHING, highest)
    # From below: far beyond, mean run lengths are larger than what can be solved for.
    while high < highest and is_short(high):
        low, high = high, min(1.2 * high, highest)
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if is_short(middle) else (low, middle)
    return high


def _mean_run_length(low: float, high: float, values: Doubles, weights: Doubles) -> float:
    r"""Return the mean number of steps until a chart that begins at 0 leaves its limits."""
    # L(e) = 1 + sum of w L((1 - SMOOTHING) e + SMOOTHING z), 0 beyond the limits, linear between.
    nodes = np.linspace(low, high, _NODES)
    after = (1 - SMOOTHING) * nodes[:, None] + SMOOTHING * values
    place = (after - low) / (high - low) * (_NODES - 1)
    inside = (place >= 0) & (place <= _NODES - 1)
    left = np.clip(place.astype(int), 0, _NODES - 2)
    share = place - left
    chain = np.eye(_NODES)
    rows = np.broadcast_to(np.arange(_NODES)[:, None], after.shape)[inside]
    every = np.broadcast_to(weights, after.shape)[inside]
    np.subtract.at(chain, (rows, left[inside]), every * (1 - share[inside]))
    np.subtract.at(chain, (rows, left[inside] + 1), every * share[inside])
    lengths = np.linalg.solve(chain, np.ones(_NODES))
    return float(np.interp(0.0, nodes, lengths))
