"""The physics of the X-ray generator against formulas and published values."""

from __future__ import annotations

import numpy as np
import pytest

import imsim
from imsim.anomaly.simulate import Beam, Detector
from imsim.anomaly.simulate.items import DEFECTS
from imsim.anomaly.simulate.physics import (
    ENERGIES,
    MATERIALS,
    OPEN_COUNTS,
    Exposure,
    Fields,
    attenuation,
    count,
    expose,
    make_fields,
)

MONOCHROMATIC = Beam(bins=1, scatter=0.0)
SHARP = Detector(blur=0.0)


def steps(size: int = 64) -> np.ndarray:
    """Slabs of 0 to 60 mm."""
    return np.broadcast_to(np.linspace(0, 60, size, dtype=np.float32), (size, size))


def ideal(size: int) -> Fields:
    """A detector without patterns, well above zero counts."""
    same = np.ones((size, size), np.float32)
    return Fields(same, 500 * same, (500 + np.float32(OPEN_COUNTS)) * same, 500 * same)


# --- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("material", "energy", "published", "tolerance"),
    [
        # The compound's own rows of NISTIR 5632 (table 4); they are rounded to four digits.
        ("water", 15, 1.673, 1e-3),
        ("water", 30, 0.3756, 1e-3),
        ("water", 60, 0.2059, 1e-3),
        ("water", 100, 0.1707, 1e-3),
        # ICRU-44 cortical bone has 0.3 % sulphur, which is counted as calcium here.
        ("bone", 20, 4.001, 1e-2),
        ("bone", 60, 0.3148, 1e-2),
        ("bone", 100, 0.1855, 1e-2),
    ],
)
def test_attenuation_of_compounds(
    material: str, energy: float, published: float, tolerance: float
) -> None:
    coefficient = attenuation(material, energy) * 10 / MATERIALS[material].density  # cm^2/g
    np.testing.assert_allclose(coefficient, published, rtol=tolerance)


@pytest.mark.parametrize("material", MATERIALS)
def test_materials_are_whole_and_attenuation_falls_with_energy(material: str) -> None:
    np.testing.assert_allclose(sum(MATERIALS[material].fractions.values()), 1, atol=1e-9)
    assert (np.diff(attenuation(material, np.linspace(ENERGIES[0], ENERGIES[-1], 200))) < 0).all()


# --- the beam ------------------------------------------------------------------------------------


def test_spectrum_ends_at_the_tube_voltage_and_filters_harden_it() -> None:
    means = []
    for filtration in (0.0, 1.0, 5.0):
        energies, shares = Beam(kvp=80, filtration=filtration).spectrum()
        assert energies.min() > 12
        assert energies.max() < 80
        assert (shares > 0).all()
        np.testing.assert_allclose(shares.sum(), 1)
        means.append(energies @ shares)
    assert means[0] < means[1] < means[2]


def test_one_energy_obeys_beer_and_lambert() -> None:
    exposure = expose(steps(), "water", None, MONOCHROMATIC, SHARP)
    (energy,), _ = MONOCHROMATIC.spectrum()
    expected = np.exp(-attenuation("water", energy) * steps().astype(np.float64))
    # float32: the exponent of up to 2 carries 1e-7 of relative error, and so on.
    np.testing.assert_allclose(exposure.clean, expected, rtol=2e-6)


def test_the_beam_hardens() -> None:
    exposure = expose(steps(), "water", None, Beam(scatter=0.0), SHARP)
    effective = -np.log(exposure.clean[0, 1:].astype(np.float64)) / steps()[0, 1:]
    assert (np.diff(effective) < 0).all()
    assert effective[-1] < 0.93 * effective[0]
    # A thin layer sees the mean coefficient over what the detector weighs; the next term of the
    # expansion is of the order of its 2 %.
    energies, shares = Beam().spectrum()
    weights = shares * energies
    mean = weights @ attenuation("water", energies) / weights.sum()
    np.testing.assert_allclose(effective[0], mean, rtol=0.01)


def test_many_bins_have_converged() -> None:
    few, many = (
        expose(steps(), "water", None, Beam(bins=bins, scatter=0.0), SHARP).clean
        for bins in (16, 160)
    )
    np.testing.assert_allclose(few, many, rtol=2e-3)  # a fifth of the noise of a pixel


def test_scatter_fills_the_shadow_and_leaves_an_empty_frame_alone() -> None:
    disc = np.where(np.hypot(*np.ogrid[-32:32, -32:32]) < 16, 40, 0).astype(np.float32)
    without, with_scatter = (
        expose(disc, "potato", None, Beam(scatter=scatter), SHARP).clean for scatter in (0.0, 0.2)
    )
    assert (with_scatter > without).all()
    assert with_scatter[32, 32] > 1.05 * without[32, 32]
    empty = expose(np.zeros_like(disc), "potato", None, Beam(scatter=0.2), Detector())
    np.testing.assert_allclose(empty.clean, 1, atol=1e-6)  # float32


def test_blur_keeps_the_light() -> None:
    disc = np.where(np.hypot(*np.ogrid[-32:32, -32:32]) < 16, 40, 0).astype(np.float32)
    sharp, blurred = (
        expose(disc, "potato", None, Beam(scatter=0.0), Detector(blur=blur)).clean
        for blur in (0.0, 3.0)
    )
    np.testing.assert_allclose(blurred.sum(), sharp.sum(), rtol=1e-5)  # float32 sums
    assert np.abs(np.diff(blurred, axis=1)).max() < 0.5 * np.abs(np.diff(sharp, axis=1)).max()


# --- the detector --------------------------------------------------------------------------------


@pytest.mark.parametrize("thickness", [0.0, 20.0, 60.0])
def test_noise_is_compound_poisson(thickness: float) -> None:
    """Variance and mean of the counts from the photons of every energy, added up one by one."""
    size = 512
    beam, detector = Beam(scatter=0.0), Detector(photons=2000, read_noise=20)
    exposure = expose(np.full((size, size), thickness, np.float32), "water", None, beam, detector)
    counts, _ = count(
        exposure, ideal(size), detector, np.random.default_rng(1), np.random.default_rng(2)
    )
    energies, shares = beam.spectrum()
    photons = 2000 * shares * np.exp(-attenuation("water", energies) * thickness)
    per_energy = OPEN_COUNTS / (2000 * shares @ energies)
    mean = per_energy * (photons @ energies) + 500
    variance = per_energy**2 * (photons @ energies**2) + 20**2
    # 262 144 pixels: standard errors of 0.28 % of the variance and 0.002 of a standard deviation.
    np.testing.assert_allclose(counts.mean(), mean, atol=0.01 * np.sqrt(variance))
    np.testing.assert_allclose(counts.var(), variance, rtol=0.014)


@pytest.mark.parametrize("ratio", [0.3, 0.9, 1.0, 1.1, 2.0])
def test_twins_share_photons_and_both_are_poisson(ratio: float) -> None:
    size, photons = 256, 400.0
    level = np.full((size, size), 0.4, np.float32)
    exposure = Exposure(level, ratio * level, np.ones_like(level))
    detector = Detector(photons=photons, read_noise=0)
    bad, clean = (
        (counts - 500.0) * (photons / OPEN_COUNTS)  # photons again
        for counts in count(
            exposure, ideal(size), detector, np.random.default_rng(1), np.random.default_rng(2)
        )
    )
    # 65 536 pixels: standard error 0.55 % of a variance; rounding to counts adds 1e-5 of it.
    for numbers, mean in ((bad, 0.4 * ratio * photons), (clean, 0.4 * photons)):
        np.testing.assert_allclose(numbers.mean(), mean, rtol=2e-3)
        np.testing.assert_allclose(numbers.var(), mean, rtol=0.025)
    # What they do not share is as little as can be: |difference of the means| in variance.
    shared = max(abs(1 - ratio) * 0.4 * photons, 1e-9)
    if ratio == 1:
        assert (bad == clean).all()
    elif ratio > 1:
        np.testing.assert_allclose((bad - clean).var(), shared, rtol=0.025)
        assert (bad >= clean).all()
    else:
        assert (bad <= clean).all()


def test_flat_and_dark_field_flatten_an_empty_frame() -> None:
    beam, detector = Beam(), Detector()
    fields = make_fields(beam, detector, 128, np.random.default_rng(0))
    empty = expose(np.zeros((128, 128), np.float32), "potato", None, beam, detector)
    raw, _ = count(empty, fields, detector, np.random.default_rng(1), np.random.default_rng(2))
    corrected = (raw - fields.dark) / (fields.flat - fields.dark)
    raw_spread = ((raw - fields.dark) / OPEN_COUNTS).std()
    noise = np.sqrt(empty.quantum.mean() / detector.photons)
    assert raw_spread > 3 * noise  # there is a pattern to take away
    np.testing.assert_allclose(corrected.mean(), 1, atol=1e-3)
    # The average of 64 frames adds 1/64 of the variance; the standard error is 0.6 %.
    np.testing.assert_allclose(corrected.std(), noise * np.sqrt(1 + 1 / 64), rtol=0.03)
    # 16 384 pixels: the correlation of independent patterns has a standard error of 0.008.
    assert abs(np.corrcoef(corrected.ravel(), fields.gain.ravel())[0, 1]) < 0.04


@pytest.mark.parametrize("kind", DEFECTS)
def test_no_defect_leaves_its_reach(kind: str) -> None:
    """The box that `place` cuts out holds the whole defect."""
    axis = np.linspace(-30, 30, 301)
    along, across = np.meshgrid(axis, axis)
    defect = DEFECTS[kind]
    for seed in range(20):
        for scale in (0.3, 1.0):
            path = defect.path(scale, np.random.default_rng(seed), along, across)
            assert np.isfinite(path).all()
            assert (path >= 0).all()
            assert path.max() > 0
            assert not path[np.hypot(along, across) > defect.reach * scale].any()


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (Beam, {"kvp": 10}),
        (Beam, {"kvp": 300.0}),
        (Beam, {"kvp": "70"}),
        (Beam, {"bins": 0}),
        (Beam, {"bins": 2.5}),
        (Beam, {"bins": True}),
        (Beam, {"filtration": -1}),
        (Beam, {"scatter": float("nan")}),
        (Detector, {"photons": 0}),
        (Detector, {"photons": float("inf")}),
        (Detector, {"blur": -0.1}),
        (Detector, {"gain_spread": 0.5}),
        (Detector, {"shading": 0.5}),
        (Detector, {"dark_level": -1}),
        (Detector, {"read_noise": None}),
    ],
)
def test_physics_out_of_range(make: type, options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(imsim.OptionError, match=f"{name}="):
        make(**options)
