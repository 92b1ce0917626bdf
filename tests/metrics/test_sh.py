"""SH: its kernel against its formula, and what its signatures promise."""

from __future__ import annotations

import math
from typing import Any

import agreement
import numpy as np
import pytest
from agreement import pair
from hypothesis import example, given
from hypothesis import strategies as st
from sampling import HASHES, texture, textured_pair
from strategies import SEEDS, image, images, masked_pair, pairs

import imsim

sides = st.integers(16, 40)
each_hash = pytest.mark.parametrize("kind", HASHES)
DTYPES = (np.uint8, np.uint16, np.int64, np.float32, np.float64)


def engines(*args: Any, **options: Any) -> tuple[Any, Any]:
    """Results of the formula and of the kernel."""
    return agreement.engines(imsim.sh, *args, **options)


@pytest.mark.filterwarnings("ignore::imsim.EmptyMaskWarning")
@pytest.mark.parametrize("frame", [(64, 64), (33, 47), (130, 101), (5, 6)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("hash", HASHES)
def test_engines_agree(rng: Any, hash: str, dtype: Any, frame: tuple[int, int]) -> None:
    """Exactly: signatures are bits, and ties are ties in both."""
    x, y = pair(rng, (2, *frame), dtype)
    block = np.zeros(frame, dtype=bool)
    block[frame[0] // 4 :, : frame[1] // 2 + 1] = True
    sparse = rng.random((3, 1, *frame)) < 0.1
    for hash_size in (8, 5):
        for mask in (None, block, sparse, np.ones(frame, dtype=bool)):
            want, got = engines(x, y, mask=mask, hash=hash, hash_size=hash_size)
            np.testing.assert_array_equal(got, want)
        want, got = engines(x[0], y, hash=hash, hash_size=hash_size)
        np.testing.assert_array_equal(got, want)
    flat = np.full(frame, 7.3).astype(dtype)
    assert engines(flat, flat + 1, hash=hash) == (0, 0)


@pytest.mark.parametrize("hash", HASHES)
def test_what_is_not_finite_counts_inside_the_mask_only(rng: Any, hash: str) -> None:
    x, y = pair(rng, (40, 40), np.float32)
    mask = np.ones((40, 40), dtype=bool)
    mask[7, 9] = False
    want = imsim.sh(x, y, mask=mask, hash=hash)
    for bad in (math.nan, math.inf, -math.inf):
        damaged = x.copy()
        damaged[7, 9] = bad
        assert math.isnan(imsim.sh(damaged, y, hash=hash))
        assert math.isnan(imsim.sh(y, damaged, mask=~mask | mask, hash=hash))
        assert imsim.sh(damaged, y, mask=mask, hash=hash) == want


@pytest.mark.parametrize("hash", HASHES)
def test_batches_equal_single_calls_for_every_worker_count(rng: Any, hash: str) -> None:
    x, y = pair(rng, (3, 700, 300), np.uint8)
    single = [imsim.sh(a, b, hash=hash) for a, b in zip(x, y, strict=True)]
    for workers in (1, 2, 3):
        with imsim.workers(workers):
            assert imsim.sh(x, y, hash=hash).tolist() == single
            assert imsim.sh(x[::1, :, ::-1], y[:, :, ::-1][:, :, ::1], hash=hash).shape == (3,)


def number_of_bits(kind: str, shape: tuple[int, ...], size: int) -> int:
    """Return the length of a whole signature."""
    return 8 * (shape[0] - 2) * (shape[1] - 2) if kind == "census" else size**2


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


def census(image: np.ndarray) -> np.ndarray:
    """Bits 'neighbour brighter than centre', shape (8, height - 2, width - 2)."""
    height, width = image.shape
    offsets = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    centre = image[1:-1, 1:-1]
    return np.stack([image[i : i + height - 2, j : j + width - 2] > centre for i, j in offsets])


@given(SEEDS, sides)
def test_x9_census_is_a_hamming_distance(seed: int, side: int) -> None:
    a, b, mask = masked_pair(seed, side, side + 2)
    p, q = census(a), census(b)
    assert imsim.sh(a, b, hash="census") == pytest.approx((p != q).mean(), abs=1e-15)
    # A bit exists where both its pixels lie inside the mask.
    exists = np.stack([c > 0 for c in census_mask(mask)])
    want = ((p != q) & exists).sum() / exists.sum()
    assert imsim.sh(a, b, mask=mask, hash="census") == pytest.approx(want, abs=1e-15)


def census_mask(mask: np.ndarray) -> np.ndarray:
    """Where both the neighbour and the centre lie inside."""
    height, width = mask.shape
    offsets = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    centre = mask[1:-1, 1:-1]
    return np.stack([mask[i : i + height - 2, j : j + width - 2] & centre for i, j in offsets])
