"""Phase congruency and its gradient: the responses of the filters, and back."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import scipy.fft

from imsim.caches import SPARES
from imsim.kernels.common.jit import allocating, inline, kernel
from imsim.kernels.common.phase_congruency import (
    DISTANCES,
    LARGEST_SPREAD,
    NOISE_FLOOR,
    Transforms,
    add_above,
    apply_filters,
    in_place,
    measure,
    middle_two,
    padded,
    width_of,
)
from imsim.portable.phase_congruency import EPSILON, ORIENTATIONS, SCALES
from imsim.typing import Array
from imsim.workers import Run

KEPT_CELLS = 1 << 18
"""Cells up to which all responses of an image are kept; in float32, these take 32 MiB."""


class Room:
    """Memory for the responses of the filters of one orientation."""

    def __init__(self, transforms: Transforms, responses: Array) -> None:
        height, width, dtype = transforms.height, transforms.width, transforms.dtype
        self.responses = responses
        self.parts = responses.view(dtype)
        """The same memory as real numbers: real and imaginary parts alternate along the rows."""
        self.powers = np.empty((height, width), dtype)
        """Squared amplitudes of the finest scale."""
        self._width, self._dtype = width, dtype

    def filter(self, o: int, transforms: Transforms) -> None:
        """Filter an image at one orientation and all scales, one by one: each fits in the cache."""
        (radial, angular), spectrum = transforms.bank[:2], transforms.spectrum.view(self._dtype)
        for s in range(SCALES):
            one, parts = radial[s : s + 1], self.parts[s : s + 1]
            apply_filters(one, angular, DISTANCES[o], spectrum, 0, self._width, parts)
            in_place(scipy.fft.ifft2, self.responses[s, :, : self._width], norm="forward")

    def filter_back(self, o: int, transforms: Transforms, gathered: Array) -> None:
        """Write the gradients of the spectrum from those of the responses."""
        radial, angular = transforms.bank[:2]
        gathered[...] = 0
        for s in range(SCALES):
            in_place(scipy.fft.fft2, self.responses[s, :, : self._width])
            one, parts = radial[s : s + 1], self.parts[s : s + 1]
            _gather(one, angular, DISTANCES[o], parts, gathered.view(self._dtype))


def make_rooms(transforms: Transforms) -> list[Room]:
    """Make a room for each orientation.

    NumPy has the system give large pages to arrays of 4 MiB and more, which takes a tenth of the
    time of small ones.
    """
    shape = (ORIENTATIONS, SCALES, transforms.height, padded(transforms.width))
    return [Room(transforms, part) for part in SPARES.array(shape, transforms.spectrum.dtype)]


class Congruency:
    """The phase congruency of one image after the other, all of one size."""

    def __init__(self, height: int, width: int, dtype: np.dtype[Any], rooms: list[Room]) -> None:
        self.dtype = dtype
        self._rooms = rooms
        self._kept: dict[int, Room] = {}
        """By orientation, the responses for the gradient; the others are computed again."""
        self._transforms = Transforms(height, width, dtype)
        size, shape = ORIENTATIONS * height * width, (ORIENTATIONS, height, width)
        spectra = (ORIENTATIONS, 2, height, width // 2 + 1)
        memory = SPARES.array((2 * size + 2 * math.prod(spectra),), dtype)  # see `make_rooms`
        self._energies = memory[:size].reshape(shape)
        self._amplitudes = memory[size : 2 * size].reshape(shape)
        self._gathered = memory[2 * size :].view(self._transforms.spectrum.dtype).reshape(spectra)
        self._thresholds = np.empty(ORIENTATIONS)
        self._values = np.empty(shape[1:], dtype)
        self._scale, self._is_constant = 1.0, False
        self._noise: list[list[tuple[int, int, complex]]] = [[] for _ in range(ORIENTATIONS)]
        """By orientation, the responses that set the threshold: row, column, and the gradient of
        the threshold."""

    def find(
        self, cells: Array, valid: Array | None, scale: float, keep: bool, run: Run
    ) -> Array | None:
        """Phase congruency of ``scale * cells``; None if float32 has too few digits for it.

        The next image overwrites it. With `keep`, the responses are kept for the gradient if they
        do not take much memory.
        """
        inside = {} if valid is None else {"where": valid}
        lowest = np.min(cells, initial=math.inf, **inside)
        highest = np.max(cells, initial=-math.inf, **inside)
        self._scale, self._is_constant = scale, bool(lowest == highest)
        if self._is_constant:
            return np.zeros(cells.shape)
        spread = scale * (highest - lowest)
        if self.dtype == np.float32 and spread > LARGEST_SPREAD:
            return None
        self._transforms.forward(cells, lowest, scale, run)
        keep = keep and cells.size <= KEPT_CELLS
        task = partial(self._filter, valid=valid, keep=keep)
        run(task, ORIENTATIONS, self._work)
        if self.dtype == np.float32 and not self._thresholds.min() >= NOISE_FLOOR * spread:
            self._rooms += self._kept.values()
            self._kept.clear()
            return None
        # The order of the sums is that of the score.
        amplitude, self._values[...] = self._amplitudes[0], 0
        for o in range(1, ORIENTATIONS):
            amplitude += self._amplitudes[o]
        for o in range(ORIENTATIONS):
            noise, is_last = self.dtype.type(self._thresholds[o]), o == ORIENTATIONS - 1
            add_above(self._energies[o], noise, amplitude, is_last, self._values)
        return self._values

    def back(self, slopes: Array, run: Run) -> Array:
        """Gradient of the cells from that of the phase congruency."""
        height, width = self._values.shape
        if self._is_constant:
            return np.zeros((height, width))
        slopes = slopes.astype(self.dtype)
        run(partial(self._filter_back, slopes=slopes), ORIENTATIONS, self._work)
        spectrum = self._gathered.sum(axis=(0, 1))
        spectrum[:, 1 : (width + 1) // 2] /= 2  # frequencies that stand for two
        found: Array = scipy.fft.irfft2(spectrum, s=(height, width))
        return self._scale * found.astype(np.float64)

    @property
    def _work(self) -> int:
        return self._energies.size * SCALES

    def _room(self, o: int) -> Room:
        """Return the responses at one orientation, in memory that no other task uses meanwhile."""
        try:
            room = self._rooms.pop()
        except IndexError:
            room, *others = make_rooms(self._transforms)
            self._rooms += others
        room.filter(o, self._transforms)
        return room

    def _filter(self, o: int, valid: Array | None, keep: bool) -> None:
        """Filter the image at one orientation, and find the energy and its threshold."""
        room = self._room(o)
        powers, epsilon = room.powers, self.dtype.type(EPSILON)
        height, width = powers.shape
        self._amplitudes[o] = 0
        measure(
            room.parts,
            0,
            height,
            epsilon,
            self._energies[o],
            powers,
            self._amplitudes[o],
            np.empty((3, width), self.dtype),
        )
        middle = middle_two(powers.flatten() if valid is None else powers[valid])
        root = math.sqrt((float(middle[0]) + float(middle[1])) / 2)
        threshold = self._transforms.bank.thresholds[o]
        self._thresholds[o], self._noise[o] = threshold * root, []
        for power in middle:
            is_it = powers == power if valid is None else (powers == power) & valid
            row, column = divmod(int(np.argmax(is_it)), width)
            slope = threshold / 2 * complex(room.responses[0, row, column])
            self._noise[o].append((row, column, slope / root if root > 0 else 0j))
        if keep:
            self._kept[o] = room
        else:
            self._rooms.append(room)

    def _filter_back(self, o: int, slopes: Array) -> None:
        """Write the gradients of the spectrum at one orientation."""
        room = self._kept.pop(o) if o in self._kept else self._room(o)
        above = _respond_back(
            room.parts,
            self._energies[o],
            self.dtype.type(self._thresholds[o]),
            self.dtype.type(EPSILON),
            self._values,
            self._amplitudes[0],
            slopes,
        )
        for row, column, slope in self._noise[o]:
            room.responses[0, row, column] -= above * slope
        room.filter_back(o, self._transforms, self._gathered[o])
        self._rooms.append(room)


@allocating
def _respond_back(parts, energy, threshold, epsilon, values, amplitude, slopes):  # type: ignore[no-untyped-def]
    """Replace responses by their gradients; return the sum of the gradients of the energy.

    With sums E, O of the even and odd parts e, d over the scales, and r = sqrt(E^2 + O^2), the
    energy is (r^2 - sum |e O - d E|) / (r + epsilon).
    """
    width, zero, one = slopes.shape[1], values.dtype.type(0), values.dtype.type(1)
    room, total = np.empty((7, width), values.dtype), 0.0
    for i in range(slopes.shape[0]):
        above = zero
        for j in range(width):
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
                sign = _sign(e * mean_odd - d * mean_even, one)
                p += sign * e
                q += sign * d
            across = p * mean_odd - q * mean_even
            along = (r + epsilon + epsilon) * inverse * inverse
            along += across * inverse / r if r > 0 else zero
            size = amplitude[i, j]
            slope = slopes[i, j] / size if size > 0 else zero
            of_energy = slope if energy[i, j] > threshold else zero
            above += of_energy
            room[0, j], room[1, j] = mean_even, mean_odd
            room[2, j] = of_energy * (even * along + q * inverse)
            room[3, j] = of_energy * (odd * along - p * inverse)
            room[4, j], room[5, j] = of_energy * mean_even, of_energy * mean_odd
            room[6, j] = -slope * values[i, j]
        total += above
        for s in range(SCALES):
            for j in range(width):
                e, d = parts[s, i, 2 * j], parts[s, i, 2 * j + 1]
                sign = _sign(e * room[1, j] - d * room[0, j], one)
                length = np.sqrt(e * e + d * d)
                outward = room[6, j] / length if length > 0 else zero
                parts[s, i, 2 * j] = room[2, j] - sign * room[5, j] + outward * e
                parts[s, i, 2 * j + 1] = room[3, j] + sign * room[4, j] + outward * d
    return total


@inline
def _sign(value, one):  # type: ignore[no-untyped-def]
    positive = one if value > 0 else one - one
    return positive - (one if value < 0 else one - one)


@kernel
def _gather(radial, angular, distances, parts, gathered):  # type: ignore[no-untyped-def]
    """Filter the gradients of all scales and add them: `apply_filters` backwards.

    Frequencies that are negative along the rows are apart, since `apply_filters` reads the
    spectrum twice.
    """
    height, width = parts.shape[1], width_of(parts)
    half = (width + 1) // 2
    one, two = np.uint64(1), np.uint64(2)  # see `apply_filters`
    for i in range(height):
        below = int(2 * i >= height)
        row, mirrored = min(i, height - i), (height - i) % height
        for s in range(parts.shape[0]):
            f, g = radial[s, row], angular[distances[below, 0], row]
            out = gathered[0, i]
            for j in range(half):
                gain = f[j] * g[j]
                out[2 * j] += parts[s, i, 2 * j] * gain
                out[2 * j + 1] += parts[s, i, 2 * j + 1] * gain
            g, out = angular[distances[below, 1], row], gathered[1, mirrored]
            for j in range(one, np.uint64(width - half + 1)):
                gain, k = f[j] * g[j], np.uint64(width) - j
                out[two * j] += parts[s, i, two * k] * gain
                out[two * j + one] -= parts[s, i, two * k + one] * gain
