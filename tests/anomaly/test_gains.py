"""Gains of columns and rows that drift after training are taken out, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import imsim
from imsim.anomaly import AnomalyDetector, simulate, xray
from imsim.anomaly.xray.frames import border
from imsim.anomaly.xray.signal import gains_of, without_gains

SIZE = 64
GOOD = simulate.potatoes(40, size=SIZE, seed=31).images
JUDGED = simulate.dataset("potato", good=20, bad=18, size=SIZE, seed=32)
NOISE = 0.006
"""Noise of a pixel in the simulated open beam."""


def drift(kind: str, size: int = SIZE, seed: int = 0) -> Any:
    """Return gains of 3 %, shape (height, width)."""
    rng = np.random.default_rng(seed)
    columns, rows = 1 + rng.normal(0, 0.03, size), 1 + rng.normal(0, 0.03, (size, 1))
    module, ramp = np.ones(size), 1 + np.linspace(-0.015, 0.015, size)
    module[size // 3 : size // 2] = 1.03
    by_kind = {
        "columns": columns,
        "rows": rows,
        "both": columns * rows,
        "module": module,
        "ramp": ramp,
    }
    return by_kind[kind] * np.ones((size, size))


def drifted(images: Any, kind: str) -> Any:
    return (images * drift(kind)).astype(np.float32)


def item(height: int = SIZE, width: int = SIZE, radius: float = 20) -> Any:
    """Return absorbance of a ball with noise, its open beam at 0."""
    y, x = np.mgrid[:height, :width].astype(float)
    left = 1 - ((y - height / 2) ** 2 + (x - width / 2) ** 2) / radius**2
    noise = np.random.default_rng(1).normal(0, NOISE, (height, width))
    return (np.sqrt(np.maximum(left, 0)) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(random_state=0).fit(GOOD)


@pytest.fixture(scope="module")
def plain() -> AnomalyDetector:
    """A detector that leaves gains alone."""
    return AnomalyDetector(preprocess=xray.VirtualPeel(gains=False), random_state=0).fit(GOOD)


@pytest.mark.parametrize("kind", ["columns", "rows", "both", "module", "ramp"])
def test_drift_changes_no_score_and_no_verdict(
    detector: AnomalyDetector, plain: AnomalyDetector, kind: str
) -> None:
    images = drifted(JUDGED.images, kind)
    scores, before = (detector.anomaly_score(x) for x in (images, JUDGED.images))
    # A pixel of the open beam, or of the rim, that counts or not changes a score by 0.0015.
    np.testing.assert_allclose(scores, before, atol=0.01)
    verdicts = [s > detector.threshold_ for s in (scores, before)]
    assert (verdicts[0] != verdicts[1]).sum() <= 1
    if kind in ("rows", "both"):  # what the correction is for
        good = JUDGED.labels == 0
        alarms = [(plain.predict(x[good]) < 0).mean() for x in (images, JUDGED.images)]
        assert alarms[0] > alarms[1] + 0.05


def test_without_drift_nothing_is_lost(detector: AnomalyDetector, plain: AnomalyDetector) -> None:
    aurocs = [
        roc_auc_score(JUDGED.labels, d.anomaly_score(JUDGED.images)) for d in (detector, plain)
    ]
    assert aurocs[0] > aurocs[1] - 0.01  # four of 360 pairs


def test_gains_are_found_to_the_noise_of_their_open_beam() -> None:
    truth = -np.log(drift("both"))
    image = item()
    found = gains_of((image + truth).astype(np.float32)[None])
    columns, rows = truth[0] - truth[0, 0], truth[:, 0] - truth[0, 0]
    for measured, true in ((found[0][0], columns), (found[1][0], rows)):
        error = np.diff(measured - true)
        # At least 20 pairs of pixels, each of two noises; an item has no part in it.
        assert np.abs(error).max() < 4 * NOISE * np.sqrt(2 / 20)
    # The same image without gains tells where the remaining error comes from: its own noise.
    same = gains_of(image[None])
    left = np.diff(found[0] - same[0])[0]
    np.testing.assert_allclose(left, np.diff(columns), atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.03), st.sampled_from([(40, 64), (64, 64)]))
def test_what_columns_and_rows_add_changes_nothing(
    seed: int, strength: float, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    image = item(*shape, radius=12)[None]
    added = rng.normal(0, strength, shape[1]) + rng.normal(0, strength, (shape[0], 1))
    before, after = without_gains(image), without_gains((image + added).astype(np.float32))
    # A few pixels at the rim count as open beam or not.
    assert np.abs(after - before).std() < 0.2 * NOISE


@pytest.mark.parametrize("along", ["column", "row"])
def test_a_wire_along_an_item_stays(
    detector: AnomalyDetector, plain: AnomalyDetector, along: str
) -> None:
    """It spans the whole item, in one column or row, and leaves the open beam alone."""
    images = JUDGED.images[:8].copy()
    items = xray.segment(xray.absorbance(images))
    line = np.zeros((SIZE, SIZE), bool)
    line[:, 32] = True
    wire = items & (line if along == "column" else line.T)
    images[wire] *= np.exp(-0.3)
    scores = detector.anomaly_score(images)
    assert (scores > detector.threshold_).all()
    # Each detector has its own scale.
    np.testing.assert_allclose(scores, plain.anomaly_score(images), atol=0.05)
    with_wire, without = (without_gains(xray.absorbance(x)) for x in (images, JUDGED.images[:8]))
    assert np.median((with_wire - without)[wire]) > 0.295


def test_an_item_that_fills_the_height_keeps_its_wire() -> None:
    """Without open beam, nothing tells a wire from a gain; it must not be lost."""
    image = np.random.default_rng(0).normal(0, NOISE, (1, 64, 64)).astype(np.float32)
    image[:, :, 16:48] += 0.8
    wired = image.copy()
    wired[:, :, 30] += 0.05
    change = without_gains(wired) - without_gains(image)
    assert change[0, :, 30].min() > 0.045
    assert np.abs(np.delete(change, 30, axis=2)).max() < 0.005


@pytest.mark.parametrize(
    ("top", "spanning"),
    [(0.05, False), (0.1, False), (0.2, False), (0.8, False), (0.2, True), (0.8, True)],
)
def test_weak_items_and_those_across_the_frame_are_none_of_the_gains(
    top: float, spanning: bool
) -> None:
    """Items that absorb little more than gains change are told from these by where they lie."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    distance = np.abs(y) if spanning else np.hypot(y, x)
    clean = top * np.sqrt(np.maximum(1 - (distance / 16) ** 2, 0))
    added = -np.log(drift("both"))
    frame = (clean + added + rng.normal(0, NOISE, clean.shape)).astype(np.float32)
    left = without_gains(frame[None])[0] - clean
    if spanning:  # its rows show no open beam, and keep their gains
        left = left - np.median(left, axis=1, keepdims=True)
    # The noise is left, and that of the gains.
    assert np.diff(left, axis=1).std() < 1.6 * NOISE
    assert spanning or np.diff(left, axis=0).std() < 1.6 * NOISE


def test_large_differences_are_no_gains() -> None:
    image = item()
    image[:, 10] = 9.2  # a black column
    image[5] += 0.3
    result = without_gains(image[None])[0]
    assert result[20, 10] > 9
    assert np.median(result[5]) > 0.25


def test_the_open_beam_stays_at_zero() -> None:
    """The strength of good texture is looked up at an absorbance, which must not move."""
    images = xray.absorbance(drifted(JUDGED.images, "both"))
    levels = np.median(border(without_gains(images)), axis=1)
    np.testing.assert_allclose(levels, 0, atol=1e-6)


def test_images_do_not_depend_on_their_company() -> None:
    absorbed = xray.absorbance(JUDGED.images)
    absorbed[3, 7, 7] = np.nan
    together = without_gains(absorbed)
    for i in range(len(absorbed)):
        np.testing.assert_array_equal(without_gains(absorbed[i : i + 1])[0], together[i])


def test_an_image_with_nan_keeps_it_and_the_others_their_values() -> None:
    absorbed = np.stack([item(), item(), item()])
    absorbed[1, 30, 30] = np.nan
    found = gains_of(absorbed)
    assert not found[0][1].any()
    assert not found[1][1].any()
    np.testing.assert_array_equal(found[0][0], found[0][2])
    assert np.isnan(without_gains(absorbed)[1]).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 3), (8, 8), (16, 16), (17, 40)])
@pytest.mark.parametrize("value", [0.0, 0.7, 9.2])
def test_small_and_constant_frames(shape: tuple[int, int], value: float) -> None:
    frame = np.full((2, *shape), value, np.float32)
    found = gains_of(frame)
    assert found[0].shape == (2, shape[1])
    assert found[1].shape == (2, shape[0])
    assert not found[0].any()
    assert not found[1].any()
    np.testing.assert_array_equal(without_gains(frame), np.zeros_like(frame))


def test_a_detector_of_small_frames_with_drift() -> None:
    y, x = np.mgrid[:24, :24] - 11.5
    rng = np.random.default_rng(0)
    shapes = [np.sqrt(np.maximum(1 - (x**2 + y**2) / r**2, 0)) for r in rng.uniform(6, 8, 30)]
    images = np.exp(-np.array(shapes)) + rng.normal(0, 0.01, (30, 24, 24))
    peel = xray.VirtualPeel(width=1).fit(images)
    assert peel.transform(images * drift("columns", 24)).masks.any(axis=(1, 2)).all()


def test_a_column_that_died_after_training_is_an_alarm(detector: AnomalyDetector) -> None:
    images = JUDGED.images[:6].copy()
    images[:, :, 30] = 0
    scores = detector.inspect(images).scores  # none where the column is taken for the item
    assert (np.isnan(scores) | (scores > detector.threshold_)).all()


def test_dead_columns_and_drift_together() -> None:
    def spoiled(images: Any) -> Any:
        images = images.copy()
        images[:, :, [15, 44]] = 0
        return images

    peel = xray.VirtualPeel().fit(spoiled(GOOD))
    assert peel.faults_.sum() == 2 * SIZE
    before, after = (
        peel.transform(spoiled(x)) for x in (JUDGED.images, drifted(JUDGED.images, "both"))
    )
    both = before.masks & after.masks
    assert both.sum() > 0.99 * before.masks.sum()
    assert np.abs(before.images - after.images)[both].std() < 0.05 * before.images[both].std()


def test_kinds_of_pixels_agree() -> None:
    """Counts keep their gains through any brightness; absorbance has them added."""
    images = drifted(JUDGED.images, "both")[:10]
    peels = {
        "transmission": images,
        "counts": (images * 40_000).astype(np.float32),
        "absorbance": xray.absorbance(images),
    }
    made = {k: xray.VirtualPeel(kind=k).fit(v).transform(v).images for k, v in peels.items()}  # type: ignore[arg-type]
    for kind in ("counts", "absorbance"):
        np.testing.assert_allclose(made[kind], made["transmission"], atol=0.02)


def test_the_option_is_checked_and_saved(tmp_path: Any) -> None:
    with pytest.raises(imsim.OptionError, match="gains=2"):
        xray.VirtualPeel(gains=2).fit(GOOD)  # type: ignore[arg-type]
    for wanted in (True, False):
        peel = xray.VirtualPeel(gains=wanted).fit(GOOD)
        peel.save(tmp_path / "peel.safetensors")
        again = xray.VirtualPeel.load(tmp_path / "peel.safetensors")
        assert again.gains is wanted
        images = drifted(JUDGED.images, "both")
        np.testing.assert_array_equal(again.transform(images).images, peel.transform(images).images)
