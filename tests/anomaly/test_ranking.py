"""Ranking of metrics on cases with a known answer."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import imsim
from imsim.anomaly import rank_metrics, scoring
from imsim.anomaly.ranking import Ranking

N, SIDE = 24, 32
LABELS = np.arange(N) >= N // 2
CHEAP = ["se", "rmse", "zncc"]


def offsets(seed: int = 0) -> tuple[Any, Any]:
    """Good images differ from their reconstruction by an offset only, anomalous ones by texture.

    Squared differences say the opposite of the truth; a correlation tells the two apart.
    """
    rng = np.random.default_rng(seed)
    reconstructions = rng.uniform(0.3, 0.5, (N, SIDE, SIDE))
    change = np.where(LABELS[:, None, None], 0.05 * rng.standard_normal((N, SIDE, SIDE)), 0.3)
    return reconstructions + change, reconstructions


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    inputs, reconstructions = offsets()
    return rank_metrics(inputs, reconstructions, LABELS, metrics=CHEAP, n_bootstrap=50)


def test_the_metric_that_must_win_wins(ranking: Ranking) -> None:
    assert ranking.best.metric == "zncc"
    assert ranking.best.auroc == 1
    assert {r.auroc for r in ranking if r.metric in {"se", "rmse"}} == {0}
    aurocs = [r.auroc for r in ranking]
    assert aurocs == sorted(aurocs, reverse=True)


def test_a_small_body_is_found_by_the_worst_window() -> None:
    rng = np.random.default_rng(1)
    truth = np.full((N, SIDE, SIDE), 0.5)
    level = rng.uniform(0.02, 0.04, N)[:, None, None]  # how noisy an image is hides the body
    inputs = truth + level * rng.standard_normal((N, SIDE, SIDE))
    inputs[LABELS, 14:17, 14:17] += 0.15
    ranking = rank_metrics(inputs, truth, LABELS, metrics=["se"], n_bootstrap=20)
    found = {one.aggregate: one.auroc for one in ranking}
    assert found["worst"] == 1 > found["mean"]
    assert found["highest"] > found["mean"]
    wide = rank_metrics(inputs, truth, LABELS, metrics=["se"], window=31, n_bootstrap=20)
    assert next(r.auroc for r in wide if r.aggregate == "worst") < 1


def test_every_metric_and_aggregate_has_a_place() -> None:
    inputs, reconstructions = offsets()
    ranking = rank_metrics(inputs, reconstructions, LABELS, data_range=1.0, n_bootstrap=5)
    assert {r.metric for r in ranking} == set(imsim.METRICS)
    assert not ranking.skipped
    every = {(metric, a) for metric in imsim.METRICS for a in scoring.aggregates(metric)}
    assert {(r.metric, r.aggregate) for r in ranking} == every
    assert all(len(line) <= 100 for line in str(ranking).splitlines())


def test_the_records(ranking: Ranking) -> None:
    for record in ranking:
        assert record.scores.shape == (N,)
        assert record.images_per_second > 0
        assert record.interval[0] <= record.auroc <= record.interval[1]
        assert record.roc.detection_rates[-1] == record.roc.false_alarm_rates[-1] == 1
        with pytest.raises(AttributeError):
            record.auroc = 1.0
    assert ranking[:2] == [ranking[0], ranking[1]]
    np.testing.assert_array_equal(ranking.labels, LABELS)


def test_larger_scores_are_more_anomalous_whatever_the_direction() -> None:
    inputs, reconstructions = offsets()
    ranking = rank_metrics(
        inputs, reconstructions, LABELS, metrics=["psnr", "se"], data_range=1, aggregates=["mean"]
    )
    one, other = ranking
    np.testing.assert_array_equal(np.argsort(one.scores), np.argsort(other.scores))


def test_what_cannot_run_is_named(ranking: Ranking) -> None:
    inputs, reconstructions = offsets()
    partly = rank_metrics(inputs, reconstructions, LABELS, metrics=["se", "psnr"], n_bootstrap=5)
    assert {r.metric for r in partly} == {"se"}
    assert set(partly.skipped) == {"psnr mean"}
    assert "data_range" in partly.skipped["psnr mean"]
    assert "\npsnr mean       skipped: " in str(partly)
    assert all(len(line) <= 100 for line in str(partly).splitlines())
    with pytest.raises(imsim.OptionError, match=r"no metric could run .* psnr mean: .*data_range"):
        rank_metrics(inputs, reconstructions, LABELS, metrics=["psnr"])
    with pytest.raises(imsim.OptionError, match="none has such an aggregate"):
        rank_metrics(inputs, reconstructions, LABELS, metrics=["rmse"], aggregates=["worst"])


def test_masks_hide_what_lies_outside() -> None:
    inputs, reconstructions = offsets()
    masks = np.zeros(inputs.shape, bool)
    masks[:, 4:-4, 4:-4] = True
    settings: dict[str, Any] = {"metrics": CHEAP, "masks": masks, "n_bootstrap": 20}
    clean = rank_metrics(inputs, reconstructions, LABELS, **settings)
    inputs[~masks] = np.nan
    dirty = rank_metrics(inputs, reconstructions, LABELS, **settings)
    for one, other in zip(clean, dirty, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
    settings["masks"] = masks[0]
    same = rank_metrics(inputs, reconstructions, LABELS, **settings)
    np.testing.assert_array_equal(same.best.scores, clean.best.scores)


def test_an_image_that_cannot_be_scored_is_counted_and_named() -> None:
    inputs, reconstructions = offsets()
    masks = np.ones(inputs.shape, bool)
    masks[[0, N - 1]] = False
    inputs[5, 3, 3] = math.nan
    ranking = rank_metrics(
        inputs, reconstructions, LABELS, masks=masks, metrics=["zncc"], aggregates=["mean"]
    )
    assert ranking.best.unscored == (0, 5, N - 1)
    assert ranking.best.auroc == 1
    assert str(ranking).endswith("  (3 NaN)")
    assert all(len(line) <= 100 for line in str(ranking).splitlines())


def test_the_table_and_the_dictionaries(ranking: Ranking) -> None:
    lines = str(ranking).splitlines()
    assert lines[0].startswith("12 good and 12 anomalous images; 95% intervals")
    assert len(lines) == 3 + len(ranking)
    assert all(len(line) <= 100 for line in lines)
    first, *_ = json.loads(json.dumps(ranking.to_dicts(), allow_nan=False))
    assert first["metric"] == "zncc"
    assert first["auroc"] == 1
    assert "zncc" in repr(ranking)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": np.where(LABELS, -1, 1)}, imsim.OptionError, "labels holds -1"),
        ({"labels": LABELS[:-1]}, imsim.ShapeError, "labels has shape"),
        ({"reconstructions": np.zeros((N, SIDE, 8))}, imsim.ShapeError, "expected the same"),
        ({"inputs": np.zeros((SIDE, SIDE))}, imsim.ShapeError, "inputs has shape"),
        ({"inputs": np.zeros((N, SIDE, SIDE), complex)}, imsim.DTypeError, "complex"),
        ({"masks": np.ones((SIDE, 8), bool)}, imsim.MaskError, "masks has shape"),
        ({"metrics": "ssim"}, imsim.OptionError, "expected a list of names"),
        ({"metrics": ["lpips"]}, imsim.OptionError, "metrics holds 'lpips'"),
        ({"aggregates": ["median"]}, imsim.OptionError, "aggregates holds 'median'"),
        ({"window": 0}, imsim.OptionError, "window=0"),
        ({"n_bootstrap": 0}, imsim.OptionError, "n_bootstrap=0"),
        ({"confidence": 95}, imsim.OptionError, "confidence=95"),
        ({"random_state": -1}, imsim.OptionError, "random_state=-1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    inputs, reconstructions = offsets()
    arguments = {"inputs": inputs, "reconstructions": reconstructions, "labels": LABELS, **change}
    with pytest.raises(error, match=message):
        rank_metrics(**arguments)


def test_measures_that_cannot_tell_images_apart_are_skipped_with_the_reason():
    """A constant reconstruction has no contrast, by which these measures divide."""
    images = np.random.default_rng(0).random((12, 16, 16))
    ranking = rank_metrics(
        images, np.full_like(images, 0.5), np.arange(12) % 2, data_range=1, metrics=["se", "zncc"]
    )
    assert {r.metric for r in ranking} == {"se"}
    assert set(ranking.skipped) == {"zncc mean", "zncc worst", "zncc highest"}
    assert "no contrast" in ranking.skipped["zncc mean"]


def test_what_scores_all_images_alike_is_no_measure() -> None:
    images = np.random.default_rng(0).random((12, 16, 16))
    with pytest.raises(imsim.OptionError, match="every image has the same score"):
        rank_metrics(images, images, np.arange(12) >= 6, data_range=1.0, metrics=["psnr", "se"])


def test_no_metrics_are_refused_by_name() -> None:
    images = np.random.default_rng(0).random((12, 16, 16))
    with pytest.raises(imsim.OptionError, match="metrics is empty; expected at least one name"):
        rank_metrics(images, images, np.arange(12) >= 6, metrics=[])
