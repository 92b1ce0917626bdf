"""Gaussians of the log-Gabor energies of good images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.covariance import OAS
from sklearn.metrics import roc_auc_score

import imsim
from imsim.anomaly import AnomalyDetector, GoodStatistics
from imsim.anomaly.descriptions import (
    CHANNELS,
    cell_energies,
    has_places,
    of_windows,
    tails,
    within,
)
from imsim.anomaly.gaussians import (
    SHARE,
    Moments,
    Usual,
    Whole,
    nearest_distances,
    shrunk_of,
)
from imsim.anomaly.statistics import EXAMPLES
from imsim.anomaly.storage import Arrays
from imsim.errors import silent
from imsim.portable.phase_congruency import filter_bank


def parts(count: int, seed: int, *, moved: bool = False) -> Any:
    """A striped part in noise; `moved` puts it anywhere, so that no place means anything."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    found = []
    for _ in range(count):
        part = 100 + 40 * (np.hypot(y - 32, x - 32) < 20) * ((x // 6) % 2)
        if moved:
            part = np.roll(part, rng.integers(0, 64, 2), (0, 1))
        found.append(part * rng.uniform(0.9, 1.1) + rng.normal(0, 3, part.shape))
    return np.clip(found, 0, 255).astype(np.uint8)


def spotted(images: Any) -> Any:
    images = images.copy()
    images[:, 30:34, 40:44] //= 2
    return images


@pytest.mark.parametrize("shape", [(40, 36), (36, 38)])
def test_energies_are_amplitudes_of_fsims_filters(shape: tuple[int, int]) -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 1)
    bank = filter_bank(*shape)
    spectrum = np.fft.fft2(image)
    found = cell_energies(image)
    rows, columns = shape[0] // 4, shape[1] // 4
    assert found.shape == (CHANNELS, rows, columns)
    sides = [np.split(np.arange(n), np.linspace(0, n, k + 1).round().astype(int)[1:-1])
             for n, k in zip(shape, (rows, columns), strict=True)]  # fmt: skip

    def means(values: Any) -> Any:
        return np.array([[values[np.ix_(r, c)].mean() for c in sides[1]] for r in sides[0]])

    for s, radial in enumerate(bank.radial):
        for o, angular in enumerate(bank.angular):
            expected = means(np.abs(np.fft.ifft2(spectrum * radial * angular)))
            # float32 keeps 1e-7 of the sum of 1440 numbers of magnitude 1. Where the sides are
            # multiples of 4, the two coarsest scales are known at every second pixel.
            thinned = s >= 2 and shape == (40, 36)
            bound = 0.15 * expected.max() if thinned else 2e-6
            np.testing.assert_allclose(found[4 * (s + 1) + o], expected, rtol=0, atol=bound)
    np.testing.assert_allclose(found[-1], means(image), rtol=0, atol=1e-6)


def test_the_finest_filters_see_what_fsims_do_not() -> None:
    image = np.cos(np.mgrid[:32, :32][1] * 2 * np.pi / 3.2)  # waves of 3.2 pixels
    scales = cell_energies(image)[:-1].max(axis=(1, 2)).reshape(5, 4).max(axis=1)
    assert scales[0] > 1.5 * scales[1:].max()


def test_covariances_are_shrunk_as_scikit_learn_shrinks_them() -> None:
    samples = np.random.default_rng(0).normal(size=(30, 3, 5)) @ np.diag([1, 2, 1, 1, 3.0])
    samples -= samples.mean(axis=0)
    covariances = np.einsum("npi,npj->pij", samples, samples) / 30
    for place, shrunk in enumerate(shrunk_of(covariances, 30)):
        expected = OAS(assume_centered=True).fit(samples[:, place]).covariance_
        np.testing.assert_allclose(shrunk, expected, rtol=1e-12)


def test_distances_of_places_are_those_of_mahalanobis() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(5, [1.0, 20.0, 0.1], (4000, 2, 3))
    moments = Moments()
    for batch in np.split(features, 4):
        moments.add(batch)
    found = moments.gaussian().squared_distances(np.array([[6.0, 5, 5], [5, 45, 5.2]]))
    # Deviations of 4000 samples are known to 1 %.
    np.testing.assert_allclose(found, [1, 8], rtol=0.1)


def test_whole_images_have_distances_of_mahalanobis() -> None:
    rng = np.random.default_rng(2)
    samples = rng.normal(3, 1, (60, 80)) @ rng.normal(size=(80, 80))
    whole = Whole.of(samples)
    deviations = samples.std(axis=0)
    covariance = np.cov(samples / deviations, rowvar=False, bias=True)
    other = samples[0] + 5 * deviations
    centred = (other - samples.mean(axis=0)) / deviations
    shrunk = (1 - SHARE) * covariance + (SHARE + 1e-4) * np.eye(80)
    expected = np.sqrt(centred @ np.linalg.solve(shrunk, centred))
    assert whole.distance(other) == pytest.approx(expected, rel=1e-9)


def test_the_nearest_example_is_found() -> None:
    rng = np.random.default_rng(4)
    features, examples = (rng.normal(size=(n, 5)).astype(np.float32) for n in (70, 90))
    expected = cdist(features.astype(float), examples.astype(float)).min(axis=1)
    np.testing.assert_allclose(nearest_distances(features, examples), expected, atol=2e-5)


def test_distances_count_in_units_of_what_is_usual_for_their_energy() -> None:
    energies = np.random.default_rng(5).uniform(1, 100, 20_000)
    usual = Usual.of(energies, 3 * energies)  # strong windows differ more
    found = usual.relative(np.array([10.0, 50, 90]), np.array([30.0, 150, 270]))
    np.testing.assert_allclose(found, 1, rtol=0.15)
    alike = Usual.of(np.zeros(3), np.zeros(3))
    assert alike.relative(np.ones(1), np.full(1, 4.0)) == 2


@pytest.mark.parametrize(("moved", "distances"), [(False, 2), (True, 1)])
def test_weak_and_strong_places_of_good_images_are_as_far(moved: bool, distances: int) -> None:
    images = parts(30, 0, moved=moved)
    model = GoodStatistics(components=4, places=not moved).fit(images)
    shown = model._within(model._energies(images.astype(np.float32), None))
    each = [model._measured(one[None]) for one in shown]
    measured = [np.concatenate(found, axis=1) for found in zip(*each, strict=True)]
    assert len(model.usual_) == len(measured) == distances
    for usual, (energies, squares) in zip(model.usual_, measured, strict=True):
        found = usual.relative(energies, squares) ** 2
        for half in np.array_split(found[np.argsort(energies)], 2):
            assert half.mean() == pytest.approx(1, abs=0.15)


def grained(count: int, seed: int, *, dirty: bool = False) -> Any:
    """Weak grain with a strong blot anywhere, whose strength varies; dirt is a weaker one."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    found = 100 + rng.normal(0, 3, (count, 64, 64))
    for image in found:
        row, column = rng.integers(32, 54, 2)
        image[row : row + 9, column : column + 9] += rng.uniform(30, 130)
        if dirty:
            image += 12 * (np.hypot(y - rng.integers(12, 22), x - rng.integers(12, 50)) < 3)
    return np.clip(found, 0, 255).astype(np.uint8)


def told_by_windows(learned: Any, good: Any, bad: Any) -> float:
    """AUROC of the distances of windows, where places mean nothing."""
    model = GoodStatistics(components=4, places=False).fit(learned)
    scores = np.concatenate([model.distances(good), model.distances(bad)])[:, 1]
    return float(roc_auc_score(np.repeat([0, 1], [len(good), len(bad)]), scores))


def test_faint_dirt_is_seen_beside_strong_structure() -> None:
    assert told_by_windows(grained(60, 0), grained(40, 1), grained(40, 2, dirty=True)) > 0.9


@pytest.mark.parametrize("moved", [False, True])
def test_places_are_told_apart_where_images_are_aligned(moved: bool) -> None:
    model = GoodStatistics(components=4).fit(parts(40, 0, moved=moved))
    assert model.places_ is not moved
    assert model.distances(parts(2, 1)).shape == (2, model.columns_) == (2, 2 if moved else 3)


def test_small_images_are_described_by_all_their_places() -> None:
    images = parts(30, 0)[:, 16:48, 16:48]
    model = GoodStatistics(components=4).fit(images)
    assert model.distances(images[:2]).shape == (2, 1)
    for corner in (0, 28):
        other = images[:1].copy()
        other[0, corner : corner + 4, corner : corner + 4] += 40
        assert model.distances(other) > 1.2 * model.distances(images).max()


def test_unaligned_images_remember_places_of_all_images() -> None:
    images = parts(40, 0, moved=True)
    model = GoodStatistics(components=4).fit(images)
    assert EXAMPLES / 2 <= len(model.examples_) <= EXAMPLES
    good, bad = model.distances(parts(20, 1, moved=True)), model.distances(spotted(parts(20, 1)))
    for column in np.concatenate([good, bad]).T:
        assert roc_auc_score(np.repeat([0, 1], 20), column) > 0.95


def crops(count: int, seed: int, *, broken: bool = False) -> Any:
    """Crops of tracks that go on beyond the frame, so that opposite borders do not fit together."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    found = []
    for _ in range(count):
        turned = x if rng.random() < 0.5 else y
        image = 60.0 + 120 * ((turned + rng.integers(24)) % 24 < 6)
        if broken:  # a track ends and goes on beside itself, as bright as ever
            along = y if turned is x else x
            image = np.where(along < 32, image, np.roll(image, 8, axis=int(turned is x)))
        found.append(image * rng.uniform(0.8, 1.2) + rng.normal(0, 3, image.shape))
    return np.clip(found, 0, 255).astype(np.uint8)


def test_what_neighbours_show_together_counts_where_places_mean_nothing() -> None:
    assert told_by_windows(crops(60, 0), crops(30, 1), crops(30, 2, broken=True)) > 0.98


def texture(count: int, seed: int, *, worn: float = 0.0) -> Any:
    """Grain without any place; a worn one is a little smoother all over."""
    rng = np.random.default_rng(seed)
    grain = ndimage.gaussian_filter(rng.normal(size=(count, 64, 64)), (0, 1, 1), mode="wrap")
    grain = ndimage.gaussian_filter(grain / grain.std(), (0, worn, worn), mode="wrap")
    noisy = 100 + 15 * grain + rng.normal(0, 2, grain.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def test_whole_images_of_a_texture_are_alike() -> None:
    """Their statistics see what is too faint at each of its places."""
    detector = AnomalyDetector(preprocess=None, random_state=0).fit(texture(60, 0))
    assert not detector.model_.places_
    assert not detector.model_.nearest_
    judged = np.concatenate([texture(40, 1), texture(40, 2, worn=0.5)])
    scores = detector.anomaly_score(judged)
    assert roc_auc_score(np.repeat([0, 1], 40), scores) > 0.95


def test_only_places_of_a_texture_with_enough_images_have_gaussians_of_their_own() -> None:
    for images in (texture(CHANNELS, 0), texture(60, 0)[:, :32, :32], parts(60, 0, moved=True)):
        model = GoodStatistics(components=4).fit(images)
        assert model.nearest_
        assert not model.places_
        assert model.columns_ == 2
    model = GoodStatistics(components=4).fit(texture(CHANNELS + 1, 0))
    assert model.distances(texture(2, 1)).shape == (2, model.columns_) == (2, 4)
    model.partial_fit(texture(5, 2))
    parameters, arrays = model.get_state()
    again = GoodStatistics.from_state(parameters, Arrays(arrays))
    np.testing.assert_array_equal(again.distances(parts(2, 1)), model.distances(parts(2, 1)))


def test_tails_are_those_of_a_normal_distribution_or_longer() -> None:
    rng = np.random.default_rng(0)
    shown = rng.normal(size=(40, CHANNELS, 12, 12)).astype(np.float32)
    assert tails(shown) == pytest.approx(1, abs=0.02)
    shown[:, :, :3] *= 4
    assert tails(shown) > 2


@pytest.mark.parametrize("shape", [(9, 8), (3, 7), (1, 2), (2, 12)])
def test_windows_reach_every_place(shape: tuple[int, int]) -> None:
    shown = np.zeros((1, CHANNELS, *shape), np.float32)
    nothing = of_windows(shown, 1.0)
    assert nothing.shape[2] == CHANNELS * min(3, shape[0]) * min(3, shape[1])
    for row, column in np.ndindex(shape):
        other = shown.copy()
        other[0, 0, row, column] = 1
        assert (of_windows(other, 1.0) != nothing).any()


def test_only_what_is_far_from_the_border_counts_where_places_mean_nothing() -> None:
    """The filters see there that opposite borders differ, which says nothing of the image."""
    good, rows, columns = np.zeros((2, CHANNELS, 8, 9), np.float32), *within(8, 9)
    assert (rows, columns) == (6, 7)
    assert within(5, 20) == (5, 18)  # more than a window must be left
    model = GoodStatistics(components=2, places=False).fit(crops(6, 0)[:, :32, :36])
    good[1, :, 0], good[1, :, :, -1] = 9, 9
    one, other = (model._within(shown[None]) for shown in good)
    assert one.shape[2:] == (rows, columns)
    np.testing.assert_array_equal(one, other)


def test_a_model_of_unaligned_images_of_an_earlier_version_is_refused() -> None:
    parameters, arrays = GoodStatistics(components=4, places=False).fit(parts(9, 0)).get_state()
    earlier = {name: a for name, a in arrays.items() if not name.startswith("windows/")}
    with pytest.raises(imsim.OptionError, match="it has no windows/count: train it again"):
        GoodStatistics.from_state(parameters, Arrays(earlier))


def test_default_without_a_preprocess_finds_small_and_wide_defects() -> None:
    detector = AnomalyDetector(preprocess=None, random_state=0).fit(parts(60, 0))
    assert detector.aggregate_ == "statistics"
    good, other = parts(40, 1), parts(40, 2)
    blurred = ((other.astype(int) + np.roll(other, 1, 2)) // 2).astype(np.uint8)
    for bad in (spotted(other), blurred):
        scores = detector.anomaly_score(np.concatenate([good, bad]))
        assert roc_auc_score(np.repeat([0, 1], 40), scores) > 0.98


def test_other_choices_keep_what_the_metric_says() -> None:
    good = parts(20, 0)
    for how in ({"metric": "ssim"}, {"aggregate": "both"}):
        assert AnomalyDetector(preprocess=None, **how).fit(good).aggregate_ == "both"
    with pytest.raises(imsim.OptionError, match="aggregate='statistics'; ssim has"):
        AnomalyDetector(preprocess=None, metric="ssim", aggregate="statistics").fit(good)


def test_a_model_with_distances_is_asked_for_them() -> None:
    detector = AnomalyDetector(GoodStatistics(4), None, "ssim", random_state=0).fit(parts(30, 0))
    assert detector.aggregate_ == "statistics"
    assert np.isfinite(detector.anomaly_map(parts(2, 1))).any()


def test_outside_the_masks_nothing_counts() -> None:
    images = parts(24, 0).astype(np.float32)
    masks = np.ones(images.shape, bool)
    masks[:, :20, 40:] = False
    model = GoodStatistics(components=4).fit(images, masks)
    found = model.distances(images, masks)
    rest = np.where(masks, images, np.nan)
    again = GoodStatistics(components=4).fit(rest, masks)
    np.testing.assert_array_equal(found, again.distances(rest, masks))
    assert np.isnan(model.distances(images[:1], np.zeros((1, 64, 64), bool))).all()


def test_an_image_alone_and_in_company_is_the_same() -> None:
    images = parts(9, 3)
    model = GoodStatistics(components=4).fit(parts(20, 0))
    alone = np.concatenate([model.distances(image[None]) for image in images])
    np.testing.assert_array_equal(model.distances(images), alone)


@pytest.mark.parametrize("moved", [False, True])
def test_saved_and_loaded(moved: bool, tmp_path: Any) -> None:
    model = GoodStatistics(components=4).fit(parts(20, 0, moved=moved))
    model.save(tmp_path / "model.safetensors")
    again = GoodStatistics.load(tmp_path / "model.safetensors")
    images = parts(3, 1)
    np.testing.assert_array_equal(model.distances(images), again.distances(images))
    np.testing.assert_array_equal(model.reconstruct(images), again.reconstruct(images))


@pytest.mark.parametrize(
    "images",
    [
        np.full((5, 16, 16), 7.0),
        np.zeros((3, 2, 3)),
        np.random.default_rng(0).normal(size=(4, 5, 90)) * 1e15,
        np.random.default_rng(0).normal(size=(4, 300, 12)) * 1e-30,
    ],
)
def test_odd_images_have_distances(images: Any) -> None:
    model = GoodStatistics(components=1).fit(images)
    assert np.isfinite(model.distances(images)).all()
    other = images + np.eye(*images.shape[1:]) * (np.abs(images).max() or 1)
    assert (model.distances(other) > model.distances(images)).any(axis=1).all()


@pytest.mark.parametrize("noise", [0, 3])
def test_images_that_equal_the_only_good_one_are_good(noise: float) -> None:
    image = 100 + 50 * (np.hypot(*(np.mgrid[:32, :32] - 16)) < 9)
    image = image + np.random.default_rng(0).normal(0, noise, image.shape)
    good = np.repeat(image[None], 10, axis=0)
    detector = AnomalyDetector(preprocess=None, false_alarm_rate=0.2, random_state=0)
    with pytest.warns(UserWarning, match=r"10 good images are 1 different"):
        detector.fit(good)
    assert (detector.predict(good) == 1).all()
    good[0, 4:8, 4:8] += 30
    assert detector.predict(good[:1]) == -1


@pytest.mark.parametrize("level", [7, 80, 255])
def test_constant_images_equal_the_constant_ones_learned_from(level: int) -> None:
    """Descriptions learned were rounded to float32, and those judged were not."""
    good = np.full((20, 64, 64), level, np.uint8)
    with silent(UserWarning):
        detector = AnomalyDetector(preprocess=None, random_state=0).fit(good)
    assert not detector.model_.distances(good[:1]).any()
    assert detector.predict(good[:1]) == 1


def test_numbers_far_outside_have_a_score() -> None:
    detector = AnomalyDetector(preprocess=None, random_state=0).fit(parts(40, 0).astype(np.float32))
    images = parts(3, 1).astype(np.float32)
    images[0, 20, 20], images[1] = 1e37, 3e38
    assert (detector.anomaly_score(images)[:2] > 100 * detector.threshold_).any()
    assert not np.isnan(detector.anomaly_score(images)).any()


def test_large_images_are_saved_and_loaded(tmp_path: Any) -> None:
    images = parts(20, 0).astype(np.float32) * 1e28
    detector = AnomalyDetector(preprocess=None, random_state=0).fit(images)
    detector.save(tmp_path / "d.safetensors")
    again = AnomalyDetector.load(tmp_path / "d.safetensors")
    np.testing.assert_array_equal(again.anomaly_score(images), detector.anomaly_score(images))


def test_masks_of_everything_are_none() -> None:
    images = parts(20, 0)
    masks = np.ones(images.shape, bool)
    fitted = [AnomalyDetector(preprocess=None, random_state=0).fit(images, masks=m)
              for m in (None, masks)]  # fmt: skip
    assert fitted[0].threshold_ == fitted[1].threshold_


@pytest.mark.parametrize(
    ("name", "value"),
    [("wholes", None), ("logs/products", None), ("count", 0), ("spread", -1)],
)
def test_what_a_file_says_is_checked(name: str, value: Any) -> None:
    parameters, arrays = GoodStatistics(components=4).fit(parts(20, 0)).get_state()
    assert GoodStatistics.from_state(parameters, Arrays(dict(arrays))).places_
    if name in parameters:
        parameters = {**parameters, name: value}
    elif value is None:
        arrays[name] = arrays[name][:-1]
    else:
        arrays[name] = np.full_like(arrays[name], value)
    with pytest.raises(imsim.OptionError):
        GoodStatistics.from_state(parameters, Arrays(arrays))


def test_size_and_parameters_are_checked() -> None:
    model = GoodStatistics(components=4).fit(parts(20, 0))
    with pytest.raises(imsim.ShapeError, match="those learned from 64 x 64; resize"):
        model.distances(np.zeros((1, 32, 64)))
    with pytest.raises(imsim.OptionError, match="places='yes'"):
        GoodStatistics(places="yes").fit(parts(3, 0))  # type: ignore[arg-type]
    with pytest.raises(imsim.ImsimError, match="not fitted"):
        GoodStatistics().distances(parts(1, 0))


def test_two_images_are_enough_to_ask_for_places() -> None:
    energies = np.random.default_rng(0).random((2, 16, 4, 4)).astype(np.float32)
    assert has_places(energies) in (True, False)


def test_whitening_is_laid_out_as_a_file_gives_it_back() -> None:
    images = np.random.default_rng(0).random((8, 12, 100))
    for places in (True, False):
        model = GoodStatistics(2, places=places).fit(images)
        assert all(gaussian.whitening.flags.c_contiguous for gaussian in model.gaussians_)
