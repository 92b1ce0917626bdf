"""The linear autoencoder: a projection, honest about masks, of whole images or of patches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.base import clone

import imsim
from imsim.anomaly import GoodStatistics, PCAAutoencoder, pca, storage
from imsim.anomaly.pca import MeanModel, cut, join

BOTH: list[dict[str, int | None]] = [{"patch": None}, {"patch": 8}]
both = pytest.mark.parametrize("kind", BOTH, ids=["whole", "patches"])


def textures(n: int, side: int = 32, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(n, side, side))
    return np.stack([gaussian_filter(image, 2) for image in noise]).astype(np.float32)


def disc(side: int = 32, radius: float = 11) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(y, x) < radius


def error(model: PCAAutoencoder, images: np.ndarray) -> float:
    return float(np.sqrt(np.mean((model.reconstruct(images) - images) ** 2)))


@both
def test_error_falls_with_capacity(kind: dict[str, int]) -> None:
    good, new = textures(60), textures(20, seed=1)
    for images in (good, new):
        errors = [error(PCAAutoencoder(k, **kind).fit(good), images) for k in (1, 4, 16, 40)]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.8 * errors[0]


def test_whole_images_by_the_definition() -> None:
    images = textures(12, side=5).astype(np.float64)
    flat = images.reshape(12, -1)
    centred = flat - flat.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
    want = (centred @ axes.T @ axes + flat.mean(axis=0)).reshape(images.shape)
    model = PCAAutoencoder(3).fit(images)
    # float32 arithmetic on values of about 0.1
    np.testing.assert_allclose(model.reconstruct(images), want, atol=1e-6)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2 / 11
    np.testing.assert_allclose(model.explained_variance_, variances[:3], rtol=1e-5)
    # More images than pixels take another way.
    many = np.concatenate([images, images, images])
    np.testing.assert_allclose(PCAAutoencoder(3).fit(many).reconstruct(images), want, atol=1e-6)


def test_patches_by_the_definition() -> None:
    """A loop over the patches of one image, with the window written out."""
    images = textures(6, side=16)
    model = PCAAutoencoder(5, patch=8).fit(images)
    vectors = np.concatenate([cut(image, 8, 4) for image in images]).astype(np.float64)
    mean = vectors.mean(axis=0)
    axes = np.linalg.eigh(np.cov(vectors.T))[1][:, -5:]
    profile = np.sin(np.pi * (np.arange(8) + 0.5) / 8) ** 2
    total, weight = np.zeros((16, 16)), np.zeros((16, 16))
    for y in range(0, 9, 4):
        for x in range(0, 9, 4):
            here = slice(y, y + 8), slice(x, x + 8)
            patch = images[0][here].ravel() - mean
            found = (axes @ (axes.T @ patch) + mean).reshape(8, 8)
            total[here] += found * np.outer(profile, profile)
            weight[here] += np.outer(profile, profile)
    # float32 arithmetic on values of about 0.1
    np.testing.assert_allclose(model.reconstruct(images)[0], total / weight, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (17, 22), (8, 8), (9, 31)])
@pytest.mark.parametrize("stride", [8, 4, 1])
def test_cut_and_join_are_each_others_transpose(shape: tuple[int, int], stride: int) -> None:
    image = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    patches = cut(image, 8, stride)
    assert np.unique(patches).size == image.size  # every pixel is in some patch
    counts = join(np.ones_like(patches), shape, 8, stride)
    np.testing.assert_array_equal(join(patches, shape, 8, stride), image * counts)


def test_patches_take_any_size() -> None:
    model = PCAAutoencoder(30, patch=8).fit(textures(10))
    for shape in ((8, 8), (9, 30), (45, 33)):
        images = textures(2, side=64)[:, : shape[0], : shape[1]]
        found = model.reconstruct(images)
        assert found.shape == images.shape
        assert found.dtype == np.float32
        # The part of patches that reaches beyond the frame counts as unseen.
        assert np.sqrt(np.mean((found - images) ** 2)) < 0.1 * images.std()


def test_no_more_components_than_the_data_have() -> None:
    images = textures(6)
    model = PCAAutoencoder(100).fit(images)
    assert len(model.components_) == 5  # one fewer than images: the mean takes one
    np.testing.assert_allclose(model.reconstruct(images), images, atol=1e-6)  # float32
    constant = PCAAutoencoder(3, patch=4).fit(np.full((2, 9, 9), 7))
    # a weighted mean of sevens, in float32
    np.testing.assert_allclose(constant.reconstruct(np.eye(9)[None]), 7, rtol=1e-6)


@both
def test_pixels_outside_change_no_bit(kind: dict[str, int]) -> None:
    images, masks = textures(20), np.stack([disc(radius=6 + i / 3) for i in range(20)])
    results = []
    for outside in (0, np.nan, -1e30, np.inf):
        filled = np.where(masks, images, outside)
        model = PCAAutoencoder(6, **kind).fit(filled, masks)
        results.append(model.reconstruct(filled, masks))
    assert np.isfinite(results[0]).all()
    assert not results[0][~masks].any()
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@both
def test_mask_true_everywhere_is_no_mask(kind: dict[str, int]) -> None:
    images = textures(10)
    everywhere = np.ones(images.shape, dtype=bool)
    want = PCAAutoencoder(4, **kind).fit(images).reconstruct(images)
    model = PCAAutoencoder(4, **kind).fit(images, everywhere)
    np.testing.assert_array_equal(model.reconstruct(images, everywhere[0]), want)


@both
def test_incomplete_vectors_are_reconstructed_from_what_is_seen(
    kind: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near the edge of a mask the error stays about that of a whole frame, far from 0."""
    good, new = textures(200) + 10, textures(10, seed=1) + 10
    model = PCAAutoencoder(8, **kind).fit(good)
    inside = disc(radius=9)
    errors = [(model.reconstruct(new) - new)[:, inside].std()]
    for steps in (pca._STEPS, 0):
        monkeypatch.setattr(pca, "_STEPS", steps)
        errors.append((model.reconstruct(new, inside) - new)[:, inside].std())
    whole, seen, one_projection = errors
    assert seen < 2 * whole
    assert seen < 0.9 * one_projection


def test_fully_masked_image_among_others() -> None:
    images, masks = textures(5), np.ones((5, 32, 32), dtype=bool)
    masks[2] = False
    for kind in BOTH:
        model = PCAAutoencoder(2, **kind).fit(images, masks)
        result = model.reconstruct(images, masks)
        assert not result[2].any()
        assert result[3].any()


@both
def test_batch_equals_loop(kind: dict[str, int]) -> None:
    images, masks = textures(5), np.stack([disc(radius=5 + i) for i in range(5)])
    model = PCAAutoencoder(6, **kind).fit(images)
    batch = model.reconstruct(images, masks)
    for i in range(5):
        one = model.reconstruct(images[i : i + 1], masks[i])
        np.testing.assert_array_equal(one[0], batch[i])


@both
def test_deterministic_and_inputs_left_alone(kind: dict[str, int]) -> None:
    images, masks = textures(10), np.broadcast_to(disc(), (10, 32, 32))
    kept = images.copy()
    first, second = (PCAAutoencoder(4, **kind).fit(images, masks) for _ in range(2))
    np.testing.assert_array_equal(first.components_, second.components_)
    np.testing.assert_array_equal(
        first.reconstruct(images, masks), second.reconstruct(images, masks)
    )
    np.testing.assert_array_equal(images, kept)


@both
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, ">f4", bool])
def test_dtypes(kind: dict[str, int], dtype: object) -> None:
    images = (textures(8) * 300 + 100).clip(0, 255).astype(dtype)  # type: ignore[call-overload]
    want = PCAAutoencoder(4, **kind).fit(images.astype(np.float32))
    model = PCAAutoencoder(4, **kind).fit(images.tolist())
    got = model.reconstruct(images[:, ::-1][:, ::-1])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want.reconstruct(images.astype(np.float32)))


@both
def test_saved_equals_loaded(kind: dict[str, int], tmp_path: Path) -> None:
    images, masks = textures(8), disc()
    model = PCAAutoencoder(4, **kind).fit(images, masks)
    model.save(tmp_path / "model.safetensors")
    twin = PCAAutoencoder.load(tmp_path / "model.safetensors")
    assert repr(twin) == repr(model)
    assert (twin.shape_, twin.count_) == (model.shape_, model.count_)
    np.testing.assert_array_equal(twin.explained_variance_, model.explained_variance_)
    np.testing.assert_array_equal(twin.reconstruct(images, masks), model.reconstruct(images, masks))


def test_foreign_bodies_survive_only_too_much_capacity() -> None:
    """What detection lives from, and its limit."""
    good = textures(60)
    bad = good[:1].copy()
    bad[0, 14:17, 14:17] += 20 * good.std()
    left = [
        float((bad - PCAAutoencoder(k, patch=8).fit(good).reconstruct(bad))[0, 15, 15])
        for k in (4, 60)
    ]
    assert left[0] > 10 * good.std() > 5 * good.std() > left[1]


def test_fitting_again_forgets() -> None:
    model = PCAAutoencoder(2).fit(textures(5))
    assert model.fit(textures(5, side=20)).reconstruct(textures(1, side=20)).shape == (1, 20, 20)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"components": 0}, r"components=0; expected an integer of at least 1"),
        ({"components": 1.5}, r"components=1\.5"),
        ({"components": float("nan")}, r"components=nan"),
        ({"components": float("inf")}, r"components=inf"),
        ({"components": True}, r"components=True"),
        ({"components": "2"}, r"components='2'"),
        ({"components": 64, "patch": 8}, r"components=64 reproduce all 8x8 pixels"),
        ({"patch": 1}, r"patch=1; expected an integer"),
        ({"patch": 8.0}, r"patch=8\.0; expected an integer"),
    ],
)
def test_bad_parameters(parameters: dict[str, object], message: str) -> None:
    model = PCAAutoencoder(**parameters)  # type: ignore[arg-type]
    with pytest.raises(imsim.OptionError, match=message):
        model.fit(textures(3))


@pytest.mark.parametrize(
    ("images", "masks", "error", "message"),
    [
        (textures(3)[0], None, imsim.ShapeError, r"images has shape \(32, 32\).*image\[None\]"),
        (np.zeros((0, 8, 8)), None, imsim.ShapeError, r"non-empty"),
        (textures(3) + 1j, None, imsim.DTypeError, r"images has dtype complex"),
        ([["a"]], None, imsim.DTypeError, r"images has dtype <U1"),
        (textures(3) * np.nan, None, imsim.MaskError, r"images\[0\] holds NaN or infinity"),
        (np.full((3, 32, 32), 1e300), None, imsim.MaskError, r"too large for float32: leave"),
        (textures(3) * np.nan, disc(), imsim.MaskError, r"images\[0\].*inside its mask"),
        (textures(3), disc(20), imsim.MaskError, r"masks has shape \(20, 20\).*\(3, 32, 32\)"),
        (textures(3), np.ones((2, 32, 32), bool), imsim.MaskError, r"masks has shape"),
        (textures(3), disc() * 0.5, imsim.MaskTypeError, r"masks has dtype float64"),
        (textures(3), disc() * 7, imsim.MaskTypeError, r"masks has dtype int64"),
    ],
)
def test_bad_input(images: object, masks: object, error: type[Exception], message: str) -> None:
    for kind in BOTH:
        with pytest.raises(error, match=message):
            PCAAutoencoder(2, **kind).fit(images, masks)


def test_masks_of_zeros_and_ones() -> None:
    images, inside = textures(5), disc()
    want = PCAAutoencoder(2, patch=4).fit(images, inside).reconstruct(images, inside)
    got = PCAAutoencoder(2, patch=4).fit(images, inside.astype(int)).reconstruct(images, inside * 1)
    np.testing.assert_array_equal(got, want)


def test_too_little_to_learn_from() -> None:
    with pytest.raises(imsim.MaskError, match=r"there are 1 complete images or patches"):
        PCAAutoencoder(2).fit(textures(1))
    with pytest.raises(imsim.MaskError, match=r"there are 0 complete.*smaller patch"):
        PCAAutoencoder(2, patch=16).fit(textures(9), disc(radius=6))
    one_left = np.arange(9)[:, None, None] < np.ones((32, 32))
    for model in (PCAAutoencoder(2), PCAAutoencoder(2, patch=16), GoodStatistics(2)):
        with pytest.raises(imsim.MaskError, match=r"there are 0 complete|leave no image to learn"):
            model.fit(textures(9), np.zeros((32, 32), bool))
    for model in (PCAAutoencoder(2), GoodStatistics(2)):
        with pytest.raises(imsim.MaskError, match=r"there are 1 complete"):
            model.fit(textures(9), one_left)


MODELS = [PCAAutoencoder(2), PCAAutoencoder(2, patch=8), MeanModel(), GoodStatistics(2)]


@pytest.mark.parametrize("model", [*MODELS, GoodStatistics(2, places=False)], ids=repr)
def test_images_with_an_empty_mask_teach_nothing(model) -> None:
    images, masks = textures(12), np.ones((12, 32, 32), bool)
    masks[::3] = False
    some = masks.any(axis=(1, 2))
    first, second = clone(model), clone(model)
    for learn in ("fit", "partial_fit"):
        getattr(first, learn)(images, masks)
        getattr(second, learn)(images[some])
        (_, arrays), (_, others) = first.get_state(), second.get_state()
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, others[name], err_msg=name)
    with pytest.raises(imsim.MaskError, match=r"the masks leave no .* to learn from: pass larger"):
        first.partial_fit(images, masks & False)


def test_size_that_does_not_fit() -> None:
    with pytest.raises(imsim.ShapeError, match=r"20 x 20.* from 32 x 32; resize them, or use pat"):
        PCAAutoencoder(2).fit(textures(4)).reconstruct(textures(1, side=20))
    for images in (textures(4), textures(4, side=20)):
        with pytest.raises(imsim.ShapeError, match=r"smaller than a patch of 40x40"):
            PCAAutoencoder(2, patch=40).fit(images)


def test_not_fitted(tmp_path: Path) -> None:
    with pytest.raises(imsim.ImsimError, match=r"not fitted: call fit"):
        PCAAutoencoder().reconstruct(textures(1))
    with pytest.raises(imsim.ImsimError, match=r"not fitted: call fit"):
        PCAAutoencoder().save(tmp_path / "model.safetensors")


def test_what_works_without_optional_packages() -> None:
    """And the others say what to install."""
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"jax", "equinox", "optax", "sklearn", "matplotlib"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
import numpy as np
from imsim import anomaly
bad = anomaly.simulate.potatoes(4, defects="stone", size=64)
items = anomaly.xray.segment(anomaly.xray.absorbance(bad.images))
print(len(anomaly.rank_metrics(bad.images, bad.clean, [0, 1, 0, 1], masks=items, metrics=["se"])))
for place, name in [(anomaly, n) for n in anomaly.__all__] + [(anomaly.xray, "VirtualPeel")]:
    try:
        getattr(place, name)
    except ImportError as error:
        print(error)
"""
    count, *messages = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout.splitlines()
    assert count == "3"
    missing = {message.split()[0].removeprefix("imsim.anomaly.") for message in messages}
    assert missing == {
        *("AnomalyDetector", "ConvAutoencoder", "GoodStatistics", "PCAAutoencoder"),
        *("InspectionRecord", "Item", "ItemDetector", "ItemFinder", "ItemInspection", "LineScan"),
        *("write_comparison", "write_inspection_report"),
        "write_report",
        "xray.VirtualPeel",
    }
    for message in messages:
        extra = "network" if "ConvAutoencoder" in message else "anomaly"
        assert message.endswith(f"pip install 'imsim[{extra}]'")


def test_a_fit_that_fails_leaves_what_was_there() -> None:
    images = textures(4)
    model = MeanModel()
    with pytest.raises(imsim.MaskError, match="leave no pixel"):
        model.fit(images, np.zeros((32, 32), bool))
    with pytest.raises(imsim.ImsimError, match="not fitted"):
        model.reconstruct(images)
    whole = PCAAutoencoder(2).fit(images)
    before = whole.reconstruct(images)
    with pytest.raises(imsim.MaskError, match="expected at least 2"):
        whole.fit(images[:1, :8, :8])
    np.testing.assert_array_equal(whole.reconstruct(images), before)


def test_a_mean_of_no_pixels_is_refused(tmp_path: Path) -> None:
    model = MeanModel().fit(textures(2))
    for count in (0, -5):
        model.count_ = count
        storage.write(tmp_path / "model", "MeanModel", *model.get_state())
        with pytest.raises(imsim.OptionError, match=f"learned from {count} pixels"):
            MeanModel.load(tmp_path / "model")
