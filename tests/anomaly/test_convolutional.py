"""The convolutional autoencoder: seeded training, masks without influence, safe storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import imsim

pytest.importorskip("equinox", reason="the convolutional model is optional")
pytest.importorskip("optax", reason="the convolutional model is optional")

import equinox as eqx
import jax

from imsim.anomaly import ConvAutoencoder, convolutional
from imsim.anomaly.convolutional import autoencoder

# Small and of few shapes: what takes time is compiling.
TINY: dict[str, Any] = {
    "channels": (8,),
    "bottleneck": 4,
    "epochs": 4,
    "patch": 16,
    "learning_rate": 0.01,
}
NEVER = 1e-12
"""A probability at which nothing happens, but the shapes are those of others."""


def textures(n: int = 24, side: int = 32, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(n, side, side))
    return np.stack([gaussian_filter(image, 2) for image in noise]).astype(np.float32)


def disc(side: int = 32, radius: float = 11) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(y, x) < radius


def weights(model: ConvAutoencoder) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model.network_) if hasattr(leaf, "shape")]


@pytest.fixture(scope="module")
def model() -> ConvAutoencoder:
    return ConvAutoencoder(**TINY).fit(textures() * 3 + 50)


def test_same_seed_same_weights(model: ConvAutoencoder) -> None:
    same = ConvAutoencoder(**TINY).fit(textures() * 3 + 50)
    other = ConvAutoencoder(**TINY, seed=1).fit(textures() * 3 + 50)
    assert all(np.array_equal(a, b) for a, b in zip(weights(model), weights(same), strict=True))
    assert same.history_ == model.history_
    assert not np.array_equal(weights(model)[0], weights(other)[0])


@pytest.mark.thorough  # compiles networks of its own; that the bottleneck counts, a file tells
def test_error_falls_with_capacity() -> None:
    noise = np.random.default_rng(0).normal(size=(24, 32, 32))  # each pixel has its own number
    errors = []
    for bottleneck in (1, 4):  # for four pixels
        options = {**TINY, "bottleneck": bottleneck, "epochs": 15}
        model = ConvAutoencoder(**options, corruption=NEVER).fit(noise)
        errors.append(np.mean((model.reconstruct(noise) - noise) ** 2))
    assert errors[1] < 0.8 * errors[0]


def test_the_loss_falls() -> None:
    images, inside = textures(), disc()
    masks = np.stack([inside] * 24)
    masks[5] = False  # an image without a pixel to learn from does no harm
    model = ConvAutoencoder(**TINY).fit(images, masks)
    assert len(model.history_) == 4
    assert np.isfinite(model.history_).all()
    assert model.history_[-1] < 0.9 * model.history_[0]


def test_the_loss_by_its_definition() -> None:
    images, masks = textures(4), np.stack([disc(radius=r) for r in (5, 9, 14, 30)])
    images[~masks] = 0
    bodies = np.zeros((4, 0, 6), dtype=np.float32)

    def half(image: Any) -> Any:
        return image / 2

    mse = convolutional._loss(half, images, masks, bodies)
    assert float(mse) == pytest.approx(np.mean((images[masks] / 2) ** 2), rel=1e-5)  # float32 sums


def test_errors_where_a_body_was_count_more() -> None:
    images, masks = textures(2), np.stack([disc(), disc(radius=9)])
    images[~masks] = 0
    bodies = np.zeros((2, 1, 6), dtype=np.float32)
    bodies[:, 0] = 16, 16, 4, 3, 0.5, 2

    def same(image: Any) -> Any:
        return image

    added = np.asarray(convolutional.render(bodies, 32, 32))
    changed, error = masks & (added > 0.3), np.where(masks, added, 0) ** 2
    assert 40 < changed[0].sum() < 80  # the ellipse has 38 pixels, and soft edges
    counts = np.where(changed, 11, masks)
    want = (counts * error).sum() / counts.sum()
    got = convolutional._loss(same, images, masks, bodies)
    assert float(got) == pytest.approx(want, rel=1e-5)  # float32 sums


def test_steps_rise_and_fall() -> None:
    lengths = [convolutional._step_length(step / 200, 200) for step in range(200)]
    assert 0 < lengths[0] < 0.15
    assert 0.98 < max(lengths) <= 1
    assert lengths.index(max(lengths)) == 9  # 5 % of the steps
    assert np.all(np.diff(lengths[9:]) < 0)
    assert 0 < lengths[-1] < 1e-3
    assert convolutional._step_length(0, 1) == 1  # the only step


def test_bodies_in_training() -> None:
    rng = np.random.default_rng(0)
    bodies = convolutional.draw(rng, (50, 64, 64), 12.8, 0.5)
    assert bodies.shape == (50, 4, 6)
    assert 0.3 < (bodies[..., 5] != 0).mean() < 0.7
    assert (bodies[..., 2] >= bodies[..., 3]).all()
    one = np.array([[[20, 30, 8, 4, 0, 3]]], dtype=np.float32)  # longer axis along the row
    image = np.asarray(convolutional.render(one, 64, 64))[0]
    inside = image > 1.5
    assert inside.sum() == pytest.approx(np.pi * 8 * 4, rel=0.1)
    assert inside[20, 23:38].all()
    assert not inside[20, :22].any()
    assert not inside[:16].any()
    assert image[20, 30] == pytest.approx(3, abs=0.01)
    assert abs(image[50]).max() < 1e-6
    assert convolutional.draw(rng, (3, 8, 8), 2, 0).shape == (3, 0, 6)
    assert not np.asarray(convolutional.render(np.zeros((3, 0, 6)), 8, 8)).any()


def test_training_with_bodies_keeps_them_out_of_the_reconstruction() -> None:
    good = textures(48)
    bad = textures(10, seed=1)
    defects = disc(radius=3)
    bad[:, defects] += 5 * good.std()
    left = []
    for probability in (NEVER, 0.8):
        model = ConvAutoencoder(**{**TINY, "epochs": 25}, corruption=probability).fit(good)
        left.append(float((bad - model.reconstruct(bad))[:, defects].mean() / good.std()))
    assert left[1] > left[0] + 1  # of 5


@pytest.mark.parametrize("outside", [np.nan, np.inf, 1e30])
def test_pixels_outside_change_no_bit(outside: float) -> None:
    images, masks = textures(), np.broadcast_to(disc(), (24, 32, 32))
    first = ConvAutoencoder(**TINY).fit(np.where(masks, images, 0), masks)
    second = ConvAutoencoder(**TINY).fit(np.where(masks, images, outside), masks)
    want = first.reconstruct(np.where(masks, images, 5), masks)
    got = second.reconstruct(np.where(masks, images, outside), masks)
    np.testing.assert_array_equal(got, want)
    assert not got[~masks].any()
    assert got[masks].all()


def test_mask_true_everywhere_is_no_mask(model: ConvAutoencoder) -> None:
    images = textures() * 3 + 50
    everywhere = np.ones((32, 32), dtype=bool)
    twin = ConvAutoencoder(**TINY).fit(images, everywhere)
    np.testing.assert_array_equal(twin.reconstruct(images, everywhere), model.reconstruct(images))


def test_one_fixed_scale(model: ConvAutoencoder) -> None:
    """Learned from the training images: 150 is three spreads off, not the middle of its image."""
    assert model.offset_ == pytest.approx(50, abs=1)
    assert model.scale_ == pytest.approx(float((3 * textures()).std()), rel=1e-4)
    flat = np.full((1, 32, 32), 50.0)
    assert abs(model.reconstruct(flat + model.scale_) - model.reconstruct(flat)).max() > 0.1


@pytest.mark.parametrize("shape", [(31, 33), (1, 1)])
def test_any_size(model: ConvAutoencoder, shape: tuple[int, int]) -> None:
    images = np.full((3, *shape), 50, dtype=np.uint8)
    found = model.reconstruct(images)
    assert found.shape == images.shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, model.reconstruct(images.astype(np.float64)))


def test_batches(model: ConvAutoencoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images do not influence each other, and few sizes of batch are compiled."""
    images = textures(21) * 3 + 50
    sizes = []
    apply = convolutional.apply

    def spy(layers: Any, batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return apply(layers, batch)

    monkeypatch.setattr(convolutional, "apply", spy)
    found = model.reconstruct(images)
    assert sizes == [16, 8]
    one = model.reconstruct(images[:1])
    # Float32 sums may be split otherwise for another size of batch.
    np.testing.assert_allclose(one[0], found[0], rtol=1e-5)


def test_a_single_image_is_enough() -> None:
    assert len(ConvAutoencoder(**TINY).fit(textures(1, side=64)).history_) == 4


def test_images_no_larger_than_a_patch_are_used_whole() -> None:
    small = textures(side=16)
    whole = ConvAutoencoder(**{**TINY, "patch": None}).fit(small)
    large = ConvAutoencoder(**{**TINY, "patch": 64}).fit(small)
    np.testing.assert_array_equal(whole.reconstruct(small), large.reconstruct(small))


def test_constant_images() -> None:
    model = ConvAutoencoder(**TINY).fit(np.full((24, 32, 32), 7))
    assert model.scale_ == 1
    assert np.isfinite(model.reconstruct(np.full((1, 32, 32), 7))).all()


def test_saved_equals_loaded(model: ConvAutoencoder, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    twin = ConvAutoencoder.load(path)
    assert repr(twin) == repr(model)
    assert twin.get_params() == model.get_params()
    assert twin.history_ == model.history_
    images = textures(5) * 3 + 50
    np.testing.assert_array_equal(
        twin.reconstruct(images, disc()), model.reconstruct(images, disc())
    )
    parameters, arrays = model.get_state()
    parameters["parameters"]["bottleneck"] = 3
    imsim.anomaly.storage.write(path, "ConvAutoencoder", parameters, arrays)
    with pytest.raises(
        imsim.OptionError, match=r"model\.safetensors cannot be loaded: weights_2 has"
    ):
        ConvAutoencoder.load(path)


def test_clone(model: ConvAutoencoder) -> None:
    sklearn = pytest.importorskip("sklearn.base", reason="scikit-learn is optional")
    twin = sklearn.clone(model)
    assert twin.get_params() == model.get_params()
    assert not hasattr(twin, "network_")


def test_float32_where_others_chose_float64() -> None:
    with jax.enable_x64(True):
        layers = eqx.filter_eval_shape(autoencoder, (1,), 1, jax.random.key(0))
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(layers) if hasattr(leaf, "dtype")}
    assert dtypes == {np.dtype(np.float32)}


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    for progress, shown in ((None, False), (False, False), (True, True)):
        ConvAutoencoder(**TINY, progress=progress).fit(textures())
        assert ("training: 100%" in capsys.readouterr().err) is shown


def test_training_that_diverges() -> None:
    with pytest.raises(imsim.ImsimError, match=r"diverged; lower learning_rate \(it is 1e\+25"):
        ConvAutoencoder(**{**TINY, "learning_rate": 1e25}).fit(textures())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"channels": ()}, r"channels=\(\)"),
        ({"channels": 8}, r"channels=8; expected a tuple"),
        ({"channels": (8, 0)}, r"channels\[1\]=0; expected an integer of at least 1"),
        ({"bottleneck": 1.5}, r"bottleneck=1\.5"),
        ({"patch": 30, "channels": (8, 8)}, r"patch=30; expected a multiple of 4"),
        ({"patch": 1}, r"patch=1"),
        ({"corruption": 2}, r"corruption=2; expected a number from 0 to 1"),
        ({"epochs": 0}, r"epochs=0"),
        ({"batch_size": True}, r"batch_size=True"),
        ({"learning_rate": 0}, r"learning_rate=0; expected a number from 1e-30"),
        ({"learning_rate": float("nan")}, r"learning_rate=nan"),
        ({"seed": -1}, r"seed=-1"),
        ({"progress": "yes"}, r"progress='yes'"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(imsim.OptionError, match=message):
        ConvAutoencoder(**{**TINY, **parameters}).fit(textures(4))


def test_bad_input(model: ConvAutoencoder, tmp_path: Path) -> None:
    with pytest.raises(imsim.MaskError, match=r"images\[0\] holds NaN"):
        ConvAutoencoder(**TINY).fit(textures(4) * np.nan)
    with pytest.raises(imsim.MaskError, match=r"images\[0\] holds NaN"):
        model.reconstruct(textures(4) * np.nan, disc())
    with pytest.raises(imsim.MaskError, match="False everywhere"):
        ConvAutoencoder(**TINY).fit(textures(4), disc() & False)
    with pytest.raises(imsim.ShapeError, match=r"images has shape \(32, 32\)"):
        model.reconstruct(textures(1)[0])
    for call in (
        lambda m: m.reconstruct(textures(1)),
        lambda m: m.save(tmp_path / "m.safetensors"),
    ):
        with pytest.raises(imsim.ImsimError, match="not fitted: call fit"):
            call(ConvAutoencoder())
