"""The kernels of ISSM against its histogram."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from distant import KINDS, distant_pair
from skimage.feature import canny as reference

import imsim
from imsim.kernels.common import canny
from imsim.portable import joint_histogram as histogram


def engines(function: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
    """Results of the formula and of the kernel."""
    found = []
    for engine in ("portable", "fast"):
        imsim.set_engine(engine)  # type: ignore[arg-type]
        try:
            found.append(function(*args, **{"data_range": 255, **options}))
        finally:
            imsim.set_engine("auto")
    return found[0], found[1]


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
    for mask in (None, block, np.ones(frame, dtype=bool), rng.random((3, 1, *frame)) < 0.9):
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
    monkeypatch.setattr(canny, "STRIP", 1)
    for shape in ((150, 31), (7, 90), (1, 5), (3, 3), (97, 97)):
        empty = rng.random(shape) < 0.97
        empty[shape[0] // 3 : shape[0] // 2 + 1] = False
        winding = np.cumsum(rng.normal(0, 0.2, shape), axis=1)
        for image in (rng.random(shape), plateaus(rng, shape), winding, rng.random(shape) < 0.3):
            for mask in (None, empty):
                for low, high in ((0.1, 0.2), (0.0, 0.1), (0.05, 0.05)):
                    options = {"sigma": sigma, "low_threshold": low, "high_threshold": high}
                    want = reference(np.asarray(image, float) / 0.7, mask=mask, **options)
                    got = np.empty(shape, dtype=np.uint8)
                    for rows in canny.strips(*shape, sigma):
                        canny.find_strengths(image, mask, rows, got, data_range=0.7, **options)
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
