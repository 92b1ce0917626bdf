"""regions(): each row is what the metric says with the mask of its label."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import pytest
from engines import by_both
from hypothesis import given
from hypothesis import strategies as st
from label_images import CROPPED, KINDS, TOLERANCE, assert_rows, label_image, pair, regions
from sampling import FRAME, frame, textured_pair
from strategies import SEEDS

import imsim
from imsim import region_scores

DTYPES = ("uint8", "float32", "float64")


@pytest.mark.usefixtures("kernels")
@given(
    seed=SEEDS,
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    colour=st.booleans(),
    is_broken=st.booleans(),
)
def test_each_row_is_the_masked_score(
    seed: int, kind: str, dtype: str, colour: bool, is_broken: bool
) -> None:
    rng = np.random.default_rng(seed)
    sides = frame(*(int(side) for side in rng.integers(11, 70, 2)))
    a, b = (v.astype(dtype) for v in textured_pair(rng, *sides, colour=colour))
    labels = label_image(kind, rng, *sides)
    place = tuple(int(rng.integers(side)) for side in a.shape)
    options = {"data_range": 255, "channel_axis": -1 if colour else None}
    clean = regions(a, b, labels, CROPPED, **options)
    if is_broken and dtype.startswith("float"):
        a[place] = rng.choice((np.nan, np.inf))
    found = regions(a, b, labels, CROPPED, **options)
    assert found.skipped == {}
    assert_rows(found, a, b, labels, **options)
    others = found.labels != labels[place[:2]]
    for name in CROPPED:
        np.testing.assert_allclose(found[name][others], clean[name][others], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("colour", [False, True])
def test_every_metric_by_default(rng: np.random.Generator, colour: bool) -> None:
    a, b = (v.astype(np.uint8) for v in textured_pair(rng, *FRAME, colour=colour))
    labels = label_image("boxes", rng, *FRAME)
    options = {"data_range": 255, "channel_axis": -1 if colour else None}
    found = regions(a, b, labels, **options)
    assert list(found.scores) == list(imsim.METRICS)
    assert_rows(found, a, b, labels, **options)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("sides", [(40, 900), (90, 61), (33, 700)])
@pytest.mark.parametrize("dtype", [*DTYPES, pytest.param("uint16", marks=pytest.mark.thorough)])
def test_more_regions_than_stand_side_by_side(
    rng: np.random.Generator, sides: tuple[int, int], dtype: str
) -> None:
    sides = frame(*sides)
    a, b = (v.astype(dtype) for v in textured_pair(rng, *sides))
    labels = np.add.outer(1000 * (np.arange(sides[0]) // 13), 1 + np.arange(sides[1]) // 11)
    # Each one takes seconds to compile, and so does the masked score beside it.
    names = ["uiq"] if dtype == "uint16" else ["uiq", "ssim", "gmsd"]
    found = regions(a, b, labels, names, data_range=255)
    assert np.isfinite(found["uiq"]).sum() > 40
    assert_rows(found, a, b, labels, data_range=255)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", ["uiq", "ssim", "zncc"])
def test_nothing_is_left_of_an_earlier_shelf(rng: np.random.Generator, name: str) -> None:
    """Ragged regions, whose next shelf has gaps where pixels of the earlier one stood."""
    sides = (70, 900)
    a, b = textured_pair(rng, *sides)
    widths = rng.integers(9, 24, 200)
    columns = np.repeat(np.arange(1, 201), widths)[: sides[1]]
    labels = np.where(np.arange(sides[0])[:, None] < 30, columns, 1000 + columns[::-1])
    labels[30 + rng.integers(9, 40, sides[1])[columns % 7], np.arange(sides[1])] = 0
    found = regions(a, b, labels, [name], data_range=255)
    assert len(found.labels) > 80
    assert_rows(found, a, b, labels, data_range=255)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("large", [0, 1 << 20])
def test_crops_of_any_size(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, kind: str, large: int
) -> None:
    """With small limits, small images take the ways of large ones: batches, or the whole frame."""
    monkeypatch.setattr(region_scores, "SMALL_PIXELS", 90)
    monkeypatch.setattr(region_scores, "BATCH_PIXELS", max(large, 400))
    monkeypatch.setattr(region_scores, "CALL_PIXELS", 200)
    sides = frame(45, 51)
    a, b = (v.astype(np.uint8) for v in textured_pair(rng, *sides))
    labels = label_image(kind, rng, *sides)
    assert_rows(regions(a, b, labels, CROPPED), a, b, labels)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_windows_that_lose_digits_are_computed_again(rng: np.random.Generator, dtype: str) -> None:
    sides = frame(40, 44)
    a, b = (v.astype(dtype) for v in textured_pair(rng, *sides))
    a[:, 10:30] = 77.7
    b[:, 12:32] = 77.7
    labels = label_image("boxes", rng, *sides)
    labels[5:20, 5:35] = 50
    assert_rows(regions(a, b, labels, CROPPED, data_range=255), a, b, labels, data_range=255)


def test_pixels_far_from_the_range(rng: np.random.Generator) -> None:
    sides = frame(40, 44)
    a, b = (v + 1e7 for v in textured_pair(rng, *sides))
    labels = label_image("cells", rng, *sides)
    found = regions(a, b, labels, ["gmsd", "rmse"], data_range=255)
    assert_rows(found, a, b, labels, data_range=255)


@pytest.mark.usefixtures("kernels")
@pytest.mark.filterwarnings("ignore::imsim.DataRangeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e6, 1e30])
def test_odd_pixels_of_others_change_nothing(
    rng: np.random.Generator, dtype: str, odd: float
) -> None:
    """Of a region, of the background, and beside all regions, which do not reach the border."""
    sides = frame(47, 53)
    a, b = (v.astype(dtype) for v in textured_pair(rng, *sides))
    labels = label_image("cells", rng, *sides)
    labels[:9], labels[:, :7], labels[-5:] = 0, 0, 0
    a[labels == labels[20, 20]] = odd
    b[:3] = odd
    a[-1] = odd
    assert_rows(regions(a, b, labels, CROPPED, data_range=255), a, b, labels, data_range=255)


def test_formulas_agree(rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME)
    labels = label_image("boxes", rng, *FRAME)
    by_formula, by_kernel = by_both(regions, a, b, labels, CROPPED, data_range=255)
    assert list(by_formula) == list(by_kernel)
    for name, column in by_formula.items():
        np.testing.assert_allclose(column, by_kernel[name], rtol=1e-11, atol=1e-11, err_msg=name)


def test_one_region_of_everything(rng: np.random.Generator) -> None:
    a, b = (v.astype(np.uint8) for v in textured_pair(rng, *FRAME))
    found = imsim.regions(a, b, np.ones(FRAME, np.uint8))
    for name, scores in found.scores.items():
        np.testing.assert_allclose(scores, [imsim.METRICS[name].function(a, b)], rtol=TOLERANCE)


@pytest.mark.usefixtures("kernels")
def test_a_large_region_of_float32_takes_no_copy(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the bits of the masked score."""
    monkeypatch.setattr(region_scores, "SMALL_PIXELS", 90)
    monkeypatch.setattr(region_scores, "BATCH_PIXELS", 400)
    sides = frame(45, 51)
    a, b = (v.astype(np.float32) for v in textured_pair(rng, *sides))
    labels = np.ones(sides, int)
    labels[-3:] = 0
    found = regions(a, b, labels, ["ssim", "imed"], data_range=255)
    for name in found.scores:
        want = imsim.METRICS[name].function(a, b, mask=labels == 1, data_range=255)
        assert found[name][0] == want


@pytest.mark.usefixtures("kernels")
def test_float32_agrees_with_the_masked_score_to_its_rounding(rng: np.random.Generator) -> None:
    sides = frame(60, 50)
    a, b = (v.astype(np.float32) for v in textured_pair(rng, *sides))
    labels = label_image("cells", rng, *sides)
    found = regions(a, b, labels, CROPPED, data_range=255)
    for name in CROPPED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = [
                imsim.METRICS[name].function(a, b, mask=labels == k, data_range=255)
                for k in found.labels
            ]
        np.testing.assert_allclose(found[name], want, rtol=2e-6, atol=2e-6, err_msg=name)


# Threads


@pytest.mark.usefixtures("kernels")
def test_the_number_of_threads_changes_no_bit(rng: np.random.Generator) -> None:
    sides = frame(300, 280)
    a, b = (v.astype(np.uint8) for v in textured_pair(rng, *sides))
    labels = np.add.outer(100 * (np.arange(sides[0]) // 17), 1 + np.arange(sides[1]) // 15)
    found = []
    for n in (1, 3):
        with imsim.workers(n):
            found.append(regions(a, b, labels, CROPPED))
    for name in CROPPED:
        np.testing.assert_array_equal(found[0][name], found[1][name])


def test_calls_at_once(rng: np.random.Generator) -> None:
    a, b = pair(rng)
    labels = label_image("cells", rng, *FRAME)
    want = regions(a, b, labels, ["ssim", "gmsd"])
    found: list[imsim.Regions] = []
    threads = [
        threading.Thread(target=lambda: found.append(imsim.regions(a, b, labels, ["ssim", "gmsd"])))
        for _ in range(4)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 4
    for one in found:
        np.testing.assert_array_equal(one["ssim"], want["ssim"])
        np.testing.assert_array_equal(one["gmsd"], want["gmsd"])


@pytest.mark.parametrize(
    "name", [name for name, facts in imsim.METRICS.items() if facts.crop and facts.crop.gathers]
)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("shape", [(520, 530), (8, 190, 200), (520, 530, 3)])
def test_scattered_labels_do_not_each_cost_a_frame(
    name: str, dtype: str, shape: tuple[int, ...], rng: Any, monkeypatch: Any
) -> None:
    """Their pixels are gathered, in one pass for all labels."""
    x = rng.integers(0, 200, shape)
    y = x + rng.integers(0, 50, shape)
    x, y = ((v / (1 if dtype == "uint8" else 7)).astype(dtype) for v in (x, y))
    ndim, axis = (3, None) if shape[0] == 8 else (2, -1 if shape[-1] == 3 else None)
    frame = shape[:-1] if axis else shape
    labels = rng.choice([0, 3, 5, 9, 70, 71, 100, 200, 201, 202, 203, 204], frame)
    options = {"channel_axis": axis, "ndim": ndim, "data_range": 255}

    def refused(*_: Any) -> None:
        raise AssertionError("a whole frame was scored")

    with monkeypatch.context() as patch:
        patch.setattr("imsim.region_scores.Scorer._score_frames", refused)
        found = imsim.regions(x, y, labels, metrics=[name], **options)
    for label, score in zip(found.labels, found.scores[name], strict=True):
        want = imsim.METRICS[name].function(x, y, mask=labels == label, **options)
        assert score == pytest.approx(want, rel=1e-6 if dtype == "float32" else 1e-12)
