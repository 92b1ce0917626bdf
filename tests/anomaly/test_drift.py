"""The drift alarm: what it sees, when, and how rarely it is wrong."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import imsim
from imsim.anomaly import AnomalyDetector, DriftAlarm, drift, simulate
from imsim.anomaly.descriptions import RAW, check_raw, raw_statistics
from imsim.anomaly.detector import Inspection

SIZE = 64


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(metric="rmse", random_state=0).fit(
        simulate.potatoes(60, size=SIZE, seed=1).images
    )


def potatoes(count: int, seed: int, photons: float = 30_000, **options: Any) -> Any:
    source = simulate.Detector(photons=photons)
    return simulate.potatoes(count, size=SIZE, seed=seed, detector=source, **options).images


def first(alarm: DriftAlarm, detector: AnomalyDetector, images: Any) -> int | None:
    """Return after how many images the alarm speaks."""
    scores, problems = detector.inspect(images)
    for i, image in enumerate(images):
        why = {0: problems[i]} if i in problems else {}
        if alarm.update(image[None], Inspection(scores[i : i + 1], why)):
            return i + 1
    return None


def noise(n: int, *, deviation: float = 2.0, seed: int = 0, size: int = 16) -> Any:
    return 100 + np.random.default_rng(seed).normal(0, deviation, (n, size, size))


def coarser(images: Any, side: int) -> Any:
    return np.kron(images[:, ::side, ::side], np.ones((side, side)))


def known(raw: Any, scores: Any = (), left_out: int = 0) -> Any:
    """What an alarm reads of a detector."""
    return SimpleNamespace(
        raw_statistics_=np.asarray(raw),
        held_out_scores_=np.asarray(scores),
        card_=SimpleNamespace(left_out=left_out),
        shape_=(16, 16),
    )


def delay_of(alarm: DriftAlarm, raw: Any) -> int | None:
    """Take rows of raw statistics of images with usual scores; return when the alarm speaks."""
    for i, row in enumerate(raw):
        alarm._take(dict(zip(RAW, row, strict=True)))
        if alarm.drifts():
            return i + 1
    return None


def as_raw(values: Any) -> Any:
    return np.repeat(np.asarray(values, dtype=float)[:, None], len(RAW), axis=1)


def missed(alarm: DriftAlarm, number: int) -> Any:
    """Miss so many images; return what is drifting then."""
    return [alarm.miss() for _ in range(number)][-1]


class TestWhatItSees:
    def test_fewer_photons_among_which_a_tenth_are_rejects(self, detector):
        images = potatoes(60, 3, photons=5000)
        images[::10] = potatoes(6, 4, defects="stone")
        alarm = DriftAlarm(detector)
        assert first(alarm, detector, potatoes(60, 2)) is None
        delay = first(alarm, detector, images)
        assert delay is not None
        assert delay < 40
        alarm.update(images[delay:], detector.inspect(images[delay:]))
        found = {d.name: d for d in alarm.drifts()}
        assert abs(found["noise"].since - 60) < 10
        assert 2 < found["noise"].now / found["noise"].usual < 3
        assert str(found["noise"]).startswith("noise is 2.")

    def test_three_times_the_texture(self, detector, monkeypatch):
        plain = simulate.items.texture
        monkeypatch.setattr(simulate.items, "texture", lambda *a: 3 * plain(*a))
        images = potatoes(60, 5)
        monkeypatch.undo()
        alarm = DriftAlarm(detector)
        delay = first(alarm, detector, images)
        assert delay is not None
        assert delay < 40

    def test_texture_that_mould_and_nuts_hide(self, monkeypatch):
        """Three times the texture of bars: a twentieth of what good bars differ by."""
        good, usual = (simulate.bars(n, size=SIZE, seed=n).images for n in (100, 40))
        plain = simulate.items.texture
        monkeypatch.setattr(simulate.items, "texture", lambda *a: 3 * plain(*a))
        rough = simulate.bars(60, size=SIZE, seed=3).images
        alarm = DriftAlarm(known(raw_statistics(good, None)))
        assert delay_of(alarm, raw_statistics(usual, None)) is None
        assert delay_of(alarm, raw_statistics(rough, None)) is not None

    def test_a_structure_counts_from_what_coarser_details_let_expect(self):
        rng = np.random.default_rng(0)
        raw, live = rng.normal(0, 1, (2, 60, len(RAW)))
        for name in drift.STRUCTURES:
            for rows, more in ((raw, 0), (live, 1)):
                rows[:, RAW.index(name)] = (
                    50 * rows[:, RAW.index("lumps")] + rng.normal(0, 0.5, 60) + more
                )
        few, many = DriftAlarm(known(raw[:19])), DriftAlarm(known(raw))
        assert not set(drift.STRUCTURES) & set(few.names)
        for row in live:
            delay_of(many, [row])
        assert [d.name for d in many.drifts()] == [*drift.STRUCTURES]
        assert all(0.5 < d.now - d.usual < 1.5 for d in many.drifts())

    def test_rejects_alone_are_no_drift(self, detector):
        images = potatoes(100, 6)
        images[::10] = potatoes(10, 4, defects="stone", sizes=1.0)
        assert first(DriftAlarm(detector), detector, images) is None

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("level", lambda x: x + 2),
            ("contrast", lambda x: 100 + 2 * (x - 100)),
            ("border", lambda x: x + 5),
            ("noise", lambda x: 100 + 2 * (x - 100)),
            ("texture", lambda x: coarser(x, 2)),
            ("coarse texture", lambda x: coarser(x, 4)),
            ("lumps", lambda x: coarser(x, 8)),
            ("column pattern", lambda x: x + np.arange(16) % 2 * 3),
            ("row pattern", lambda x: x + np.arange(16)[:, None] % 2 * 3),
        ],
    )
    def test_each_raw_statistic(self, name, change):
        raw = raw_statistics(noise(60), None)
        alarm = DriftAlarm(known(raw, np.arange(60.0)))
        images = change(noise(60, seed=1))
        found = alarm.update(images, Inspection(np.full(60, 30.0), {}))
        assert name in {d.name for d in found}
        assert "anomaly score" not in {d.name for d in found}

    def test_a_score_drifts_up_only(self):
        """Held-out images score higher than live ones, whose detector has learned from more."""
        alarm = DriftAlarm(known(as_raw(np.arange(50.0)), np.arange(50.0)))
        raw = dict.fromkeys(RAW, 24.5)
        for score, drifting in ((0.0, []), (49.0, ["anomaly score"])):
            for _ in range(100):
                alarm._take({**raw, "anomaly score": score, "not inspected": 0.0})
            assert [drift.name for drift in alarm.drifts()] == drifting
        low, high = alarm.charts()["anomaly score"].limits
        assert (low, high) == (-np.inf, alarm.limits["anomaly score"])

    def test_images_that_cannot_be_inspected(self, detector):
        alarm = DriftAlarm(detector)
        empty = np.ones((1, SIZE, SIZE), np.float32)
        scores, problems = detector.inspect(empty)
        assert problems
        assert alarm.update(empty, Inspection(scores, problems)) == []
        missed(alarm, 3)
        (found,) = missed(alarm, 5)
        assert (found.name, found.since, found.now, found.usual) == ("not inspected", 0, 1, 0)
        assert str(found) == "100% of the images cannot be inspected, of the good ones 0%"

    def test_the_share_of_good_images_that_were_left_out_counts(self):
        usual, all_sound = (
            DriftAlarm(known(as_raw(np.arange(60.0)), np.arange(60.0), left)).limits[
                "not inspected"
            ]
            for left in (15, 0)
        )
        assert usual > 2 * all_sound

    def test_empty_frames_that_were_there_in_the_training_too_are_no_drift(self):
        images = noise(60)
        images[::6] = np.nan
        with pytest.warns(UserWarning, match="left out"):
            detector = AnomalyDetector(
                preprocess=None, metric="rmse", random_state=0, fence=None
            ).fit(images)
        assert detector.card_.left_out == 10
        alarm = DriftAlarm(detector)
        live = noise(120, seed=1)
        live[::6] = np.nan
        assert alarm.update(live, detector.inspect(live)) == []
        (found,) = missed(alarm, 30)
        assert found.usual == pytest.approx(1 / 6)

    def test_scores_alone(self):
        alarm = DriftAlarm(known(as_raw(np.arange(50.0)), np.arange(50.0)))
        for _ in range(60):
            alarm._take({"anomaly score": 70.0, "not inspected": 0.0})
        (found,) = alarm.drifts()
        assert (found.name, found.now, found.usual, found.since) == ("anomaly score", 70, 24.5, 0)
        assert str(found) == "anomaly score is 70, that of the good images 24.5"


class TestWhatItDoesNotSay:
    @pytest.mark.parametrize("n", [20, 60])
    def test_false_alarms_are_as_rare_as_asked_for(self, n):
        """Of charts of ranks, whatever the distribution, averaged over trainings."""
        rng, length, images = np.random.default_rng(n), 2000.0, 400
        limit = drift._rank_limit(n, length)
        scores = drift._normal_scores(n)[::2]
        references = np.sort(rng.random((2000, n)), axis=1)
        chart, spoken = np.zeros(2000), np.zeros(2000, bool)
        for fresh in rng.random((images, 2000)):
            chart += 0.05 * (scores[(references < fresh[:, None]).sum(axis=1)] - chart)
            spoken |= np.abs(chart) > limit
        assert 0.1 * images / length < spoken.mean() < 1.3 * images / length

    def test_the_mean_run_length_is_that_of_the_literature(self):
        """Lucas and Saccucci 1990, doi:10.1080/00401706.1990.10484583: 2.615 gives 500."""
        scores = drift._normal_scores(400)[::2]
        limit = 2.615 * np.sqrt(0.05 / 1.95)
        weights = np.full(401, 1 / 401)
        assert drift._mean_run_length(-limit, limit, scores, weights) == pytest.approx(
            500, rel=0.02
        )

    def test_the_run_length_of_a_share(self):
        rng, limit = np.random.default_rng(0), drift._share_limit(0.05, 500.0)
        chart, lengths, now = np.zeros(400), np.zeros(400), np.ones(400, bool)
        for _ in range(4000):
            chart += 0.05 * ((rng.random(400) < 0.05) - chart)
            now &= chart <= limit
            lengths += now
        assert lengths.mean() == pytest.approx(500, rel=0.25)

    @pytest.mark.parametrize("share", [1e-3, 1e-6, 1e-9])
    def test_a_single_image_that_is_missed_is_no_drift_however_many_were_not(self, share):
        assert 0.05 <= drift._share_limit(share, 9e5) < 0.1

    def test_few_images_have_wide_limits(self):
        limits = [drift._rank_limit(n, 9e5) for n in (12, 20, 50, 200, 1000)]
        assert (np.diff(limits) < 0).all()
        assert limits[1] > 1.4 * limits[-1]

    @given(st.lists(st.floats(-1e9, 1e9), min_size=40, max_size=40), st.integers(0, 2**32 - 1))
    def test_the_good_images_themselves_do_not_drift(self, values, seed):
        alarm = DriftAlarm(known(as_raw(values), values))
        rng = np.random.default_rng(seed)
        for value in rng.permutation(values):
            alarm._take({**dict.fromkeys(RAW, value), "anomaly score": value})
        assert alarm.drifts() == []

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_a_single_image_never_raises_it(self, value):
        alarm = DriftAlarm(known(as_raw(np.arange(300.0)), np.arange(300.0)))
        alarm._take({**dict.fromkeys(RAW, value), "anomaly score": value})
        assert alarm.drifts() == []

    def test_a_change_that_matters_to_nobody(self):
        alarm = DriftAlarm(known(as_raw(np.full(50, 200.0)), np.zeros(50)))
        for _ in range(200):
            alarm._take({**dict.fromkeys(RAW, 200.9), "anomaly score": 0.0})
        assert alarm.drifts() == []
        for _ in range(200):
            alarm._take({**dict.fromkeys(RAW, 201.1), "anomaly score": 0.0})
        assert len(alarm.drifts()) == len(RAW)


class TestState:
    def test_batches_are_as_one_by_one(self, detector):
        images = potatoes(30, 7, photons=5000)
        whole, single = DriftAlarm(detector), DriftAlarm(detector)
        whole.update(images, detector.inspect(images))
        for image in images:
            single.update(image[None], detector.inspect(image[None]))
        assert whole.count == single.count == 30
        for name, chart in whole.charts().items():
            np.testing.assert_allclose(chart.values, single.charts()[name].values, atol=0.03)

    def test_reset_and_end_of_a_drift(self):
        alarm = DriftAlarm(known(as_raw(np.arange(50.0)), np.arange(50.0)))
        assert missed(alarm, 30)
        alarm.reset()
        assert alarm.count == 0
        assert alarm.drifts() == []
        high = {**dict.fromkeys(RAW, 90.0), "anomaly score": 9.0, "not inspected": 0.0}
        usual = {**dict.fromkeys(RAW, 24.5), "anomaly score": 24.5, "not inspected": 0.0}
        for values, number in ((high, 50), (usual, 200)):
            for _ in range(number):
                alarm._take(values)
        assert alarm.drifts() == []
        for _ in range(50):
            alarm._take(high)
        # The sums do not remember the first drift.
        assert {d.since for d in alarm.drifts() if d.name in RAW} == {250}

    def test_charts_are_bounded_and_say_their_limits(self, monkeypatch):
        monkeypatch.setattr(drift, "HISTORY", 20)
        alarm = DriftAlarm(known(as_raw(np.arange(50.0)), np.arange(50.0)))
        missed(alarm, 50)
        charts = alarm.charts()
        assert tuple(charts) == alarm.names == (*RAW, "anomaly score", "not inspected")
        assert {len(chart.values) for chart in charts.values()} == {20}
        assert charts["not inspected"].limits[0] == 0
        low, high = charts["noise"].limits
        assert low == -high < 0
        found = alarm.drifts()[0]
        assert found.value == charts["not inspected"].values[-1] > found.limit

    def test_it_is_the_same_after_saving(self, detector, tmp_path):
        detector.save(tmp_path / "m.safetensors")
        loaded = AnomalyDetector.load(tmp_path / "m.safetensors")
        np.testing.assert_array_equal(loaded.raw_statistics_, detector.raw_statistics_)
        assert DriftAlarm(loaded).limits == DriftAlarm(detector).limits

    def test_good_images_that_were_left_out_have_no_statistics(self):
        images = noise(20)
        images[3, 0, 0] = np.nan
        with pytest.warns(UserWarning, match="left out"):
            detector = AnomalyDetector(
                preprocess=None, metric="rmse", random_state=0, false_alarm_rate=0.2
            ).fit(images)
        assert len(detector.raw_statistics_) == detector.card_.images
        assert np.isfinite(detector.raw_statistics_).all()

    def test_outside_masks_nothing_counts(self):
        images, masks = noise(4), np.zeros((16, 16), bool)
        masks[4:12, 4:12] = True
        other = np.where(masks, images, np.nan)
        detector = known(as_raw(np.arange(50.0)), np.arange(50.0))
        charts = []
        for given_images in (images, other):
            alarm = DriftAlarm(detector)
            alarm.update(given_images, Inspection(np.zeros(4), {}), masks)
            charts.append([chart.values.tolist() for chart in alarm.charts().values()])
        assert charts[0] == charts[1]


class TestOddImages:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (5, 3)])
    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float32, np.int64])
    def test_any_shape_and_type_has_statistics(self, shape, dtype):
        images = np.arange(3 * np.prod(shape)).reshape(3, *shape).astype(dtype)
        found = raw_statistics(images, None)
        assert np.isfinite(found).all()

    def test_constant_black_and_huge_images(self):
        for value in (0.0, 7.0, 3e38, -3e38):
            found = raw_statistics(np.full((1, 16, 16), value), None)
            assert np.isfinite(found).all()
            assert (found[0, 3:] == 0).all()

    def test_what_a_preprocess_of_the_caller_repairs(self):
        images = noise(3)
        images[1, 0, 0] = np.nan
        found = raw_statistics(images, None)
        assert np.isnan(found[1]).all()
        alarm = DriftAlarm(known(as_raw(np.arange(50.0)), np.arange(50.0)))
        alarm.update(images[1:2], Inspection(np.array([49.0]), {}))
        charts = alarm.charts()
        assert {name for name in charts if charts[name].values[-1]} == {"anomaly score"}

    @pytest.mark.parametrize("odd", [np.inf, 1e200])
    def test_what_it_repairs_may_be_infinite_or_huge(self, odd):
        images = noise(2)
        images[1, 5, 5] = odd
        assert np.isfinite(raw_statistics(images, None)).all(axis=1).tolist() == [True, False]
        alarm = DriftAlarm(known(as_raw(np.arange(50.0)), np.arange(50.0)))
        assert alarm.update(images, Inspection(np.zeros(2), {})) == []
        assert alarm.update(noise(1), Inspection(np.zeros(1), {}), np.zeros((16, 16), bool)) == []

    def test_what_drifts_keeps_its_value_while_images_are_missed(self):
        alarm = DriftAlarm(known(as_raw(np.arange(50.0)), np.arange(50.0)))
        for _ in range(80):
            alarm._take({**dict.fromkeys(RAW, 90.0), "anomaly score": 1.0, "not inspected": 0.0})
        missed(alarm, 150)
        found = {drift.name: drift for drift in alarm.drifts()}
        assert (found["level"].now, found["level"].usual) == (90, 24.5)

    def test_infinite_scores(self):
        scores = np.r_[np.arange(20.0), np.full(30, np.inf)]
        alarm = DriftAlarm(known(as_raw(np.arange(50.0)), scores))
        for score in np.random.default_rng(0).permutation(scores):
            alarm._take({"anomaly score": score, "not inspected": 0.0})
        assert alarm.drifts() == []

    def test_ties_count_half(self):
        score = partial(DriftAlarm(known(as_raw(np.full(20, 255.0))))._normal_score, "level")
        assert score(255.0) == 0
        assert score(250.0) == -score(260.0) < -1.9  # beyond the dead band


class TestWhatIsRefused:
    def test_a_detector_that_is_none(self):
        for given_detector in (AnomalyDetector(), None, 3):
            with pytest.raises(imsim.OptionError, match=r"call fit\(good_images\) first"):
                DriftAlarm(given_detector)

    def test_too_few_good_images(self):
        detector = known(as_raw(np.arange(8.0)), np.arange(8.0))
        with pytest.raises(imsim.ImsimError, match=r"8 good images .*smaller run_length$"):
            DriftAlarm(detector)
        assert DriftAlarm(detector, run_length=100).names
        # Of 20 of 100 that were held out, the scores are known, but hardly.
        few = known(as_raw(np.arange(100.0)), np.arange(8.0))
        assert "anomaly score" not in DriftAlarm(few).names

    def test_a_chart_that_can_never_speak_is_none(self):
        alarm = DriftAlarm(known(as_raw(np.arange(20.0)), np.arange(20.0), 2000))
        assert "not inspected" not in alarm.names
        assert missed(alarm, 200) == []

    @pytest.mark.parametrize("wrong", [0, 99, 1.5, "x", None, 10**10])
    def test_run_length(self, wrong):
        with pytest.raises(imsim.ImsimError, match="run_length"):
            DriftAlarm(known(as_raw(np.arange(50.0))), run_length=wrong)

    def test_images_and_scores_that_do_not_go_together(self):
        alarm = DriftAlarm(known(as_raw(np.arange(50.0)), np.arange(50.0)))
        with pytest.raises(imsim.ShapeError, match=r"scores of shape \(2,\), images has 3"):
            alarm.update(noise(3), Inspection(np.zeros(2), {}))
        with pytest.raises(imsim.ShapeError, match="for one image pass image"):
            alarm.update(noise(1)[0], Inspection(np.zeros(1), {}))
        with pytest.raises(imsim.ShapeError, match="images are 9 x 16 pixels, those learned from"):
            alarm.update(noise(1)[:, :, :9], Inspection(np.zeros(1), {}))
        for wrong in (np.zeros(2), np.zeros(3), None, (1.0, 2.0), (np.zeros(2), None)):
            with pytest.raises(imsim.OptionError, match=r"as detector.inspect\(images\) returns"):
                alarm.update(noise(2), wrong)
        for scores in (["a", "b"], [None, 1.0], [[1.0], [1.0, 2.0]], [1j, 2j], "ab"):
            with pytest.raises(imsim.ImsimError, match=r"inspection\.scores"):
                alarm.update(noise(2), (scores, {}))
        assert alarm.count == 0

    def test_statistics_in_a_file_that_are_none(self):
        for row in (np.full(len(RAW), np.inf), [np.nan, *range(1, len(RAW))]):
            raw = as_raw(np.arange(5.0))
            raw[2] = row
            with pytest.raises(imsim.OptionError, match="raw statistics"):
                check_raw(raw)
        with pytest.raises(imsim.OptionError, match="raw statistics"):
            check_raw(np.full((3, len(RAW)), np.nan))
