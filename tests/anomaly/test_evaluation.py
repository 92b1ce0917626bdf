"""Evaluation of decisions, with a detector whose scores are known."""

from __future__ import annotations

import json
import math
import re
import warnings
from typing import Any

import numpy as np
import pytest

import imsim
from imsim.anomaly import evaluate
from imsim.anomaly.evaluation import Group

# Good 0.1 ... 0.8, anomalous 0.55 0.75 0.95 1.05; the detector flags above 0.7.
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.55, 0.75, 0.95, 1.05])
LABELS = np.arange(12) >= 8
IMAGES = SCORES[:, None, None] * np.ones((12, 4, 4))
KINDS = ["", *["good"] * 7, "bone", "bone", "glass", "glass"]
SIZES = [math.nan] * 8 + [0.5, 1.0, 0.5, 1.0]


class Reader:
    """The score is the mean of the image, where it is finite."""

    threshold_ = 0.7

    def anomaly_score(self, images: Any, masks: Any = None) -> Any:
        if np.isnan(images[0, 0, 0]):
            warnings.warn("an image cannot be used", UserWarning, stacklevel=2)
        used = np.ones(images.shape, bool) if masks is None else masks
        return np.round(images.mean(axis=(1, 2), where=used), 6)


def test_the_numbers_by_hand() -> None:
    found = evaluate(Reader(), IMAGES, LABELS, n_bootstrap=50)
    assert found.confusion == (3, 1, 1, 7)  # 0.7 itself passes
    assert found.accuracy == 10 / 12
    assert found.detection_rate == 3 / 4
    assert found.false_alarm_rate == 1 / 8
    # 0.55 beats five good ones, 0.75 seven, the others all eight.
    assert found.auroc == pytest.approx((5 + 7 + 8 + 8) / 32, rel=1e-15)
    assert found.interval[0] <= found.auroc <= found.interval[1]
    assert found.separation.detection_at_1_percent == 0.5
    assert found.threshold == 0.7
    assert found.images_per_second > 0
    assert not found.by_kind
    assert not found.by_size


def test_the_tables() -> None:
    found = evaluate(Reader(), IMAGES, LABELS, kinds=KINDS, sizes=SIZES, n_bootstrap=5)
    assert found.by_kind == (Group("bone", 2, 12 / 16, 0.5), Group("glass", 2, 1.0, 1.0))
    assert found.by_size == (Group("0.5", 2, 13 / 16, 0.5), Group("1", 2, 15 / 16, 1.0))
    text = str(found)
    assert "3 of 4 anomalous images found (75.0%), 1 missed" in text
    assert "1 false alarms on 8 good images (12.5%)" in text
    assert re.search(r"^bone +2 +0\.750 +50\.0%$", text, re.MULTILINE)
    assert all(len(line) <= 100 for line in text.splitlines())
    numbers = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert numbers["misses"] == 1
    assert numbers["by_kind"][1] == {
        "name": "glass",
        "count": 2,
        "auroc": 1.0,
        "detection_rate": 1.0,
    }


def test_masks_reach_the_detector() -> None:
    mask = np.ones((4, 4), bool)
    mask[0] = False
    images = IMAGES.copy()
    images[:, 0] = 9
    plain = evaluate(Reader(), IMAGES, LABELS, n_bootstrap=5)
    masked = evaluate(Reader(), images, LABELS, masks=mask, n_bootstrap=5)
    np.testing.assert_array_equal(masked.scores, plain.scores)


def test_many_sizes_are_put_into_classes() -> None:
    images, labels = np.concatenate([IMAGES[:8], IMAGES]), np.arange(20) >= 8
    sizes = np.concatenate([np.zeros(8), np.linspace(0.5, 0.9, 11), [1.3]])
    found = evaluate(Reader(), images, labels, sizes=sizes, n_bootstrap=5)
    # Edges at 0.7, 0.9 and 1.1; nothing lies in the third class but 0.9 itself.
    assert [(g.name, g.count) for g in found.by_size] == [
        ("0.5 to 0.7", 5),
        ("0.7 to 0.9", 5),
        ("0.9 to 1.1", 1),
        ("1.1 to 1.3", 1),
    ]


@pytest.mark.parametrize("sizes", [1e6 + np.arange(3), 1 + 1e-9 * np.arange(12), [0.5, 1, 2]])
def test_sizes_that_are_nearly_alike_keep_their_groups(sizes: Any) -> None:
    labels = np.arange(20) >= 8
    given = np.concatenate([np.zeros(8), np.resize(sizes, 12)])
    images = np.concatenate([IMAGES[:8], IMAGES])
    found = evaluate(Reader(), images, labels, sizes=given, n_bootstrap=5).by_size
    assert len({group.name for group in found}) == len(found) == min(len(sizes), 4)
    assert sum(group.count for group in found) == 12


def test_kinds_with_gaps_are_kinds() -> None:
    for gap in (None, math.nan):
        kinds = [gap] * 8 + ["bone", gap, 3, gap]
        found = evaluate(Reader(), IMAGES, LABELS, kinds=np.array(kinds, object), n_bootstrap=5)
        assert {(g.name, g.count) for g in found.by_kind} == {("bone", 1), ("3", 1), (str(gap), 2)}
    missing = evaluate(Reader(), IMAGES, LABELS, kinds=[math.nan] * 12, n_bootstrap=5)
    assert [(g.name, g.count) for g in missing.by_kind] == [("nan", 4)]
    with pytest.raises(imsim.ShapeError, match="kinds does not become an array"):
        evaluate(Reader(), IMAGES, LABELS, kinds=[["a"], "b"] * 6, n_bootstrap=5)


def test_what_cannot_be_scored_is_flagged_and_named() -> None:
    images = IMAGES.copy()
    images[[0, 8, 9]] = math.nan
    with pytest.warns(UserWarning, match="cannot be used") as caught:
        found = evaluate(Reader(), images, LABELS, kinds=KINDS, n_bootstrap=5)
    assert len(caught) == 1  # once, though the detector is called twice
    assert found.unscored == (0, 8, 9)
    assert found.confusion == (4, 0, 2, 6)
    assert found.auroc == 1
    assert math.isnan(found.by_kind[0].auroc)
    assert found.by_kind[0].detection_rate == 1
    assert found.to_dict()["by_kind"][0]["auroc"] is None
    assert "3 images without a score, flagged and not in the AUROC: 0, 8, 9" in str(found)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": np.where(LABELS, -1, 1)}, imsim.OptionError, "labels holds -1"),
        ({"labels": LABELS[:5]}, imsim.ShapeError, "labels has shape"),
        ({"masks": np.ones((4, 5), bool)}, imsim.MaskError, "masks has shape"),
        ({"kinds": ["bone"]}, imsim.ShapeError, "kinds has shape"),
        ({"sizes": np.ones((12, 2))}, imsim.ShapeError, "sizes has shape"),
        ({"sizes": np.full(12, math.nan)}, imsim.OptionError, "finite numbers where labels is 1"),
        ({"sizes": ["large"] * 12}, imsim.OptionError, "finite numbers where labels is 1"),
        ({"n_bootstrap": 1.5}, imsim.OptionError, "n_bootstrap=1.5"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"images": IMAGES, "labels": LABELS, **change}
    with pytest.raises(error, match=message):
        evaluate(Reader(), **arguments)
