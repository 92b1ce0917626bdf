"""The compiled gradients of all metrics: right, exactly 0 outside the mask, finite at corners."""

from __future__ import annotations

import numpy as np
import pytest
from capture import gradient
from sampling import FRAME, SCORES, Variant, blob_mask, textured_pair

import imsim

VARIANTS = [v for v in SCORES if imsim.METRICS[v.metric].gradient is not None]


def has_window(variant: Variant) -> bool:
    """Whether a window is chosen; test_window_gradients has some inside masks."""
    return not {"window_size", "block_size"}.isdisjoint(variant.options)


def is_rare(variant: Variant) -> bool:
    """Whether it takes kernels of its own; test_window_gradients has windows of 4 pixels."""
    return "block_size" in variant.options or variant.options.get("window_size") == 6


each_variant = pytest.mark.parametrize(
    "variant",
    [pytest.param(v, marks=pytest.mark.thorough if is_rare(v) else (), id=v.id) for v in VARIANTS],
)


each_kernel = pytest.mark.parametrize(
    ("variant", "dtype", "masked"),
    [
        pytest.param(
            variant,
            dtype,
            masked,
            # Each is a kernel of its own, of seconds: masks are about places, not about dtypes.
            marks=pytest.mark.thorough
            if is_rare(variant) or (masked and (dtype == "float32" or has_window(variant)))
            else (),
            id=f"{'masked' if masked else 'whole'}-{dtype}-{variant.id}",
        )
        for variant in VARIANTS
        for dtype in variant.some("float64", "float32")
        for masked in (False, True)
    ],
)
STEP = 1e-4
"""Of central differences: their own error is below 1e-8 of the derivative for pixels up to 255."""
CLOSE = {"float64": 1e-6, "float32": 1e-3}
"""Relative to the derivative along a direction. Sums of products of float32 lose three digits of
seven where terms cancel."""
CROSSED = {"fsim": 1e-4}
"""The same where a step crosses corners of the score: FSIM's noise threshold follows a median,
which moves from one pixel to the next."""


def slope(
    variant: Variant,
    a: np.ndarray,
    b: np.ndarray,
    mask: np.ndarray | None,
    upstream: np.ndarray,
    directions: tuple[np.ndarray, np.ndarray],
) -> float:
    """Derivative along a direction, by central differences of the score in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    ahead, behind = (
        variant(a + step * directions[0], b + step * directions[1], mask=mask)
        for step in (STEP, -STEP)
    )
    return float(np.sum(upstream * (ahead - behind)) / (2 * STEP))


@each_kernel
def test_equals_central_differences(
    variant: Variant, dtype: str, masked: bool, rng: np.random.Generator
) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour, batch=(2,))
    b = b[:1]  # one test image against two references
    mask = blob_mask(rng, *FRAME) if masked else None
    upstream = rng.uniform(0.5, 1.5, 2)
    x, y = a.astype(dtype), b.astype(dtype)
    found = gradient(variant, x, y, mask, upstream)
    assert found is not None
    for k, (image, part) in enumerate(zip((x, y), found, strict=True)):
        assert part is not None
        assert part.shape == image.shape
        assert part.dtype == image.dtype
        directions = [np.zeros(x.shape), np.zeros(y.shape)]
        directions[k] = np.sign(part) * rng.uniform(0.5, 1, part.shape)
        want = slope(variant, x, y, mask, upstream, (directions[0], directions[1]))
        got = float(np.sum(part.astype(np.float64) * directions[k]))
        allowed = max(CLOSE[dtype], CROSSED.get(variant.metric, 0))
        assert got == pytest.approx(want, rel=allowed)


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(v, marks=pytest.mark.thorough if has_window(v) else (), id=v.id)
        for v in VARIANTS
    ],
)
def test_outside_the_mask_it_is_exactly_zero(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    mask = blob_mask(rng, *FRAME)
    spoilt = [image.copy() for image in (a, b)]
    for image in spoilt:
        image[~mask] = np.nan
    found, again = gradient(variant, a, b, mask), gradient(variant, *spoilt, mask)
    assert found is not None
    assert again is not None
    for part, same in zip(found, again, strict=True):
        assert part is not None
        assert np.abs(part[mask]).max() > 0
        assert not part[~mask].any()
        np.testing.assert_array_equal(part, same)


@each_variant
def test_only_what_is_wanted(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    both = gradient(variant, a, b)
    assert both is not None
    for k, wanted in enumerate([(True, False), (False, True)]):
        found = gradient(variant, a, b, wanted=wanted)
        assert found is not None
        assert found[1 - k] is None
        np.testing.assert_allclose(
            found[k], both[k], rtol=1e-12, atol=1e-12 * np.abs(both[k]).max()
        )


def corners(variant: Variant, rng: np.random.Generator) -> dict[str, tuple[np.ndarray, ...]]:
    """Pairs at which formulas divide by 0, or take the root of it; a mask may be the third."""
    a, b = textured_pair(rng, *FRAME, colour=variant.colour)
    flat, black = np.full_like(a, 7), np.zeros_like(a)
    patch = a.copy()
    patch[4:20, 3:20] = 30
    hole = a.copy()
    hole[5:9, 5:9] = 0
    one = np.zeros(FRAME, dtype=np.bool_)
    one[12, 13] = True
    return {
        "identical": (a, a),
        "both constant": (flat, flat + 3),
        "equal constants": (flat, flat),
        "black": (black, black),
        "black reference": (black, b),
        "black test image": (a, black),
        "flat patch in both": (patch, patch + np.where(patch == 30, 0, b - a)),
        "flat patch in one": (patch, b),
        "black pixels": (hole, b),
        "one pixel": (a, b, one),
        "no pixel": (a, b, np.zeros_like(one)),
        "nearly identical": (a / 255, a / 255 + 1e-7 * rng.standard_normal(a.shape)),
    }


@each_kernel
@pytest.mark.filterwarnings("ignore::imsim.EmptyMaskWarning")
def test_finite_at_corners(
    variant: Variant, dtype: str, masked: bool, rng: np.random.Generator
) -> None:
    for name, (a, b, *mask) in corners(variant, rng).items():
        if bool(mask) is not masked:
            continue
        x, y = a.astype(dtype), b.astype(dtype)
        found = gradient(variant, x, y, *mask)
        for part in found or []:  # None: left to the formula
            assert part is not None
            assert np.isfinite(part).all(), name


@each_variant
def test_zero_for_identical_images(variant: Variant, rng: np.random.Generator) -> None:
    """The score is at its best there, which is a corner of most metrics and flat in the others."""
    a, _ = textured_pair(rng, *FRAME, colour=variant.colour)
    for part in gradient(variant, a, a) or []:
        np.testing.assert_allclose(part, 0, atol=1e-9)


@each_variant
def test_does_not_depend_on_the_number_of_workers(
    variant: Variant, rng: np.random.Generator
) -> None:
    a, b = textured_pair(rng, 300, 290, colour=variant.colour)
    results = []
    for n in (1, 3):
        with imsim.workers(n):
            results.append(gradient(variant, a, b))
    assert results[0] is not None
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_images_with_broken_pixels_have_no_gradient(rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, batch=(2,))
    a[1, 3, 4] = np.nan
    for variant in VARIANTS:
        if variant.colour or is_rare(variant):
            continue
        found, whole = gradient(variant, a, b), gradient(variant, a[0], b[0])
        assert found is not None
        assert whole is not None
        for part, same in zip(found, whole, strict=True):
            assert part is not None
            assert not part[1].any()
            np.testing.assert_array_equal(part[0], same)
