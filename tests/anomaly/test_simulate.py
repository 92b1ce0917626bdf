"""Samples of the X-ray generator and their ground truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from scipy import ndimage

import imsim
from imsim.anomaly import simulate
from imsim.anomaly.simulate import KINDS, Samples

ITEMS = {"potato": simulate.potatoes, "bar": simulate.bars}
VOIDS = {"hollow_heart", "gap"}
SHARP = simulate.Detector(blur=0.0)
items = pytest.mark.parametrize("make", ITEMS.values(), ids=ITEMS)
Make = Callable[..., Samples]


def assert_same(a: Samples, b: Samples) -> None:
    for field in fields(Samples):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), field.name)


# --- what a sample is ----------------------------------------------------------------------------


@items
def test_shapes_types_and_good_samples(make: Make) -> None:
    samples = make(3, size=65)
    for name in ("counts", "images", "clean", "interiors", "defect_masks"):
        assert getattr(samples, name).shape == (3, 65, 65)
    types = {field.name: getattr(samples, field.name).dtype.name for field in fields(Samples)}
    assert types.pop("kinds").startswith("str")
    assert types == {
        "counts": "uint16", "flat": "float32", "dark": "float32", "images": "float32",
        "labels": "int64", "sizes": "float64", "defect_masks": "bool", "interiors": "bool",
        "clean": "float32", "cnr": "float64",
    }  # fmt: skip
    assert samples.labels.tolist() == [0, 0, 0]
    assert samples.kinds.tolist() == ["good"] * 3
    assert not samples.defect_masks.any()
    assert not samples.sizes.any()
    assert np.isnan(samples.cnr).all()
    np.testing.assert_array_equal(samples.images, samples.clean)


@items
def test_images_are_the_corrected_counts(make: Make) -> None:
    samples = make(2, size=64, defects="stone")
    corrected = (samples.counts - samples.dark) / (samples.flat - samples.dark)
    np.testing.assert_allclose(samples.images, corrected, rtol=1e-6)  # one rounding to float32
    assert samples.counts.min() > 0  # nothing is clipped
    assert samples.counts.max() < 65_535


@items
def test_items_lie_in_the_frame_in_one_piece(make: Make) -> None:
    samples = make(40, size=64, seed=3)
    inside = samples.interiors
    for border in (inside[:, :2], inside[:, -2:], inside[:, :, :2], inside[:, :, -2:]):
        assert not border.any()
    assert all(ndimage.label(silhouette)[1] == 1 for silhouette in inside)
    # The silhouette is where the beam is weakened: one pixel on either side is blur.
    outside = ~ndimage.binary_dilation(inside, np.ones((1, 3, 3)), iterations=2)
    deep = ndimage.binary_erosion(inside, np.ones((1, 3, 3)), iterations=3)
    assert samples.images[outside].min() > 0.94 > samples.images[deep].max()


def test_good_potatoes_vary_as_real_ones_do() -> None:
    samples = simulate.potatoes(40, size=64, seed=1)
    area = samples.interiors.sum(axis=(1, 2))
    assert area.std() > 0.15 * area.mean()
    centres = np.array([ndimage.center_of_mass(inside) for inside in samples.interiors])
    assert (centres.std(axis=0) > 1.5).all()
    darkest = samples.images.min(axis=(1, 2))
    assert darkest.std() > 0.1 * darkest.mean()
    # Two potatoes overlap no better than chance placements of different shapes do.
    overlap = (samples.interiors[0] & samples.interiors[1:]).sum(axis=(1, 2))
    union = (samples.interiors[0] | samples.interiors[1:]).sum(axis=(1, 2))
    assert (overlap / union).max() < 0.95


def test_good_bars_vary_less_than_potatoes() -> None:
    areas = [make(30, size=64).interiors.sum(axis=(1, 2)) for make in ITEMS.values()]
    potato, bar = (area.std() / area.mean() for area in areas)
    assert 0.002 < bar < 0.2 * potato


@items
def test_an_item_is_the_same_at_every_image_size(make: Make) -> None:
    small, large = (make(2, size=size, defects="stone", seed=5) for size in (64, 192))
    coarse = small.interiors.repeat(3, axis=1).repeat(3, axis=2)
    both = (coarse & large.interiors).sum() / (coarse | large.interiors).sum()
    assert both > 0.93  # one pixel of 64 along the outline
    np.testing.assert_array_equal(small.sizes, large.sizes)
    blocks = large.images.reshape(2, 64, 3, 64, 3).mean(axis=(2, 4))
    deep = ndimage.binary_erosion(small.interiors, np.ones((1, 3, 3)), iterations=2)
    deep &= ~ndimage.binary_dilation(small.defect_masks, np.ones((1, 3, 3)), iterations=3)
    # Noise of 1 %, and the grooves of the bars within a pixel.
    assert np.median(np.abs(small.images - blocks)[deep]) < 0.015


def test_large_images_show_the_same_item() -> None:
    small, large = (simulate.potatoes(1, size=size, seed=5) for size in (512, 1024))
    assert large.images.shape == (1, 1024, 1024)
    blocks = large.images.reshape(512, 2, 512, 2).mean(axis=(1, 3))
    deep = ndimage.binary_erosion(small.interiors[0], iterations=4)
    assert np.median(np.abs(small.images[0] - blocks)[deep]) < 0.015  # noise of 1 %


# --- seeds ---------------------------------------------------------------------------------------


@items
def test_sample_i_depends_on_the_seed_and_i_only(make: Make) -> None:
    for options in ({}, {"defects": KINDS}):
        three, five = (make(n, size=64, seed=7, **options) for n in (3, 5))
        assert_same(three, five[:3])
    other = make(3, size=64, seed=8)
    first = make(3, size=64, seed=7)
    assert not (other.interiors == first.interiors).all(axis=(1, 2)).any()
    assert not (other.flat == first.flat).all()


@pytest.mark.parametrize("item", ITEMS)
def test_a_dataset_is_good_samples_then_bad_ones(item: str) -> None:
    data = simulate.dataset(item, good=2, bad=4, kinds=["ball", "gap", "pvc"], size=64, seed=9)
    assert data.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert data.kinds.tolist() == ["good", "good", "ball", "gap", "pvc", "ball"]
    assert_same(data[:2], ITEMS[item](2, size=64, seed=9))
    assert_same(data[2:], ITEMS[item](4, defects=["ball", "gap", "pvc"], size=64, seed=9))
    # Good and bad are different items: a model does not meet the clean twins while it learns.
    assert not (data.clean[0] == data.clean[2]).all()


# --- defects and their truth ---------------------------------------------------------------------


@items
@pytest.mark.parametrize("size", [64, 128])
def test_the_clean_twin_differs_at_the_defect_only(make: Make, size: int) -> None:
    samples = make(len(KINDS), defects=KINDS, size=size, seed=2)
    reach = int(4 * simulate.Detector().blur / 112 * size + 0.5)  # of the blur, cut off at 4 sigma
    box = np.ones((1, 2 * reach + 1, 2 * reach + 1))
    near = ndimage.binary_dilation(samples.defect_masks, box)
    np.testing.assert_array_equal(samples.images[~near], samples.clean[~near])
    assert (samples.images != samples.clean)[samples.defect_masks].mean() > 0.5


@items
@pytest.mark.parametrize("kind", KINDS)
def test_without_blur_the_mask_is_the_defect(make: Make, kind: str) -> None:
    samples = make(4, defects=kind, sizes=1.0, detector=SHARP)
    changed = samples.images != samples.clean
    assert not (changed & ~samples.defect_masks).any()
    # Pixels that a thin rim touches may lose no photon; they are the fewer part.
    assert changed[samples.defect_masks].mean() > 0.7
    assert not (samples.defect_masks & ~samples.interiors).any()


@items
@pytest.mark.parametrize("kind", KINDS)
def test_contaminants_are_dark_and_voids_light(make: Make, kind: str) -> None:
    samples = make(6, defects=kind, sizes=1.0, size=64, seed=4)
    for image, clean, mask in zip(samples.images, samples.clean, samples.defect_masks, strict=True):
        difference = (image - clean)[mask].mean()
        assert difference > 0.01 if kind in VOIDS else difference < -0.01


@items
@pytest.mark.parametrize("kind", KINDS)
def test_contrast_grows_with_size_from_hardly_visible_to_obvious(make: Make, kind: str) -> None:
    graded = [make(6, defects=kind, sizes=size, seed=6) for size in (0.25, 0.5, 1.0)]
    cnr = np.array([samples.cnr for samples in graded])
    area = np.array([samples.defect_masks.sum(axis=(1, 2)) for samples in graded])
    assert (np.diff(cnr, axis=0) > 0).all()
    assert (np.diff(area, axis=0) >= 0).all()  # a small ball can grow within one pixel
    assert (area[2] > area[0]).all()
    for samples, size in zip(graded, (0.25, 0.5, 1.0), strict=True):
        assert samples.sizes.tolist() == [size] * 6
    if make is simulate.potatoes:
        # Rose: what is to be seen needs several standard deviations over its few pixels.
        assert np.median(cnr[0]) < 8
        assert np.median(cnr[2]) > 5


def test_cnr_is_the_greatest_contrast_over_the_noise_of_the_pixel() -> None:
    """Measured on images almost without noise, and with the noise of a pure Poisson number."""
    options = {"count": 4, "defects": "stone", "sizes": 1.0, "size": 64}
    plain = {"read_noise": 0, "gain_spread": 0, "shading": 0}
    quiet = simulate.potatoes(**options, detector=simulate.Detector(photons=1e9, **plain))
    noisy = simulate.potatoes(**options, detector=simulate.Detector(photons=2500, **plain))
    for image, clean, cnr in zip(quiet.images, quiet.clean, noisy.cnr, strict=True):
        pure = (np.abs(clean - image) / np.sqrt(clean / 2500)).max()
        # The noise of a compound Poisson number is a few per cent above that.
        assert 0.9 < cnr / pure < 1.0


@items
@pytest.mark.parametrize("size", [64, 200])
def test_the_smallest_defects_are_there(make: Make, size: int) -> None:
    samples = make(len(KINDS), defects=KINDS, sizes=0.1, size=size)
    assert samples.defect_masks.any(axis=(1, 2)).all()
    assert (samples.cnr > 0).all()
    assert (samples.cnr < 6).all()


def test_a_thin_needle_takes_the_same_light_at_every_image_size() -> None:
    """A needle a tenth of a pixel wide is not lost between the subpixels."""
    lost = []
    for size in (64, 256):
        detector = simulate.Detector(photons=1e9, read_noise=0)
        samples = simulate.potatoes(6, defects="needle", sizes=0.25, size=size, detector=detector)
        darker = np.log(samples.clean / samples.images).sum(axis=(1, 2))
        lost.append(darker / size**2)
    # A few per cent: the potato around the needle is not quite the same.
    np.testing.assert_allclose(lost[0], lost[1], rtol=0.1)


def test_sizes_are_drawn_from_the_interval() -> None:
    sizes = simulate.bars(60, defects="ball", sizes=(0.2, 0.4), size=64).sizes
    assert 0.2 <= sizes.min() < 0.23
    assert 0.37 < sizes.max() <= 0.4


# --- picking -------------------------------------------------------------------------------------


def test_samples_are_picked_like_arrays() -> None:
    data = simulate.dataset("bar", good=3, bad=2, size=64)
    assert len(data) == 5
    good = data[data.labels == 0]
    assert len(good) == 3
    assert set(good.kinds) == {"good"}
    np.testing.assert_array_equal(good.flat, data.flat)
    assert_same(data[1], data[1:2])
    assert_same(data[[4, 0]], data[np.array([4, 0])])
    np.testing.assert_array_equal(data[::2].counts, data.counts[::2])
    assert len(data[:0]) == 0
    with pytest.raises(IndexError):
        data[7]
    with pytest.raises(AttributeError):
        data.labels = good.labels  # type: ignore[misc]


def test_no_samples_at_all() -> None:
    assert len(simulate.potatoes(0, size=64)) == 0


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": -1}, "count=-1; expected an integer of at least 0"),
        ({"count": 2.0}, r"count=2\.0; expected an integer"),
        ({"count": True}, "count=True; expected an integer"),
        ({"size": 63}, "size=63; expected an integer of at least 64"),
        ({"size": 8193}, "size=8193; expected at most 8192"),
        ({"seed": -1}, "seed=-1; expected an integer of at least 0"),
        ({"defects": "brick"}, "defects='brick': name one or more of needle, ball"),
        ({"defects": 5}, "defects=5: name one or more of needle, ball"),
        ({"defects": []}, r"defects=\[\]: name one or more of needle, ball"),
        ({"defects": ["ball", "good"]}, "defects=.*: name one or more of needle, ball"),
        ({"sizes": (1.0, 0.5)}, r"sizes=\(1\.0, 0\.5\): give one number, or the lowest and"),
        ({"sizes": 0}, "sizes=0: give one number"),
        ({"sizes": 1.5}, r"sizes=1\.5: give one number"),
        ({"sizes": (0.1, 0.2, 0.3)}, "sizes=.*: give one number"),
        ({"sizes": "large"}, "sizes='large': give one number"),
        ({"beam": 70}, r"beam=70, .*: give simulate\.Beam"),
        ({"detector": "flat"}, r"detector='flat': give simulate\.Beam"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    for make in ITEMS.values():
        with pytest.raises(imsim.OptionError, match=message):
            make(**{"count": 1, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"item": "carrot"}, "item='carrot'; expected one of 'potato', 'bar'"),
        ({"good": -1}, "good=-1; expected an integer of at least 0"),
        ({"bad": "2"}, "bad='2'; expected an integer"),
        ({"kinds": ()}, r"kinds=\(\): name one or more of needle"),
    ],
)
def test_bad_options_of_a_dataset(options: dict[str, object], message: str) -> None:
    with pytest.raises(imsim.OptionError, match=message):
        simulate.dataset(**options)  # type: ignore[arg-type]
