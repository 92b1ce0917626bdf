"""Phase congruency and its gradient: the responses of all filters are kept between the two."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.fft

from imsim.kernels.common.jit import kernel
from imsim.kernels.common.log_gabor import DISTANCES
from imsim.kernels.common.median import middle_two
from imsim.kernels.common.phase_congruency import (
    LARGEST_SPREAD,
    NOISE_FLOOR,
    PADDING,
    Transforms,
    apply_filters,
    in_place,
)
from imsim.kernels.common.sharing import Run
from imsim.portable.phase_congruency import EPSILON, ORIENTATIONS, SCALES
from imsim.typing import Array


class Congruency:
    """The phase congruency of one image after the other, all of one size."""

    def __init__(self, height: int, width: int, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._transforms = Transforms(height, width, dtype)
        shape = (ORIENTATIONS, height, width)
        complex_dtype = self._transforms.spectrum.dtype
        self._responses = np.empty((ORIENTATIONS, SCALES, height, width + PADDING), complex_dtype)
        self._parts = self._responses.view(dtype)
        self._energies, self._powers, self._amplitudes = (np.empty(shape, dtype) for _ in range(3))
        self._thresholds = np.empty(ORIENTATIONS)
        self._values = np.empty(shape[1:], dtype)
        self._scale, self._is_constant = 1.0, False
        self._noise: list[list[tuple[int, int, complex]]] = [[] for _ in range(ORIENTATIONS)]
        """By orientation, the responses that set the threshold: row, column, and the gradient of
        the threshold."""

    def find(self, cells: Array, valid: Array | None, scale: float, run: Run) -> Array | None:
        """Phase congruency of ``scale * cells``; None if float32 has too few digits for it."""
        inside = {} if valid is None else {"where": valid}
        lowest = np.min(cells, initial=math.inf, **inside)
        highest = np.max(cells, initial=-math.inf, **inside)
        self._scale, self._is_constant = scale, bool(lowest == highest)
        if self._is_constant:
            return np.zeros(cells.shape)
        spread = scale * (highest - lowest)
        if self.dtype == np.float32 and spread > LARGEST_SPREAD:
            return None
        self._transforms.forward(cells, lowest if lowest < math.inf else 0.0, scale, run)
        run(lambda o: self._filter(o, valid), ORIENTATIONS, cells.size * SCALES * ORIENTATIONS)
        if self.dtype == np.float32 and not self._thresholds.min() >= NOISE_FLOOR * spread:
            return None
        _congruency(self._energies, self._thresholds, self._amplitudes, self._values)
        return self._values.astype(np.float64)

    def _filter(self, o: int, valid: Array | None) -> None:
        """Filter the image at one orientation, and find the energy and its threshold."""
        bank, width = self._transforms.bank, self._values.shape[1]
        spectrum = self._transforms.spectrum.view(self.dtype)
        line = np.empty(2 * width, self.dtype)
        apply_filters(*bank[:2], DISTANCES[o], spectrum, 0, width, self._parts[o], line)
        for response in self._responses[o, :, :, :width]:
            in_place(scipy.fft.ifft2, response, norm="forward")
        powers = self._powers[o]
        epsilon = self.dtype.type(EPSILON)
        _measure(self._parts[o], epsilon, self._energies[o], powers, self._amplitudes[o])
        middle = middle_two(powers.flatten() if valid is None else powers[valid])
        root = math.sqrt((float(middle[0]) + float(middle[1])) / 2)
        self._thresholds[o] = bank.thresholds[o] * root
        self._noise[o] = []
        for power in middle:
            is_it = powers == power if valid is None else (powers == power) & valid
            row, column = divmod(int(np.argmax(is_it)), width)
            slope = bank.thresholds[o] * complex(self._responses[o, 0, row, column]) / 2
            self._noise[o].append((row, column, slope / root if root > 0 else 0j))

    def back(self, slopes: Array, run: Run) -> Array:
        """Gradient of the cells from that of the phase congruency; overwrite the responses."""
        height, width = self._values.shape
        if self._is_constant:
            return np.zeros((height, width))
        shape = (ORIENTATIONS, 2, height, width // 2 + 1)
        gathered = np.zeros(shape, self._responses.dtype)
        slopes = slopes.astype(self.dtype)

        def task(o: int) -> None:
            self._filter_back(o, slopes, gathered[o].view(self.dtype))

        run(task, ORIENTATIONS, slopes.size * SCALES * ORIENTATIONS)
        spectrum = gathered.sum(axis=(0, 1))
        spectrum[:, 1 : (width + 1) // 2] /= 2  # frequencies that stand for two
        found: Array = scipy.fft.irfft2(spectrum, s=(height, width))
        return self._scale * found.astype(np.float64)

    def _filter_back(self, o: int, slopes: Array, gathered: Array) -> None:
        """Write the gradients of the spectrum at one orientation."""
        width = slopes.shape[1]
        above = _respond_back(
            self._parts[o],
            self._energies[o],
            self.dtype.type(self._thresholds[o]),
            self.dtype.type(EPSILON),
            self._values,
            self._amplitudes[0],
            slopes,
        )
        for row, column, slope in self._noise[o]:
            self._responses[o, 0, row, column] -= above * slope
        for response in self._responses[o, :, :, :width]:
            in_place(scipy.fft.fft2, response)
        bank = self._transforms.bank
        _gather(*bank[:2], DISTANCES[o], self._parts[o], gathered)


@kernel
def _measure(parts, epsilon, energy, powers, amplitude):  # type: ignore[no-untyped-def]
    """Write the energy along the mean phase, the finest scale's power, and the amplitude."""
    zero = amplitude.dtype.type(0)
    for i in range(energy.shape[0]):
        for j in range(energy.shape[1]):
            total_even, total_odd, amplitudes = zero, zero, zero
            for s in range(SCALES):
                even, odd = parts[s, i, 2 * j], parts[s, i, 2 * j + 1]
                amplitudes += np.sqrt(even * even + odd * odd)
                total_even += even
                total_odd += odd
            square = total_even * total_even + total_odd * total_odd
            length = np.sqrt(square) + epsilon
            across = zero
            for s in range(SCALES):
                even, odd = parts[s, i, 2 * j], parts[s, i, 2 * j + 1]
                across += abs(even * total_odd - odd * total_even)
            energy[i, j] = (square - across) / length
            amplitude[i, j] = amplitudes
            even, odd = parts[0, i, 2 * j], parts[0, i, 2 * j + 1]
            powers[i, j] = even * even + odd * odd


@kernel
def _congruency(energies, thresholds, amplitudes, values):  # type: ignore[no-untyped-def]
    """Write the phase congruency, and the amplitude of all orientations in place of the first."""
    zero = values.dtype.type(0)
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            above, amplitude = zero, zero
            for o in range(ORIENTATIONS):
                rest = energies[o, i, j] - values.dtype.type(thresholds[o])
                above += rest if rest > 0 else zero
                amplitude += amplitudes[o, i, j]
            values[i, j] = above / amplitude if amplitude > 0 else zero
            amplitudes[0, i, j] = amplitude


@kernel
def _respond_back(parts, energy, threshold, epsilon, values, amplitude, slopes):  # type: ignore[no-untyped-def]
    """Replace responses by their gradients; return the sum of the gradients of the energy.

    With sums E, O of the even and odd parts e, d over the scales, and r = sqrt(E^2 + O^2), the
    energy is (r^2 - sum |e O - d E|) / (r + epsilon).
    """
    zero, one = values.dtype.type(0), values.dtype.type(1)
    total = 0.0
    for i in range(slopes.shape[0]):
        above = zero
        for j in range(slopes.shape[1]):
            size = amplitude[i, j]
            slope = slopes[i, j] / size if size > 0 else zero
            of_energy = slope if energy[i, j] > threshold else zero
            of_amplitude = -slope * values[i, j]
            above += of_energy
            even, odd = zero, zero
            for s in range(SCALES):
                even += parts[s, i, 2 * j]
                odd += parts[s, i, 2 * j + 1]
            r = np.sqrt(even * even + odd * odd)
            inverse = one / (r + epsilon)
            mean_even, mean_odd = even * inverse, odd * inverse
            across, p, q = zero, zero, zero
            for s in range(SCALES):
                e, d = parts[s, i, 2 * j], parts[s, i, 2 * j + 1]
                part = e * mean_odd - d * mean_even
                sign = one if part > 0 else (-one if part < 0 else zero)
                across += abs(part)
                p += sign * e
                q += sign * d
            along = (r + epsilon + epsilon) * inverse * inverse
            along += across * inverse / r if r > 0 else zero
            common_even = of_energy * (even * along + q * inverse)
            common_odd = of_energy * (odd * along - p * inverse)
            for s in range(SCALES):
                e, d = parts[s, i, 2 * j], parts[s, i, 2 * j + 1]
                part = e * mean_odd - d * mean_even
                signed = of_energy if part > 0 else (-of_energy if part < 0 else zero)
                length = np.sqrt(e * e + d * d)
                outward = of_amplitude / length if length > 0 else zero
                parts[s, i, 2 * j] = common_even - signed * mean_odd + outward * e
                parts[s, i, 2 * j + 1] = common_odd + signed * mean_even + outward * d
        total += above
    return total


@kernel
def _gather(radial, angular, distances, parts, gathered):  # type: ignore[no-untyped-def]
    """Filter the gradients of all scales and add them: `apply_filters` backwards.

    Frequencies that are negative along the rows are apart, since `apply_filters` reads the
    spectrum twice.
    """
    height, width = parts.shape[1], parts.shape[2] // 2 - PADDING
    half = (width + 1) // 2
    for i in range(height):
        below = int(2 * i >= height)
        row, mirrored = min(i, height - i), (height - i) % height
        for s in range(SCALES):
            f, g = radial[s, row], angular[distances[below, 0], row]
            out = gathered[0, i]
            for j in range(half):
                gain = f[j] * g[j]
                out[2 * j] += parts[s, i, 2 * j] * gain
                out[2 * j + 1] += parts[s, i, 2 * j + 1] * gain
            g, out = angular[distances[below, 1], row], gathered[1, mirrored]
            for j in range(1, width - half + 1):
                gain, k = f[j] * g[j], width - j
                out[2 * j] += parts[s, i, 2 * k] * gain
                out[2 * j + 1] -= parts[s, i, 2 * k + 1] * gain
