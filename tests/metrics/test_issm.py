"""ISSM: its kernel against its formula, its components, and what they promise."""

from __future__ import annotations

import math
from typing import Any

import agreement
import numpy as np
import pytest
from distant import KINDS, distant_pair
from hypothesis import example, given
from hypothesis import strategies as st
from sampling import blob_mask, texture, textured_pair
from scipy.ndimage import binary_erosion
from skimage.feature import canny as reference
from strategies import SEEDS, image, masked_pair, pairs, region

import imsim
from imsim.kernels.common import canny
from imsim.portable import edges as histogram

# Two well-conditioned routes to one number: a few hundred additions in float64.
CLOSE = 1e-12


def engines(function: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
    """Results of the formula and of the kernel."""
    return agreement.engines(function, *args, **{"data_range": 255, **options})


def pair(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    x = rng.uniform(-20, 290, shape).clip(0, 255)
    return x.astype(dtype), np.clip(x + rng.normal(0, 20, shape), 0, 255).astype(dtype)


@pytest.mark.parametrize("frame", [(64, 64), (33, 47)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_engines_agree(rng: Any, dtype: Any, frame: tuple[int, int]) -> None:
    """Entropy and edges exactly; the structural similarity as in its own test."""
    x, y = pair(rng, (2, *frame), dtype)
    block = np.zeros(frame, dtype=bool)
    block[frame[0] // 4 :, : frame[1] * 3 // 4] = True
    atol = 1e-6 if dtype == np.float32 else 1e-12
    masks = (block, np.ones(frame, dtype=bool), rng.random((3, 1, *frame)) < 0.9)
    for mask in (None, *(masks if dtype != np.uint16 else ())):  # as in `agreement.fewer_masks`
        want, got = engines(imsim.issm_components, x, y, mask=mask)
        np.testing.assert_array_equal(got.entropy, want.entropy)
        np.testing.assert_array_equal(got.edge_correlation, want.edge_correlation)
        np.testing.assert_allclose(got.ssim, want.ssim, rtol=0, atol=atol)
        want, got = engines(imsim.issm, x, y, mask=mask)
        np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def test_engines_agree_on_colour_and_broadcast(rng: Any) -> None:
    x, y = pair(rng, (3, 30, 32, 3), np.uint8)
    for a in (x, x[0], x[:, None]):
        want, got = engines(imsim.issm, a, y, channel_axis=-1)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    assert imsim.issm_components(x, y, channel_axis=-1).entropy.shape == (3,)


def test_mask_workers_and_what_is_not_finite(rng: Any) -> None:
    x, y = pair(rng, (4, 48, 40), np.float64)
    mask = np.ones((48, 40), dtype=bool)
    mask[:9, :9] = False
    want = [imsim.issm(a, b, mask=mask, data_range=255) for a, b in zip(x, y, strict=True)]
    for bad in (math.nan, math.inf, -math.inf):
        damaged = x.copy()
        damaged[:, 4, 5] = bad
        for workers in (1, 2, 3):
            with imsim.workers(workers):
                got = imsim.issm(damaged, y, mask=mask, data_range=255)
                assert got.tolist() == want
                assert np.isnan(imsim.issm(damaged, y, data_range=255)).all()


def plateaus(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Blocks of equal pixels, whose gradients are as large as their neighbours': ties."""
    blocks = rng.random((1 + shape[0] // 9, 1 + shape[1] // 9))
    return np.kron(blocks, np.ones((9, 9)))[: shape[0], : shape[1]]


@pytest.mark.parametrize("sigma", [1.0, 2.3, 0.0])
def test_edges_are_those_of_scikit_image(
    rng: Any, sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, in frames of several strips, of one, and of less; masks empty whole strips."""
    monkeypatch.setattr(canny, "STRIP_PIXELS", 1)
    for shape in ((150, 31), (7, 90), (1, 5), (3, 3), (97, 97)):
        empty = rng.random(shape) < 0.97
        empty[shape[0] // 3 : shape[0] // 2 + 1] = False
        winding = np.cumsum(rng.normal(0, 0.2, shape), axis=1)
        for picture in (rng.random(shape), plateaus(rng, shape), winding, rng.random(shape) < 0.3):
            for mask in (None, empty):
                for low, high in ((0.1, 0.2), (0.0, 0.1), (0.05, 0.05)):
                    options = {"sigma": sigma, "low_threshold": low, "high_threshold": high}
                    want = reference(np.asarray(picture, float) / 0.7, mask=mask, **options)
                    got = np.empty(shape, dtype=np.uint8)
                    for rows in canny.strips(*shape, sigma):
                        canny.find_strengths(picture, mask, rows, got, data_range=0.7, **options)
                    np.testing.assert_array_equal(canny.link(got), want)


def test_entropy_of_values_beyond_the_range() -> None:
    """Bins go on below 0 and above L: adding a whole number of them changes nothing."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1, (2, 40, 40)) - 2**-40  # no pixel at L, which belongs to bin 255
    want = imsim.issm_components(x, y, data_range=1).entropy
    assert want > 5
    for moved in (-0.5, -1, 3 / 256, 0.5, 40, -1000):
        for got in engines(imsim.issm_components, x + moved, y, data_range=1):
            assert got.entropy == want
    for got in engines(imsim.issm_components, 255 * x - 100, 255 * y + 100, data_range=255):
        assert got.entropy == pytest.approx(want, abs=0.1)
    mask = rng.random((40, 40)) < 0.5
    want = imsim.issm_components(x, y, data_range=1, mask=mask).entropy
    for got in engines(imsim.issm_components, x - 2, y - 2, data_range=1, mask=mask):
        assert got.entropy == want


@pytest.mark.parametrize("kind", KINDS)
def test_engines_agree_on_distant_parts(rng: Any, kind: str) -> None:
    x, y = distant_pair(kind, rng, (30, 34), distance=1e6)
    for dtype in (np.float32, np.float64):
        want, got = engines(
            imsim.issm_components, x.astype(dtype), y.astype(dtype), data_range=0.01
        )
        assert got.entropy == want.entropy
        assert got.edge_correlation == want.edge_correlation


def test_bins_are_counted_without_room_for_all_that_lie_between() -> None:
    x = np.array([0.0, 1e300, -1e300, 1e300, 5.0])
    y = np.array([2.0, 7.0, 7.0, 7.0, 1e9])
    assert sorted(histogram.pair_counts(x, y)) == [1, 1, 1, 2]
    assert sorted(histogram.pair_counts(x % 3, y % 3)) == sorted(
        np.unique(np.stack([x % 3, y % 3]), axis=1, return_counts=True)[1]
    )
    bins = histogram.bins(np.array([-0.1, 0, 0.5, 1, 1.001]), 1.0)
    assert bins.tolist() == [-26, 0, 128, 255, 256]
    assert histogram.bins(np.array([0.1], np.float32), 0.1).tolist() == [255]


@given(pairs(), SEEDS)
@example((image("constant", 1, 16, 16), image("constant", 2, 16, 16)), 0)
@example((image("zero", 1, 16, 16), image("spike", 2, 16, 16)), 0)
def test_issm_is_a_number(pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    x, y = pair
    assert np.isfinite(imsim.issm(x, y, data_range=255))
    parts = imsim.issm_components(x, y, data_range=255)
    assert 0 <= parts.entropy <= np.log2(x.size) + 1e-12
    assert -1 <= parts.edge_correlation <= 1
    assert parts.ssim == imsim.ssim(x, y, data_range=255)


def test_issm_of_constant_images() -> None:
    """No entropy, no edges in either: R = 1, and what is left depends on SSIM alone."""
    x, y = np.full((16, 16), 50.0), np.full((16, 16), 80.0)
    H, R, S = imsim.issm_components(x, y, data_range=255)
    assert (H, R) == (0, 1)
    want = 0.01 / (0.7 * S + 0.01)
    assert imsim.issm(x, y, data_range=255) == pytest.approx(want, rel=1e-12)


def test_edges_in_one_image_only() -> None:
    x = np.zeros((32, 32))
    y = x.copy()
    y[8:24, 8:24] = 255
    assert imsim.issm_components(x, y, data_range=255).edge_correlation == 0
    assert imsim.issm_components(y, y, data_range=255).edge_correlation == 1


@given(SEEDS, st.booleans())
def test_masked_edge_correlation(seed: int, masked: bool) -> None:
    """Canny within the mask; a pixel counts if its 3x3 neighbours inside the frame are inside."""
    rng = np.random.default_rng(seed)
    x, y = textured_pair(rng, 40, 44, noise=4.0)
    mask = blob_mask(rng, 40, 44, 0.7) if masked else np.ones(x.shape, dtype=bool)
    mask[4:24, 4:24] = True
    edges = [
        reference(z / 255, sigma=1, low_threshold=0.1, high_threshold=0.2, mask=mask)
        for z in (x, y)
    ]
    counted = binary_erosion(mask, np.ones((3, 3)), border_value=1)
    p, q = (e[counted].astype(float) for e in edges)
    want = float(np.array_equal(p, q))
    if p.any() and q.any():
        want = np.corrcoef(p, q)[0, 1]
    given_mask = mask if masked else None
    parts = imsim.issm_components(x, y, mask=given_mask, data_range=255)
    assert parts.edge_correlation == pytest.approx(want, abs=1e-12)


def test_a_background_makes_no_edges() -> None:
    """A bright object has no outline inside its own mask."""
    x = np.full((40, 40), 200.0)
    y = x.copy()
    y[18:22, 18:22] = 90
    rows, cols = np.indices(x.shape) - 20
    disc = rows**2 + cols**2 < 15**2
    parts = [
        imsim.issm_components(z, z, mask=disc, data_range=255, sigma=1.0).edge_correlation
        for z in (x, y)
    ]
    assert parts == [1, 1]
    assert imsim.issm_components(x, y, mask=disc, data_range=255).edge_correlation == 0


def test_joint_entropy_counts_pairs_of_levels() -> None:
    x = np.repeat(np.arange(4.0), 64).reshape(16, 16) * 60
    y = np.tile(np.repeat([0.0, 200.0], 8), (16, 1))
    parts = imsim.issm_components(x, y, data_range=255)
    assert parts.entropy == pytest.approx(3, abs=1e-12)  # 8 pairs of levels, equally frequent
    half = np.zeros((16, 16), dtype=bool)
    half[:, :8] = True
    masked = imsim.issm_components(x, y, mask=half, data_range=255)
    assert masked.entropy == pytest.approx(2, abs=1e-12)


@given(SEEDS)
def test_components_of_batches_and_channels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = textured_pair(rng, 24, 27, batch=(2,))
    mask = region(seed, x[0])
    mask[8:16, 8:16] = True  # room for a window of SSIM
    batch = imsim.issm_components(x, y, mask=mask, data_range=255)
    for i in range(2):
        one = imsim.issm_components(x[i], y[i], mask=mask, data_range=255)
        assert [part[i] for part in batch] == list(one)
    colour = [np.moveaxis(image, 0, -1) for image in (x, y)]
    parts = imsim.issm_components(*colour, mask=mask, data_range=255, channel_axis=-1)
    for left, right in zip(parts, batch, strict=True):
        assert left == right.mean()


def test_issm_rises_with_the_correlation_of_edges() -> None:
    """With the entropy and SSIM held, the formula is increasing in R."""
    x = texture(np.random.default_rng(8), (48, 48))
    H, _, S = imsim.issm_components(x, x, data_range=255)
    values = [(r * H * 0.8 + 0.01) / (0.3 * r * H + 0.5 * H + 0.7 * S + 0.01) for r in (0, 0.5, 1)]
    assert values[0] < values[1] < values[2]
    assert imsim.issm(x, x, data_range=255) == pytest.approx(values[2], rel=1e-12)


@given(SEEDS, st.integers(24, 40))
@example(0, 24)
def test_x10_issm_from_its_components(seed: int, side: int) -> None:
    a, b, mask = masked_pair(seed, side, side)
    mask[8:16, 8:16] = True  # room for at least one window of SSIM
    for m in (None, mask):
        parts = imsim.issm_components(a, b, mask=m, data_range=255)
        assert parts._fields == ("entropy", "edge_correlation", "ssim")
        H, R, S = parts
        assert pytest.approx(imsim.ssim(a, b, mask=m, data_range=255), abs=1e-15) == S
        want = (R * H * 0.8 + 0.01) / (0.3 * R * H + 0.5 * H + 0.7 * S + 0.01)
        got = imsim.issm(a, b, mask=m, data_range=255)
        assert got == pytest.approx(want, abs=CLOSE)
        inside = np.ones_like(mask) if m is None else m
        assert pytest.approx(joint_entropy(a[inside], b[inside]), abs=1e-10) == H
        assert -1 <= R <= 1


def joint_entropy(x: np.ndarray, y: np.ndarray) -> float:
    """Shannon entropy, in bits, of the joint histogram of 256 bins over [0, 255]."""
    counts, _, _ = np.histogram2d(x, y, bins=256, range=[[0, 255], [0, 255]])
    h = counts[counts > 0] / counts.sum()
    return float(-(h * np.log2(h)).sum())
