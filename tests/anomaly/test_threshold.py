"""The threshold that keeps a false-alarm rate, from held-out scores."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import imsim
from imsim.anomaly import AnomalyDetector
from imsim.anomaly.held_out import threshold_at
from imsim.errors import silent


def test_threshold_is_the_rank_that_exchangeability_asks_for() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))
    found = threshold_at(scores, 0.05)
    assert found.value == 95
    assert found.rate == pytest.approx(0.05)
    assert threshold_at(scores, 0.01).value == 99


@pytest.mark.parametrize("n", [3, 20, 50])
def test_few_scores_hold_a_small_rate_all_the_same(n: int) -> None:
    """Exponential scores, for which the rule is exact but for where the tail starts."""
    rate = 0.2 / (n + 1)
    above, inside = [], []
    for seed in range(400):
        with pytest.warns(UserWarning, match="few for a false-alarm rate"):
            found = threshold_at(np.random.default_rng(seed).exponential(size=n), rate)
        above.append(np.exp(-found.value))
        inside.append(found.low <= above[-1] <= found.high)
        assert found.low < found.rate < found.high
    # The share is skewed: its mean over 400 trainings has a standard error of 5 to 10 %.
    assert rate / 1.4 < np.mean(above) < rate * 1.4
    assert 0.9 < np.mean(inside) < 0.99


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60),
    st.sampled_from([1e-4, 0.01, 0.05, 0.5]),
    st.sampled_from([0.25, 2.0, 1024.0]),
)
@example([0.0] * 7 + [6.459800521057994e-133], 0.05, 2.0)  # whose tail ends an ulp too early
def test_a_threshold_moves_with_the_scores(scores: list[float], rate: float, scale: float) -> None:
    with silent(UserWarning):
        found = threshold_at(np.array(scores), rate)
        scaled = threshold_at(np.array(scores) * scale, rate)
    assert scaled.value == pytest.approx(found.value * scale, rel=1e-9, abs=1e-6 * scale)
    assert 0 <= found.low <= found.high <= 1
    assert np.mean(np.array(scores) > found.value) <= rate


@pytest.mark.parametrize("rate", [1e-6, 0.9, 1 - 1e-12])
def test_extreme_rates_have_an_interval(rate: float) -> None:
    with silent(UserWarning):
        found = threshold_at(np.arange(1.0, 31.0), rate)
    assert 0 <= found.low <= found.rate <= found.high <= 1
    assert found.value <= 1.0 or rate < 0.99


@pytest.mark.parametrize("wrong", [{"count": -1}, {"count": 2.5}, {"confidence": 1}])
def test_what_alarms_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(imsim.OptionError, match=next(iter(wrong))):
        threshold_at(np.arange(1.0, 100.0), 0.05).alarms(**{"count": 5, **wrong})


def test_infinite_or_equal_scores_have_no_tail() -> None:
    for scores in ([1.0, 1.0, 1.0], [np.inf, 1.0, 2.0], [7.0]):
        with pytest.warns(UserWarning, match="few"):
            assert threshold_at(np.array(scores), 0.01).value == max(scores)


@pytest.mark.parametrize("count", [3, 10, 25])
def test_any_number_of_infinite_scores_has_a_threshold(count: int) -> None:
    for number in range(count + 1):
        for value in (-np.inf, np.inf):
            scores = np.linspace(0, 1, count)
            scores[:number] = value
            with silent(UserWarning), warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                assert not np.isnan(threshold_at(scores, 0.05).value)


def test_the_description_says_what_the_images_can_promise() -> None:
    good = 100 + np.random.default_rng(0).normal(0, 2, (30, 16, 16))
    for rate, words in ((0.05, False), (0.01, True)):
        with silent(UserWarning):
            detector = AnomalyDetector(
                preprocess=None, metric="se", false_alarm_rate=rate, random_state=0
            ).fit(good)
        told = detector.describe()["false alarms expected"]
        assert ("largest of 30 scores, which promise 0.032 at best" in told) is words
