"""Good images held out in turn: their folds, models and scores, odd ones, and the threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imsim.anomaly.stacks import Booleans, Doubles, Floats, indices, masks_at
from imsim.anomaly.statistics import GoodStatistics
from imsim.anomaly.xray.peel import VirtualPeel
from imsim.errors import OptionError, ShapeError, silent, warn
from imsim.validation import check_between, check_integer

CONFIDENCE, SURE = 0.95, 0.99
"""Of the interval of the false-alarm rate, and of that of the alarms that new images may give."""
LEAST_UPDATE = 20
"""Least images of an update that set a threshold of their own."""
_LEAST_TAIL = 3
"""Least scores from which the tail beyond the largest score is learned."""
FOLDS = 5
"""Parts of the good images; each in turn is held out to learn the threshold."""
LEAST_LEFT = 2
"""Least images that a part leaves to learn from: a single one has no variety."""
ROUNDS, GROWTH, FEW = 3, 1.5, 5
"""Most rounds of leaving out odd images and learning again, and the growth of their number, or of
this one, from the first round on above which good images simply differ: without some of them,
others are odd."""
FARTHEST_GOOD = 1.3
"""Times the median up to which a score is never odd. Good images that hardly differ have their
fence next to the median: clean chocolate bars scored up to 1.3 times it, defects more."""
LEAST_ODD, LEAST_NUMBER = 0.05, 2
"""Least share and number of odd images that are left out: of clean images a few are always far
out, up to 4 % of many."""
ODD_RATE = 2.5
"""Times the false-alarm rate that the threshold keeps if the odd images are good after all, which
few clean trainings have. With 2, four bad images beside 40 good ones would lift it to their scores:
65 % instead of 97 % of bad potatoes were found."""
OUTER = 2.0
"""Times the fence, Tukey's outer one, for few images that are not peeled (see `HIDING`), whose
scores have long tails: of 40 to 60 clean ones, up to seven were beyond the inner one."""
LEAST_JUDGED = 40
"""Least images of which some may be odd: the quartiles of fewer are too uncertain."""
BEYOND, HIDING = 5 / 3, 100
"""Times the fence for peeled images whose rim was learned from the three quarters least far out,
since the others are then far: no clean one was beyond. It is tried with fewer images than this, of
which each weighs much."""
MOST_ODD = 0.25
"""Largest share of odd images. Above the upper quartile lie no more; but without those of earlier
rounds it moves down."""
Indices = NDArray[np.intp]


class Threshold(NamedTuple):
    """A threshold, and the share of fresh good images that are expected above it."""

    value: float
    rate: float
    """The expected share, over trainings and fresh images."""
    low: float
    high: float
    """The interval of the share for a single training, with a confidence of 95 %."""
    number: int
    """The held-out scores that it comes from."""

    def alarms(self, count: int, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
        r"""Return how many of `count` fresh good images are above: mean and interval.

        With n held-out scores and the expected share p, their number has the distribution
        :math:`\mathrm{BetaBin}(m,\; p (n + 1),\; (1 - p) (n + 1))`.

        Examples
        --------
        >>> import numpy as np
        >>> from imsim.anomaly.held_out import threshold_at
        >>> threshold_at(np.arange(1.0, 100.0), 0.05).alarms(40)
        (2.0, 0.0, 6.0)
        """
        check_integer("count", count, 0)
        check_between("confidence", confidence)
        weight = self.number + 1
        alarms = stats.betabinom(count, self.rate * weight, (1 - self.rate) * weight)
        low, high = alarms.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
        return float(alarms.mean()), float(low), float(high)

    def __str__(self) -> str:
        """Say the expected share, and its interval."""
        return f"{self.rate:.2g} ({self.low:.2g} to {self.high:.2g})"


def threshold_at(scores: Doubles, rate: float) -> Threshold:
    r"""Return the threshold that a fresh good image exceeds with a probability of `rate` at most.

    Of n exchangeable scores and a fresh one, the fresh one is above the j-th largest of the n with
    a probability of j / (n + 1) at most. The threshold is the smallest of the n scores that keeps
    the rate; the share of good images above it has a beta distribution, B(j, n + 1 - j).

    Where n is too small for that, the threshold lies beyond the largest score. The upper quarter of
    the scores is taken for an exponential tail above the quartile u: with the mean excess b of m
    scores, a fresh excess is above t with a probability of :math:`(1 + t / (m b))^{-m}`. That holds
    for any scale of the scores, and for few of them: the larger rate of a tail learned from few is
    part of it. Only the shape of the tail is assumed.

    References
    ----------
    Papadopoulos, Proedrou, Vovk and Gammerman 2002, Inductive confidence machines for regression,
    European Conference on Machine Learning, 345-356, doi:10.1007/3-540-36755-1_29.
    Lawless 1971, A prediction problem concerning samples from the exponential distribution, with
    application in life testing, Technometrics 13(4), 725-730,
    doi:10.1080/00401706.1971.10488844.
    """
    ordered = np.sort(scores)
    n = len(ordered)
    above = min(math.floor((n + 1) * rate + 1e-9), n)
    if above >= 1:
        return Threshold(float(ordered[n - above]), *_share_above(above, n), n)
    found = _beyond(ordered, rate)
    warn(
        f"{n} held-out good images are few for a false-alarm rate of {rate:g}: the threshold lies "
        f"beyond their largest score, where the tail of the scores leads; expected is a rate of "
        f"{found}",
        UserWarning,
    )
    return found


def threshold_of(scores: Doubles, sizes: list[int], rate: float, odd: Doubles) -> Threshold:
    """Return the threshold that keeps the rate among all scores, and in each update.

    The scores are those of the fit and of the updates in their order, `sizes` their numbers. NaN is
    no score. Few scores of an update do not count alone; nor do those of the fit, whose images may
    be those of a day that is over. With the scores of the `odd` images, which may be good after
    all, two and a half times the rate is kept; what is expected is that of the others.
    """
    every = scores[~np.isnan(scores)]
    found = threshold_at(every, rate)
    if odd.size and ODD_RATE * rate < 1:
        with silent(UserWarning):
            with_odd = threshold_at(np.concatenate([every, odd]), ODD_RATE * rate)
        found = found._replace(value=max(found.value, with_odd.value))
    ends = np.cumsum(sizes)
    for i, (start, end) in enumerate(pairwise(ends), 2):
        part = scores[start:end]
        part = part[~np.isnan(part)]
        if len(part) >= LEAST_UPDATE:
            # Of earlier updates, these have warned.
            with silent(UserWarning) if i < len(ends) else nullcontext():
                found = max(found, threshold_at(part, rate))
    return found


def _share_above(j: int, n: int) -> tuple[float, float, float]:
    """Return the expected share above the j-th largest of n scores, and its interval."""
    low, high = stats.beta(j, n + 1 - j).interval(CONFIDENCE)
    return j / (n + 1), float(low), float(high)


def _beyond(ordered: Doubles, rate: float) -> Threshold:
    """Return the threshold beyond the largest of few scores."""
    n = len(ordered)
    largest = float(ordered[-1])
    m = min(max(n // 4, _LEAST_TAIL), n - 1)
    start = float(ordered[n - 1 - m]) if m else largest
    with np.errstate(invalid="ignore"):  # of infinite scores, it is NaN
        mean = float(np.mean(ordered[n - m :] - start)) if m else 0.0
    if not 0 < mean < math.inf:  # equal or infinite scores have no tail
        return Threshold(largest, *_share_above(1, n), n)
    tail = (m + 0.5) / (n + 1)  # of fresh images above the start
    excess = m * math.expm1(math.log(tail / rate) / m)  # in units of the mean
    excess = max(excess, (largest - start) / mean)
    expected = tail * (1 + excess / m) ** -m
    # The mean excess of m scores, over the true one, has a gamma distribution.
    spread = stats.gamma(m, scale=1 / m).interval(CONFIDENCE)
    low, high = sorted(tail * math.exp(-excess * float(s)) for s in spread)
    # Of a very small share the mean lies beyond that quantile: the interval is to hold it.
    threshold = max(start + excess * mean, largest)  # which rounding may miss
    return Threshold(threshold, expected, low, max(high, expected), n)


@dataclass(frozen=True)
class CrossFit:
    """Good images whose folds are held out in turn."""

    images: Floats
    masks: Booleans | None
    folds: list[Indices]
    """Indices of the images that are held out together."""
    compare: Callable[[Any, Floats, Booleans | None], Doubles]
    """Returns columns of scores of images, by a model and their masks."""
    by_distances: bool = False
    """Whether the scores are distances of the model."""
    peel: VirtualPeel | None = None
    """Its rim is learned from the same images as each model; None leaves the images as they are."""
    is_peeled: bool = False
    """Whether the images are peeled, whose scores have short tails."""

    def fit_without_odd(
        self, new_model: Callable[[], Any], fence: float | None
    ) -> tuple[Any, Doubles, Booleans]:
        """Fit without images beyond the fence; return the model, columns, and which are odd."""
        odd: Booleans = np.zeros(len(self.images), np.bool_)
        model, columns = self.fit(new_model, odd)
        if fence is None:
            return model, columns, odd
        fence = self._reach(fence)
        hidden, good, first = odd, self, 0
        if self.peel is not None and len(self.folds) > 1 and len(odd) < HIDING:
            # Bad images make the rim seem strong: a quarter that may be bad is not asked.
            total, _ = _oddness(columns, odd)
            suspect = total > np.quantile(total, 1 - MOST_ODD, method="higher")
            hidden = odd_ones(self.fit(new_model, suspect)[1], BEYOND * fence)
        for _ in range(ROUNDS):
            found = odd_ones(columns, fence, odd) | hidden
            first = first or int(found.sum())
            most = min(MOST_ODD * len(odd), GROWTH * max(first, FEW))
            if found.sum() > most:  # good images simply differ
                found = np.zeros_like(odd)
            if (found == odd).all():
                break
            odd = found
            if self.peel is not None and self.masks is not None:
                images = self.peel.learn_rim(good.images, self.masks, np.flatnonzero(~odd))
                good = replace(self, images=images)
            model, columns = good.fit(new_model, odd)
            if not odd.any():
                break
        return model, columns, odd

    def _reach(self, fence: float) -> float:
        """Return the reach of the fence for these images."""
        has_long_tails = not self.is_peeled and len(self.images) < HIDING
        return OUTER * fence if has_long_tails else fence

    def fit(self, new_model: Callable[[], Any], odd: Booleans) -> tuple[Any, Doubles]:
        """Fit a model to all images that are not odd; return it, and columns of held-out scores.

        Each fold is scored by a model of the others. A single fold is scored by the model that is
        returned, which has not learned from it. Images in no fold have NaN.
        """
        learned, model = np.flatnonzero(~odd), new_model()
        if self.by_distances and len(self.folds) > 1 and isinstance(model, GoodStatistics):
            return model, model.cross_fit(self.images, self.masks, self.folds, learned)

        def taught(some: Indices, images: Floats) -> Any:
            return new_model().fit(images[some], masks_at(self.masks, some))

        final = taught(learned, self.images) if len(self.folds) > 1 else None
        model, columns = self._held_out(taught, learned)
        return model if final is None else final, columns

    def update_without_odd(
        self, earlier: Any, fence: float | None
    ) -> tuple[Any, Doubles, Booleans]:
        """Teach a model further images; return it, their columns, and which are odd, if many.

        Each fold is scored by the earlier model that learned from the other folds too; a single
        image by the earlier model.
        """
        odd: Booleans = np.zeros(len(self.images), np.bool_)

        def taught(some: Indices, images: Floats) -> Any:
            if not some.size:
                return earlier
            return deepcopy(earlier).partial_fit(images[some], masks_at(self.masks, some))

        _, columns = self._held_out(taught, np.flatnonzero(~odd))
        if fence is not None:
            odd = odd_ones(columns, self._reach(fence))
            if odd.any():
                _, columns = self._held_out(taught, np.flatnonzero(~odd))
        return taught(np.flatnonzero(~odd), self.images), columns, odd

    def _held_out(
        self, taught: Callable[[Indices, Floats], Any], learned: Indices
    ) -> tuple[Any, Doubles]:
        """Score each fold by what is taught by the others; return the last model, and columns."""
        model, found = None, []
        for fold in self.folds:
            images, others = self.images, np.setdiff1d(learned, fold)
            if self.peel is not None and self.masks is not None:
                images = copy(self.peel).learn_rim(images, self.masks, others)
            model = taught(others, images)
            found.append(self.compare(model, images[fold], masks_at(self.masks, fold)))
        columns = np.full((len(self.images), found[0].shape[1]), np.nan)
        columns[np.concatenate(self.folds)] = np.concatenate(found)
        return model, columns


def odd_ones(columns: Doubles, reach: float, known: Booleans | None = None) -> Booleans:
    r"""Return which images are beyond Tukey's upper fence.

    .. math:: q_3 + k (q_3 - q_1)

    with the quartiles of the images that are not `known` to be odd, and the reach k. Columns of
    scores count in logarithms where all are positive, since distances have a longer upper tail than
    a normal distribution; an odd score is then also at least 1.3 times the median. Of several
    columns the largest counts, each from its median in units of its interquartile range.

    Few such images are none: without `known` ones it takes 5 % of those with a score, and two. Of
    fewer than 40 images, none is odd.

    References
    ----------
    Tukey 1977, Exploratory Data Analysis, Addison-Wesley, chapter 2.
    """
    if known is None:
        known = np.zeros(len(columns), np.bool_)
    total, is_far = _oddness(columns, known)
    judged = total > -math.inf
    left = judged & ~known
    if not left.any() or judged.sum() < LEAST_JUDGED:
        return np.zeros_like(known)
    low, high = np.quantile(total[left], (0.25, 0.75))
    found: Booleans = is_far & (total > high + reach * (high - low))
    if not known.any() and found.sum() < max(LEAST_NUMBER, round(LEAST_ODD * judged.sum())):
        found[:] = False
    return found


def _oddness(columns: Doubles, known: Booleans) -> tuple[Doubles, Booleans]:
    """Return how far images are from their median, and whether that is far enough to be odd."""
    total = np.full(len(columns), -math.inf)
    is_far = np.zeros(len(columns), np.bool_)
    for column in columns.T:
        finite = np.isfinite(column)
        values, usual = column[finite], ~known[finite]
        if not usual.any():
            continue
        least = -math.inf
        if (values > 0).all():
            values, least = np.log(values), math.log(FARTHEST_GOOD)
        low, middle, high = np.quantile(values[usual], (0.25, 0.5, 0.75))
        if high > low:
            total[finite] = np.maximum(total[finite], (values - middle) / (high - low))
            is_far[finite] |= values - middle > least
    return total, is_far


def deal_folds(
    n: int, count: int, generator: np.random.Generator, groups: NDArray[Any] | None = None
) -> list[NDArray[np.intp]]:
    """Deal the indices below n at random into folds to hold out; a single fold is a fifth.

    Images of one group stay together: each group goes to the fold that has the fewest images.
    """
    wanted = FOLDS if count == 1 else count
    if groups is None:
        dealt = [np.sort(p) for p in np.array_split(generator.permutation(n), min(wanted, n))]
    else:
        _, which, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        fold_of, filled = np.zeros(len(sizes), np.intp), np.zeros(min(wanted, len(sizes)), int)
        shuffled = generator.permutation(len(sizes))
        for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
            fold_of[group] = fold = int(np.argmin(filled))
            filled[fold] += sizes[group]
        dealt = [np.flatnonzero(fold_of[which] == fold) for fold in range(len(filled))]
    return dealt[:1] if count == 1 else dealt


def check_left(groups: NDArray[Any], n: int) -> None:
    """Refuse groups of n images of which the largest, held out, leaves too few to learn from."""
    sizes = np.unique(groups, return_counts=True)[1]
    if len(sizes) < 2:
        raise OptionError(
            "groups names one group only; expected at least two, of which one can be held out"
        )
    if n - sizes.max() < LEAST_LEFT:
        raise OptionError(
            f"groups has {sizes.max()} of {n} images in one group, which leaves {n - sizes.max()} "
            f"to learn from when it is held out; expected at least {LEAST_LEFT}: pass images of "
            "more groups"
        )


def check_groups(groups: Any, n: int) -> NDArray[Any] | None:
    """Return the group of each image, as whole numbers."""
    if groups is None:
        return None
    try:
        # As objects, since NumPy would turn 1 into "1" beside texts.
        names = np.asarray(groups, dtype=object)
    except ValueError as error:
        raise ShapeError("groups makes no array", f"expected ({n},): {error}") from error
    if names.shape != (n,):
        raise ShapeError(
            f"groups has shape {names.shape}", f"expected a name or number for each image, ({n},)"
        )
    known: dict[Any, int] = {}
    plain = [name.item() if isinstance(name, np.generic) else name for name in names]
    for i, name in enumerate(plain):
        if not isinstance(name, str | int | float | bytes) or name != name:
            raise OptionError(
                f"groups[{i}] is {name!r}; expected a name or a number: give an image of its own a "
                "group of its own"
            )
        known.setdefault(name, len(known))
    return np.array([known[name] for name in plain])


def warn_of_copies(digests: NDArray[np.uint8], rate: float) -> None:
    """Warn of good images, some of them copies, of which too few differ for the rate."""
    different = len(np.unique(digests, axis=0))
    if different < len(digests) and (different + 1) * rate < 1:
        message = (
            f"{len(digests)} good images are {different} different ones and copies, which do not "
            f"show how good images vary: expect more false alarms than {rate:g}; pass other images"
        )
        warn(message, UserWarning)


def unusual_among(images: Indices, scores: Doubles, threshold: Threshold) -> dict[int, float]:
    """Return the scores of new images above the threshold so far; warn if good ones are fewer."""
    is_above, most = scores > threshold.value, threshold.alarms(len(images), SURE)[2]
    above = dict(zip(images[is_above].tolist(), scores[is_above].tolist(), strict=True))
    if len(above) > most:
        message = (
            f"{len(above)} of {len(images)} new images are anomalies to the detector so far, where "
            f"{most:.0f} good ones are to be expected at most ({indices(above)}): if some "
            "are bad, which pass as good from now on, update the saved detector without them"
        )
        warn(message, UserWarning)
    return above


def with_twins(groups: NDArray[Any] | None, digests: NDArray[np.uint8]) -> NDArray[Any] | None:
    """Return groups that keep equal images together, too; as they were if no images are equal.

    An image would not be held out from a model that learned from its twin. Where nearly all images
    are equal, they cannot be held out together.
    """
    _, twin, sizes = np.unique(digests, axis=0, return_inverse=True, return_counts=True)
    twin, number = twin.reshape(-1), len(sizes)
    if number == len(twin) or sizes.max() > len(twin) - LEAST_LEFT:
        return groups
    if groups is None:
        return twin
    # Different images and groups are nodes, and each image is an edge between two of them.
    nodes = number + int(groups.max()) + 1
    edges = coo_array((np.ones(len(twin)), (twin, number + groups)), shape=(nodes, nodes))
    joined: NDArray[Any] = connected_components(edges, directed=False)[1][twin]
    return joined
