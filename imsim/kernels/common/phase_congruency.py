"""Phase congruency, fused between the transforms; the transforms are SciPy's.

Another backend set by `scipy.fft.set_global_backend` serves here too. (One set by SciPy's
context manager holds in the caller's thread only.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft

from imsim.kernels.common.jit import inline, kernel
from imsim.kernels.common.log_gabor import DISTANCES, filters
from imsim.kernels.common.median import median
from imsim.portable import phase_congruency as portable
from imsim.portable.phase_congruency import EPSILON, ORIENTATIONS, SCALES
from imsim.typing import Array

PADDING = 8
"""Numbers added to the rows of a transform: rows a power of two apart compete for cache lines."""
TOGETHER = 1 << 22
"""Bytes of responses that are transformed in one call: more take longer, fewer more calls."""
LEAST_COLUMNS = 16
"""Columns that are transformed together, however long they are: two cache lines of a row."""
NOISE_FLOOR = 5e-4
"""Energy of noise, as a part of the spread of an image, above which float32 suffices.

Transforms in float32 add an error of about 1e-7 of the spread to every response. Where the
responses are smaller than the noise of the image, it stays without effect.
"""

LARGEST_SPREAD = 1e12
"""Of an image, scaled, above which squares of responses or of their sums may leave float32."""

Run = Callable[[Callable[[int], object], int, int], None]
"""Calls a task for 0 to n - 1, given how many pixels the work amounts to."""

_add_energy = inline(portable.add_energy)


class Transforms:
    """The Fourier transforms of images of one size, one image after the other."""

    def __init__(self, height: int, width: int, dtype: np.dtype[Any]) -> None:
        self.height, self.width, self.dtype = height, width, dtype
        self.bank = filters(height, width, dtype)
        complex_dtype = np.result_type(dtype, np.complex64)
        self.spectrum = np.empty((height, width // 2 + 1), dtype=complex_dtype)
        """Of frequencies along the rows that are not negative; an image is real."""
        self.responses = np.empty((SCALES, height, width + PADDING), dtype=complex_dtype)
        self.parts = self.responses.view(dtype)
        """Real and imaginary parts in turn along the rows, as vector units like them."""
        number = SCALES * complex_dtype.itemsize
        self._rows = max(1, TOGETHER // (number * width))
        self._columns = max(LEAST_COLUMNS, TOGETHER // (number * height))

    def forward(self, cells: Array, lowest: float, scale: float, run: Run) -> None:
        """Transform an image, less a number and scaled; the mean is taken, not the sum."""

        def rows(part: slice) -> None:
            moved = ((cells[part] - lowest) * scale).astype(self.dtype, copy=False)
            self.spectrum[part] = scipy.fft.rfft(moved, norm="forward")

        def columns(part: slice) -> None:
            in_place(scipy.fft.fft, self.spectrum[:, part], axis=0, norm="forward")

        self._each(rows, self.height, self._rows, run)
        self._each(columns, self.spectrum.shape[1], self._columns, run)

    def filtered(self, o: int, amplitude: Array, run: Run) -> None:
        """Filter the image at one orientation and all scales.

        The amplitudes are added to `amplitude`. The energies come to lie in ``parts[0]``, the
        squared amplitudes of the finest scale in ``parts[1]``.
        """
        spectrum = self.spectrum.view(self.dtype)

        def columns(part: slice) -> None:
            _apply(*self.bank[:2], DISTANCES[o], spectrum, part.start, part.stop, self.parts)
            in_place(scipy.fft.ifft, self.responses[:, :, part], axis=1, norm="forward")

        def rows(part: slice) -> None:
            responses = self.responses[:, part, : self.width]
            in_place(scipy.fft.ifft, responses, axis=2, norm="forward")
            energies(part)

        def energies(part: slice) -> None:
            _energy(self.parts, part.start, part.stop, self.dtype.type(EPSILON), amplitude)

        if self._rows >= self.height and self._columns >= self.width:  # one call for all
            _apply(*self.bank[:2], DISTANCES[o], spectrum, 0, self.width, self.parts)
            responses = self.responses[:, :, : self.width]
            in_place(scipy.fft.ifft2, responses, axes=(1, 2), norm="forward")
            energies(slice(0, self.height))
            return
        self._each(columns, self.width, self._columns, run)
        self._each(rows, self.height, self._rows, run)

    def _each(self, task: Callable[[slice], None], n: int, size: int, run: Run) -> None:
        """Call a task for blocks of rows or columns, which depend on the frame only."""
        blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        run(lambda k: task(blocks[k]), len(blocks), self.height * self.width * SCALES)


def in_place(transform: Callable[..., Array], values: Array, **options: Any) -> None:
    """Transform an array where it lies; another backend may hand out an array of its own."""
    result = transform(values, overwrite_x=True, **options)
    if not np.may_share_memory(result, values):
        values[...] = result


def phase_congruency(
    cells: Array, valid: Array | None, scale: float, transforms: Transforms, run: Run
) -> Array | None:
    """Phase congruency of an image, scaled; None if the float32 of the transforms is too little."""
    dtype = transforms.dtype
    congruency = np.zeros(cells.shape, dtype=dtype)
    inside = {} if valid is None else {"where": valid}
    lowest = np.min(cells, initial=math.inf, **inside)
    highest = np.max(cells, initial=-math.inf, **inside)
    if lowest == highest and np.isfinite(cells).all():
        return congruency  # nothing to transform, such as a model of no texture returns
    if dtype == np.float32 and scale * (highest - lowest) > LARGEST_SPREAD:
        return None
    # No filter passes the mean; without the minimum, float32 holds more of the contrast.
    transforms.forward(cells, lowest if lowest < math.inf else 0.0, scale, run)
    amplitude = np.zeros_like(congruency)
    parts = transforms.parts
    for o in range(ORIENTATIONS):
        transforms.filtered(o, amplitude, run)
        powers = parts[1].reshape(-1)
        n = _gather(powers, parts.shape[2], *cells.shape, valid)
        noise = transforms.bank.thresholds[o] * math.sqrt(median(powers[:n]))
        if dtype == np.float32 and not noise >= NOISE_FLOOR * scale * (highest - lowest):
            return None
        _add_above(parts[0], dtype.type(noise), congruency)
    _divide(congruency, amplitude)
    return congruency


@kernel
def _apply(radial, angular, distances, spectrum, start, stop, parts):  # type: ignore[no-untyped-def]
    """Write the filtered spectrum in some columns; numbers are a real and an imaginary part."""
    height, width = parts.shape[1], parts.shape[2] // 2 - PADDING
    half = (width + 1) // 2  # from here on, frequencies along the row are negative
    positive, negative = max(min(stop, half) - start, 0), max(stop - max(start, half), 0)
    line = np.empty(2 * negative, dtype=parts.dtype)
    for i in range(height):
        below = int(2 * i >= height)
        row, mirrored = min(i, height - i), (height - i) % height
        for s in range(SCALES):
            # Slices from 0 on, as vector units like them.
            here = slice(start, start + positive)
            f, g = radial[s, row, here], angular[distances[below, 0], row, here]
            source = spectrum[i, 2 * start : 2 * (start + positive)]
            out = parts[s, i, 2 * start : 2 * (start + positive)]
            for j in range(positive):
                gain = f[j] * g[j]
                out[2 * j] = source[2 * j] * gain
                out[2 * j + 1] = source[2 * j + 1] * gain
            first = width - stop + 1
            there = slice(first, first + negative)
            f, g = radial[s, row, there], angular[distances[below, 1], row, there]
            source = spectrum[mirrored, 2 * first : 2 * (first + negative)]
            for j in range(negative):
                gain = f[j] * g[j]
                line[2 * j] = source[2 * j] * gain
                line[2 * j + 1] = -source[2 * j + 1] * gain
            out = parts[s, i, 2 * (stop - negative) : 2 * stop]
            for j in range(negative):
                k = negative - 1 - j
                out[2 * j], out[2 * j + 1] = line[2 * k], line[2 * k + 1]


@kernel
def _energy(parts, start, stop, epsilon, amplitude):  # type: ignore[no-untyped-def]
    """Energy along the mean phase of the scales, amplitudes, and the finest scale's power."""
    width = amplitude.shape[1]
    zero = amplitude.dtype.type(0)
    energies = np.empty(width, dtype=amplitude.dtype)
    powers = np.empty(width, dtype=amplitude.dtype)
    for i in range(start, stop):
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
            energies[j], powers[j] = aligned, power
            amplitude[i, j] += amplitudes
        parts[0, i, :width] = energies
        parts[1, i, :width] = powers


@kernel
def _gather(values, stride, height, width, valid):  # type: ignore[no-untyped-def]
    """Move the valid numbers of a plane to its front; return how many there are."""
    n = 0
    for i in range(height):
        row = values[i * stride : i * stride + width]
        front = values[n : n + width]
        if valid is None:
            for j in range(width):
                front[j] = row[j]
            n += width
        else:
            for j in range(width):
                if valid[i, j]:
                    values[n] = row[j]
                    n += 1
    return n


@kernel
def _add_above(energy, noise, total):  # type: ignore[no-untyped-def]
    zero = total.dtype.type(0)
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            above = energy[i, j] - noise
            total[i, j] += zero if above < 0 else above  # their maximum would drop NaN


@kernel
def _divide(energy, amplitude):  # type: ignore[no-untyped-def]
    """Energy by amplitude, in place; 0 where there is none."""
    zero = energy.dtype.type(0)
    for i in range(energy.shape[0]):
        for j in range(energy.shape[1]):
            energy[i, j] = energy[i, j] / amplitude[i, j] if amplitude[i, j] != 0 else zero
