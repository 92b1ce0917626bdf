"""Items in any pose are compared place by place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

import imsim
from imsim.anomaly import AnomalyDetector, PCAAutoencoder
from imsim.anomaly.pose import Pose, moved_back

SIDE = 80


def items(count: int, seed: int, *, spot: bool = False, shape: str = "bar") -> Any:
    """A bar with a thick end, or a disc, anywhere, in noise; and where its spot is."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    item = np.hypot(y, x) < 20
    if shape == "bar":
        item = (np.abs(y) < np.where(x > 10, 12, 7)) & (np.abs(x) < 26)
    found, spots = [], []
    for _ in range(count):
        one = np.where(item, 0.5, 1.0)
        mark = (np.abs(y) < 2) & (np.abs(x + 15) < 2)
        if spot:
            one[mark] = 0.8
        angle, shift = rng.uniform(0, 360), rng.uniform(-6, 6, 2)

        def placed(image: Any, beyond: float, angle: Any = angle, shift: Any = shift) -> Any:
            turned = ndimage.rotate(image, angle, reshape=False, order=1, cval=beyond)
            return ndimage.shift(turned, shift, order=1, cval=beyond)

        found.append(placed(one, 1.0) + rng.normal(0, 0.02, one.shape))
        spots.append(placed(mark.astype(float), 0.0))
    return np.array(found, np.float32), np.array(spots)


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(preprocess=None, random_state=0).fit(items(60, 0)[0])


def test_turned_items_are_alike_in_their_pose() -> None:
    images = items(12, 0)[0]
    posed = Pose().fit(images).transform(images)[0]
    # Noise of 0.02, and edges whose place is known to half a pixel.
    assert posed[:, 8:-8, 8:-8].std(axis=0).mean() < 0.03
    assert images[:, 8:-8, 8:-8].std(axis=0).mean() > 0.05


def lit(images: Any, seed: int) -> Any:
    """Light that falls off across the frame by up to two thirds of an item's contrast."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    angle = rng.uniform(0, 2 * np.pi, (len(images), 1, 1))
    return (images + 0.17 * (np.cos(angle) * y + np.sin(angle) * x)).astype(np.float32)


@pytest.mark.parametrize("shape", ["bar", "disc"])
def test_uneven_light_hides_no_item(shape: str) -> None:
    images = items(40, 0, shape=shape)[0]
    plain, uneven = (Pose().fit(given) for given in (images, lit(images, 1)))
    assert plain.is_found_
    assert uneven.is_found_
    assert plain.turns_ == uneven.turns_ == (shape == "bar")
    found = [pose.placements(given)[:, :, 2] @ (1, 1)
             for pose, given in ((plain, images), (uneven, lit(images, 1)))]  # fmt: skip
    assert np.median(np.abs(found[0] - found[1])) < 2


def test_round_items_are_moved_by_whole_pixels() -> None:
    """Else they are smoothed, each by another amount."""
    images = items(12, 0, shape="disc")[0]
    pose = Pose().fit(images)
    assert not pose.turns_
    placements = pose.placements(images)
    np.testing.assert_array_equal(placements, placements.round())


def test_small_defects_of_turned_items_are_found(detector: AnomalyDetector) -> None:
    assert detector.pose_ is not None
    scores = detector.anomaly_score(np.concatenate([items(30, 1)[0], items(30, 2, spot=True)[0]]))
    labels = np.repeat([0, 1], 30)
    assert roc_auc_score(labels, scores) > 0.98
    plain = AnomalyDetector(preprocess=None, random_state=0, pose=None).fit(items(60, 0)[0])
    assert plain.pose_ is None
    scores = plain.anomaly_score(np.concatenate([items(30, 1)[0], items(30, 2, spot=True)[0]]))
    assert roc_auc_score(labels, scores) < 0.95


def test_maps_lie_where_the_image_lies(detector: AnomalyDetector) -> None:
    images, spots = items(6, 5, spot=True)
    for found, spot in zip(detector.anomaly_map(images), spots, strict=True):
        assert found.shape == (SIDE, SIDE)
        near = ndimage.binary_dilation(spot > 0.5, iterations=3)
        assert np.nanmean(found[near]) > 3 * np.nanmedian(found)


def test_placements_go_there_and_back() -> None:
    images = items(5, 7)[0]
    pose = Pose().fit(items(20, 0)[0])
    placements = pose.placements(images)
    again = moved_back(pose.transform(images)[0].astype(np.float64), placements)
    smooth = [ndimage.gaussian_filter(images[i], 1.5) for i in range(5)]
    for one, back in zip(smooth, again, strict=True):
        known = np.isfinite(back)
        assert known.mean() > 0.6
        near = ndimage.gaussian_filter(np.where(known, back, one), 1.5)
        assert np.abs(near - ndimage.gaussian_filter(one, 1.5))[known].mean() < 0.01


def test_round_items_are_centred_only() -> None:
    images = items(12, 0, shape="disc")[0]
    pose = Pose().fit(images)
    assert not pose.turns_
    np.testing.assert_array_equal(
        pose.placements(images)[:, :, :2], np.broadcast_to(np.eye(2), (12, 2, 2))
    )


def test_images_without_items_stay_as_they_are() -> None:
    textures = np.random.default_rng(0).normal(size=(12, 40, 40)).astype(np.float32)
    pose = Pose().fit(textures)
    assert not pose.is_found_
    np.testing.assert_array_equal(pose.transform(textures)[0], textures)
    assert AnomalyDetector(preprocess=None, false_alarm_rate=0.1).fit(textures).pose_ is None


def test_pixels_outside_a_mask_move_nothing(detector: AnomalyDetector) -> None:
    images = items(3, 4)[0]
    masks = np.ones(images.shape, bool)
    masks[:, :9] = masks[:, 30:33, 60:63] = False
    found = detector.anomaly_score(images, masks)
    np.testing.assert_array_equal(
        found, detector.anomaly_score(np.where(masks, images, np.nan), masks)
    )
    assert detector.inspect(images[:1], np.zeros((1, SIDE, SIDE), bool)).problems.keys() == {0}


def test_an_image_that_cannot_be_used_leaves_the_others_alone(detector: AnomalyDetector) -> None:
    images = items(3, 8)[0]
    images[1, 3, 3] = np.nan
    found = detector.inspect(images).scores
    assert np.isnan(found[1])
    np.testing.assert_array_equal(found[::2], detector.anomaly_score(images[::2]))


def test_an_image_without_an_item_is_not_turned() -> None:
    pose = Pose().fit(items(12, 0)[0])
    assert pose.turns_
    empty = np.random.default_rng(0).normal(1, 0.02, (6, SIDE, SIDE)).astype(np.float32)
    np.testing.assert_array_equal(pose.transform(empty)[0], empty)


def test_detector_with_a_pose_is_saved_and_loaded(detector: AnomalyDetector, tmp_path: Any) -> None:
    path = tmp_path / "detector.safetensors"
    detector.save(path)
    images = items(3, 6)[0]
    np.testing.assert_array_equal(
        AnomalyDetector.load(path).anomaly_score(images), detector.anomaly_score(images)
    )


def test_an_image_alone_and_in_company_has_one_score(detector: AnomalyDetector) -> None:
    images = items(7, 8)[0]
    alone = [detector.anomaly_score(image[None])[0] for image in images]
    np.testing.assert_array_equal(detector.anomaly_score(images), alone)


def test_the_range_is_that_of_the_images(detector: AnomalyDetector) -> None:
    images = items(60, 0)[0]
    assert detector.data_range_ == float(np.ptp(images))


def test_pose_helps_other_models_too() -> None:
    chosen = AnomalyDetector(PCAAutoencoder(4), None, "ssim", random_state=0).fit(items(40, 0)[0])
    assert chosen.aggregate_ == "both"
    assert chosen.pose_ is not None


def test_unknown_poses_are_refused() -> None:
    with pytest.raises(imsim.OptionError, match="pose='level'"):
        AnomalyDetector(preprocess=None, pose="level").fit(items(3, 0)[0])
    pose = Pose().fit(items(3, 0)[0])
    with pytest.raises(imsim.ShapeError, match="learned from 80 x 80"):
        pose.transform(np.zeros((1, 40, 40)))
