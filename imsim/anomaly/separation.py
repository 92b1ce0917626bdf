"""How well scores tell anomalous images from good ones, and maps anomalous places from others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import imsim
from imsim.anomaly.stacks import Booleans, Doubles, as_booleans, as_real, batch_images, sample_of
from imsim.errors import MaskError
from imsim.validation import check_between, check_integer
from imsim.workers import divided

PRO_LIMIT = 0.3
"""False-positive rate up to which the overlap counts, as Bergmann et al. have it."""
LEVELS = 1024
"""Most values of good pixels that are told apart. They are quantiles, so that between two of them
lies 1/1024 of the good pixels: the AUROC is off by 1/2048 at most, the PRO by 1/(2048 · 0.3)."""
SAMPLED_IMAGES = 64
"""Images, spread over all, whose good pixels give these quantiles."""
SAMPLED_PIXELS = 1 << 20
"""Most of these pixels: 8 MB. The quantile of so many is off by less than 0.1 % in rank."""
_EIGHT = np.ones((3, 3), dtype=bool)
"""Pixels that share a corner belong to one region."""
FALSE_ALARM_LIMIT = 0.01
"""False-alarm rate at which the detection rate is reported."""
MOST_DRAWS = 1_000_000
"""More draws of the bootstrap change nothing that is shown."""
RESAMPLED_AT_ONCE = 2**21
"""Most weights of resampled images in memory."""


def with_interval(name: str, value: float, ends: tuple[float, float]) -> dict[str, float]:
    """Return a number and the ends of its interval by their names."""
    return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}


@dataclass(frozen=True)
class Localisation:
    """How well the map of a detector tells anomalous pixels from good ones.

    A good pixel that was not compared is left out. An anomalous one that was not compared is
    below every threshold: it is missed.
    """

    auroc: float
    """The probability that an anomalous pixel has a larger value than a good one."""
    interval: tuple[float, float]
    """Bootstrap interval of `auroc`, over images."""
    pro: float
    """The overlap with the regions, see ``localise``."""
    pro_interval: tuple[float, float]
    regions: int
    """Number of regions of anomalous pixels."""
    compared: float
    """The share of the anomalous pixels that were compared."""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, in types of JSON."""
        return {
            **with_interval("pixel_auroc", self.auroc, self.interval),
            **with_interval("pro", self.pro, self.pro_interval),
            "regions": self.regions,
            "compared": self.compared,
        }


def check_defects(defects: Any, shape: tuple[int, ...], anomalous: Booleans) -> Booleans:
    """Return the anomalous pixels as booleans; there are some in anomalous images alone."""
    given = as_booleans("defects", as_real("defects", defects), "anomalous")
    if given.shape != tuple(shape):
        raise MaskError(
            f"defects has shape {given.shape}",
            f"expected {tuple(shape)} like the images, False in good ones",
        )
    marked = given.any(axis=(1, 2))
    if (marked != anomalous).any():
        first = int(np.argmax(marked != anomalous))
        said = "marks no pixel" if anomalous[first] else "marks pixels"
        label = "anomalous" if anomalous[first] else "good"
        raise imsim.OptionError(
            f"defects[{first}] {said}, but labels[{first}] says that the image is {label}; "
            "correct one of them, or leave the image out"
        )
    return given


def localise(
    maps: Callable[[slice], NDArray[Any]],
    defects: Booleans,
    anomalous: Booleans,
    bootstrap: Bootstrap,
) -> Localisation:
    r"""Judge maps against the true places of anomalies.

    The per-region overlap at a threshold t is the share of each region C that lies above t, on
    average over all regions, whatever their size:

    .. math:: \mathrm{PRO}(t) = \frac{1}{K} \sum_{k=1}^K \frac{|P_t \cap C_k|}{|C_k|}

    PRO is its integral over the false-positive rate, from 0 to 0.3, divided by 0.3. Regions are
    connected over sides and corners.

    Memory does not grow with the pixels: of each image and region the values are counted between
    1024 levels, which are quantiles of good pixels; the sampled maps are made twice for that.

    `maps` returns those of a slice of the images, larger = more anomalous, NaN = not compared.

    References
    ----------
    P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger and C. Steger, "The MVTec Anomaly Detection
    Dataset: A Comprehensive Real-World Dataset for Unsupervised Anomaly Detection", International
    Journal of Computer Vision 129, 2021, doi:10.1007/s11263-020-01400-4.
    """
    counts = _count(maps, defects, _levels(maps, defects))
    marked = counts.anomalous.sum()
    if not marked or not counts.good.any():
        kind = "good" if marked else "anomalous"
        raise imsim.OptionError(
            f"no {kind} pixel is left to judge the maps by: do the masks leave any?"
        )

    def measured(weights: Doubles) -> Doubles:
        good, bad = weights @ counts.good, weights @ counts.anomalous
        return np.stack([_areas(good, bad), _pros(counts, weights)])

    auroc, pro = measured(np.ones((1, len(anomalous))))[:, 0]
    interval, pro_interval = bootstrap.intervals(anomalous, counts.good.shape[1], measured)
    return Localisation(
        auroc=float(auroc),
        interval=interval,
        pro=float(pro),
        pro_interval=pro_interval,
        regions=len(counts.overlaps),
        compared=float(1 - counts.anomalous[:, 0].sum() / marked),
    )


class _Counts(NamedTuple):
    """Pixels at each level. Level 0 is that of anomalous pixels that were not compared."""

    good: Doubles
    """(images, levels)"""
    anomalous: Doubles
    """(images, levels)"""
    overlaps: Doubles
    """The share of each region that lies at a level or above, (regions, levels)."""
    image_of: NDArray[np.intp]
    """The image of each region."""


def _levels(maps: Callable[[slice], NDArray[Any]], defects: Booleans) -> Doubles:
    """Return quantiles of the good pixels, or all their values if these are few."""
    found = []
    chosen = range(len(defects))[sample_of(len(defects), SAMPLED_IMAGES)]
    most = max(1, SAMPLED_PIXELS // len(chosen))
    for i in chosen:
        values = maps(slice(i, i + 1))[0][~defects[i]]
        values = values[~np.isnan(values)]
        found.append(values[sample_of(max(1, values.size), most)])
    ordered = np.sort(np.concatenate(found).astype(np.float64))
    levels = np.unique(ordered)
    if len(levels) > LEVELS:
        levels = np.unique(ordered[np.linspace(0, len(ordered) - 1, LEVELS).astype(np.intp)])
    return levels


def _count(maps: Callable[[slice], NDArray[Any]], defects: Booleans, levels: Doubles) -> _Counts:
    """Count the pixels of each image and region between and at the levels."""
    length = 2 * len(levels) + 2
    good, anomalous = (np.zeros((len(defects), length)) for _ in range(2))
    overlaps, image_of = [], []
    for part in divided(len(defects), 4 * batch_images(defects)):
        for i, values in enumerate(maps(part), part.start):
            # An odd number at a level, an even one between two: ties count as ties.
            at = 1 + np.searchsorted(levels, values) + np.searchsorted(levels, values, "right")
            missing, defect = np.isnan(values), defects[i]
            good[i] = np.bincount(at[~(missing | defect)], minlength=length)
            at[missing] = 0
            anomalous[i] = np.bincount(at[defect], minlength=length)
            regions, _ = ndimage.label(defect, _EIGHT)
            boxes: Iterable[Any] = ndimage.find_objects(regions)
            for number, box in enumerate(boxes, 1):
                here = np.bincount(at[box][regions[box] == number], minlength=length)
                overlaps.append(here[::-1].cumsum()[::-1] / here.sum())
                image_of.append(i)
    return _Counts(
        good, anomalous, np.array(overlaps).reshape(-1, length), np.array(image_of, dtype=np.intp)
    )


def _areas(good: Doubles, anomalous: Doubles) -> Doubles:
    """Return the area under the ROC curve for each row of counts, by ascending level."""
    below = np.cumsum(good, axis=1) - good / 2  # ties count half
    with np.errstate(invalid="ignore"):
        areas: Doubles = (anomalous * below).sum(axis=1)
        areas /= good.sum(axis=1) * anomalous.sum(axis=1)
    return areas


def _pros(counts: _Counts, weights: Doubles) -> Doubles:
    """Return the overlap, integrated over the false-positive rate, for each row of weights."""
    good = np.cumsum((weights @ counts.good)[:, :0:-1], axis=1)  # from the top; level 0 has none
    of_region = weights[:, counts.image_of]
    overlaps = (of_region @ counts.overlaps)[:, :0:-1]
    with np.errstate(invalid="ignore"):
        overlaps /= of_region.sum(axis=1, keepdims=True)
        rates = good / good[:, -1:]
    areas = np.empty(len(weights))
    for i, (rate, overlap) in enumerate(zip(rates, overlaps, strict=True)):
        x, y = np.concatenate(([0.0], rate)), np.concatenate(([0.0], overlap))
        y = np.where(x > PRO_LIMIT, np.interp(PRO_LIMIT, x, y), y)
        areas[i] = np.trapezoid(y, np.minimum(x, PRO_LIMIT)) / PRO_LIMIT
    return areas


class ROC(NamedTuple):
    """The receiver operating characteristic, from "nothing is flagged" to "everything is".

    An image is flagged if its score is at least the threshold.
    """

    false_alarm_rates: Doubles
    """The share of the good images that are flagged, ascending from 0 to 1."""
    detection_rates: Doubles
    thresholds: Doubles  # descending; the first is infinite


@dataclass(frozen=True, eq=False)
class Separation:
    """Measures of how well a score tells anomalous images from good ones.

    Images without a score (NaN) are left out of every number here and named in `unscored`.
    """

    auroc: float
    """The probability that an anomalous image scores higher than a good one; ties count half."""
    interval: tuple[float, float]  # bootstrap interval of `auroc`
    accuracy: float  # the largest accuracy of any threshold on these images: an optimistic estimate
    balanced_accuracy: float
    """The largest mean of detection rate and 1 - false-alarm rate: optimistic too."""
    threshold: float  # the threshold of `accuracy`
    detection_at_1_percent: float
    """The largest detection rate of a threshold with a false-alarm rate of at most 1 %.

    With fewer than 100 good images that means no false alarm at all.
    """
    roc: ROC
    unscored: tuple[int, ...]  # the indices of the images whose score is NaN


def one_each(name: str, values: Any, count: int) -> NDArray[Any]:
    """Return what is given once for each image."""
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise imsim.ShapeError(f"{name} does not become an array: {error}") from error
    if given.shape != (count,):
        raise imsim.ShapeError(
            f"{name} has shape {given.shape}; expected one for each image, ({count},)"
        )
    return given


def check_labels(labels: Any, count: int) -> Booleans:
    """Return the labels of the images as booleans; both must occur."""
    given = one_each("labels", labels, count)
    if not (known := given.dtype.kind in "buif") or not np.isin(given, (0, 1)).all():
        odd = sorted({str(v) for v in given.ravel().tolist() if not known or v not in (0, 1)})
        raise imsim.OptionError(
            f"labels holds {', '.join(odd[:5])}; expected 1 = anomalous and 0 = good: of what "
            "predict returns, -1 = anomalous and +1 = good, make labels == -1"
        )
    anomalous = given.astype(np.bool_)
    if anomalous.all() or not anomalous.any():
        only = "anomalous" if anomalous.all() else "good"
        raise imsim.OptionError(
            f"labels says that all {count} images are {only}; both kinds are needed to tell apart"
        )
    return anomalous


class Bootstrap(NamedTuple):
    """Draws of images with replacement, within the good and the anomalous."""

    draws: int
    confidence: float
    random_state: int | None

    @classmethod
    def of(cls, n_bootstrap: Any, confidence: Any, random_state: Any) -> Bootstrap:
        """Refuse settings that make no sense."""
        check_integer("n_bootstrap", n_bootstrap, 1, MOST_DRAWS)
        check_between("confidence", confidence)
        if random_state is not None:
            check_integer("random_state", random_state, 0)
        return cls(n_bootstrap, confidence, random_state)

    def intervals(
        self, anomalous: Booleans, width: int, measured: Callable[[Doubles], Doubles]
    ) -> list[tuple[float, float]]:
        """Return percentiles over the draws of each row of numbers that are `measured`.

        That takes weights of the images, how often each was drawn, (draws, images), and so many
        numbers for each draw as `width` says.
        """
        rng = np.random.default_rng(self.random_state)
        found = []
        for part in divided(self.draws, max(1, RESAMPLED_AT_ONCE // width)):
            weights = np.zeros((part.stop - part.start, len(anomalous)))
            for kind in (anomalous == label for label in (False, True)):
                count = int(kind.sum())
                shares = np.full(count, 1 / count)
                weights[:, kind] = rng.multinomial(count, shares, len(weights))
            found.append(measured(weights))
        tails = [(1 - self.confidence) / 2, (1 + self.confidence) / 2]
        # A draw may hold no pixel of a kind, if masks leave few images any.
        ends = np.nanquantile(np.concatenate(found, axis=1), tails, axis=1)
        return [(float(low), float(high)) for low, high in ends.T]


def area_under_roc(scores: Doubles, anomalous: Booleans) -> float:
    """Return the area under the ROC curve; infinite scores are ranked like any other."""
    return float(_area_of(scores, anomalous)(np.ones((1, len(scores))))[0, 0])


def _area_of(scores: Doubles, anomalous: Booleans) -> Callable[[Doubles], Doubles]:
    """Return what gives the area for each row of weights of the images, shape (1, rows)."""
    order = np.argsort(scores)
    starts = np.flatnonzero(np.append(True, scores[order][1:] != scores[order][:-1]))
    kinds = [(anomalous == kind)[order] for kind in (False, True)]

    def areas(weights: Doubles) -> Doubles:
        drawn = weights[:, order]
        return _areas(*(np.add.reduceat(drawn * kind, starts, axis=1) for kind in kinds))[None]

    return areas


def separate(scores: Doubles, anomalous: Booleans, bootstrap: Bootstrap) -> Separation:
    """Measure how well scores tell anomalous images from good ones, leaving out NaN."""
    scored = ~np.isnan(scores)
    values, bad = scores[scored], anomalous[scored]
    if bad.all() or not bad.any():
        missing = "anomalous" if not bad.any() else "good"
        raise imsim.OptionError(
            f"no {missing} image has a score: all are NaN, as where a mask leaves nothing to "
            "score or a pixel is NaN"
        )
    roc = _curve(values, bad)
    false_alarms, detections = roc.false_alarm_rates, roc.detection_rates
    good_share = np.mean(~bad)
    accuracy = (1 - good_share) * detections + good_share * (1 - false_alarms)
    best = int(np.argmax(accuracy))
    return Separation(
        auroc=area_under_roc(values, bad),
        interval=bootstrap.intervals(bad, len(values), _area_of(values, bad))[0],
        accuracy=float(accuracy[best]),
        balanced_accuracy=float(np.max(detections + 1 - false_alarms) / 2),
        threshold=float(roc.thresholds[best]),
        detection_at_1_percent=float(detections[false_alarms <= FALSE_ALARM_LIMIT].max()),
        roc=roc,
        unscored=tuple(np.flatnonzero(~scored).tolist()),
    )


def _curve(scores: Doubles, anomalous: Booleans) -> ROC:
    # sklearn.metrics.roc_curve refuses infinite scores, which perfect reconstructions have.
    levels, which = np.unique(-scores, return_inverse=True)
    flagged = [
        np.concatenate(([0], np.cumsum(np.bincount(which[kind], minlength=len(levels)))))
        for kind in (~anomalous, anomalous)
    ]
    return ROC(
        false_alarm_rates=flagged[0] / flagged[0][-1],
        detection_rates=flagged[1] / flagged[1][-1],
        thresholds=np.concatenate(([math.inf], -levels)),
    )
