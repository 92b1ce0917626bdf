"""The threshold that keeps a false-alarm rate, from held-out scores of good images."""

from __future__ import annotations

import math
from contextlib import nullcontext
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import stats

from imsim.anomaly.stacks import Doubles
from imsim.errors import silent, warn
from imsim.validation import check_between, check_integer

CONFIDENCE = 0.95
"""Of the interval of the false-alarm rate."""
LEAST_UPDATE = 20
"""Least images of an update that set a threshold of their own, and are looked at for odd ones."""
_LEAST_TAIL = 3
"""Least scores from which the tail beyond the largest score is learned."""


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
        >>> from imsim.anomaly.threshold import threshold_at
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

    Warns
    -----
    UserWarning
        If the threshold lies beyond the largest score.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly.threshold import threshold_at
    >>> found = threshold_at(np.arange(1.0, 100.0), 0.05)
    >>> found.value, round(found.rate, 3), round(found.low, 3), round(found.high, 3)
    (95.0, 0.05, 0.017, 0.1)
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


def threshold_of(scores: Doubles, sizes: list[int], rate: float) -> Threshold:
    """Return the threshold that keeps the rate among all scores, and in each update.

    The scores are those of the fit and of the updates in their order, `sizes` their numbers. NaN is
    no score. Few scores of an update do not count alone; nor do those of the fit, whose images may
    be those of a day that is over.
    """
    every = scores[~np.isnan(scores)]
    found = threshold_at(every, rate)
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
