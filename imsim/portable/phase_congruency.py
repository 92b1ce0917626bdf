"""Phase congruency through log-Gabor filters, as FSIM's authors compute it.

The method is Kovesi's phasecong2, with one ratio over all orientations and without a weight for the
spread of frequencies: Kovesi, P.: Image features from phase congruency. Videre 1(3), 1-26 (1999).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from imsim.caches import kept
from imsim.errors import ImsimError
from imsim.portable.arrays import (
    array_namespace,
    as_image,
    complex_dtype,
    constant,
    device,
    is_compiling,
    minimum,
    ratio,
    root,
    to_widest_float,
    where_valid,
)
from imsim.portable.units import ALL, SQUARES, scaling_unit
from imsim.typing import Array

SCALES = 4
ORIENTATIONS = 4
MIN_WAVELENGTH = 6
"""Wavelength of the filter of the finest scale, in pixels."""
WAVELENGTH_FACTOR = 2
SIGMA_ON_F = 0.55
"""Bandwidth of the log-Gabor filters: the ratio of the Gaussian's sigma to the centre frequency."""
THETA_SIGMA = math.pi / ORIENTATIONS / 1.2
"""Standard deviation of the angular Gaussian, in radians."""
LOWPASS_CUTOFF = 0.45
"""Of the Butterworth filter, in cycles per pixel."""
LOWPASS_ORDER = 15
NOISE_DEVIATIONS = 2.0
"""k: standard deviations above the mean noise energy that count as noise."""
NOISE_SCALE = 1.7
"""Empirical rescaling of the noise threshold."""
EPSILON = 1e-4
"""Added to the length of the mean phase vector, which may be 0."""


class FilterBank(NamedTuple):
    """Log-Gabor filters for one size of the frame; a filter is a radial times an angular part."""

    radial: Array
    """Shape (scales, height, width)."""
    angular: Array
    """Shape (orientations, height, width)."""
    finest_power: tuple[Any, ...]
    """Sum of the squares of the filter of the finest scale, by orientation."""
    sum_squares: tuple[Any, ...]
    """Sum over scales and pixels of the squared filters in space, by orientation."""
    sum_products: tuple[Any, ...]
    """Sum over pairs of scales and pixels of the products of filters in space, by orientation."""


def samples(n: int) -> int:
    """Return the divisor of n frequencies: n if n is even, else n - 1, as in the authors' code."""
    return n if n % 2 == 0 else max(n - 1, 1)


def _frequencies(n: int, xp: Any, **kind: Any) -> Array:
    """Frequencies in the order of an FFT: zero first."""
    return xp.fft.ifftshift(xp.arange(-(n // 2), n - n // 2, **kind) / samples(n))


def log_gabor(radius: Array, xp: Any = np) -> list[Array]:
    """Radial part of the filter of each scale; no filter passes the frequency 0, at [0, 0]."""
    radius[0, 0] = 1  # the logarithm of 0 would be infinite
    lowpass = 1 / (1 + (radius / LOWPASS_CUTOFF) ** (2 * LOWPASS_ORDER))
    parts = []
    for s in range(SCALES):
        centre = 1 / (MIN_WAVELENGTH * WAVELENGTH_FACTOR**s)
        part = xp.exp(-(xp.log(radius / centre) ** 2) / (2 * math.log(SIGMA_ON_F) ** 2)) * lowpass
        part[0, 0] = 0
        parts.append(part)
    return parts


def _filters(height: int, width: int, xp: Any, **kind: Any) -> FilterBank:
    """Make the filters; their sums are arrays without axes."""
    fy, fx = _frequencies(height, xp, **kind)[:, None], _frequencies(width, xp, **kind)[None, :]
    radius = xp.sqrt(fx**2 + fy**2)
    theta = xp.atan2(-fy, fx)
    radial = xp.stack(log_gabor(radius, xp))

    angles = [o * math.pi / ORIENTATIONS for o in range(ORIENTATIONS)]
    distance = [
        xp.atan2(
            xp.sin(theta) * math.cos(t) - xp.cos(theta) * math.sin(t),
            xp.cos(theta) * math.cos(t) + xp.sin(theta) * math.sin(t),
        )
        for t in angles
    ]
    angular = xp.exp(-(xp.stack(distance) ** 2) / (2 * THETA_SIGMA**2))

    # In space, the real part of a real filter is the transform of its even part. By Parseval's
    # theorem, sums of products over pixels equal sums over frequencies, which need no transform.
    finest, squares, products = [], [], []
    for o in range(ORIENTATIONS):
        filters = radial * angular[o, ...]
        mirrored = xp.roll(xp.flip(filters, axis=(1, 2)), (1, 1), axis=(1, 2))
        even = xp.reshape((filters + mirrored) / 2, (SCALES, -1))
        gram = even @ even.T
        finest.append(xp.sum(filters[0, ...] ** 2))
        squares.append(xp.linalg.trace(gram))
        products.append(xp.sum(xp.triu(gram, k=1)))
    return FilterBank(radial, angular, tuple(finest), tuple(squares), tuple(products))


@kept
def filter_bank(height: int, width: int) -> FilterBank:
    """Make the filters, in the order of frequencies of an FFT, and their noise constants."""
    bank = _filters(height, width, np)
    return FilterBank(bank.radial, bank.angular, *(tuple(map(float, sums)) for sums in bank[2:]))


def filters_like(image: Array) -> FilterBank:
    """Return the filters for an image, in its library, dtype and device."""
    height, width = image.shape[-2:]
    if is_compiling():  # a graph holds no arrays of NumPy, whose size is that of the first image
        xp = array_namespace(image)
        return _filters(height, width, xp, dtype=image.dtype, device=image.device)
    bank = filter_bank(int(height), int(width))  # of tensors, under torch.jit.trace
    return bank._replace(radial=constant(bank.radial, image), angular=constant(bank.angular, image))


def median(values: Array, valid: Array | None) -> Array:
    """Median of the valid values of each image: the mean of the middle two if n is even."""
    xp = array_namespace(values)
    shape = (*values.shape[:-2], -1)
    ordered = xp.sort(xp.reshape(where_valid(valid, values, math.inf), shape), axis=-1)
    last = ordered.shape[-1] - 1
    if valid is None:
        return (ordered[..., last // 2] + ordered[..., last - last // 2]) / 2
    rank = xp.arange(last + 1, device=device(values))
    n = xp.sum(
        xp.astype(xp.reshape(valid, (*valid.shape[:-2], -1)), rank.dtype), axis=-1, dtype=rank.dtype
    )
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


def _scaled(image: Array, lowest: Array, scale: float) -> Array:
    """Return ``scale * (image - lowest)``, divided by a power of two where squares would overflow.

    `EPSILON` is no part of such values.
    """
    xp = array_namespace(image)
    most = 2.0 ** (math.frexp(float(xp.finfo(image.dtype).max))[1] // SQUARES)
    unit = scaling_unit(image)
    unit = xp.maximum(unit, xp.ones_like(unit))
    centred = scale * (image / unit - lowest / unit)
    return centred * xp.minimum(unit, most / scaling_unit(centred, root=ALL))


def _transformed(image: Array) -> Array:
    """Fourier transform; a library or a device that has none is named."""
    xp = array_namespace(image)
    values = xp.astype(image, complex_dtype(image))
    try:
        found: Array = xp.fft.fftn(values, axes=(-2, -1))
    except (AttributeError, RuntimeError) as error:
        if type(error) not in (AttributeError, NotImplementedError, RuntimeError):
            raise  # such as PyTorch's lack of memory, or JAX's
        raise ImsimError(
            f"FSIM needs Fourier transforms, and {xp.__name__} lacks them here ({error})",
            "pass NumPy arrays, or eager tensors on the CPU, which the kernels score",
        ) from error
    return found


def phase_congruency(image: Array, valid: Array | None, scale: float = 1.0) -> Array:
    """Phase congruency of each pixel, from 0 (none) to 1; 0 throughout a constant image.

    The image is multiplied by `scale`, which brings its data range to 255. Pixels that are not
    `valid` must have been filled; the noise is estimated from the valid ones.
    """
    xp = array_namespace(image)
    bank = filters_like(image)
    # No filter passes the mean. Less its minimum, a constant image is exactly 0.
    centred = _scaled(image, minimum(image, valid)[..., None, None], scale)
    spectrum = _transformed(centred)

    energy_all = amplitude_all = xp.zeros_like(image)
    for o in range(ORIENTATIONS):
        angular = bank.angular[o, ...]
        filters = [bank.radial[s, ...] * angular for s in range(SCALES)]
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
