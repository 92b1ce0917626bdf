"""Phase congruency, fused between the transforms; the transforms are SciPy's.

Another backend set by `scipy.fft.set_global_backend` serves here too. (One set by SciPy's
context manager holds in the caller's thread only.)
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import scipy.fft

from imsim.kernels.jit import inline, kernel
from imsim.kernels.selection import median
from imsim.portable import phase_congruency as portable
from imsim.portable.phase_congruency import EPSILON, ORIENTATIONS, SCALES
from imsim.typing import Array

PADDING = 8
"""Numbers added to the rows of a transform: rows a power of two apart compete for cache lines."""
TOGETHER = 1 << 20
"""Bytes of responses that are transformed in one call: as many as the second-level cache holds."""

_add_energy = inline(portable.add_energy)


class Filters(NamedTuple):
    """The filter bank in the dtype of the image."""

    radial: Array
    angular: Array
    threshold: tuple[float, ...]
    """Energy of noise, by orientation, if the median of the squared amplitudes is 1."""


@functools.lru_cache(maxsize=8)
def filters(height: int, width: int, dtype: np.dtype[Any]) -> Filters:
    """Make the filters for one size of the frame."""
    bank = portable.filter_bank(height, width)
    one = np.float64(1)
    return Filters(
        bank.radial.astype(dtype, copy=False),
        bank.angular.astype(dtype, copy=False),
        tuple(float(portable.noise_model(one, bank, o).threshold) for o in range(ORIENTATIONS)),
    )


class Workspace:
    """What one thread needs to filter one image at one orientation."""

    def __init__(self, height: int, width: int, dtype: np.dtype[Any]) -> None:
        shape = (SCALES, height, width + PADDING)
        self.responses = np.zeros(shape, dtype=np.result_type(dtype, np.complex64))
        self.parts = self.responses.view(dtype)
        """Real and imaginary parts in turn along the rows, as vector units like them."""
        self.powers = np.empty((height, width), dtype=dtype)


def orientation(
    spectrum: Array, valid: Array | None, o: int, work: Workspace, energy: Array, amplitude: Array
) -> float:
    """Write the energy and the sum of the amplitudes at one orientation; return the noise."""
    height, width = energy.shape
    radial, angular, threshold = filters(height, width, energy.dtype)
    together = max(1, min(SCALES, TOGETHER * SCALES // work.responses.nbytes))
    for first in range(0, SCALES, together):
        scales = slice(first, first + together)
        _apply(spectrum, radial[scales], angular[o], work.responses[scales])
        frames = work.responses[scales, :, :width]
        # In place with SciPy's own backend; another may hand out an array of its own.
        result = scipy.fft.ifft2(frames, axes=(-2, -1), overwrite_x=True)
        if not np.may_share_memory(result, frames):
            frames[...] = result
    _energy(work.parts, energy.dtype.type(EPSILON), energy, amplitude, work.powers)
    powers = work.powers if valid is None else work.powers[valid]
    return threshold[o] * math.sqrt(median(powers.reshape(-1)))


def ratio(energies: Array, amplitudes: Array, noise: Array) -> Array:
    """Phase congruency from the energies, amplitudes and noise of the orientations."""
    congruency = np.empty_like(energies[0])
    _ratio(energies, amplitudes, noise.astype(energies.dtype), congruency)
    return congruency


@kernel
def _apply(spectrum, radial, angular, responses):  # type: ignore[no-untyped-def]
    height, width = spectrum.shape
    for s in range(radial.shape[0]):
        for i in range(height):
            for j in range(width):
                responses[s, i, j] = spectrum[i, j] * (radial[s, i, j] * angular[i, j])


@kernel
def _energy(parts, epsilon, energy, amplitude, powers):  # type: ignore[no-untyped-def]
    """Energy along the mean phase of the scales, amplitudes, and the finest scale's power."""
    height, width = energy.shape
    zero = energy.dtype.type(0)
    for i in range(height):
        for j in range(width):
            even, odd = parts[0, i, 2 * j], parts[0, i, 2 * j + 1]
            power = even * even + odd * odd
            amplitudes = np.sqrt(power)
            for s in range(1, SCALES):
                e, d = parts[s, i, 2 * j], parts[s, i, 2 * j + 1]
                amplitudes += np.sqrt(e * e + d * d)
                even += e
                odd += d
            length = np.sqrt(even * even + odd * odd) + epsilon
            mean_even, mean_odd = even / length, odd / length
            aligned = zero
            for s in range(SCALES):
                e, d = parts[s, i, 2 * j], parts[s, i, 2 * j + 1]
                aligned = _add_energy(aligned, e, d, mean_even, mean_odd)
            energy[i, j], amplitude[i, j], powers[i, j] = aligned, amplitudes, power


@kernel
def _ratio(energies, amplitudes, noise, congruency):  # type: ignore[no-untyped-def]
    height, width = congruency.shape
    zero = congruency.dtype.type(0)
    for i in range(height):
        for j in range(width):
            energy, amplitude = zero, zero
            for o in range(ORIENTATIONS):
                above = energies[o, i, j] - noise[o]
                energy += zero if above < 0 else above  # their maximum would drop NaN
                amplitude += amplitudes[o, i, j]
            congruency[i, j] = energy / amplitude if amplitude != 0 else zero
