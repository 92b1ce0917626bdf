"""Gradients of eager tensors are those of the kernels, and fit the rest of each library."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
import torch
from engines import by_engine
from libraries import TORCH, Library
from sampling import FRAME, SCORES, Variant, blob_mask, spread_mask, textured_pair

import imsim

VARIANTS = [v for v in SCORES if imsim.METRICS[v.metric].gradient is not None]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.id)


RARE = [
    *(v for v in VARIANTS if v.metric in {"fsim", "gmsd"}),
    Variant("ssim", {"window_size": 4, "sigma": 0.9, "min_coverage": 0.6}),
    Variant("ssim", {"window_size": 5, "sample_covariance": True, "min_coverage": 1.0}),
    Variant("ssim", {"K1": 0.0, "K2": 0.0}),
    Variant("zncc", {"window_size": 4, "min_coverage": 0.7}),
]
"""Options that few take; and metrics that treat odd frames otherwise than even ones."""
PLACES = 150
"""Calls with memory in other places; 1 of 50 put an image right before memory of its kernel."""


@each_variant
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_equals_the_gradient_of_the_formula(
    variant: Variant, masked: bool, library: Library, rng: np.random.Generator
) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour, batch=(2,))
    mask = blob_mask(rng, *FRAME) if masked else None
    check_against_the_formula(variant, library, a, b[:1], mask)


@pytest.mark.parametrize("variant", RARE, ids=lambda v: v.id)
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_equals_it_on_an_odd_frame(
    variant: Variant, masked: bool, rng: np.random.Generator
) -> None:
    frame = (23, 21)
    a, b = textured_pair(rng, *frame, colour=variant.colour, batch=(2,))
    mask = blob_mask(rng, *frame) if masked else None
    check_against_the_formula(variant, TORCH, a, b, mask)


@each_variant
def test_pixels_below_zero(variant: Variant, rng: np.random.Generator) -> None:
    """Means may be negative, and nothing may depend on their sign alone."""
    a, b = (v - 140 for v in textured_pair(rng, *FRAME, colour=variant.colour, batch=(2,)))
    check_against_the_formula(variant, TORCH, a, b, None)


@pytest.mark.parametrize("engine", ["auto", "portable"])
@pytest.mark.parametrize("mode", ["image", "spectral"])
@pytest.mark.parametrize("factor", [0.3, 2.0, -0.3])
def test_vectors_of_one_direction_have_no_gradient(
    engine: str, mode: Any, factor: float, rng: np.random.Generator
) -> None:
    """What rounding leaves of their difference has an arbitrary direction."""
    x = 0.05 + rng.random((8, 9, 3))

    def angle(a: Any, b: Any) -> Any:
        return imsim.sam(a, b, channel_axis=-1, mode=mode)

    for g in by_engine(engine, TORCH.gradients, angle, x, factor * x):
        assert np.abs(g).max() < 1e-30


@pytest.mark.parametrize("engine", ["auto", "portable"])
def test_one_pixel_has_one_angle(engine: str, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME)
    mask = np.zeros(FRAME, bool)
    mask[10, 11] = True
    for g in by_engine(engine, TORCH.gradients, lambda x, y: imsim.sam(x, y, mask=mask), a, b):
        assert not g.any()


def check_against_the_formula(
    variant: Variant, library: Library, a: np.ndarray, b: np.ndarray, mask: np.ndarray | None
) -> None:
    def loss(x: Any, y: Any) -> Any:
        scores = variant(x, y, mask=mask)
        return scores[0] * 0.5 + scores[1] * 2.0

    found = library.gradients(loss, a, b)
    # JAX compiles each operation of a formula.
    expected = by_engine("portable", TORCH.gradients, loss, a, b)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * np.abs(want).max())


@each_variant
def test_channels_first_and_dtype(
    variant: Variant, library: Library, rng: np.random.Generator
) -> None:
    if not variant.colour:
        return
    a, b = (v.astype(np.float32) for v in textured_pair(rng, *FRAME, colour=True))
    want = library.gradients(variant, a, b)

    def loss(x: Any, y: Any) -> Any:
        return variant(x, y, channel_axis=0)

    found = library.gradients(loss, *(np.ascontiguousarray(np.moveaxis(v, -1, 0)) for v in (a, b)))
    for got, last in zip(found, want, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(np.moveaxis(got, 0, -1), last)


@each_variant
def test_kernels_compute_it(
    variant: Variant, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = textured_pair(rng, *FRAME, colour=variant.colour)
    a, b = (torch.tensor(v, requires_grad=True) for v in images)
    score = variant(a, b)
    assert type(score.grad_fn).__name__ == "ScoredBackward"
    assert score.dtype == torch.float64
    assert score.item() == variant(*images)
    monkeypatch.setattr("imsim.tensors._torch_gradient", None)  # the formula's
    score.backward()


@each_variant
def test_differentiated_twice(variant: Variant, rng: np.random.Generator) -> None:
    """The second derivative is the formula's."""
    images = textured_pair(rng, *FRAME, colour=variant.colour)
    direction = torch.from_numpy(rng.standard_normal(images[0].shape))

    def second() -> torch.Tensor:
        a, b = (torch.tensor(v, requires_grad=True) for v in images)
        (first,) = torch.autograd.grad(variant(a, b), a, create_graph=True)
        return torch.autograd.grad((first * direction).sum(), a)[0]

    want = by_engine("portable", second)
    assert want.abs().max() > 0
    np.testing.assert_allclose(second(), want, rtol=0, atol=1e-9 * float(want.abs().max()))


@each_variant
def test_short_floats(variant: Variant, rng: np.random.Generator) -> None:
    images = textured_pair(rng, *FRAME, colour=variant.colour)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        a, b = (torch.tensor(v).to(dtype).requires_grad_() for v in images)
        variant(a, b).backward()
        for image in (a, b):
            assert image.grad is not None
            assert image.grad.dtype == dtype
            assert image.grad.shape == image.shape


def test_saved_images_must_not_change(rng: np.random.Generator) -> None:
    a, b = (torch.tensor(v, requires_grad=True) for v in textured_pair(rng, *FRAME))
    score = imsim.se(a, b)
    with torch.no_grad():
        b.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        score.backward()


def test_a_compiled_backward_pass(rng: np.random.Generator) -> None:
    """The score is eager, and PyTorch traces its gradient: kernels are no part of the graph."""
    a, b = textured_pair(rng, *FRAME, batch=(2,))
    mask = blob_mask(rng, *FRAME)
    (want,) = TORCH.gradients(lambda x: imsim.rmse(x, torch.tensor(b), mask=mask), a)
    x = torch.tensor(a, requires_grad=True)
    total = imsim.rmse(x, torch.tensor(b), mask=mask).sum()
    torch._dynamo.reset()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        total.backward()
    np.testing.assert_array_equal(x.grad, want)


@each_variant
def test_infinity_from_above_does_not_pass_the_mask(
    variant: Variant, library: Library, rng: np.random.Generator
) -> None:
    images = textured_pair(rng, *FRAME, colour=variant.colour, batch=(2,))
    mask = blob_mask(rng, *FRAME)
    factors = library.asarray(np.array([1.0, np.inf]))
    usual = library.gradients(lambda a, b: variant(a, b, mask=mask)[0], *images)
    found = library.gradients(lambda a, b: variant(a, b, mask=mask) * factors, *images)
    for got, want in zip(found, usual, strict=True):
        for part in got:
            assert not part[~spread_mask(mask, part)].any()
        np.testing.assert_array_equal(got[0], want[0])


@each_variant
def test_partner_and_mask_of_inference_mode(variant: Variant, rng: np.random.Generator) -> None:
    """PyTorch does not notice changes of such tensors, and saves none."""
    images = textured_pair(rng, *FRAME, colour=variant.colour)
    mask = blob_mask(rng, *FRAME)
    (want,) = TORCH.gradients(lambda a: variant(a, torch.tensor(images[1]), mask=mask), images[0])
    with torch.inference_mode():
        b, seen = torch.tensor(images[1]), torch.tensor(mask)
    a = torch.tensor(images[0], requires_grad=True)
    score = variant(a, b, mask=seen)
    with torch.inference_mode():
        b.add_(1)
    score.backward()
    np.testing.assert_array_equal(a.grad, want)


def test_jax_moves_nothing_that_was_not_asked_to_move(rng: np.random.Generator) -> None:
    a, b = (jax.numpy.asarray(v) for v in textured_pair(rng, *FRAME))
    with jax.transfer_guard("disallow"):
        score, pull = jax.vjp(imsim.se, a, b)
        pull(score)


@each_variant
def test_bits_do_not_depend_on_where_memory_lies(
    variant: Variant, rng: np.random.Generator
) -> None:
    """A loop may take another way where its arrays are neighbours; it must round the same."""
    images = textured_pair(rng, *FRAME, colour=variant.colour)
    mask = blob_mask(rng, *FRAME)
    held: list[bytearray] = []
    found = set()
    for _ in range(PLACES):
        held = [bytearray(rng.integers(1, 6000)), *held[:50]]
        parts = TORCH.gradients(lambda a, b: variant(a, b, mask=mask), *images)
        found.add(b"".join(part.tobytes() for part in parts))
    assert len(found) == 1


@pytest.mark.parametrize("wrap", [jax.jit, jax.vmap, lambda f: jax.jit(jax.vmap(f))])
def test_within_other_transformations_of_jax(wrap: Any, rng: np.random.Generator) -> None:
    a, b = (jax.numpy.asarray(v) for v in textured_pair(rng, *FRAME, batch=(2,)))
    if wrap is jax.jit:
        a, b = a[0], b[0]
    found = wrap(jax.grad(imsim.rmse, argnums=(0, 1)))(a, b)
    want = jax.grad(lambda x, y: imsim.rmse(x, y).sum(), argnums=(0, 1))(a, b)
    for got, part in zip(found, want, strict=True):
        np.testing.assert_allclose(got, part, rtol=1e-9, atol=1e-12)
    outside = jax.grad(lambda x, y: wrap(imsim.rmse)(x, y).sum(), argnums=(0, 1))(a, b)
    for got, part in zip(outside, want, strict=True):
        np.testing.assert_allclose(got, part, rtol=1e-9, atol=1e-12)


def test_second_derivatives_of_jax(rng: np.random.Generator) -> None:
    a, b = (jax.numpy.asarray(v) for v in textured_pair(rng, *FRAME))
    direction = jax.numpy.asarray(rng.standard_normal(a.shape))

    def slope(v: Any) -> Any:
        return (jax.grad(imsim.se)(v, b) * direction).sum()

    np.testing.assert_allclose(jax.grad(slope)(a), 2 * direction, rtol=1e-9)
    _, tangent = jax.jvp(jax.grad(lambda v: imsim.se(v, b)), (a,), (direction,))
    np.testing.assert_allclose(tangent, 2 * direction, rtol=1e-9)


def test_many_gradients_at_once(rng: np.random.Generator) -> None:
    """A batched backward pass goes through the formula."""
    a, b = (torch.tensor(v, requires_grad=True) for v in textured_pair(rng, *FRAME, batch=(2,)))
    found = torch.autograd.functional.jacobian(imsim.rmse, (a, b), vectorize=True)
    want = torch.autograd.functional.jacobian(imsim.rmse, (a, b))
    for got, part in zip(found, want, strict=True):
        np.testing.assert_allclose(got, part, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_fsim_of_batches_with_nan(masked: bool, library: Library, rng: np.random.Generator) -> None:
    """An image without a score has no gradient; the others keep theirs."""
    a, b = textured_pair(rng, *FRAME, batch=(2,))
    mask = blob_mask(rng, *FRAME) if masked else None
    place = (4, 5) if mask is None else tuple(np.argwhere(mask)[0])

    def loss(x: Any, y: Any) -> Any:
        scores = imsim.fsim(x, y, mask=mask, data_range=255)
        return scores[0] * 2.0

    want = library.gradients(loss, a, b)
    b[(1, *place)] = np.nan
    for got, whole in zip(library.gradients(loss, a, b), want, strict=True):
        assert np.abs(got[0]).max() > 0
        np.testing.assert_allclose(got, whole, rtol=1e-12, atol=0)
