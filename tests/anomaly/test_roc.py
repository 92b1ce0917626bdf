"""AUROC, its interval, and the best thresholds, on scores with known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

import imsim
from imsim.anomaly.separation import Bootstrap, Separation, check_labels, separate


def measure(scores: Any, labels: Any, n_bootstrap: int = 200, **settings: Any) -> Separation:
    return separate(
        np.asarray(scores, dtype=np.float64),
        np.asarray(labels, dtype=bool),
        Bootstrap(**{"draws": n_bootstrap, "confidence": 0.95, "random_state": 0, **settings}),
    )


def test_perfect_scores() -> None:
    found = measure([1, 2, 3, 4], [0, 0, 1, 1])
    assert (found.auroc, found.accuracy, found.balanced_accuracy) == (1, 1, 1)
    assert found.detection_at_1_percent == 1
    assert found.interval == (1, 1)
    assert found.threshold == 3  # flagged if at least that


def test_reversed_scores() -> None:
    found = measure([4, 3, 2, 1], [0, 0, 1, 1])
    assert (found.auroc, found.interval) == (0, (0, 0))
    assert found.accuracy == 0.5  # nothing flagged, or everything
    assert found.detection_at_1_percent == 0


def test_equal_scores_are_a_coin() -> None:
    found = measure(np.zeros(5), [0, 0, 0, 1, 1])
    assert (found.auroc, found.interval) == (0.5, (0.5, 0.5))
    assert found.accuracy == 0.6  # nothing flagged: the three good ones are right
    assert found.threshold == math.inf
    assert found.balanced_accuracy == 0.5


def test_by_hand() -> None:
    # Good 1 2 3 5, anomalous 2 4 6: of 12 pairs, 6 wins for "6" and "4" less one (5 > 4) = 4 + 3,
    # and "2" wins one and ties one: (4 + 3 + 1.5) / 12.
    found = measure([1, 2, 3, 5, 2, 4, 6], [0, 0, 0, 0, 1, 1, 1])
    assert found.auroc == pytest.approx(8.5 / 12, rel=1e-15)
    # At least 4: two of three found, one false alarm; at least 6: one of three, none.
    assert found.accuracy == pytest.approx(5 / 7, rel=1e-15)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 3 / 4) / 2, rel=1e-15)
    assert found.detection_at_1_percent == pytest.approx(1 / 3, rel=1e-15)
    np.testing.assert_array_equal(found.roc.thresholds, [math.inf, 6, 5, 4, 3, 2, 1])
    np.testing.assert_allclose(found.roc.detection_rates * 3, [0, 1, 1, 2, 2, 3, 3], rtol=1e-15)
    np.testing.assert_array_equal(found.roc.false_alarm_rates * 4, [0, 0, 1, 1, 2, 3, 4])


@pytest.mark.parametrize(("good", "allowed"), [(99, 0), (100, 1), (199, 1), (200, 2)])
def test_one_percent_of_few_good_images(good: int, allowed: int) -> None:
    # Every anomalous score lies between two good ones: the k-th is found at k false alarms.
    scores = np.concatenate([-np.arange(good), -np.arange(4) - 0.5])
    found = measure(scores, np.arange(good + 4) >= good, n_bootstrap=1)
    assert found.detection_at_1_percent == allowed / 4


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
def test_the_area_and_the_curve_are_those_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    labels[:2] = True, False
    found = measure(scores, labels, n_bootstrap=1)
    # Sums of at most 900 products of halves, one division: a few ulp.
    assert found.auroc == pytest.approx(roc_auc_score(labels, scores), rel=1e-14, abs=1e-14)
    false_alarms, detections, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.roc.false_alarm_rates, false_alarms, rtol=1e-15)
    np.testing.assert_allclose(found.roc.detection_rates, detections, rtol=1e-15)
    np.testing.assert_array_equal(found.roc.thresholds, thresholds)


def test_infinite_scores_are_ranked() -> None:
    found = measure([-math.inf, 0, 1, math.inf], [0, 0, 1, 1])
    assert (found.auroc, found.accuracy, found.threshold) == (1, 1, 1)


def test_an_image_without_a_score_is_named_and_left_out() -> None:
    found = measure([1, math.nan, 2, 3, math.nan], [0, 0, 1, 1, 1])
    assert found.unscored == (1, 4)
    assert found.auroc == 1
    assert found.roc.detection_rates[1] == 0.5  # of the two that have a score


@pytest.mark.parametrize(
    ("scores", "missing"), [([1, math.nan], "anomalous"), ([math.nan, 1], "good")]
)
def test_no_score_at_all_of_one_sort(scores: list[float], missing: str) -> None:
    with pytest.raises(imsim.OptionError, match=f"no {missing} image has a score"):
        measure(scores, [0, 1])


def test_the_interval_covers_as_often_as_it_says() -> None:
    # Normal scores one standard deviation apart: the true area is Phi(1 / sqrt 2).
    truth = 0.5 * (1 + math.erf(0.5))
    rng = np.random.default_rng(7)
    labels = np.arange(120) >= 60
    covered = 0
    for _ in range(200):
        low, high = measure(rng.standard_normal(120) + labels, labels, 400).interval
        covered += low <= truth <= high
    # 0.94 of 2000 cases were covered: 188 of 200 with a standard deviation of 3.4; three of them.
    assert 178 <= covered <= 198


def test_the_bootstrap_agrees_with_drawing_images_one_by_one() -> None:
    rng = np.random.default_rng(3)
    scores, labels = (
        np.round(rng.standard_normal(40) + np.repeat([0, 0.8], 20), 1),
        np.arange(40) >= 20,
    )
    areas = [
        roc_auc_score(
            labels, np.concatenate([rng.choice(scores[:20], 20), rng.choice(scores[20:], 20)])
        )
        for _ in range(600)
    ]
    found = measure(scores, labels, n_bootstrap=20_000).interval
    # The standard error of a 2.5 % quantile of 600 draws is near 0.01 here.
    np.testing.assert_allclose(found, np.quantile(areas, [0.025, 0.975]), atol=0.03)


def test_the_bootstrap_does_not_depend_on_how_many_fit_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores, labels = np.random.default_rng(1).standard_normal(50), np.arange(50) % 2
    wide = measure(scores, labels, confidence=0.5).interval
    monkeypatch.setattr("imsim.anomaly.separation.RESAMPLED_AT_ONCE", 50 * 60)
    parts = measure(scores, labels, confidence=0.5).interval
    # Other draws, for the good and the anomalous take turns at the generator; 200 draws of an
    # area with a standard deviation of 0.08 leave the quartiles uncertain by about 0.008.
    np.testing.assert_allclose(parts, wide, atol=0.03)


def test_the_seed_decides() -> None:
    scores, labels = np.random.default_rng(1).standard_normal(50), np.arange(50) % 2
    first, again, other = (measure(scores, labels, random_state=s).interval for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    "labels", [[0, 1, 1], [False, True, True], [0.0, 1.0, 1.0], np.array([0, 1, 1], np.uint8)]
)
def test_labels(labels: Any) -> None:
    np.testing.assert_array_equal(check_labels(labels, 3), [False, True, True])


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([1, -1, 1], imsim.OptionError, r"labels holds -1; .*labels == -1"),
        (["good", "bad", "bad"], imsim.OptionError, "labels holds bad, good"),
        ([0, math.nan, 1], imsim.OptionError, "labels holds nan"),
        ([0, 0, 0], imsim.OptionError, "all 3 images are good"),
        ([1, 1, 1], imsim.OptionError, "all 3 images are anomalous"),
        ([0, 1], imsim.ShapeError, r"labels has shape \(2,\); expected .* \(3,\)"),
    ],
)
def test_other_labels_are_refused(labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_labels(labels, 3)
