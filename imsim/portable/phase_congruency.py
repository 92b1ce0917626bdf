"""Phase congruency through log-Gabor filters, as FSIM's authors compute it.

The method is Kovesi's phasecong2, with one ratio over all orientations and without a weight for the
spread of frequencies: Kovesi, P.: Image features from phase congruency. Videre 1(3), 1-26 (1999).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imsim.caches import kept
from imsim.portable.arrays import (
    array_namespace,
    as_image,
    complex_dtype,
    constant,
    minimum,
    ratio,
    root,
    to_widest_float,
    where_valid,
)
from imsim.typing import Array

SCALES = 4
ORIENTATIONS = 4
MIN_WAVELENGTH = 6
WAVELENGTH_FACTOR = 2
SIGMA_ON_F = 0.55
"""Bandwidth of the log-Gabor filters: the ratio of the Gaussian's sigma to the centre frequency."""
THETA_SIGMA = math.pi / ORIENTATIONS / 1.2
"""Standard deviation of the angular Gaussian, in radians."""
LOWPASS_CUTOFF = 0.45
LOWPASS_ORDER = 15
NOISE_DEVIATIONS = 2.0
"""k: standard deviations above the mean noise energy that count as noise."""
NOISE_SCALE = 1.7
"""Empirical rescaling of the noise threshold."""
EPSILON = 1e-4


class FilterBank(NamedTuple):
    """Log-Gabor filters for one size of the frame; a filter is a radial times an angular part."""

    radial: NDArray[np.float64]
    """Shape (scales, height, width)."""
    angular: NDArray[np.float64]
    """Shape (orientations, height, width)."""
    finest_power: tuple[float, ...]
    """Sum of the squares of the filter of the finest scale, by orientation."""
    sum_squares: tuple[float, ...]
    """Sum over scales and pixels of the squared filters in space, by orientation."""
    sum_products: tuple[float, ...]
    """Sum over pairs of scales and pixels of the products of filters in space, by orientation."""


def samples(n: int) -> int:
    """Return the divisor of n frequencies: n if n is even, else n - 1, as in the authors' code."""
    return n if n % 2 == 0 else max(n - 1, 1)


def _frequencies(n: int) -> NDArray[np.float64]:
    """Frequencies in the order of an FFT: zero first."""
    return np.fft.ifftshift(np.arange(-(n // 2), n - n // 2) / samples(n))


def log_gabor(radius: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Radial part of the filter of each scale; no filter passes the frequency 0, at [0, 0]."""
    radius[0, 0] = 1  # the logarithm of 0 would be infinite
    lowpass = 1 / (1 + (radius / LOWPASS_CUTOFF) ** (2 * LOWPASS_ORDER))
    parts = []
    for s in range(SCALES):
        centre = 1 / (MIN_WAVELENGTH * WAVELENGTH_FACTOR**s)
        part = np.exp(-(np.log(radius / centre) ** 2) / (2 * math.log(SIGMA_ON_F) ** 2)) * lowpass
        part[0, 0] = 0
        parts.append(part)
    return parts


@kept
def filter_bank(height: int, width: int) -> FilterBank:
    """Make the filters, in the order of frequencies of an FFT, and their noise constants."""
    fy, fx = _frequencies(height)[:, None], _frequencies(width)[None, :]
    radius = np.sqrt(fx**2 + fy**2)
    theta = np.arctan2(-fy, fx)
    radial = np.stack(log_gabor(radius))

    angles = [o * math.pi / ORIENTATIONS for o in range(ORIENTATIONS)]
    distance = [
        np.arctan2(
            np.sin(theta) * math.cos(t) - np.cos(theta) * math.sin(t),
            np.cos(theta) * math.cos(t) + np.sin(theta) * math.sin(t),
        )
        for t in angles
    ]
    angular = np.exp(-(np.stack(distance) ** 2) / (2 * THETA_SIGMA**2))

    # In space, the real part of a real filter is the transform of its even part. By Parseval's
    # theorem, sums of products over pixels equal sums over frequencies, which need no transform.
    finest, squares, products = [], [], []
    for spread in angular:
        filters = radial * spread
        mirrored = np.roll(filters[:, ::-1, ::-1], (1, 1), axis=(1, 2))
        even = ((filters + mirrored) / 2).reshape(SCALES, -1)
        gram = even @ even.T
        finest.append(float((filters[0] ** 2).sum()))
        squares.append(float(np.trace(gram)))
        products.append(float(np.triu(gram, 1).sum()))
    return FilterBank(radial, angular, tuple(finest), tuple(squares), tuple(products))


def median(values: Array, valid: Array | None) -> Array:
    """Median of the valid values of each image: the mean of the middle two if n is even."""
    xp = array_namespace(values)
    shape = (*values.shape[:-2], -1)
    ordered = xp.sort(xp.reshape(where_valid(valid, values, math.inf), shape), axis=-1)
    last = ordered.shape[-1] - 1
    if valid is None:
        return (ordered[..., last // 2] + ordered[..., last - last // 2]) / 2
    rank = xp.arange(last + 1)
    n = xp.sum(xp.astype(xp.reshape(valid, (*valid.shape[:-2], -1)), rank.dtype), axis=-1)
    zero = xp.zeros_like(ordered)
    lower = xp.sum(xp.where(rank == ((n - 1) // 2)[..., None], ordered, zero), axis=-1)
    upper = xp.sum(xp.where(rank == (n // 2)[..., None], ordered, zero), axis=-1)
    return (lower + upper) / 2


class Noise(NamedTuple):
    """The noise model of one orientation, in arrays of the batch shape."""

    median_energy: Array
    """Median squared amplitude of the finest scale."""
    power: Array
    """Noise power at that scale, from the median of a Rayleigh distribution."""
    threshold: Array
    """Energy that noise alone is expected to reach."""


def noise_model(
    median_energy: Array, finest_power: float, sum_squares: float, sum_products: float
) -> Noise:
    """Estimate the energy of noise from the median energy and the sums of a `FilterBank`."""
    power = -median_energy / math.log(0.5) / finest_power
    energy = power * (2 * sum_squares + 4 * sum_products)
    tau = root(energy / 2)
    mean = tau * math.sqrt(math.pi / 2)
    deviation = root((2 - math.pi / 2) * tau**2)
    return Noise(median_energy, power, (mean + NOISE_DEVIATIONS * deviation) / NOISE_SCALE)


def noise_threshold(finest: Array, valid: Array | None, bank: FilterBank, o: int) -> Noise:
    """Estimate the energy of noise from the squared amplitude at the finest scale."""
    sums = bank.finest_power[o], bank.sum_squares[o], bank.sum_products[o]
    return noise_model(to_widest_float(median(finest, valid)), *sums)


def add_energy(energy: Array, even: Array, odd: Array, mean_even: Array, mean_odd: Array) -> Array:
    """Add the part of a response in the mean phase, less the part at right angles to it."""
    return energy + (even * mean_even + odd * mean_odd) - abs(even * mean_odd - odd * mean_even)


def phase_congruency(image: Array, valid: Array | None, scale: float = 1.0) -> Array:
    """Phase congruency of each pixel, from 0 (none) to 1; 0 throughout a constant image.

    The image is multiplied by `scale`, which brings its data range to 255. Pixels that are not
    `valid` must have been filled; the noise is estimated from the valid ones.
    """
    xp = array_namespace(image)
    bank = filter_bank(*image.shape[-2:])
    radial = constant(bank.radial, image)
    # No filter passes the mean. Less its minimum, a constant image is exactly 0.
    centred = scale * (image - minimum(image, valid)[..., None, None])
    spectrum = xp.fft.fftn(xp.astype(centred, complex_dtype(image)), axes=(-2, -1))

    energy_all = amplitude_all = xp.zeros_like(image)
    for o in range(ORIENTATIONS):
        angular = constant(bank.angular[o], image)
        filters = [radial[s, ...] * angular for s in range(SCALES)]
        responses = [xp.fft.ifftn(spectrum * f, axes=(-2, -1)) for f in filters]
        even = [xp.real(r) for r in responses]
        odd = [xp.imag(r) for r in responses]
        powers = [e * e + d * d for e, d in zip(even, odd, strict=True)]
        sum_even, sum_odd = sum(even), sum(odd)
        length = root(sum_even * sum_even + sum_odd * sum_odd) + EPSILON
        mean_even, mean_odd = sum_even / length, sum_odd / length
        energy = xp.zeros_like(image)
        for e, d in zip(even, odd, strict=True):
            energy = add_energy(energy, e, d, mean_even, mean_odd)
        threshold = noise_threshold(powers[0], valid, bank, o).threshold
        energy = energy - as_image(threshold, image)
        energy_all = energy_all + where_valid(~(energy < 0), energy)
        amplitude_all = amplitude_all + sum(root(p) for p in powers)
    return ratio(energy_all, amplitude_all, 0.0)
