"""Weights of tensors: values, derivatives by the formulas, and within what is traced."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from libraries import JAX, TORCH, Library
from sampling import FRAME, PLAIN, SCORES, Variant, blob_mask, textured_pair
from test_gradients import scalar

import imsim

KINDS = [
    v
    for v in (*PLAIN, *(s for s in SCORES if s.metric in {"ssim", "zncc"} and s.options))
    if not imsim.METRICS[v.metric].no_weights
]
FEW = [v for v in KINDS if not v.is_map or v.metric not in {"fsim", "ssim", "uiq", "zncc"}]
"""Of maps whose formula is that of a score, the score alone is compiled and differentiated."""
COMPILED = [v for v in KINDS if v.metric in {"psnr", "gmsd", "imed"} and not v.is_map]
COMPILED += [v for v in KINDS if "sample_covariance" in v.options]
each = pytest.mark.parametrize("variant", KINDS, ids=lambda v: v.id)
each_few = pytest.mark.parametrize("variant", FEW, ids=lambda v: v.id)
each_score = pytest.mark.parametrize(
    "variant", [v for v in KINDS if not v.is_map], ids=lambda v: v.id
)
each_library = pytest.mark.parametrize("library", [TORCH, JAX], ids=lambda v: v.name)


def example(variant: Variant, rng: Any, batch: tuple[int, ...] = (2,)) -> tuple[Any, ...]:
    """Two images, and weights that are 0 outside a mask."""
    a, b = textured_pair(rng, *FRAME, colour=variant.colour, batch=batch)
    weights = rng.random((*batch, *FRAME))
    for index in np.ndindex(*batch):
        weights[index] *= blob_mask(rng, *FRAME, 0.8)
    return a, b, weights


@each
@each_library
def test_values(variant: Variant, library: Library, rng: np.random.Generator) -> None:
    """Also of weights of NumPy beside tensors, and of tensors beside images of NumPy."""
    a, b, weights = example(variant, rng)
    want = variant(a, b, weights=weights)
    tensors = [library.asarray(v) for v in (a, b, weights)]
    for found in (
        variant(*tensors[:2], weights=tensors[2]),
        variant(*tensors[:2], weights=weights),
    ):
        assert isinstance(found, library.kind)
        np.testing.assert_allclose(np.asarray(found), want, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(variant(a, b, weights=tensors[2]), want, rtol=1e-12)


@each
def test_derivatives_of_torch_equal_central_differences(
    variant: Variant, rng: np.random.Generator
) -> None:
    a, b, weights = example(variant, rng)
    function = scalar(TORCH, variant, weights=TORCH.asarray(weights))
    gradients = TORCH.gradients(function, a, b)
    outside = weights == 0
    for gradient in gradients:
        assert not gradient[outside].any()
    check_directions(variant, gradients, a, b, weights)


@each_few
def test_derivatives_of_jax_equal_those_of_torch(
    variant: Variant, rng: np.random.Generator
) -> None:
    a, b, weights = example(variant, rng, ())
    want = TORCH.gradients(scalar(TORCH, variant, weights=TORCH.asarray(weights)), a, b)
    got = JAX.gradients(scalar(JAX, variant, weights=JAX.asarray(weights)), a, b, is_compiled=True)
    scale = max(float(np.abs(g).max()) for g in want)
    for p, q in zip(got, want, strict=True):
        np.testing.assert_allclose(p, q, rtol=0, atol=1e-9 * scale)


def check_directions(variant: Variant, gradients: Any, a: Any, b: Any, weights: Any) -> None:
    """Compare with central differences along a direction that moves all pixels."""
    rng = np.random.default_rng(7)
    p, q = (rng.choice([-1.0, 1.0], a.shape) for _ in "ab")
    factors = np.cos(np.arange(np.size(variant(a, b, weights=weights)), dtype=float))
    step = 3e-5

    def value(sign: float) -> float:
        values = np.ravel(variant(a + sign * p, b + sign * q, weights=weights))
        return float(np.where(np.isfinite(values), values, 0.0) @ factors)

    want = (value(step) - value(-step)) / (2 * step)
    got = float((gradients[0] * p).sum() + (gradients[1] * q).sum())
    scale = max(float(np.linalg.norm(g)) for g in gradients)
    assert got == pytest.approx(want, rel=1e-6, abs=1e-6 * scale)


@each_score
def test_derivative_by_weights(variant: Variant, rng: np.random.Generator) -> None:
    """A score that does not depend on a common factor has no derivative along its weights."""
    a, b, weights = example(variant, rng, ())
    (gradient,) = TORCH.gradients(
        lambda w: variant(TORCH.asarray(a), TORCH.asarray(b), weights=w), weights
    )
    assert np.isfinite(gradient).all()
    power = {"se": 1, "imed": 0.5}.get(variant.metric, 0)
    score = float(variant(a, b, weights=weights))
    size = float(np.abs(gradient * weights).sum())
    assert float((gradient * weights).sum()) == pytest.approx(power * score, abs=1e-9 * size)


@each_few
def test_derivatives_of_jax_by_weights(variant: Variant, rng: np.random.Generator) -> None:
    """By the weights alone, and beside those by the images, equal to those of torch."""
    a, b, weights = example(variant, rng, ())

    def total(library: Library) -> Any:
        return lambda x, y, w: library.weighted_sum(variant(x, y, weights=w))

    want = TORCH.gradients(total(TORCH), a, b, weights)
    with_images = JAX.gradients(total(JAX), a, b, weights)
    alone = JAX.gradients(lambda w: total(JAX)(JAX.asarray(a), JAX.asarray(b), w), weights)
    for got, expected in ((with_images, want), (alone, want[2:])):
        for p, q in zip(got, expected, strict=True):
            np.testing.assert_allclose(p, q, rtol=0, atol=1e-9 * np.abs(q).max())


@each_few
def test_jax_compiles_with_traced_weights(variant: Variant, rng: np.random.Generator) -> None:
    a, b, weights = example(variant, rng)
    compiled = jax.jit(lambda a, b, w: variant(a, b, weights=w))
    for factor in (1.0, 1e4):
        got = np.asarray(compiled(a, b, factor * weights))
        want = variant(a, b, weights=factor * weights)
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * np.nanmax(np.abs(want)))
    weights[1, 0, 0] = -1.0
    got = np.asarray(compiled(a, b, weights))
    assert np.isnan(got[1]).all()
    assert np.isfinite(got[0]).any()


@each_score
def test_torch_maps_with_weights(variant: Variant, rng: np.random.Generator) -> None:
    a, b, weights = map(torch.asarray, example(variant, rng))
    mapped = torch.func.vmap(lambda a, b, w: variant(a, b, weights=w))(a, b, weights)
    np.testing.assert_allclose(mapped, variant(a, b, weights=weights), rtol=1e-11)


@pytest.mark.parametrize("variant", COMPILED, ids=lambda v: v.id)
def test_torch_compiles_with_weights(variant: Variant, rng: np.random.Generator) -> None:
    a, b, weights = map(torch.asarray, example(variant, rng))
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda a, b, w: variant(a, b, weights=w), backend="eager", fullgraph=True
    )
    np.testing.assert_allclose(compiled(a, b, weights), variant(a, b, weights=weights), rtol=1e-11)


@each_library
def test_refusals(library: Library) -> None:
    image = library.asarray(np.eye(16))
    for weights, words in ((-np.eye(16), "negative"), (np.eye(16) * np.nan, "NaN")):
        for given in (weights, library.asarray(weights)):
            with pytest.raises(imsim.WeightsError, match=words):
                imsim.se(image, image, weights=given)
    with pytest.raises(imsim.DTypeError, match="weights has dtype"):
        imsim.se(image, image, weights=library.asarray(np.eye(16) * 1j))


def test_weights_of_another_library() -> None:
    image, weights = torch.eye(16), jnp.ones((16, 16)) * jnp.arange(1, 17)
    assert imsim.se(image, image + 1, weights=weights) == float(weights.sum())


def test_single_precision_is_enough(rng: np.random.Generator) -> None:
    """Of JAX, where it has no float64."""
    with jax.enable_x64(False):
        for variant in (v for v in COMPILED if v.metric != "imed"):
            a, b, weights = (v.astype(np.float32) for v in example(variant, rng, ()))
            weights = np.where(weights > 0.5, 1e-20 * weights, weights)
            want = variant(a, b, weights=weights)
            got = jax.jit(lambda a, b, w, v=variant: v(a, b, weights=w))(a, b, weights)
            np.testing.assert_allclose(
                np.asarray(got), want, rtol=1e-3, atol=1e-3, equal_nan=True, err_msg=variant.id
            )
