"""Images are compared in float32: who has no contrast left there is refused, and not scored."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import imsim
from imsim.anomaly import AnomalyDetector, GoodStatistics, PCAAutoencoder
from imsim.anomaly.pca import MeanModel
from imsim.anomaly.stacks import check_images, damage

FAR = [("int64", 2**60), ("float64", 1e12), ("float64", -1e10), ("int32", 2**30), ("uint32", 2**31)]
NEAR = [("int64", 2**20), ("float64", 1e5), ("float32", 1e9), ("int16", -9999), ("uint8", 0)]


def textures(n, seed=0):
    noise = np.random.default_rng(seed).normal(size=(n, 32, 32))
    return np.stack([gaussian_filter(image, 2) for image in noise]) * 300 + 120


def shifted(images, dtype, offset):
    return images.clip(0, 255).astype(dtype) + np.asarray(offset).astype(dtype)


@pytest.mark.parametrize(("dtype", "offset"), FAR)
@pytest.mark.parametrize("model", [PCAAutoencoder, MeanModel, GoodStatistics])
def test_models_refuse_them(model, dtype, offset):
    images = shifted(textures(6), dtype, offset)
    with pytest.raises(imsim.DTypeError, match=r"images\[0\] has so little contrast .* subtract"):
        model().fit(images)
    with pytest.raises(imsim.DTypeError, match=r"images\[0\] has so little contrast"):
        model().fit(images, masks=np.arange(32) < 20 + np.zeros((32, 1)))


@pytest.mark.parametrize(("dtype", "offset"), NEAR)
def test_all_others_are_taken(dtype, offset):
    """Also constant ones, whose rounding is no contrast, and those of which a mask leaves none."""
    images = shifted(textures(6), dtype, offset)
    assert check_images(images, leave_out=True)[1] is None
    constant = np.full((2, 8, 8), images[0, 0, 0])
    assert check_images(constant)[1] is None
    assert check_images(constant, np.zeros((2, 8, 8), np.bool_))[1] is not None


def test_rounding_of_a_constant_is_no_contrast():
    noisy = np.full((1, 8, 8), 0.1)
    noisy[0, 0] = np.nextafter(0.1, 1)
    assert check_images(noisy)[1] is None


@pytest.mark.parametrize("scale", [1e-300, 1e-46])
def test_numbers_below_those_of_float32(scale):
    tiny = scale * textures(3).clip(0, 255)
    with pytest.raises(imsim.DTypeError, match="multiply tiny numbers"):
        check_images(tiny)
    assert check_images(tiny * 0)[1] is None


def test_pixels_outside_the_mask_have_no_say():
    images = shifted(textures(3), "int64", 2**60)
    masks = np.ones(images.shape, np.bool_)
    masks[:, :4] = False
    images[:, :4] = 0
    assert check_images(images)[1] is None  # against black, float32 holds what there is
    with pytest.raises(imsim.DTypeError, match="contrast"):
        check_images(images, masks)
    assert not check_images(images, masks, leave_out=True)[1].any()
    assert damage(images[0], None) is None
    assert "contrast" in damage(images[0], masks[0])


@pytest.mark.parametrize(("dtype", "offset"), FAR)
def test_the_detector_says_which_have_no_score_and_why(dtype, offset):
    detector = AnomalyDetector(preprocess=None).fit(shifted(textures(20), dtype, 0))
    images = shifted(textures(2, seed=1), dtype, offset)
    with pytest.warns(match="has so little contrast"):
        assert np.isnan(detector.anomaly_score(images)).all()
    assert "subtract" in detector.inspect(images).problems[1]
    with pytest.raises(imsim.ImsimError, match="has so little contrast"):
        AnomalyDetector(preprocess=None).fit(shifted(textures(20), dtype, offset))
