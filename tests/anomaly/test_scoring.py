"""From a metric to a score of each image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import imsim
from imsim.anomaly import scoring

RANGE = 1.0


@pytest.fixture(scope="module")
def pairs() -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Three images, reconstructions of which the second lacks a body, and masks."""
    rng = np.random.default_rng(0)
    y = rng.random((3, 40, 40)).astype(np.float32)
    x = y + rng.normal(0, 0.02, y.shape).astype(np.float32)
    x[1, 10:16, 10:16] += 1
    masks = np.zeros(y.shape, bool)
    masks[:, 4:30, 4:34] = True
    return x, y, masks


EVERY = [(name, a) for name in imsim.METRICS for a in scoring.aggregates(name)]


def test_which_metrics_have_a_worst_window() -> None:
    assert {name for name, aggregate in EVERY if aggregate == "worst"} == {
        "fsim", "gmsd", "imed", "se", "ssim", "uiq", "zncc",
    }  # fmt: skip


@pytest.mark.parametrize(("metric", "aggregate"), EVERY)
def test_a_body_raises_the_score_in_every_metric(metric: str, aggregate: str, pairs: Any) -> None:
    x, y, masks = pairs
    how: Any = {"data_range": RANGE, "aggregate": aggregate, "window": 7}
    scores = scoring.anomaly_scores(metric, x, y, masks=masks, **how)
    assert scores.shape == (3,)
    assert scores.dtype == np.float64
    assert scores[1] > max(scores[0], scores[2])
    x, y = x.copy(), y.copy()
    x[~masks], y[~masks] = np.nan, 7
    np.testing.assert_array_equal(scores, scoring.anomaly_scores(metric, x, y, masks=masks, **how))
    alone = scoring.anomaly_scores(metric, x[1:2], y[1:2], masks=masks[1:2], **how)
    np.testing.assert_array_equal(alone, scores[1:2])


@pytest.mark.parametrize("metric", imsim.METRICS)
def test_the_mean_is_the_metric_itself(metric: str, pairs: Any) -> None:
    x, y, masks = pairs
    facts = imsim.METRICS[metric]
    want = facts.dissimilarity(facts.function(x, y, mask=masks, data_range=RANGE))
    got = scoring.anomaly_scores(metric, x, y, masks=masks, data_range=RANGE)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("aggregate", scoring.AGGREGATES)
def test_what_cannot_be_scored_is_nan_and_spoils_nothing(aggregate: str, pairs: Any) -> None:
    x, y, masks = (array.copy() for array in pairs)
    masks[0] = False
    x[2, 12, 12] = np.nan
    how: Any = {"data_range": RANGE, "aggregate": aggregate}
    scores = scoring.anomaly_scores("ssim", x, y, masks=masks, **how)
    assert np.isnan(scores).tolist() == [True, False, True]


def test_the_worst_window_is_the_largest_mean_of_its_scored_part() -> None:
    values = np.zeros((1, 9, 9))
    values[0, 2:4, 2:4] = 1
    assert scoring.worst_window(values, 3)[0] == pytest.approx(4 / 9)
    values[0, 1, :] = values[0, 4, :] = np.nan  # windows of rows 2 to 4: 6 scored cells, 4 are 1
    assert scoring.worst_window(values, 3)[0] == pytest.approx(4 / 6)
    assert np.isnan(scoring.worst_window(np.full((1, 9, 9), np.nan), 3)[0])
    assert scoring.worst_window(values, 99)[0] == scoring.worst_window(values, 9)[0]


def test_a_sliver_of_a_window_does_not_decide() -> None:
    values = np.full((1, 12, 12), np.nan)
    values[0, :, 4:] = 0
    values[0, 0, 4] = 1  # a corner of which no window of 5 has half
    assert scoring.worst_window(values, 5)[0] < 1 / 12
    values[0, :, 5:] = np.nan  # a mask of one column: as much as can be had
    assert scoring.worst_window(values, 5)[0] == pytest.approx(1 / 5)


def test_maps_grow_with_dissimilarity(pairs: Any) -> None:
    x, y, masks = pairs
    for metric in imsim.METRICS:
        if "worst" not in scoring.aggregates(metric):
            with pytest.raises(imsim.OptionError, match=f"{metric} has no map"):
                scoring.dissimilarity_map(metric, x, y, data_range=RANGE)
            continue
        found = scoring.dissimilarity_map(metric, x, y, masks=masks, data_range=RANGE)
        assert found.shape == x.shape
        assert np.isnan(found[:, :3]).all()
        assert np.nanmean(found[1, 8:18, 8:18]) > 2 * np.nanmean(found[0, 8:18, 8:18])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "lpips"}, "metric='lpips'; expected one of"),
        ({"metric": "sam", "aggregate": "worst"}, "sam has 'mean'"),
        ({"aggregate": "median"}, "fsim has 'mean', 'worst'"),
        ({"aggregate": "worst", "window": 0}, "window=0"),
        ({"inputs": np.zeros((32, 32))}, "inputs have shape"),
        ({"masks": np.ones((5, 5), bool)}, "masks has shape"),
        ({"data_range": None}, "data_range"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    zeros = np.zeros((2, 32, 32))
    given = {"metric": "fsim", "inputs": zeros, "reconstructions": zeros, "data_range": 1.0}
    with pytest.raises(imsim.ImsimError, match=message):
        scoring.anomaly_scores(**{**given, **change})


def test_the_highest_of_a_map_need_not_lie_together() -> None:
    """A crack one pixel wide, twice: in one piece and scattered; among NaN outside a mask."""
    images = np.zeros((3, 40, 40))
    images[0, 20] = images[1].reshape(-1)[::40] = 1
    used = np.ones(images.shape, bool)
    used[:, :, 30:] = False
    used[2] = False
    found = scoring.anomaly_scores(
        "se", images, np.zeros_like(images), masks=used, aggregate="highest"
    )
    # 2 % of 1200 pixels are 24: of 30 in the row all, of the scattered ones those in the mask.
    scattered = min(24, int(images[1][used[1]].sum())) / 24
    np.testing.assert_allclose(found, [1, scattered, np.nan])
