"""Maps against the true places: pixel AUROC and per-region overlap, beside slow references."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import imsim
from imsim.anomaly import evaluate, separation
from imsim.anomaly.separation import area_under_roc

ANOMALOUS = np.arange(8) >= 3


def drawn(seed: int, steps: int | None = None) -> tuple[Any, Any]:
    """Return maps and defects of eight images; `steps` makes ties."""
    rng = np.random.default_rng(seed)
    defects = np.zeros((8, 11, 11), bool)
    for image in defects[3:]:
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(0, 8, 2)
            image[y : y + rng.integers(1, 5), x : x + rng.integers(1, 5)] = True
    maps = rng.normal(size=defects.shape) + 1.2 * defects
    return (maps if steps is None else np.round(maps * steps) / steps), defects


def judged(maps: Any, defects: Any, n_bootstrap: int = 5) -> Any:
    bootstrap = separation.Bootstrap(n_bootstrap, 0.95, 0)
    return separation.localise(lambda part: maps[part], defects, ANOMALOUS, bootstrap)


def slow_auroc(maps: Any, defects: Any) -> float:
    """Return the AUROC of the pixels, from ranks."""
    left = defects | ~np.isnan(maps)
    values = np.where(np.isnan(maps), -np.inf, maps)[left]
    return area_under_roc(values, defects[left])


def slow_pro(maps: Any, defects: Any, limit: float = 0.3) -> float:
    """Return the overlap by its definition: threshold after threshold, region after region."""
    values = np.where(np.isnan(maps), -np.inf, maps)
    good = ~defects & ~np.isnan(maps)
    regions = []
    for i, image in enumerate(defects):
        numbers, count = ndimage.label(image, np.ones((3, 3)))
        regions += [(i, numbers == k) for k in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for t in np.unique(maps[~np.isnan(maps)])[::-1]:
        shares = [(values[i][region] >= t).mean() for i, region in regions]
        points.append(((values[good] >= t).mean(), float(np.mean(shares))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            return (area + (limit - x0) * (y0 + y1) / 2) / limit
        area += (x1 - x0) * (y0 + y1) / 2
    raise ValueError("the curve ends too early")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([None, 2, 8]), st.sampled_from([0, 0.2]))
def test_few_pixels_are_judged_exactly(seed: int, steps: int | None, missing: float) -> None:
    """With and without ties, and pixels that were not compared."""
    maps, defects = drawn(seed, steps)
    maps[np.random.default_rng(seed + 1).random(maps.shape) < missing] = np.nan
    found = judged(maps, defects, 1)
    assert found.auroc == pytest.approx(slow_auroc(maps, defects), abs=1e-12)
    assert found.pro == pytest.approx(slow_pro(maps, defects), abs=1e-12)
    assert found.compared == pytest.approx(1 - np.isnan(maps[defects]).mean())


def test_levels_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of the note on `LEVELS` holds, and more levels are closer."""
    maps, defects = drawn(3)
    exact = slow_auroc(maps, defects), slow_pro(maps, defects)
    for levels in (16, 64, 256):
        monkeypatch.setattr(separation, "LEVELS", levels)
        found = judged(maps, defects)
        assert abs(found.auroc - exact[0]) <= 1 / (2 * levels)
        assert abs(found.pro - exact[1]) <= 1 / (2 * levels * 0.3)


def test_a_sample_of_the_pixels_gives_the_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, defects = drawn(4)
    exact = slow_auroc(maps, defects), slow_pro(maps, defects)
    monkeypatch.setattr(separation, "SAMPLED_IMAGES", 4)
    monkeypatch.setattr(separation, "SAMPLED_PIXELS", 300)
    found = judged(maps, defects)
    assert (found.auroc, found.pro) == pytest.approx(exact, abs=0.01)


def test_every_region_counts_the_same_whatever_its_size() -> None:
    maps = np.zeros((8, 11, 11))
    defects = np.zeros(maps.shape, bool)
    defects[3:, 0, 0] = True
    defects[3:, 5:10, 2:8] = True
    maps[3:, 5:10, 2:8] = 1  # the large one is found, the small one is like everything else
    found = judged(maps, defects)
    assert found.regions == 10
    assert found.pro == pytest.approx(0.5 + 0.5 * 0.15)  # all else is flagged at once, on a line
    assert found.auroc == pytest.approx((30 + 0.5) / 31)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    maps, defects = np.zeros((8, 11, 11)), np.zeros((8, 11, 11), bool)
    defects[3:, 4, 4] = defects[3:, 5, 5] = True
    assert judged(maps, defects).regions == 5


def test_a_defect_that_was_not_compared_is_missed() -> None:
    maps, defects = drawn(5)
    maps[defects] = np.nan
    found = judged(maps, defects)
    assert (found.auroc, found.pro, found.compared) == (0, 0, 0)


def test_infinite_values_have_their_rank() -> None:
    maps, defects = drawn(6)
    maps[4, :2], maps[5, :2] = np.inf, -np.inf
    found = judged(maps, defects)
    assert found.auroc == pytest.approx(slow_auroc(maps, defects), abs=1e-12)


def test_intervals_are_those_of_images() -> None:
    """They hold the number, narrow with more images, and repeat for a seed."""
    maps, defects = drawn(7)
    found, again = (judged(maps, defects, 200) for _ in range(2))
    assert found == again
    assert found.interval[0] < found.auroc < found.interval[1]
    assert found.pro_interval[0] < found.pro < found.pro_interval[1]
    many = separation.localise(
        lambda part: np.tile(maps, (9, 1, 1))[part],
        np.tile(defects, (9, 1, 1)),
        np.tile(ANOMALOUS, 9),
        separation.Bootstrap(200, 0.95, 0),
    )
    assert np.diff(many.pro_interval) < 0.5 * np.diff(found.pro_interval)
    assert many.pro == pytest.approx(found.pro, abs=1e-3)


class Mapper:
    """Scores and maps are known: an image is its own map."""

    threshold_ = 1.5

    def anomaly_score(self, images: Any, masks: Any = None) -> Any:
        return np.nanmax(np.where(True if masks is None else masks, images, np.nan), axis=(1, 2))

    def anomaly_map(self, images: Any, masks: Any = None) -> Any:
        return images if masks is None else np.where(masks, images, np.nan)


class TestEvaluate:
    def test_numbers_in_dict_and_text(self) -> None:
        maps, defects = drawn(8)
        found = evaluate(Mapper(), maps, ANOMALOUS, defects=defects, n_bootstrap=20)
        where = found.localisation
        assert where is not None
        assert where.pro == pytest.approx(slow_pro(maps, defects), abs=1e-12)
        numbers = json.loads(json.dumps(found.to_dict(), allow_nan=False))["localisation"]
        assert numbers["pro"] == where.pro
        assert numbers["pixel_auroc_low"] == where.interval[0]
        assert f"overlap (PRO) {where.pro:.3f}, 95% interval {where.pro_interval[0]:.3f}" in str(
            found
        )
        assert f"pixels: AUROC {where.auroc:.3f}" in str(found)
        assert all(len(line) <= 100 for line in str(found).splitlines())
        assert evaluate(Mapper(), maps, ANOMALOUS, n_bootstrap=2).to_dict()["localisation"] is None

    def test_what_lies_outside_the_masks_counts_for_neither(self) -> None:
        maps, defects = drawn(9)
        mask = np.zeros(maps.shape[1:], bool)
        mask[:9] = True
        found = evaluate(
            Mapper(), maps, ANOMALOUS, masks=mask, defects=defects, n_bootstrap=2
        ).localisation
        assert found is not None
        assert found.compared == 1
        assert found.auroc == pytest.approx(
            slow_auroc(np.where(mask, maps, np.nan), defects & mask), abs=1e-12
        )

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda d: d[:, :5], imsim.MaskError, "defects has shape"),
            (lambda d: d[0], imsim.MaskError, "defects has shape"),
            (lambda d: d * 0.5, imsim.MaskTypeError, "defects has dtype float64"),
            (lambda d: d * 255, imsim.MaskTypeError, "pass e.g. defects > 0"),
            (lambda d: d & False, imsim.OptionError, r"defects\[3\] marks no pixel, but"),
            (lambda d: d | True, imsim.OptionError, r"defects\[0\] marks pixels, but"),
        ],
    )
    def test_defects_that_do_not_fit(self, change: Any, error: Any, message: str) -> None:
        maps, defects = drawn(1)
        with pytest.raises(error, match=message):
            evaluate(Mapper(), maps, ANOMALOUS, defects=change(defects))

    def test_masks_that_leave_no_defect(self) -> None:
        maps, defects = drawn(1)
        with pytest.raises(imsim.OptionError, match="no anomalous pixel is left"):
            evaluate(Mapper(), maps, ANOMALOUS, masks=~defects, defects=defects)

    def test_a_detector_without_a_map(self) -> None:
        maps, defects = drawn(1)
        good = np.random.default_rng(0).uniform(size=(12, 11, 11))
        detector = imsim.anomaly.AnomalyDetector(
            preprocess=None, metric="psnr", data_range=1.0, false_alarm_rate=0.3
        ).fit(good)
        with pytest.raises(imsim.OptionError, match=r"psnr has no map .* or leave it out"):
            evaluate(detector, maps, ANOMALOUS, defects=defects)

        class Blind:
            threshold_ = 0.0

            def anomaly_score(self, images: Any) -> Any:
                return images.mean(axis=(1, 2))

        with pytest.raises(imsim.OptionError, match="Blind has no anomaly_map"):
            evaluate(Blind(), maps, ANOMALOUS, defects=defects)

    def test_integers_and_one_image_of_each_kind(self) -> None:
        maps, defects = drawn(2)
        few = [0, 5]
        found = evaluate(
            Mapper(), maps[few], [0, 1], defects=defects[few].astype(np.uint8), n_bootstrap=3
        ).localisation
        assert found is not None
        assert found.interval == (found.auroc, found.auroc)  # always the same two are drawn


def test_rates_have_exact_intervals() -> None:
    """The ends are where the tails of the binomial distribution hold 2.5 %."""
    scores = np.concatenate([np.arange(20.0), np.arange(11.0, 21.0)])
    images = scores[:, None, None] * np.ones((1, 5, 5))
    detector = Mapper()
    detector.threshold_ = 17.5
    found = evaluate(detector, images, np.arange(30) >= 20, n_bootstrap=2)
    assert found.confusion == (3, 7, 2, 18)

    def tail(rate: float, counts: range, n: int) -> float:
        return sum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in counts)

    for (low, high), count, n in (
        (found.detection_interval, 3, 10),
        (found.false_alarm_interval, 2, 20),
    ):
        assert tail(low, range(count, n + 1), n) == pytest.approx(0.025)
        assert tail(high, range(count + 1), n) == pytest.approx(0.025)
    numbers = found.to_dict()
    assert numbers["detection_rate_low"] == found.detection_interval[0]
    assert numbers["false_alarm_rate_high"] == found.false_alarm_interval[1]
    assert "{:.1%} to {:.1%}".format(*found.detection_interval) in str(found)
    assert "{:.1%} to {:.1%}".format(*found.false_alarm_interval) in str(found)
