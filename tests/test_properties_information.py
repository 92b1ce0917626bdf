"""Properties of ISSM and SH."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sampling import HASHES, blob_mask, texture, textured_pair
from scipy.ndimage import binary_erosion
from skimage.feature import canny
from strategies import SEEDS, image, images, pairs, region

import imsim

each_hash = pytest.mark.parametrize("kind", HASHES)


def number_of_bits(kind: str, shape: tuple[int, ...], size: int) -> int:
    """Return the length of a whole signature."""
    return 8 * (shape[0] - 2) * (shape[1] - 2) if kind == "census" else size**2


# --- SH


@each_hash
@given(pairs(), st.integers(2, 12))
def test_steps_of_one_bit(kind: str, pair: tuple[np.ndarray, np.ndarray], size: int) -> None:
    x, y = pair
    distance = imsim.sh(x, y, hash=kind, hash_size=size)
    bits = distance * number_of_bits(kind, x.shape, size)
    assert bits == pytest.approx(round(bits), abs=1e-9)
    assert 0 <= distance <= 1


@each_hash
@given(pairs(), SEEDS)
def test_pseudometric(kind: str, pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    x, y = pair
    z = image("texture", seed, *x.shape)
    direct = imsim.sh(x, y, hash=kind)
    detour = imsim.sh(x, z, hash=kind) + imsim.sh(z, y, hash=kind)
    assert direct <= detour + 1e-12


@each_hash
@given(images(), st.sampled_from((0.25, 0.5, 2.0, 8.0)), st.integers(-64, 64))
@example(image("constant", 1, 16, 17), 2.0, 10)
def test_brightness_and_contrast_leave_the_signature(
    kind: str, x: np.ndarray, gain: float, offset: int
) -> None:
    x = np.floor(x)  # so that the arithmetic below is exact
    assert imsim.sh(x, gain * x + offset, hash=kind) == 0


@each_hash
@given(
    st.sampled_from(("ramp", "binary", "constant", "spike", "integers")),
    SEEDS,
    st.floats(0.1, 10),
    st.floats(-100, 100),
)
def test_equal_cells_stay_equal(
    kind: str, content: str, seed: int, gain: float, offset: float
) -> None:
    """Rounding of the brightness must not set bits where neighbouring cells are equal."""
    x = image(content, seed, 24, 21)
    y = gain * x + offset
    assert imsim.sh(x, y, hash=kind, mask=None) == 0


@each_hash
def test_unrelated_textures_differ_in_about_half_of_the_bits(kind: str) -> None:
    rng = np.random.default_rng(5)
    distances = [
        imsim.sh(texture(rng, (48, 48)), texture(rng, (48, 48)), hash=kind) for _ in range(20)
    ]
    assert 0.3 < np.mean(distances) < 0.7


@each_hash
def test_like_images_are_near(kind: str) -> None:
    x, y = textured_pair(np.random.default_rng(6), 64, 64, noise=2.0)
    assert imsim.sh(x, y, hash=kind) < 0.2 < imsim.sh(x, 255 - x, hash=kind)


def test_average_hash_by_hand() -> None:
    x, y = np.random.default_rng(0).uniform(0, 255, (2, 16, 24))
    cells = [z.reshape(4, 4, 4, 6).mean(axis=(1, 3)) for z in (x, y)]
    bits = [c > c.mean() for c in cells]
    want = (bits[0] != bits[1]).mean()
    assert imsim.sh(x, y, hash="average", hash_size=4) == pytest.approx(want, abs=1e-15)


def test_difference_hash_by_hand() -> None:
    x, y = np.random.default_rng(1).uniform(0, 255, (2, 16, 20))
    cells = [z.reshape(4, 4, 5, 4).mean(axis=(1, 3)) for z in (x, y)]
    bits = [c[:, 1:] > c[:, :-1] for c in cells]
    want = (bits[0] != bits[1]).mean()
    assert imsim.sh(x, y, hash="difference", hash_size=4) == pytest.approx(want, abs=1e-15)


def test_masked_average_hash_by_hand() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 255, (2, 16, 16))
    mask = rng.random((16, 16)) < 0.6
    mask[:4, :4] = mask[8:12, 4:8] = False  # cells without a pixel have no bit
    inside = mask.reshape(4, 4, 4, 4).sum(axis=(1, 3))
    some = inside > 0
    cells = [
        np.where(mask, z, 0).reshape(4, 4, 4, 4).sum(axis=(1, 3)) / np.maximum(inside, 1)
        for z in (x, y)
    ]
    bits = [c > c[some].mean() for c in cells]
    want = (bits[0] != bits[1])[some].mean()
    got = imsim.sh(x, y, mask=mask, hash="average", hash_size=4)
    assert got == pytest.approx(want, abs=1e-15)


@given(images(), SEEDS)
def test_census_is_turned_with_the_image(x: np.ndarray, seed: int) -> None:
    y = image("noise", seed, *x.shape)
    want = imsim.sh(x, y, hash="census")
    for turn in (np.transpose, np.flipud, np.fliplr):
        assert imsim.sh(turn(x), turn(y), hash="census") == pytest.approx(want, abs=1e-15)


# --- ISSM


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
        canny(z / 255, sigma=1, low_threshold=0.1, high_threshold=0.2, mask=mask) for z in (x, y)
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
