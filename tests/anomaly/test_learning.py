"""What is learned from held-out images: folds, odd images, and further images."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

import imsim
from imsim.anomaly import AnomalyDetector, GoodStatistics, PCAAutoencoder, simulate, statistics
from imsim.anomaly.detector import OddImageWarning, UnscorableImageWarning
from imsim.anomaly.held_out import (
    FOLDS,
    check_groups,
    deal_folds,
    odd_ones,
    threshold_of,
    with_twins,
)
from imsim.anomaly.pca import MeanModel
from imsim.anomaly.preparation import Card
from imsim.errors import silent

SIDE = 24
Y, X = np.mgrid[:SIDE, :SIDE].astype(float)


def waves(count: int, seed: int, level: float = 0.5) -> NDArray[Any]:
    """Aligned images of texture."""
    rng = np.random.default_rng(seed)
    height = rng.uniform(0.5, 1.5, (count, 1, 1))
    return level + 0.2 * height * np.sin(X / 4) + rng.normal(0, 0.01, (count, SIDE, SIDE))


def spotted(count: int, seed: int) -> NDArray[Any]:
    """With a spot anywhere, which no component can learn."""
    images, rng = waves(count, seed), np.random.default_rng(seed)
    for image, row, column in zip(images, *rng.integers(0, SIDE - 5, (2, count)), strict=True):
        image[row : row + 5, column : column + 5] += 0.4
    return images


def whole(**how: Any) -> AnomalyDetector:
    return AnomalyDetector(
        PCAAutoencoder(2), preprocess=None, metric="se", data_range=1.0, random_state=0, **how
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.integers(1, 7), st.integers(0, 9))
def test_groups_stay_together(groups: list[int], count: int, seed: int) -> None:
    names = np.array(groups)
    generator = np.random.default_rng(seed)
    dealt = deal_folds(len(names), count, generator, names)
    for fold in dealt:
        assert set(names[fold]).isdisjoint(np.delete(names, fold))
    if count > 1:
        np.testing.assert_array_equal(np.sort(np.concatenate(dealt)), np.arange(len(names)))


def test_a_detector_keeps_groups_together() -> None:
    """Versions of one image are not held out from a model that saw the others."""
    images = np.repeat(waves(20, 0), 3, axis=0) + np.random.default_rng(1).normal(
        0, 1e-3, (60, SIDE, SIDE)
    )
    model = whole(aggregate="mean").set_params(model=PCAAutoencoder(50))
    apart = model.fit(images).threshold_
    together = model.fit(images, groups=np.repeat([f"item {i}" for i in range(20)], 3)).threshold_
    assert together > 3 * apart


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([1, 2], r"groups has shape (2,)"),
        ([1] * 30, "groups names one group only"),
        ([None] * 30, r"groups[0] is None"),
        ([np.nan] + [1.0] * 29, r"groups[0] is nan"),
        ([[1], [1, 2]] * 15, "groups[0] is [1]"),
        ([0] * 29 + [1], "groups has 29 of 30 images in one group, which leaves 1 to learn from"),
    ],
)
def test_wrong_groups_are_named(groups: Any, message: str) -> None:
    with pytest.raises(imsim.ImsimError, match=re.escape(message)):
        whole().fit(waves(30, 0), groups=groups)


def test_labels_of_different_types_are_different_groups() -> None:
    found = check_groups([1, "1", np.int64(1), np.float32(2), "b", b"b"], 6)
    assert found is not None
    assert found.tolist() == [0, 1, 0, 2, 3, 4]


def test_equal_images_are_held_out_together() -> None:
    """Else a model that learned from its twin would score an image."""
    images = waves(30, 0)
    once = whole(aggregate="mean").set_params(model=PCAAutoencoder(28))
    alone = once.fit(images).threshold_
    assert once.fit(np.repeat(images, 3, axis=0)).threshold_ > 0.5 * alone
    detector = whole(aggregate="mean").fit(images)
    new = np.repeat(waves(30, 1), 2, axis=0)
    detector.update(new)
    scores = detector.held_out_scores_[30:]
    assert (scores[::2] == scores[1::2]).all()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=6, max_size=20))
def test_twins_join_groups(images: list[tuple[int, int]]) -> None:
    groups, kinds = (np.array(part) for part in zip(*images, strict=True))
    digests = np.repeat(kinds[:, None], 16, axis=1).astype(np.uint8)
    joined = with_twins(groups, digests)
    assert joined is not None
    if not (joined == groups).all():
        for labels in (groups, kinds):
            for label in labels:
                assert len(set(joined[labels == label])) == 1
    alone = with_twins(None, digests)
    assert alone is None or (alone[:, None] == alone).tolist() == (kinds[:, None] == kinds).tolist()


def test_the_fence_finds_what_is_far_and_leaves_the_rest() -> None:
    rng = np.random.default_rng(0)
    good = np.exp(rng.normal(0, 0.2, (100, 1)))
    bad = np.concatenate([good[:90], np.full((10, 1), 4.0)])
    assert not odd_ones(good, 1.5).any()
    np.testing.assert_array_equal(odd_ones(bad, 1.5), np.arange(100) >= 90)
    # Two of 40 are enough, and one is not.
    few = np.exp(rng.normal(0, 0.2, (40, 1)))
    few[0] = 4.0
    assert not odd_ones(few, 1.5).any()
    few[1] = 4.0
    np.testing.assert_array_equal(odd_ones(few, 1.5), np.arange(40) < 2)
    # Of more, four are too few to act on, and scores next to the median are never odd.
    assert not odd_ones(np.concatenate([good[:96], np.full((4, 1), 4.0)]), 1.5).any()
    close = np.concatenate([1 + rng.normal(0, 1e-3, (90, 1)), np.full((10, 1), 1.2)])
    assert not odd_ones(close, 1.5).any()


def test_the_share_of_odd_images_is_that_of_images_with_a_score() -> None:
    """With a single fold, a fifth of the images has one."""
    good = np.exp(np.random.default_rng(0).normal(0, 0.2, (200, 1)))
    good[:6] = 4.0
    good[40:] = np.nan
    np.testing.assert_array_equal(odd_ones(good, 1.5), np.arange(200) < 6)


def test_bad_images_among_the_good_are_left_out() -> None:
    images = waves(100, 0)
    bad = np.arange(0, 100, 10)
    images[bad] = spotted(10, 1)
    with pytest.warns(OddImageWarning, match="^good images unlike the others, and "):
        detector = whole(aggregate="mean").fit(images)
    assert set(bad) <= set(detector.odd_)
    assert len(detector.odd_) <= 20
    assert len(detector.held_out_scores_) == detector.card_.images == 100 - len(detector.odd_)
    clean = whole(aggregate="mean").fit(np.delete(images, bad, axis=0))
    fresh = np.concatenate([waves(50, 2), spotted(50, 3)])
    assert (detector.predict(fresh) == clean.predict(fresh)).mean() >= 0.95
    assert (detector.predict(fresh[50:]) == -1).all()
    kept = whole(aggregate="mean", fence=None).fit(images)
    assert not kept.odd_
    assert kept.threshold_ > 2 * detector.threshold_


def test_odd_images_that_are_good_after_all_cost_a_few_times_the_rate_at_most() -> None:
    scores, odd = np.arange(100.0), np.arange(100.0, 110.0)
    for rate, above in ((0.05, 13), (0.01, 2)):
        found, plain = (threshold_of(scores, [100], rate, some) for some in (odd, odd[:0]))
        assert (np.concatenate([scores, odd]) > found.value).sum() == above - 1
        assert found[1:] == plain[1:]  # what is expected is that of good images
        assert plain.value <= 99


def test_a_tenth_of_few_images_is_left_out() -> None:
    images = waves(40, 0)
    images[::10] = spotted(4, 1)
    with pytest.warns(OddImageWarning):
        detector = whole(aggregate="mean").fit(images)
    assert {0, 10, 20, 30} <= set(detector.odd_)
    assert len(detector.odd_) <= 7


def test_bad_images_do_not_hide_behind_the_rim_that_they_make_seem_strong() -> None:
    good = simulate.potatoes(40, seed=516).images
    bad = simulate.dataset("potato", good=0, bad=4, seed=616).images
    with pytest.warns(OddImageWarning):
        detector = AnomalyDetector(random_state=0).fit(np.concatenate([good, bad]))
    assert {40, 41, 42, 43} <= set(detector.odd_)


@pytest.mark.parametrize("fence", [-1, "x", np.nan, True])
def test_a_fence_that_is_none_is_refused(fence: Any) -> None:
    with pytest.raises(imsim.OptionError, match="fence="):
        whole(fence=fence).fit(waves(9, 0))


def test_a_card_tells_how_a_model_was_made(tmp_path: Path) -> None:
    images = waves(30, 0)
    detector = whole(note="line 3").fit(images)
    (lesson,) = detector.card_.lessons
    assert (lesson.images, lesson.note) == (30, "line 3")
    assert lesson.versions["imsim"] == imsim.__version__
    assert detector.card_.knows(np.concatenate([images[:2], waves(2, 1)])).tolist() == [1, 1, 0, 0]
    detector.save(tmp_path / "model")
    again = AnomalyDetector.load(tmp_path / "model")
    assert again.card_.lessons == detector.card_.lessons
    assert again.false_alarms_ == detector.false_alarms_
    np.testing.assert_array_equal(again.card_.digests, detector.card_.digests)


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_the_order_of_bytes_makes_no_other_images(kind: Any) -> None:
    images = (100 * waves(30, 0)).astype(kind)
    swapped = images.astype(images.dtype.newbyteorder())
    detector = whole().fit(images)
    assert detector.card_.knows(swapped).all()
    with pytest.raises(imsim.ImsimError, match="was learned from before"):
        detector.update(swapped)


def test_other_types_and_shapes_are_other_images() -> None:
    images = np.zeros((1, 2, 8), np.uint8)
    card = Card.of(images, "")
    assert card.knows(images).all()
    for other in (images.astype(np.int8), images.reshape(1, 4, 4), images + 1):
        assert not card.knows(np.asarray(other)).any()


@pytest.mark.parametrize(
    "model", [PCAAutoencoder(50), PCAAutoencoder(3, patch=8), MeanModel(), GoodStatistics(4)]
)
def test_learning_in_parts_is_learning_from_all(model: Any) -> None:
    images = waves(40, 0) + np.random.default_rng(1).normal(0, 0.1, (40, SIDE, SIDE))
    at_once = model.fit(images).reconstruct(images)
    parts = model.fit(images[:25]).partial_fit(images[25:])
    if isinstance(model, MeanModel) or model.components == 50:
        np.testing.assert_allclose(parts.reconstruct(images), at_once, atol=2e-5)
    else:  # what was not kept of the first part is lost: noise of 0.1 in 3 components
        assert np.abs(parts.reconstruct(images) - at_once).mean() < 0.03


@pytest.mark.parametrize("metric", ["se", "fsim"])
def test_an_update_follows_a_new_harvest(metric: str, tmp_path: Path) -> None:
    new = waves(80, 1, level=0.53) + np.random.default_rng(5).normal(0, 0.01, (80, SIDE, SIDE))
    detector = AnomalyDetector(
        PCAAutoencoder(2) if metric == "se" else None,
        preprocess=None,
        metric=metric,
        data_range=1.0,
        random_state=0,
    ).fit(waves(60, 0))
    before = (detector.predict(new[40:]) == -1).mean()
    was_far, threshold = detector.predict(new[:40]) == -1, detector.threshold_
    assert detector.unusual_ == {}
    detector.save(tmp_path / "model")
    loaded = AnomalyDetector.load(tmp_path / "model")
    for one in (loaded, detector):
        with pytest.warns(UserWarning, match="new images are anomalies to the detector so far"):
            one.update(new[:40])
        assert one.unusual_.keys() == set(np.flatnonzero(was_far).tolist())
        assert min(one.unusual_.values()) > threshold
    assert detector.threshold_ == loaded.threshold_
    after = (detector.predict(new[40:]) == -1).mean()
    assert after <= 0.15
    assert before > 0.2
    assert (detector.predict(waves(40, 2)) == -1).mean() <= 0.15
    assert (detector.predict(spotted(40, 3)) == -1).mean() >= 0.9
    assert [lesson.images for lesson in detector.card_.lessons] == [60, 40]
    detector.save(tmp_path / "model")
    again = AnomalyDetector.load(tmp_path / "model")
    np.testing.assert_array_equal(again.anomaly_score(new), detector.anomaly_score(new))


def test_an_update_takes_each_image_once() -> None:
    images = waves(40, 0)
    detector = whole().fit(images[:30])
    with pytest.warns(UnscorableImageWarning, match="30 of 40"):
        detector.update(images)
    assert detector.card_.images == 40
    assert detector.left_out_ == dict.fromkeys(range(30), "was learned from before")
    with pytest.raises(imsim.ImsimError, match="none of 40 images can be learned from"):
        detector.update(images)


def test_an_update_that_cannot_be_is_refused() -> None:
    with pytest.raises(NotFittedError):
        whole().update(waves(5, 0))
    detector = whole().fit(waves(30, 0))
    with pytest.raises(imsim.ShapeError, match="those learned from"):
        detector.update(waves(5, 1)[:, 1:])
    detector.model_ = object()
    with pytest.raises(imsim.OptionError, match="cannot learn further"):
        detector.update(waves(5, 1))


def test_an_update_that_fails_changes_nothing(tmp_path: Path) -> None:
    detector = whole().fit(waves(30, 0))
    before = {name: str(value) for name, value in vars(detector).items()}
    with (
        warnings.catch_warnings(action="error", category=OddImageWarning),
        pytest.raises(OddImageWarning),
    ):
        detector.update(np.concatenate([waves(40, 1), spotted(8, 2)]))
    assert {name: str(value) for name, value in vars(detector).items()} == before


def test_an_update_with_images_of_one_group_is_scored_by_the_earlier_model() -> None:
    detector, new = whole(aggregate="mean").fit(waves(30, 0)), waves(4, 1)
    expected = detector.anomaly_score(new)
    detector.update(new, groups=["item"] * 4)
    np.testing.assert_array_equal(detector.held_out_scores_[30:], expected)


def test_new_images_without_a_score_do_not_hide_those_of_the_others() -> None:
    """The threshold keeps the rate among new images, though some masks leave no window of SSIM."""
    detector = AnomalyDetector(PCAAutoencoder(2), preprocess=None, metric="ssim", random_state=0)
    detector.fit(waves(60, 0))
    new = waves(30, 1) + np.random.default_rng(3).normal(0, 0.05, (30, SIDE, SIDE))
    masks = np.ones(new.shape, bool)
    masks[:5] = False
    masks[:5, 0, :2] = True
    with silent(UserWarning):  # they are unusual
        detector.update(new, masks)
    scores = detector.held_out_scores_
    assert np.isnan(scores[60:65]).all()
    assert (scores[65:] > detector.threshold_).mean() <= 0.05


def test_an_update_with_another_range_is_named() -> None:
    images, new = waves(30, 0), waves(25, 1)
    for factor in (100, 0.01):
        with (
            pytest.warns(UserWarning, match=r"times the contrast of those learned from before"),
            pytest.warns(UserWarning, match=r"25 of 25 new images are anomalies"),
        ):
            whole().fit(images).update(new * factor)
    with pytest.warns(UserWarning, match=r"25 of 25 new images are anomalies"):
        whole().fit(images).update(new * 3)  # unusual, but no other unit


def test_bad_images_of_an_update_are_named() -> None:
    """They would pass as good from then on; of fewer than 40 images, none is odd."""
    detector = whole().fit(waves(60, 0))
    said = r"8 of 24 new images are anomalies .* where [2-7] good .*\(index 16, 17, 18"
    with pytest.warns(UserWarning, match=said):
        detector.update(np.concatenate([waves(16, 1), spotted(8, 2)]))


def test_copies_of_few_images_are_named() -> None:
    """Their number would promise a rate that so few do not show."""
    with pytest.warns(UserWarning, match=r"40 good images are 2 different .* than 0.05"):
        whole(false_alarm_rate=0.05).fit(np.repeat(waves(2, 0), 20, axis=0))


def test_a_small_update_keeps_the_rate_of_the_harvest_before_it(tmp_path: Path) -> None:
    """A single further image would else take the false alarms from 4 % to half of the images."""
    new = waves(140, 1) + np.random.default_rng(2).normal(0, 0.03, (140, SIDE, SIDE))
    detector = whole(aggregate="mean").fit(waves(300, 0))
    with silent(UserWarning):  # of unusual images
        detector.update(new[:40])
    first = detector.threshold_
    detector.update(new[40:41])
    assert detector.threshold_ >= first
    assert (detector.predict(new[41:]) == -1).mean() <= 0.1
    detector.save(tmp_path / "model")
    assert AnomalyDetector.load(tmp_path / "model").false_alarms_ == detector.false_alarms_


@pytest.mark.parametrize("where", [(30, 64, 64), (8, 8, 8)], ids=["many", "few"])
def test_many_updates_remember_as_many_places(where: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    model = GoodStatistics(2, places=False).fit(rng.normal(size=where))
    places = len(model.examples_)
    for _ in range(3):
        model.partial_fit(rng.normal(size=(1, *where[1:])))
    assert len(model.examples_) == min(statistics.EXAMPLES, places * (where[0] + 3) // where[0])


def test_places_of_all_images_are_remembered() -> None:
    """Also of so few more that not every second one can be left out."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(100, 16, 16))
    images[70:] *= 3
    model = GoodStatistics(2, places=False).fit(images)
    assert len(model.examples_) == statistics.EXAMPLES
    assert np.abs(model.examples_[700:]).mean() > 1.4 * np.abs(model.examples_[:700]).mean()


def test_models_that_judge_held_out_images_remember_as_much_as_the_final_one() -> None:
    """Else the held-out scores, and with them the threshold, are not those of fresh images."""
    detector = AnomalyDetector(None, preprocess=None, data_range=1.0, random_state=0)
    detector.fit(waves(60, 0))
    assert not detector.model_.places_
    fresh = np.median(detector.model_.distances(waves(60, 1)), axis=0)
    np.testing.assert_allclose(fresh, np.median(detector.held_out_columns_, axis=0), rtol=0.1)


def test_an_update_is_the_same_after_loading(tmp_path: Path) -> None:
    """To the last bit, whatever the layout of sums in memory."""
    rng = np.random.default_rng(0)
    good, new = rng.normal(100, 20, (12, 40, 33)), rng.normal(100, 20, (5, 40, 33))
    model = GoodStatistics(4, places=True).fit(good)
    model.save(tmp_path / "model")
    loaded = GoodStatistics.load(tmp_path / "model").partial_fit(new)
    model.partial_fit(new)
    for one, other in zip(model.moments_, loaded.moments_, strict=True):
        np.testing.assert_array_equal(one.products, other.products)


def test_a_rate_holds_over_trainings() -> None:
    """At most twice the rate that was asked for, on average over 20 trainings from 20 images."""
    fresh, alarms = waves(200, 999), []
    for seed in range(20):
        detector = whole(false_alarm_rate=0.05).fit(waves(20, seed))
        alarms.append((detector.predict(fresh) == -1).mean())
    assert np.mean(alarms) <= 0.1
    assert FOLDS == 5


@pytest.mark.parametrize("metric", sorted(imsim.METRICS))
def test_whatever_is_fitted_to_equal_images_can_be_loaded(metric: str, tmp_path: Path) -> None:
    """Their reconstructions are exact, of which some metrics are infinitely sure."""
    good = np.repeat(np.random.default_rng(0).random((1, 24, 24), np.float32), 12, axis=0)
    detector = AnomalyDetector(preprocess=None, metric=metric, data_range=1.0, random_state=0)
    with silent(UserWarning):
        try:
            detector.fit(good)
        except imsim.ImsimError:
            with pytest.raises(imsim.ImsimError, match="infinite scores"):
                detector.fit(good)
            return
    detector.save(tmp_path / "model")
    loaded = AnomalyDetector.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.anomaly_score(good), detector.anomaly_score(good))


@pytest.mark.parametrize("value", [0.0, -9999.0, 1.0])
@pytest.mark.parametrize("metric", ["fsim", "ssim"])
def test_constant_images_among_the_good_teach_nothing(value: float, metric: str) -> None:
    good = waves(30, 0).astype(np.float32)
    with_blanks = np.concatenate([np.full((2, SIDE, SIDE), value, np.float32), good])
    without = AnomalyDetector(preprocess=None, metric=metric, random_state=0).fit(good)
    detector = AnomalyDetector(preprocess=None, metric=metric, random_state=0)
    with pytest.warns(UnscorableImageWarning, match=r"2 of 32 .*index 0, 1; .* is constant"):
        detector.fit(with_blanks)
    assert detector.threshold_ == without.threshold_
    assert detector.data_range_ == without.data_range_
    assert detector.card_.left_out == 0  # live ones are inspected, and found anomalous
    assert (detector.predict(with_blanks[:2]) == -1).all()
    with pytest.warns(UnscorableImageWarning, match=r"images\[2\] is constant"):
        detector.update(np.concatenate([waves(2, 7).astype(np.float32), with_blanks[:1]]))


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("value", [0.0, 0.1, -9999.0])
def test_constant_images_of_an_update_teach_nothing(value: float, number: int) -> None:
    """They are few among all good images, also where the update holds hardly anything else."""
    blanks = np.full((number, SIDE, SIDE), value)
    detector = AnomalyDetector(preprocess=None, random_state=0).fit(waves(30, 0))
    with pytest.raises(imsim.ImsimError, match=r"none of . images .* is constant"):
        detector.update(blanks)
    with pytest.warns(UnscorableImageWarning, match=r"images\[1\] is constant"):
        detector.update(np.concatenate([waves(1, 7), blanks]))
    assert (detector.predict(blanks) == -1).all()


def test_constant_images_are_learned_if_most_are() -> None:
    good = np.arange(12.0)[:, None, None] + np.zeros((16, 16))
    said = r"12 of 12 good images are constant, .* pass as good"
    with pytest.warns(UserWarning, match="few for"), pytest.warns(UserWarning, match=said):
        detector = AnomalyDetector(preprocess=None, data_range=12.0, random_state=0).fit(good)
    assert not detector.left_out_
    with silent(UserWarning):
        detector.update(good[:2] + 0.1)
    assert not detector.left_out_
