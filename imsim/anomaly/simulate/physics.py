"""From path lengths to raw counts: attenuation, tube, scatter, blur, photon noise, detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from imsim.caches import kept
from imsim.validation import LARGEST, check_integer, check_number

FIELD = 112.0  # mm: width and height of the imaged field in the plane of the item
OPEN_COUNTS = 45_000.0  # mean counts of the open beam above the dark level, of 65 535
FRAMES = 64  # frames averaged into the flat and the dark field
SCATTER_REACH = 14.0  # mm: standard deviation of the scatter kernel
BLOCK_PIXELS = 512 * 512  # of one piece of work, which holds all energies of a pixel
LOWEST = 12.0  # keV: what the tube's window and the belt let through

Floats = npt.NDArray[np.float32]

# Total mass attenuation coefficients, cm^2/g, at the energies of the NIST tables:
# J. H. Hubbell and S. M. Seltzer, Tables of X-ray mass attenuation coefficients and mass
# energy-absorption coefficients, NISTIR 5632 / NIST Standard Reference Database 126,
# https://doi.org/10.18434/T4D01F; the same cross-sections as XCOM, https://doi.org/10.18434/T48G6X.
# No absorption edge of these elements lies in the range. The entries are the tables' four digits;
# the spline between them is within 0.3 % of denser tables from 12 to 150 keV. The compositions
# below are good to a few per cent, which is what limits the coefficients of the materials.
ENERGIES = np.array([10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0])  # keV
# fmt: off
ELEMENTS: dict[str, tuple[float, ...]] = {
    "H": (0.3854, 0.3764, 0.3695, 0.3570, 0.3458, 0.3355, 0.3260, 0.3091, 0.2944, 0.2651),
    "C": (2.373, 0.8071, 0.4420, 0.2562, 0.2076, 0.1871, 0.1753, 0.1610, 0.1514, 0.1347),
    "N": (3.879, 1.236, 0.6178, 0.3066, 0.2288, 0.1980, 0.1817, 0.1639, 0.1529, 0.1353),
    "O": (5.952, 1.836, 0.8651, 0.3779, 0.2585, 0.2132, 0.1907, 0.1678, 0.1551, 0.1361),
    "Na": (15.57, 4.694, 2.057, 0.7197, 0.3969, 0.2804, 0.2268, 0.1796, 0.1585, 0.1335),
    "Mg": (21.05, 6.358, 2.763, 0.9306, 0.4881, 0.3292, 0.2570, 0.1951, 0.1686, 0.1394),
    "Al": (26.23, 7.955, 3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378),
    "Si": (33.89, 10.34, 4.464, 1.436, 0.7012, 0.4385, 0.3207, 0.2228, 0.1835, 0.1448),
    "P": (40.35, 12.39, 5.352, 1.700, 0.8096, 0.4916, 0.3494, 0.2324, 0.1865, 0.1432),
    "Cl": (57.25, 17.84, 7.739, 2.425, 1.117, 0.6483, 0.4395, 0.2696, 0.2050, 0.1480),
    "K": (79.07, 25.03, 10.93, 3.413, 1.541, 0.8679, 0.5678, 0.3251, 0.2345, 0.1582),
    "Ca": (93.41, 29.79, 13.06, 4.080, 1.830, 1.019, 0.6578, 0.3656, 0.2571, 0.1674),
    "Fe": (170.6, 57.08, 25.68, 8.176, 3.629, 1.958, 1.205, 0.5952, 0.3717, 0.1964),
}
# fmt: on


class Material(NamedTuple):
    """A substance: its density in g/cm^3 and the mass fractions of its elements."""

    density: float
    fractions: dict[str, float]


# Mass fractions follow from the formula (water, silica, PVC), from ICRU Report 44 (cortical bone)
# or from typical compositions: potato of 79 % water, 20 % starch and 0.4 % potassium; milk
# chocolate of half sugar, a third fat; soda-lime glass; the stone is half quartz, half calcite.
MATERIALS = {
    "air": Material(0.0012, {"N": 0.768, "O": 0.232}),
    "water": Material(1.0, {"H": 0.1119, "O": 0.8881}),
    "potato": Material(1.08, {"H": 0.101, "C": 0.093, "N": 0.003, "O": 0.799, "K": 0.004}),
    "chocolate": Material(
        1.3, {"H": 0.084, "C": 0.549, "N": 0.011, "O": 0.349, "P": 0.002, "K": 0.004, "Ca": 0.001}
    ),
    "aluminium": Material(2.70, {"Al": 1.0}),
    "steel": Material(7.87, {"Fe": 1.0}),
    "stone": Material(2.65, {"C": 0.060, "O": 0.506, "Si": 0.234, "Ca": 0.200}),
    "glass": Material(2.50, {"O": 0.464, "Na": 0.100, "Mg": 0.024, "Si": 0.341, "Ca": 0.071}),
    "bone": Material(
        1.92,
        {"H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103,
         "Ca": 0.228},
    ),
    "pvc": Material(1.40, {"H": 0.0484, "C": 0.3844, "Cl": 0.5672}),
}  # fmt: skip


def attenuation(material: str, energies: npt.ArrayLike) -> npt.NDArray[np.float64]:
    r"""Linear attenuation coefficient of a material.

    .. math:: \mu(E) = \rho \sum_i w_i\, (\mu/\rho)_i(E)

    with the tables of the elements interpolated by a cubic spline in log-log axes; in 1/mm, at
    energies from 10 to 150 keV.
    """
    from scipy.interpolate import CubicSpline  # slow to import

    wanted = np.log(np.asarray(energies, dtype=np.float64))
    density, fractions = MATERIALS[material]
    total = np.zeros_like(wanted)
    for element, fraction in fractions.items():
        curve = CubicSpline(np.log(ENERGIES), np.log(ELEMENTS[element]))
        total += fraction * np.exp(curve(wanted))
    return density * total / 10.0  # 1/cm -> 1/mm


def _check(owner: object, **limits: tuple[float, float]) -> None:
    for name, (low, high) in limits.items():
        check_number(name, getattr(owner, name), low, min(float(high), LARGEST))


@dataclass(frozen=True)
class Beam:
    r"""X-ray tube and scatter.

    The photon spectrum is Kramers' :math:`N(E) \propto U / E - 1` from 12 keV on, behind aluminium
    and without the characteristic lines of the anode. Its bins are weighted with their energy, as
    an energy-integrating detector does, so that beam hardening emerges from the sum
    :math:`\sum_k w_k \exp(-\mu(E_k)\, t)`.

    Parameters
    ----------
    kvp : float
        Tube voltage in kV, 20 to 150.
    filtration : float
        Aluminium filter in mm, 0 to 50.
    bins : int
        Energy bins, 1 to 200; 1 is a monoenergetic beam at the mean energy of the spectrum.
    scatter : float
        Strength of the scatter, 0 to 2: added to the primary transmission :math:`P` is this times
        :math:`-P \ln P` (what interacts on the way and still gets out), blurred by a Gaussian of
        14 mm.

    Raises
    ------
    OptionError
        For values outside these ranges.

    References
    ----------
    H. A. Kramers, On the theory of X-ray absorption and of the continuous X-ray spectrum,
    Philosophical Magazine 46 (1923) 836-871, https://doi.org/10.1080/14786442308565244.

    Examples
    --------
    >>> from imsim.anomaly import simulate
    >>> energies, shares = simulate.Beam(kvp=60, bins=4).spectrum()
    >>> energies.round(1), shares.round(2)
    (array([21.4, 30.2, 41.3, 51.9]), array([0.11, 0.45, 0.34, 0.1 ]))
    """

    kvp: float = 70.0
    filtration: float = 3.0
    bins: int = 16
    scatter: float = 0.2

    def __post_init__(self) -> None:
        _check(self, kvp=(20, ENERGIES[-1]), filtration=(0, 50), bins=(1, 200), scatter=(0, 2))
        check_integer("bins", self.bins)

    def spectrum(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the mean energies of the bins in keV and their shares of the photons."""
        return _spectrum(self)


@kept
def _spectrum(beam: Beam) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    edges = np.linspace(LOWEST, beam.kvp, 40 * beam.bins + 1)
    fine = (edges[1:] + edges[:-1]) / 2
    photons = (beam.kvp / fine - 1) * np.exp(-attenuation("aluminium", fine) * beam.filtration)
    photons = photons.reshape(beam.bins, -1)
    shares = photons.sum(axis=1)
    energies = (photons * fine.reshape(beam.bins, -1)).sum(axis=1) / shares
    return energies, shares / shares.sum()


@dataclass(frozen=True)
class Detector:
    """Energy-integrating detector of 16 bits.

    Parameters
    ----------
    photons : float
        Detected photons per pixel in the open beam, 1 to 1e9.
    blur : float
        Focal spot and detector together: standard deviation of the blur in mm, 0 to 10.
    gain_spread : float
        Relative standard deviation of the pixels' gains, and again from column to column, 0 to
        0.05.
    shading : float
        Relative fall of the open beam from the first row to the last, 0 to 0.2.
    dark_level : float
        Mean dark signal in counts, 0 to 5000; its pattern has a standard deviation of 5 %.
    read_noise : float
        Standard deviation in counts, 0 to 1000; the open beam has 45 000.

    Raises
    ------
    OptionError
        For values outside these ranges.

    Examples
    --------
    >>> from imsim.anomaly import simulate
    >>> dim = simulate.Detector(photons=5000)
    >>> simulate.potatoes(1, detector=dim).images.shape
    (1, 128, 128)
    """

    photons: float = 30_000.0
    blur: float = 0.45
    gain_spread: float = 0.02
    shading: float = 0.1
    dark_level: float = 400.0
    read_noise: float = 8.0

    def __post_init__(self) -> None:
        _check(self, photons=(1, 1e9), blur=(0, 10), gain_spread=(0, 0.05), shading=(0, 0.2))
        _check(self, dark_level=(0, 5000), read_noise=(0, 1000))


class Fields(NamedTuple):
    """The true properties of a detector, and its measured flat and dark field."""

    gain: Floats
    offset: Floats
    flat: Floats
    dark: Floats


class Foreign(NamedTuple):
    """A foreign body or a void: its path length in mm on the subpixels of a box of pixels."""

    material: str
    box: tuple[slice, slice]
    thickness: Floats


class Exposure(NamedTuple):
    """Noise-free signals as fractions of the open beam, without and with the foreign body."""

    clean: Floats
    signal: Floats
    quantum: Floats  # variance of the clean signal over its mean, times the photons of the beam


def expose(
    thickness: Floats, material: str, foreign: Foreign | None, beam: Beam, detector: Detector
) -> Exposure:
    """Shine through path lengths in mm, and through a foreign body that displaces the item."""
    energies, shares = beam.spectrum()
    open_beam = shares @ energies
    mu = attenuation(material, energies).astype(np.float32)
    weights = (shares * energies / open_beam).astype(np.float32)
    moments = np.stack([weights, weights * energies.astype(np.float32)])
    primary, second_moment = np.empty((2, *thickness.shape), np.float32)
    step = max(1, BLOCK_PIXELS // thickness.shape[1])
    for start in range(0, len(thickness), step):
        rows_here = slice(start, start + step)
        # einsum rather than matrix products: threads of a BLAS cost more than they give here.
        primary[rows_here], second_moment[rows_here] = np.einsum(
            "wk,kij->wij", moments, np.exp(-mu[:, None, None] * thickness[rows_here])
        )
    quantum = second_moment / primary / np.float32(open_beam)
    # What a small body changes in the scatter is far below the noise.
    clean = _blur(primary, detector.blur) + beam.scatter * _scatter(primary)
    if foreign is None:
        return Exposure(clean, clean, quantum)
    change = np.zeros_like(primary)
    rows, columns = change[foreign.box].shape
    times = foreign.thickness.shape[0] // rows
    local = thickness[foreign.box].repeat(times, axis=0).repeat(times, axis=1)
    extra = attenuation(foreign.material, energies).astype(np.float32)[:, None, None]
    extra = extra * foreign.thickness - mu[:, None, None] * np.minimum(foreign.thickness, local)
    factor = (np.exp(-extra) - 1).reshape(-1, rows, times, columns, times)
    through = np.exp(-mu[:, None, None] * thickness[foreign.box])
    lost = through * factor.mean(axis=(2, 4))
    change[foreign.box] = np.einsum("k,kij->ij", weights, lost)
    return Exposure(clean, clean + _blur(change, detector.blur), quantum)


def _blur(image: Floats, deviation: float) -> Floats:
    """Blur by a Gaussian of this standard deviation in mm, cut off at 4 deviations."""
    sigma = deviation / FIELD * image.shape[0]
    blurred: Floats = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=4.0)
    return blurred


def _scatter(primary: Floats) -> Floats:
    """Blur what interacts and gets out; beyond the border the field goes on as its mirror image."""
    spectrum = fft.dctn(-primary * np.log(primary), norm="ortho")
    frequency = np.arange(primary.shape[0]) * (np.pi * SCATTER_REACH / FIELD)
    kernel = np.exp(-0.5 * frequency**2).astype(np.float32)
    scattered: Floats = fft.idctn(spectrum * kernel[:, None] * kernel, norm="ortho")
    return scattered


def make_fields(
    beam: Beam, detector: Detector, size: int, generator: np.random.Generator
) -> Fields:
    """Draw a detector's gain and dark pattern, and measure its flat and its dark field."""
    shape = (size, size)
    gain = 1 + detector.shading * np.linspace(0.5, -0.5, size)[:, None]
    gain = gain * (1 + detector.gain_spread * generator.standard_normal(shape))
    gain = gain * (1 + detector.gain_spread * generator.standard_normal((1, size)))
    gain = np.clip(gain, 0.65, 1.35)  # the open beam never saturates
    offset = detector.dark_level * (1 + 0.05 * generator.standard_normal(shape))
    offset = np.maximum(offset, 0)
    energies, shares = beam.spectrum()
    photons = FRAMES * detector.photons * (shares @ energies) ** 2 / (shares @ energies**2)
    frame = OPEN_COUNTS * gain * (generator.poisson(photons, shape) / photons)
    noise = detector.read_noise / np.sqrt(FRAMES) * generator.standard_normal((2, *shape))
    return Fields(
        gain.astype(np.float32),
        offset.astype(np.float32),
        (offset + frame + noise[0]).astype(np.float32),
        (offset + noise[1]).astype(np.float32),
    )


def count(
    exposure: Exposure,
    fields: Fields,
    detector: Detector,
    noise: np.random.Generator,
    rest: np.random.Generator,
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Raw counts of an exposure and of its clean twin, with one noise realisation for both.

    A compound Poisson signal is drawn as a scaled Poisson number of the same mean and variance. A
    body takes each photon of the twin away with its probability (thinning), and a void adds the
    missing ones: both are Poisson, and equal wherever the expected signals are.
    """
    scale = np.float32(detector.photons) / exposure.quantum
    clean = noise.poisson(exposure.clean * scale)
    ratio = exposure.signal / exposure.clean
    photons = clean.copy()
    darker, lighter = ratio < 1, ratio > 1
    photons[darker] = rest.binomial(clean[darker], np.maximum(ratio[darker], 0))
    photons[lighter] += rest.poisson(((exposure.signal - exposure.clean) * scale)[lighter])
    base = fields.offset + detector.read_noise * noise.standard_normal(clean.shape)
    gain = OPEN_COUNTS * fields.gain / scale

    def digitise(number: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        return np.clip(np.rint(gain * number + base), 0, 65_535).astype(np.uint16)

    return digitise(photons), digitise(clean)


def contrast_to_noise(exposure: Exposure, fields: Fields, detector: Detector) -> float:
    """Greatest contrast of a pixel, in standard deviations of its noise in the clean twin."""
    photons = exposure.clean * exposure.quantum / detector.photons
    read = detector.read_noise / (OPEN_COUNTS * fields.gain)
    ratio = np.abs(exposure.signal - exposure.clean) / np.sqrt(photons + read**2)
    return float(ratio.max())
