"""Phase congruency: SciPy's Fourier transforms, with fused kernels between them.

The filter bank is stored for one quadrant of frequencies. A backend set by
`scipy.fft.set_global_backend` is used here too. (SciPy's context manager sets one in the caller's
thread only.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.fft

from imsim.caches import kept
from imsim.kernels.common.jit import inline, kernel
from imsim.portable import phase_congruency as portable
from imsim.portable.phase_congruency import EPSILON, ORIENTATIONS, SCALES, THETA_SIGMA
from imsim.typing import Array
from imsim.workers import Run

BUCKETS = 2048
"""Buckets of a histogram: 16 KiB of counts stay in the first-level cache."""
POSITIVE = {4: np.int32(2**31 - 1), 8: np.int64(2**63 - 1)}
"""All bits of a float but its sign, by its number of bytes."""
BLOCK = 64
"""Values of a block: few blocks have one in the middle bucket; the search for it is vectorised."""


def median(values: Array) -> np.float64:
    """Median of numbers that are not negative; the mean of the middle two if n is even.

    The values are overwritten. NaN counts as larger than any number. The median of an empty array
    is NaN.
    """
    if values.size == 0:
        return np.float64(math.nan)
    middle = middle_two(values)
    return (np.float64(middle[0]) + np.float64(middle[1])) / 2


def middle_two(values: Array) -> Array:
    """Return the middle two of at least one number, none of them negative; overwrite them."""
    # Read as integers, the bits of floats that are not negative have the order of the floats.
    bits = values.view(np.int32 if values.dtype == np.float32 else np.int64)
    middle = np.empty(2, bits.dtype)
    _middle(bits, POSITIVE[values.itemsize], np.empty(BUCKETS, np.int64), middle)
    return middle.view(values.dtype)


@kernel
def _middle(bits, positive, counts, found):  # type: ignore[no-untyped-def]
    """Select the middle two of some integers; overwrite these integers and `counts`.

    A histogram with buckets of equal width shows which bucket holds the middle. The values in this
    bucket are counted again in narrower buckets.
    """
    n = bits.size
    lower, upper = (n - 1) // 2, n // 2
    for i in range(n):
        bits[i] &= positive  # even a NaN has no sign now
    while True:
        least, most = bits[0], bits[0]
        for i in range(1, n):
            least, most = min(least, bits[i]), max(most, bits[i])
        if least == most:
            found[0], found[1] = least, least
            return
        shift = 0
        while (most - least) >> shift >= counts.size:
            shift += 1
        counts[:] = 0
        for i in range(n):
            counts[(bits[i] - least) >> shift] += 1
        bucket, before = 0, 0
        while before + counts[bucket] <= lower:
            before += counts[bucket]
            bucket += 1
        if upper >= before + counts[bucket]:  # the middle two lie in different buckets
            below, above = least, most
            for i in range(n):
                if (bits[i] - least) >> shift <= bucket:
                    below = max(below, bits[i])
                else:
                    above = min(above, bits[i])
            found[0], found[1] = below, above
            return
        kept = 0
        for start in range(0, n, BLOCK):
            block, some = bits[start : min(start + BLOCK, n)], 0
            for i in range(block.size):
                some += int((block[i] - least) >> shift == bucket)
            for i in range(block.size if some > 0 else 0):
                if (block[i] - least) >> shift == bucket:
                    bits[kept] = block[i]
                    kept += 1
        lower, upper, n = lower - before, upper - before, kept


# The angle between a frequency and an orientation is one of eight functions of the frequency's
# angle in the first quadrant. The index of the function is DISTANCES[orientation, fy < 0, fx < 0].
DISTANCES = np.array(
    [
        [[0, 1], [0, 1]],
        [[5, 7], [4, 6]],
        [[3, 3], [2, 2]],
        [[7, 5], [6, 4]],
    ]
)


class Filters(NamedTuple):
    """Radial and angular parts at frequencies that are not negative, in the dtype of the image."""

    radial: Array
    """Shape (scales, height // 2 + 1, width // 2 + 1)."""
    angular: Array
    """Shape (8, height // 2 + 1, width // 2 + 1), see `DISTANCES`."""
    thresholds: tuple[float, ...]
    """Energy of noise by orientation, for squared amplitudes with a median of 1."""


@kept
def filters(height: int, width: int, dtype: np.dtype[Any]) -> Filters:
    """Make the filters for one size of the frame."""
    fy, fx = (np.arange(n // 2 + 1) / portable.samples(n) for n in (height, width))
    radial = np.stack(portable.log_gabor(np.hypot(fy[:, None], fx))).astype(dtype, copy=False)
    angle = np.arctan2(fy[:, None], fx)
    quarter = math.pi / 4
    angular = np.empty((8, *angle.shape), dtype=dtype)
    for k, (start, sign) in enumerate(
        ((0, 1), (4, -1), (2, -1), (2, 1), (1, -1), (1, 1), (3, -1), (3, 1))
    ):
        distance = np.abs(start * quarter + sign * angle)
        distance = np.minimum(distance, 2 * math.pi - distance)
        angular[k] = np.exp(-(distance**2) / (2 * THETA_SIGMA**2))
    sums = np.zeros((ORIENTATIONS, 3))
    _sums(*(np.asarray(part, np.float64) for part in (radial, angular)), height, width, sums)
    return Filters(
        radial,
        angular,
        tuple(float(portable.noise_model(np.float64(1), *row).threshold) for row in sums),
    )


@kernel
def _sums(radial, angular, height, width, sums):  # type: ignore[no-untyped-def]
    """Add up, by orientation, the three sums of the noise model; see `portable.FilterBank`."""
    for i in range(height):
        row, below = min(i, height - i), int(2 * i >= height)
        below_mirrored = int(2 * ((height - i) % height) >= height)
        for o in range(ORIENTATIONS):
            finest, squares, products = 0.0, 0.0, 0.0
            for j in range(width):
                column, left = min(j, width - j), int(2 * j >= width)
                left_mirrored = int(2 * ((width - j) % width) >= width)
                spread = angular[DISTANCES[o, below, left], row, column]
                mirrored = angular[DISTANCES[o, below_mirrored, left_mirrored], row, column]
                even = ((spread + mirrored) / 2) ** 2
                one, all_squares = 0.0, 0.0
                for s in range(SCALES):
                    part = radial[s, row, column]
                    one += part
                    all_squares += part * part
                finest += (radial[0, row, column] * spread) ** 2
                squares += even * all_squares
                products += even * (one * one - all_squares) / 2
            sums[o, 0] += finest
            sums[o, 1] += squares
            sums[o, 2] += products


PADDING = 8
"""Numbers that pad each row: rows a power of two apart would compete for cache lines."""
NARROW = 64
"""Width of an image below which rows are not padded, which would multiply the memory they take."""
BATCH_BYTES = 1 << 22
"""Bytes of responses per call of a transform: larger calls are slower, smaller ones too many."""
LEAST_COLUMNS = 16
"""Least number of columns per call: two cache lines of each row."""
NOISE_FLOOR = 2e-3
"""Least energy of noise, relative to the spread of the image, for transforms in float32.

These add an error of about 1e-7 of the spread to every response. Noise of this energy hides it,
also where patterns repeat, whose responses share it. Photographs have more noise, mostly.
"""

LEAST_MEAN = 0.02
"""Least mean of phase congruency, by which FSIM divides, for transforms in float32.

Below it, few responses exceed the noise, and these by little of their size.
"""

LARGEST_SPREAD = 1e12
"""Spread of a scaled image above which squares of responses may overflow in float32."""

_add_energy = inline(portable.add_energy)


class Transforms:
    """Memory and filters to transform images of one size, one after the other."""

    def __init__(self, height: int, width: int, dtype: np.dtype[Any]) -> None:
        self.height, self.width, self.dtype = height, width, dtype
        self.bank = filters(height, width, dtype)
        complex_dtype = np.result_type(dtype, np.complex64)
        self.spectrum = np.empty((height, width // 2 + 1), dtype=complex_dtype)
        """The image is real: frequencies along the rows are not negative."""
        self.responses = np.empty((SCALES, height, padded(width)), dtype=complex_dtype)
        self.parts = self.responses.view(dtype)
        """The same memory as real numbers: real and imaginary parts alternate along the rows."""
        number = SCALES * complex_dtype.itemsize
        self._rows = max(1, BATCH_BYTES // (number * width))
        self._columns = max(LEAST_COLUMNS, BATCH_BYTES // (number * height))

    def forward(self, cells: Array, lowest: float, scale: float, run: Run) -> None:
        """Transform ``(cells - lowest) * scale``, divided by the number of cells."""

        def rows(part: slice) -> None:
            moved = ((cells[part] - lowest) * scale).astype(self.dtype, copy=False)
            self.spectrum[part] = scipy.fft.rfft(moved, norm="forward")

        def columns(part: slice) -> None:
            in_place(scipy.fft.fft, self.spectrum[:, part], axis=0, norm="forward")

        self._each(rows, self.height, self._rows, run)
        self._each(columns, self.spectrum.shape[1], self._columns, run)

    def filtered(self, o: int, amplitude: Array, run: Run) -> None:
        """Filter the image at one orientation and all scales.

        The amplitudes are added to `amplitude`. The energies are written to ``parts[0]``, the
        squared amplitudes of the finest scale to ``parts[1]``.
        """
        spectrum = self.spectrum.view(self.dtype)

        def apply(start: int, stop: int) -> None:
            apply_filters(*self.bank[:2], DISTANCES[o], spectrum, start, stop, self.parts)

        def columns(part: slice) -> None:
            apply(part.start, part.stop)
            in_place(scipy.fft.ifft, self.responses[:, :, part], axis=1, norm="forward")

        def rows(part: slice) -> None:
            responses = self.responses[:, part, : self.width]
            in_place(scipy.fft.ifft, responses, axis=2, norm="forward")
            energies(part)

        def energies(part: slice) -> None:
            room, epsilon = np.empty((3, self.width), self.dtype), self.dtype.type(EPSILON)
            energy, powers = self.parts[0], self.parts[1]
            measure(self.parts, part.start, part.stop, epsilon, energy, powers, amplitude, room)

        if self._rows >= self.height and self._columns >= self.width:  # one call for all
            apply(0, self.width)
            responses = self.responses[:, :, : self.width]
            in_place(scipy.fft.ifft2, responses, axes=(1, 2), norm="forward")
            energies(slice(0, self.height))
            return
        self._each(columns, self.width, self._columns, run)
        self._each(rows, self.height, self._rows, run)

    def _each(self, task: Callable[[slice], None], n: int, size: int, run: Run) -> None:
        """Call a task for blocks of rows or columns; the blocks depend on the frame only."""
        blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
        run(lambda k: task(blocks[k]), len(blocks), self.height * self.width * SCALES)


def padded(width: int) -> int:
    """Return the length of a row of responses."""
    return width if width < NARROW else width + PADDING


def in_place(transform: Callable[..., Array], values: Array, **options: Any) -> None:
    """Transform an array in place; the result of a backend that returns a new array is copied."""
    result = transform(values, overwrite_x=True, **options)
    if not np.may_share_memory(result, values):
        values[...] = result


def phase_congruency(
    cells: Array, valid: Array | None, scale: float, transforms: Transforms, run: Run
) -> Array | None:
    """Phase congruency of ``scale * cells``; None if float32 has too few digits for it."""
    dtype = transforms.dtype
    congruency = np.zeros(cells.shape, dtype=dtype)
    inside = {} if valid is None else {"where": valid}
    lowest = np.min(cells, initial=math.inf, **inside)
    highest = np.max(cells, initial=-math.inf, **inside)
    if lowest == highest and np.isfinite(cells).all():
        return congruency  # a constant image has no phase congruency
    if dtype == np.float32 and scale * (highest - lowest) > LARGEST_SPREAD:
        return None
    # No filter passes the mean. Without the minimum, float32 keeps more digits of the contrast.
    transforms.forward(cells, lowest if lowest < math.inf else 0.0, scale, run)
    amplitude = np.zeros_like(congruency)
    parts = transforms.parts
    for o in range(ORIENTATIONS):
        transforms.filtered(o, amplitude, run)
        powers = parts[1, :, : cells.shape[1]]
        noise = transforms.bank.thresholds[o] * math.sqrt(
            median(powers.ravel() if valid is None else powers[valid])
        )
        if dtype == np.float32 and not noise >= NOISE_FLOOR * scale * (highest - lowest):
            return None
        add_above(parts[0], dtype.type(noise), amplitude, o == ORIENTATIONS - 1, congruency)
    if dtype == np.float32 and not np.mean(congruency, dtype=np.float64, **inside) >= LEAST_MEAN:
        return None
    return congruency


@inline
def width_of(parts):  # type: ignore[no-untyped-def]
    """Width of the image whose responses these are."""
    length = parts.shape[2] // 2
    return length if length < NARROW else length - PADDING


@kernel
def apply_filters(radial, angular, distances, spectrum, start, stop, parts):  # type: ignore[no-untyped-def]
    """Write the filtered spectrum of some columns as pairs of a real and an imaginary part."""
    height, width = parts.shape[1], width_of(parts)
    half = (width + 1) // 2  # from here on, frequencies along the row are negative
    positive, negative = max(min(stop, half) - start, 0), max(stop - max(start, half), 0)
    first = width - stop + 1
    here, there = slice(start, start + positive), slice(first, first + negative)
    # Loops over slices from 0 on are vectorised, and backwards where no index can be negative.
    one, two = np.uint64(1), np.uint64(2)
    for i in range(height):
        below = int(2 * i >= height)
        row, mirrored = min(i, height - i), (height - i) % height
        for s in range(parts.shape[0]):
            f, g = radial[s, row, here], angular[distances[below, 0], row, here]
            source = spectrum[i, 2 * start : 2 * (start + positive)]
            out = parts[s, i, 2 * start : 2 * (start + positive)]
            for j in range(positive):
                gain = f[j] * g[j]
                out[2 * j] = source[2 * j] * gain
                out[2 * j + 1] = source[2 * j + 1] * gain
            f, g = radial[s, row, there], angular[distances[below, 1], row, there]
            source = spectrum[mirrored, 2 * first : 2 * (first + negative)]
            out = parts[s, i, 2 * (stop - negative) : 2 * stop]
            for j in range(np.uint64(negative)):
                gain, k = f[j] * g[j], np.uint64(negative) - one - j
                out[two * k] = source[two * j] * gain
                out[two * k + one] = -source[two * j + one] * gain


@kernel
def measure(parts, start, stop, epsilon, energy, powers, amplitude, room):  # type: ignore[no-untyped-def]
    """Write the energy along the mean phase and the finest scale's power; add the amplitudes.

    Energy and power may overwrite the responses of two scales.
    """
    width = amplitude.shape[1]
    zero = amplitude.dtype.type(0)
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
            room[0, j], room[1, j], room[2, j] = aligned, power, amplitudes
        for j in range(width):
            energy[i, j], powers[i, j] = room[0, j], room[1, j]
            amplitude[i, j] += room[2, j]


@kernel
def add_above(energy, noise, amplitude, is_last, total):  # type: ignore[no-untyped-def]
    """Add energy above the noise; after the last orientation, divide by the amplitude."""
    zero = total.dtype.type(0)
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            above = energy[i, j] - noise
            total[i, j] += zero if above < 0 else above  # their maximum would drop NaN
        if is_last:
            for j in range(total.shape[1]):
                total[i, j] = total[i, j] / amplitude[i, j] if amplitude[i, j] != 0 else zero
