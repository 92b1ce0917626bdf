"""The inner terms of FSIM: luminance, gradients, filters, noise thresholds, congruency."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from golden_data import BY_ID, PAIRS, Pair

from imsim.portable.coarse import SCHARR, block_mean, gradient_magnitude
from imsim.portable.phase_congruency import (
    ORIENTATIONS,
    filter_bank,
    median,
    noise_threshold,
    phase_congruency,
)

# Sums of up to 5e5 terms of one sign: relative error of the order of the FFT's, n log n eps.
RELATIVE = 1e-12
FEATURES = [pair for pair in PAIRS if "fsim_pc_ref.rows" in pair.intermediates]
SIDES = ("ref", "dist")
each_feature = pytest.mark.parametrize(
    ("pair", "side"),
    [(pair, side) for pair in FEATURES for side in SIDES],
    ids=[f"{pair.id}-{side}" for pair in FEATURES for side in SIDES],
)


def is_small(pair: Pair) -> bool:
    """Whether its features take no time."""
    return pair.height * pair.width <= 20_000


@cache
def luminance(pair_id: str, side: str) -> np.ndarray:
    """Return Y on FSIM's own grid."""
    pair = BY_ID[pair_id]
    images = pair.grey601 if pair.is_rgb else pair.float64
    return block_mean(images[SIDES.index(side)], None, pair.downsample_factor, border="zero")[0]


@cache
def congruency(pair_id: str, side: str) -> np.ndarray:
    """Return the phase congruency of Y."""
    with np.errstate(invalid="ignore"):  # as the engine does: a constant image is 0/0
        return phase_congruency(luminance(pair_id, side), None)


def hold(pair: Pair, label: str, got: np.ndarray) -> None:
    """Compare shape, statistics and sampled pixels of an intermediate image."""
    known = pair.intermediates
    assert got.shape == (known[f"{label}.rows"], known[f"{label}.cols"])
    # Statistics and pixels of values up to 255 are compared relative to the largest one.
    scale = max(1.0, known[f"{label}.max"])
    for name, value in (
        ("mean", got.mean()),
        ("max", got.max()),
        ("min", got.min()),
        ("std_n", got.std()),
        ("sum", got.sum() / got.size),
    ):
        want = known[f"{label}.{name}"] / (got.size if name == "sum" else 1)
        assert abs(value - want) <= RELATIVE * scale, name
    pattern = re.compile(re.escape(label) + r"\[(\d+),(\d+)\]")
    pixels = {name: match for name in known if (match := pattern.fullmatch(name))}
    assert len(pixels) == 8
    for name, match in pixels.items():
        assert abs(got[int(match[1]), int(match[2])] - known[name]) <= RELATIVE * scale, name


@each_feature
def test_luminance_on_the_coarse_grid(pair: Pair, side: str) -> None:
    hold(pair, f"fsim_Y_{side}", luminance(pair.id, side))


@each_feature
def test_gradient(pair: Pair, side: str) -> None:
    hold(pair, f"fsim_grad_{side}", gradient_magnitude(luminance(pair.id, side), SCHARR))


@each_feature
def test_congruency(pair: Pair, side: str) -> None:
    hold(pair, f"fsim_pc_{side}", congruency(pair.id, side))


@each_feature
def test_noise_model(pair: Pair, side: str) -> None:
    image = luminance(pair.id, side)
    bank = filter_bank(*image.shape)
    spectrum = np.fft.fft2(image)
    for o in range(ORIENTATIONS):
        finest = np.abs(np.fft.ifft2(spectrum * bank.radial[0] * bank.angular[o])) ** 2
        noise = noise_threshold(finest, None, bank, o)
        for name, got in (
            ("EM_n", bank.finest_power[o]),
            ("sumEstSumAn2", bank.sum_squares[o]),
            ("sumEstSumAiAj", bank.sum_products[o]),
            ("medianE2n", noise.median_energy),
            ("noisePower", noise.power),
            ("T", noise.threshold),
        ):
            want = pair.intermediates[f"fsim_pc_{side}_noise.{name}[o={o}]"]
            # Where the median response is all but zero (a mostly flat frame), it consists of
            # the FFT's own rounding, relative to the largest response.
            floor = 1e-28 * finest.max() if name in {"medianE2n", "noisePower"} else 1e-14
            assert abs(got - want) <= RELATIVE * abs(want) + floor, f"{name}, orientation {o}"


@pytest.mark.parametrize(
    "pair",
    [
        # The values of the others are held by their FSIM as well.
        pytest.param(p, marks=() if p in FEATURES or is_small(p) else pytest.mark.thorough, id=p.id)
        for p in PAIRS
    ],
)
def test_statistics_of_every_pair(pair: Pair) -> None:
    ref, dist = (congruency(pair.id, side) for side in SIDES)
    known = pair.intermediates
    if np.isnan(known["fsim_pc_ref_mean"]):  # constant images: 0/0 there, no features here
        assert not ref.any()
        assert not dist.any()
        return
    assert abs(ref.mean() - known["fsim_pc_ref_mean"]) <= RELATIVE
    assert abs(dist.mean() - known["fsim_pc_dist_mean"]) <= RELATIVE
    assert abs(ref.max() - known["fsim_pc_ref_max"]) <= RELATIVE
    total = known["fsim_sum_pcm"]
    assert abs(np.maximum(ref, dist).sum() - total) <= RELATIVE * total


def test_median_is_the_mean_of_the_middle_two() -> None:
    values = np.array([[4.0, 1.0], [3.0, 9.0]])
    assert median(values, None) == 3.5
    assert median(values[:, :1], None) == 3.5
    assert median(values, np.array([[True, True], [True, False]])) == 3.0
    assert median(values, np.array([[True, True], [False, False]])) == 2.5
