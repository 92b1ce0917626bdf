"""X-ray attenuation coefficients of the elements and of what is made of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

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

    with the tables of the elements interpolated by a cubic spline in log-log axes.

    Parameters
    ----------
    material : str
        A key of `MATERIALS`.
    energies : array_like
        Photon energies in keV, from 10 to 150.

    Returns
    -------
    numpy.ndarray of float64
        Coefficients in 1/mm, of the shape of `energies`.

    References
    ----------
    M. J. Berger et al., XCOM: Photon Cross Sections Database, NIST Standard Reference Database 8,
    https://doi.org/10.18434/T48G6X.

    Examples
    --------
    >>> from imsim.anomaly.simulate.attenuation import attenuation
    >>> attenuation("water", [60.0]).round(4)
    array([0.0206])
    """
    wanted = np.log(np.asarray(energies, dtype=np.float64))
    density, fractions = MATERIALS[material]
    total = np.zeros_like(wanted)
    for element, fraction in fractions.items():
        curve = CubicSpline(np.log(ENERGIES), np.log(ELEMENTS[element]))
        total += fraction * np.exp(curve(wanted))
    return density * total / 10.0  # 1/cm -> 1/mm
