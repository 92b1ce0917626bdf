"""Gradients through the formulas: right, 0 outside the mask, and finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import torch
from libraries import JAX, TORCH, Library
from sampling import FRAME, MAPS, PLAIN, SCORES, Variant, blob_mask, spread_mask, textured_pair

import imsim

ALL = [v for v in (*SCORES, *MAPS) if not imsim.METRICS[v.metric].numpy_only]
FEW = [v for v in ALL if v in PLAIN]
WITH_OPTIONS = [
    v for v in ALL if v.options and not v.is_map and v.metric in {"fsim", "sam", "ssim"}
]
each = pytest.mark.parametrize("variant", ALL, ids=lambda v: v.id)
each_kind = pytest.mark.parametrize("variant", FEW + WITH_OPTIONS, ids=lambda v: v.id)
each_few = pytest.mark.parametrize("variant", FEW, ids=lambda v: v.id)


pytestmark = pytest.mark.usefixtures("by_formulas")


def scalar(library: Library, variant: Variant, **options: Any) -> Callable[[Any, Any], Any]:
    """Return a function of two images whose value depends on all scores, or all of a map."""
    return lambda a, b: library.weighted_sum(variant(a, b, **options))


def numpy_scalar(variant: Variant, a: np.ndarray, b: np.ndarray, **options: Any) -> float:
    values = np.ravel(variant(a, b, **options))
    weights = np.cos(np.arange(values.size, dtype=float))
    return float(np.where(np.isfinite(values), values, 0.0) @ weights)


def check_directions(
    variant: Variant, gradients: list[np.ndarray], a: np.ndarray, b: np.ndarray, mask: Any
) -> None:
    """Compare with central differences along directions that move single pixels and all."""
    rng = np.random.default_rng(7)
    scale = max(float(np.linalg.norm(g)) for g in gradients)
    step = 3e-5
    for kind in ("all", "a", "b", "few"):
        directions = [rng.choice([-1.0, 1.0], a.shape) for _ in "ab"]
        if kind == "few":
            directions = [d * (rng.random(a.shape) < 0.02) for d in directions]
        if kind in "ab":
            directions["ba".index(kind)][...] = 0.0
        (p, q), (r, s) = (
            (a + sign * directions[0], b + sign * directions[1]) for sign in (step, -step)
        )
        want = numpy_scalar(variant, p, q, mask=mask) - numpy_scalar(variant, r, s, mask=mask)
        got = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        assert got == pytest.approx(want / (2 * step), rel=1e-6, abs=1e-6 * scale), kind


@each
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_of_torch_equal_central_differences(
    variant: Variant, masked: bool, rng: np.random.Generator
) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour, batch=(2,))
    mask = np.stack([blob_mask(rng, *FRAME), blob_mask(rng, *FRAME, 0.4)]) if masked else None
    gradients = TORCH.gradients(scalar(TORCH, variant, mask=TORCH.asarray(mask)), a, b)
    check_directions(variant, gradients, a, b, mask)


@each_few
def test_of_jax_equal_central_differences(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    mask = blob_mask(rng, *FRAME)
    function = scalar(JAX, variant, mask=JAX.asarray(mask))
    gradients = JAX.gradients(function, a, b, is_compiled=True)
    check_directions(variant, gradients, a, b, mask)


def flat_patches(a: np.ndarray, b: np.ndarray) -> None:
    a[:14], b[:14], b[:7] = 90.0, 60.0, 90.0


def identical(a: np.ndarray, b: np.ndarray) -> None:
    b[...] = a


def both_constant(a: np.ndarray, b: np.ndarray) -> None:
    a[...], b[...] = 80.0, 81.0


def both_equal_and_constant(a: np.ndarray, b: np.ndarray) -> None:
    a[...] = b[...] = 80.0


def one_constant(a: np.ndarray, b: np.ndarray) -> None:
    a[...] = 80.0


def one_black(a: np.ndarray, b: np.ndarray) -> None:
    a[...] = 0.0


def both_black(a: np.ndarray, b: np.ndarray) -> None:
    a[...] = b[...] = 0.0


def black_pixels(a: np.ndarray, b: np.ndarray) -> None:
    a[3:9, 3:9] = b[6:12, 6:12] = 0.0


def equal_pixels(a: np.ndarray, b: np.ndarray) -> None:
    b[3:17, 3:17] = a[3:17, 3:17]


def nearly_identical(a: np.ndarray, b: np.ndarray) -> None:
    a /= 255
    b[...] = a
    b[5, 5] += 1e-7


CASES = (
    flat_patches,
    identical,
    both_constant,
    both_equal_and_constant,
    one_constant,
    one_black,
    both_black,
    black_pixels,
    equal_pixels,
    nearly_identical,
)


def one_pixel(mask: np.ndarray) -> None:
    mask[...] = False
    mask[12, 12] = True


def one_window(mask: np.ndarray) -> None:
    mask[...] = False
    mask[2:22, 3:21] = True


def whole(mask: np.ndarray) -> None:
    mask[...] = True


def empty(mask: np.ndarray) -> None:
    mask[...] = False


def blob(mask: np.ndarray) -> None:
    """Leave it as it is."""


PLACES = (whole, one_window, one_pixel, empty, blob)
NAMED = [f"{case.__name__}, {place.__name__}" for case in CASES for place in PLACES]


def every_case(rng: np.random.Generator, variant: Variant) -> list[np.ndarray]:
    """Make a batch of all cases with all masks, with NaN and infinities outside."""
    pairs = []
    for case in CASES:
        for place in PLACES:
            a, b = textured_pair(rng, *FRAME, colour=variant.colour)
            case(a, b)
            mask = blob_mask(rng, *FRAME)
            place(mask)
            a[~mask], b[~mask] = np.nan, np.inf
            pairs.append((a, b, mask))
    return [np.stack(parts) for parts in zip(*pairs, strict=True)]


def check_cases(found: list[np.ndarray], mask: np.ndarray) -> None:
    for g in found:
        for name, part, inside in zip(NAMED, g, mask, strict=True):
            assert np.isfinite(part).all(), name
            assert not part[~spread_mask(inside, part)].any(), name


@each_kind
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.filterwarnings("ignore::imsim.EmptyMaskWarning")
def test_of_torch_are_finite(variant: Variant, dtype: str, rng: np.random.Generator) -> None:
    *images, mask = every_case(rng, variant)
    function = scalar(TORCH, variant, mask=TORCH.asarray(mask))
    check_cases(TORCH.gradients(function, *(v.astype(dtype) for v in images)), mask)


@each_few
@pytest.mark.filterwarnings("ignore::imsim.EmptyMaskWarning")
def test_of_jax_are_finite(variant: Variant, rng: np.random.Generator) -> None:
    *images, mask = every_case(rng, variant)
    images = [v.astype("f4") for v in images]
    with jax.enable_x64(False):
        function = scalar(JAX, variant, mask=JAX.asarray(mask))
        found = JAX.gradients(function, *images, is_compiled=True)
    check_cases(found, mask)


@each_few
def test_arrays_of_numpy_may_change_before_the_backward_pass(
    variant: Variant, rng: np.random.Generator
) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    mask = blob_mask(rng, *FRAME)
    x = torch.tensor(a, requires_grad=True)
    total = TORCH.weighted_sum(variant(x, b, mask=mask))
    (want,) = torch.autograd.grad(total, x, retain_graph=True)
    b *= 2
    mask[...] = True
    np.testing.assert_array_equal(torch.autograd.grad(total, x)[0], want)


@each
def test_of_identical_images_are_zero(variant: Variant, rng: np.random.Generator) -> None:
    """By convention, also where the score has a kink, or is infinite."""
    a, _ = textured_pair(rng, *FRAME, colour=variant.colour)
    for g in TORCH.gradients(scalar(TORCH, variant), a, a.copy()):
        assert np.abs(g).max() < 1e-12


@pytest.mark.parametrize("name", ["ssim", "uiq", "zncc_map"])
def test_second_derivatives_of_windows_in_jax(name: str, rng: np.random.Generator) -> None:
    """Their moments have derivatives of their own, which must be differentiable once more."""
    a, b = (jax.numpy.asarray(v) for v in textured_pair(rng, 20, 21))
    mask = blob_mask(rng, 20, 21)
    options = {"data_range": 255} if name == "ssim" else {}

    def total(x: Any, y: Any) -> Any:
        found = getattr(imsim, name)(x, y, mask=mask, **options)
        return jax.numpy.nansum(found)

    directions = [jax.numpy.asarray(rng.standard_normal(a.shape)) for _ in "ab"]
    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
    _, along = jax.jit(lambda: jax.jvp(gradient, (a, b), tuple(directions)))()
    step = 1e-2
    moved = [
        gradient(*(v + sign * step * d for v, d in zip((a, b), directions, strict=True)))
        for sign in (1, -1)
    ]
    for got, plus, minus in zip(along, *moved, strict=True):
        want = (plus - minus) / (2 * step)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * abs(want).max())
