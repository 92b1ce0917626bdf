"""The detector's score out of mean and worst window."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import imsim
from imsim.anomaly import AnomalyDetector, scoring
from imsim.anomaly.held_out import threshold_at


@pytest.mark.parametrize(
    ("aggregate", "metric", "has_preprocess", "chosen"),
    [
        (None, "fsim", True, "worst"),
        (None, "fsim", False, "both"),
        (None, "psnr", True, "mean"),
        (None, "psnr", False, "mean"),
        ("mean", "fsim", True, "mean"),
        ("both", "fsim", True, "both"),
    ],
)
def test_default(aggregate: Any, metric: str, has_preprocess: bool, chosen: str) -> None:
    assert scoring.choose_aggregate(aggregate, metric, has_preprocess) == chosen


@pytest.mark.parametrize(
    ("aggregate", "metric"), [("both", "psnr"), ("median", "fsim"), (2, "sam")]
)
def test_what_the_metric_has_not_is_refused(aggregate: Any, metric: str) -> None:
    with pytest.raises(imsim.OptionError, match=f"aggregate={aggregate!r}; {metric} has 'mean'"):
        scoring.choose_aggregate(aggregate, metric, False)


def test_columns_are_compared_in_their_own_scale() -> None:
    good = np.random.default_rng(0).normal((2, 200), (1, 100), (4000, 2))
    good[0] = 1e9, np.nan  # one odd image among the good ones counts little
    scale = scoring.scales(good)
    # 1.645 deviations lie between median and 95 % quantile; of 4000 numbers both are known to
    # 0.04 deviations.
    np.testing.assert_allclose(scale, [[2, 200], [1.645, 164.5]], rtol=0.1)
    scale = np.array([[2.0, 200.0], [1.0, 100.0]])
    scores = [[2.0, 500.0], [7.0, 0.0], [np.nan, 300.0], [np.nan, np.nan]]
    np.testing.assert_array_equal(
        scoring.most_anomalous(np.array(scores), scale), [3, 5, 1, np.nan]
    )


@pytest.mark.parametrize("scores", [[[np.nan, 1.0]] * 2, [[4.0, 1.0], [4.0, 1.0]], [[5.0], [9.0]]])
def test_scales_that_cannot_be_learned_are_none(scores: Any) -> None:
    assert (scoring.scales(np.array(scores))[1] == 1).all()


def test_one_column_stays_what_it_is() -> None:
    scores = np.array([[0.1], [0.3]])
    np.testing.assert_array_equal(
        scoring.most_anomalous(scores, scoring.scales(scores)), scores[:, 0]
    )


@pytest.mark.parametrize("n", [3, 4, 20, 41])
def test_each_image_has_its_score_in_the_scales_of_the_others(n: int) -> None:
    scores = np.random.default_rng(n).normal((2, 200), (1, 100), (n, 2)).round(1)
    scores[n // 2, 1] = np.nan
    want = [
        scoring.most_anomalous(scores[[i]], scoring.scales(np.delete(scores, i, 0)))[0]
        for i in range(n)
    ]
    np.testing.assert_allclose(scoring.most_anomalous_of_others(scores), want, rtol=1e-12)
    np.testing.assert_array_equal(scoring.most_anomalous_of_others(scores[:1]), [0])


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (19, 0.01), (60, 0.02)])
def test_the_rate_is_kept_though_the_same_images_set_scales_and_threshold(
    n: int, rate: float
) -> None:
    """Over 400 trainings on numbers of a normal distribution, the mean is known to 0.003."""
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        good, fresh = rng.standard_normal((n, 3)), rng.standard_normal((200, 3))
        with warnings.catch_warnings(action="ignore"):  # of few images
            found_at = threshold_at(scoring.most_anomalous_of_others(good), rate)
        scores = scoring.most_anomalous(fresh, scoring.scales(good))
        found.append((scores > found_at.value).mean())
    assert np.mean(found) < rate + 0.003


def parts(count: int, seed: int) -> Any:
    """The same part each time, under a light that varies, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :48]
    part = 100 + 40 * (np.hypot(y - 24, x - 24) < 15) + 20 * ((x // 8) % 2)
    light = (
        rng.uniform(0.9, 1.1, (count, 1, 1)) + rng.normal(0, 0.03, (count, 1, 1)) * (x - 24) / 24
    )
    return np.clip(part * light + rng.normal(0, 3, (count, 48, 48)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(preprocess=None, aggregate="both", random_state=0).fit(parts(80, 0))


def spotted(images: Any) -> Any:
    images = images.copy()
    images[:, 20:24, 30:34] = images[:, 20:24, 30:34] // 2
    return images


def blurred_all_over(images: Any) -> Any:
    """Neighbouring pixels averaged: nowhere much, everywhere a little."""
    return ((images.astype(int) + np.roll(images, 1, 2)) // 2).astype(np.uint8)


@pytest.mark.parametrize("spoil", [spotted, blurred_all_over])
def test_both_finds_small_defects_and_faults_all_over(
    detector: AnomalyDetector, spoil: Any
) -> None:
    good = parts(40, 1)
    scores = detector.anomaly_score(np.concatenate([good, spoil(parts(40, 2))]))
    labels = np.repeat([0, 1], 40)
    assert roc_auc_score(labels, scores) > 0.95
    # A rate of 5 % learned from 80 images: of 40 more than 8 has a probability below 1e-3.
    assert (scores[:40] > detector.threshold_).sum() <= 8


def test_both_is_saved_and_loaded(detector: AnomalyDetector, tmp_path: Any) -> None:
    images = spotted(parts(3, 3))
    path = tmp_path / "detector.safetensors"
    detector.save(path)
    again = AnomalyDetector.load(path)
    assert again.aggregate_ == "both"
    np.testing.assert_array_equal(again.anomaly_score(images), detector.anomaly_score(images))


def test_infinite_scores_of_good_images_leave_the_threshold_its_meaning() -> None:
    images = np.full((5, 16, 16), 7, dtype=np.uint8)
    with (
        pytest.warns(UserWarning, match="5 of 5 good images are constant"),
        pytest.warns(UserWarning, match="1 different ones and copies"),
    ):
        detector = AnomalyDetector(preprocess=None, metric="psnr", false_alarm_rate=0.2).fit(images)
    assert detector.threshold_ == -np.inf  # identical images: a ratio without bound
    np.testing.assert_array_equal(detector.predict(images), 1)
    np.testing.assert_array_equal(detector.predict(images[:1] + np.eye(16, dtype=np.uint8)), -1)


def test_tiny_images_keep_something_to_find() -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8)).astype(np.uint8)
    detector = AnomalyDetector(preprocess=None, metric="se").fit(images)
    assert len(detector.model_.components_) == 8
