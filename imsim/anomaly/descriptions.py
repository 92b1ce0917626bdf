"""What images show, in numbers: raw statistics, energies of log-Gabor filters, brightness."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

import imsim
from imsim.anomaly.gaussians import FLOOR, Moments
from imsim.anomaly.stacks import Booleans, Doubles, Floats, batch_images, masks_at, product
from imsim.anomaly.xray.frames import BORDER, border
from imsim.caches import kept
from imsim.errors import warn
from imsim.portable import phase_congruency
from imsim.portable.coarse import automatic_factor, block_mean
from imsim.workers import in_parts

QUANTILES = (0.5, 0.9, 0.99, 1.0)
"""Of the energies over all places, in the description of the whole image."""
LEVELS = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1.0)
"""The same of the brightness."""
WINDOW, STRIDE = 3, 2
"""Side of a window of places, and how far apart windows lie at most."""
TEXTURES = {"texture": 0.9, "coarse texture": 0.75, "lumps": 0.75}
"""Names of the strengths of details of 2, 4 and 8 pixels, and the share of the smallest of them
whose mean each is: edges and foreign bodies are not in it, which cover more of coarse details, and
where the half of an image is flat it is not 0, as the median would be."""
STRUCTURES = ("fine structure", "structure")
"""Names of the strengths of all details of 1 and 2 pixels, edges among them."""
RAW = (
    "level",
    "contrast",
    "border",
    "noise",
    *TEXTURES,
    "column pattern",
    "row pattern",
    *STRUCTURES,
)
"""Names of the raw statistics of an image, in the order of their columns."""
RANGES = 10.0
"""Ratio of contrasts beyond which images have another range: from 12 to 16 bits it is 16, from
percent 100, from 8 bits to shares 255, while a new harvest changes it by a few tenths."""
FINEST = 3
"""Wavelength in pixels of a scale that FSIM does not have: its finest one, of 6 pixels, sees less
of fine grain and thin lines. Half of it is the next octave."""
FILTERS = (phase_congruency.SCALES + 1) * phase_congruency.ORIENTATIONS
FINE = 3 * phase_congruency.ORIENTATIONS
"""Filters with wavelengths up to 12 pixels; they come first."""
CHANNELS = FILTERS + 1
"""The energies of all filters, and the mean brightness."""
CELLS, LEAST_CELL = 32, 4
"""Most cells along a side of the grid of places, and least pixels along a side of a cell."""
LARGEST = 1e15
"""Spreads from the level at which pixels are clipped: float32 holds the sums."""


def number_of_features(rows: int, columns: int) -> int:
    """Return how many features the description of a whole image has."""
    return CHANNELS * rows * columns + FILTERS * len(QUANTILES) + len(LEVELS)


def of_wholes(shown: Floats, grid: tuple[int, int], floor: float) -> Doubles:
    """Return logarithmic energies and brightness, by cells and their quantiles, (n, features)."""
    n = len(shown)
    coarse = cell_means(shown, *grid)
    places = shown.reshape(n, CHANNELS, -1)
    parts = [
        coarse[:, :FILTERS].reshape(n, -1),
        _quantiles(places[:, :FILTERS], QUANTILES),
        coarse[:, FILTERS:].reshape(n, -1),
        _quantiles(places[:, FILTERS:], LEVELS),
    ]
    logs = [np.log(part.astype(np.float64) + floor) for part in parts[:2]]
    return np.concatenate([*logs, *parts[2:]], axis=1)


def of_places(shown: Floats, floor: float, *, alike: bool) -> list[Doubles]:
    """Return descriptions of all places, shapes (n, places, features).

    The first has logarithmic energies and brightness. The second has the energies; where all places
    are `alike`, it has the roots of the energies, which are less skewed, and the brightness.
    """
    places = by_place(shown)
    energies, brightness = places[..., :FILTERS], places[..., FILTERS:]
    logs = np.concatenate([np.log(energies + floor), brightness], axis=2)
    if alike:
        return [logs, np.concatenate([np.sqrt(energies), brightness], axis=2)]
    return [logs, energies / floor]


def within(rows: int, columns: int) -> tuple[int, int]:
    """Return the rows and columns of a grid without its border, if more than a window is left."""
    rows, columns = (n - 2 if n > WINDOW + 2 else n for n in (rows, columns))
    return rows, columns


def of_windows(shown: Floats, floor: float) -> Doubles:
    """Return energies and brightness of overlapping windows of places, (n, windows, features)."""
    side = [min(WINDOW, n) for n in shown.shape[2:]]
    starts = [
        np.union1d(np.arange(0, n - k, STRIDE), n - k)
        for n, k in zip(shown.shape[2:], side, strict=True)
    ]
    scaled = shown.astype(np.float64)
    scaled[:, :FILTERS] /= floor
    windows = sliding_window_view(scaled, side, axis=(2, 3))[:, :, starts[0][:, None], starts[1]]
    n, channels, rows, columns = windows.shape[:4]
    return np.moveaxis(windows, 1, 3).reshape(n, rows * columns, channels * side[0] * side[1])


def by_place(shown: Floats) -> Doubles:
    """Return what images show as features of places, shape (n, places, channels)."""
    return np.moveaxis(shown.reshape(*shown.shape[:2], -1), 1, 2).astype(np.float64)


def _quantiles(values: Floats, shares: tuple[float, ...]) -> Floats:
    """Return quantiles over the last axis of values (n, channels, places), (n, features)."""
    ranks = [round(share * (values.shape[2] - 1)) for share in shares]
    return np.partition(values, ranks, axis=2)[..., ranks].reshape(len(values), -1)


def has_places(shown: Floats) -> bool:
    """Whether good images are more likely with a Gaussian for each place than with one for all.

    Each half of the images is judged by what is learned from the other, in energies.
    """
    features = by_place(shown)[..., :FILTERS]
    return _surprise(features) <= _surprise(features, pooled=True)


def tails(shown: Floats) -> float:
    """Return Mardia's kurtosis of the energies of all places, over a normal distribution's."""
    features = by_place(shown)[..., :FILTERS].reshape(-1, FILTERS)
    moments = Moments()
    moments.add(features[:, None])
    squares = moments.gaussian().squared_distances(features)
    return float((squares**2).mean() / (FILTERS * (FILTERS + 2)))


def place_surprise(images: Floats) -> float:
    """Return how little one half of good images tells about the other, place by place.

    Of the logarithms of energies, so that images are not alike for being smoother.
    """
    energies = energies_of(images, None, *level_and_spread(images))[:, :FILTERS]
    return _surprise(np.log(by_place(energies) + FLOOR * max(float(np.median(energies)), 1e-6)))


def _surprise(features: Doubles, *, pooled: bool = False) -> float:
    """Return the mean negative log-likelihood, but for a constant, of one half given the other."""
    total = 0.0
    for learned, judged in ((features[::2], features[1::2]), (features[1::2], features[::2])):
        moments = Moments()
        moments.add(learned.reshape(-1, 1, features.shape[-1]) if pooled else learned)
        gaussian = moments.gaussian()
        volume = np.abs(np.diagonal(gaussian.whitening, axis1=1, axis2=2))
        less = np.log(volume).sum(axis=1).mean()
        surprises = (gaussian.squared_distances(one).mean() / 2 - less for one in judged)
        total += sum(map(float, surprises)) / max(len(judged), 1)
    return total


def warn_of_other_range(new: Doubles, known: Doubles) -> None:
    """Warn if new images have another range of numbers than known ones, by their raw statistics."""
    column = RAW.index("contrast")
    contrasts = [values[np.isfinite(values)] for values in (new[:, column], known[:, column])]
    if not all(values.size for values in contrasts):
        return
    one, other = (float(np.median(values)) for values in contrasts)
    if min(one, other) > 0 and not 1 / RANGES < one / other < RANGES:
        warn(
            f"the new images have {one / other:.3g} times the contrast of those learned from "
            "before: if they have another range of numbers, convert them, and update the detector "
            "as it was saved before; a model of both hardly finds what is wrong in either",
            UserWarning,
        )


def raw_statistics(frames: NDArray[Any], used: Booleans | None) -> Doubles:
    """Return the raw statistics of good images, a row each; NaN for those without."""
    result = np.full((len(frames), len(RAW)), np.nan)

    def part(these: slice) -> None:
        for i in range(these.start, these.stop):
            found = of_image(frames[i], masks_at(used, i))
            if np.isfinite(found).all():  # a preprocess of the caller may repair NaN
                result[i] = found

    in_parts(part, len(frames), batch_images(frames))
    return result


def check_raw(raw: Doubles) -> Doubles:
    """Refuse raw statistics out of a file that `raw_statistics` does not return."""
    known = np.isfinite(raw).all(axis=1)
    if not known.any() or not np.isnan(raw[~known]).all():
        raise imsim.OptionError("its raw statistics are none that good images have")
    return raw


@np.errstate(over="ignore", invalid="ignore")
def of_image(image: NDArray[Any], used: Booleans | None) -> list[float]:
    """Return the raw statistics of an image; they may be NaN or infinite, as pixels may."""
    if used is not None and not used.any():
        return [np.nan] * len(RAW)
    pixels = image.astype(np.float64)
    if used is not None and not used.all():
        pixels[~used] = pixels[used].mean()
    shares = TEXTURES["texture"], *TEXTURES.values()
    blocks, details = pixels, []
    for _ in shares:
        details.append(np.diff(np.diff(blocks, axis=0), axis=1) / 2)
        rows, columns = (side // 2 * 2 for side in blocks.shape)
        pairs = blocks[0:rows:2, :columns] + blocks[1:rows:2, :columns]
        blocks = (pairs[:, ::2] + pairs[:, 1::2]) / 4
    edge = min(BORDER, *(side // 2 for side in pixels.shape))
    return [
        float(pixels.mean()),
        float(pixels.std()),
        float(np.median(border(pixels[None], edge))) if edge else 0.0,
        *(_strength(one, share) for one, share in zip(details, shares, strict=True)),
        *(_strength(np.diff(pixels.mean(axis=k), 2), TEXTURES["texture"]) for k in (0, 1)),
        *(_strength(one, 1.0) for one in details[: len(STRUCTURES)]),
    ]


def _strength(details: Doubles, share: float) -> float:
    """Return the mean absolute value of a share of the details, the smaller ones."""
    values = np.abs(details).ravel()
    if not values.size:
        return 0.0
    number = max(1, round(share * values.size))
    return float(np.partition(values, number - 1)[:number].mean())


def energies_of(pixels: Floats, used: Booleans | None, level: float, spread: float) -> Floats:
    """Return what images show by cell, shape (n, channels, rows, columns).

    Images are counted from a level in units of a spread; outside a mask they are its mean inside.
    """
    result = np.empty((len(pixels), CHANNELS, *grid_of(pixels.shape[1:])), np.float32)

    def part(these: slice) -> None:
        for i in range(these.start, these.stop):
            image = (pixels[i].astype(np.float64) - level) / spread
            image = np.clip(image, -LARGEST, LARGEST)
            if used is not None and used[i].any():
                image = np.where(used[i], image, image[used[i]].mean())
            result[i] = cell_energies(image)

    in_parts(part, len(pixels), batch_images(pixels))
    return result


def cell_energies(image: Doubles) -> Floats:
    """Return the mean amplitude of each log-Gabor response, and the mean brightness, by cell.

    The shape is (channels, rows, columns). The image is reduced as FSIM reduces it: a wavelength
    means the same at every size.
    """
    height, width = image.shape
    factor = automatic_factor(height, width)
    frame = block_mean(image, None, factor, border="symmetric")[0].astype(np.float32)
    spectrum = scipy.fft.fft2(frame)
    grid = grid_of((height, width))
    result = np.empty((CHANNELS, *grid), np.float32)
    fine, coarse = _filters(*frame.shape)
    result[:FINE] = _amplitudes(spectrum * fine, grid)
    result[FINE:FILTERS] = _amplitudes(_lowest(spectrum, coarse.shape[1:]) * coarse, grid)
    result[FILTERS:] = cell_means(frame[None], *grid)
    return result


def _amplitudes(spectra: NDArray[np.complex64], grid: tuple[int, int]) -> Floats:
    """Return mean amplitudes by cell, shape (filters, rows, columns)."""
    responses = scipy.fft.ifft2(spectra, overwrite_x=True)
    return cell_means(np.abs(responses), *grid)


def _lowest(spectra: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the lowest frequencies of spectra, as those of a frame of fewer pixels."""
    rows, columns = (
        np.r_[: (n + 1) // 2, m - n // 2 : m]
        for n, m in zip(shape, spectra.shape[-2:], strict=True)
    )
    return spectra[..., rows[:, None], columns]


def level_and_spread(pixels: Floats) -> tuple[float, float]:
    """Return mean and standard deviation; 1 for a constant."""
    return float(pixels.mean(dtype=np.float64)), float(pixels.std(dtype=np.float64)) or 1.0


def grid_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns of cells of a frame."""
    rows, columns = (max(1, min(CELLS, side // LEAST_CELL)) for side in shape)
    return rows, columns


def cell_means(values: Floats, rows: int, columns: int) -> Floats:
    """Return means over a grid of cells that share out the last two axes."""
    height, width = values.shape[-2:]
    across = product(values, np.ascontiguousarray(_averages(width, columns).T))
    return product(_averages(height, rows), across)


@kept
def _averages(n: int, cells: int) -> Floats:
    """Return the matrix (cells, n) whose product with n numbers is their means by cell."""
    edges = np.linspace(0, n, cells + 1).round()
    inside = (edges[:-1, None] <= np.arange(n)) & (np.arange(n) < edges[1:, None])
    means = inside / np.diff(edges)[:, None]
    return means.astype(np.float32)


@kept
def _filters(height: int, width: int) -> tuple[Floats, Floats]:
    """Return log-Gabor filters for one size, shapes (filters, height, width).

    They are those of a scale finer than FSIM's, and of FSIM's scales. Of the two coarsest, of 24
    and 48 pixels, most passes below half of the frequencies. So their responses are computed at
    every second pixel, where the sides are multiples of 4: a quarter of the work. What they pass
    beyond is left out, which changes their mean amplitudes by 2 to 7 % on average; good and other
    images are measured alike.
    """
    bank = phase_congruency.filter_bank(height, width)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    # The filter of 6 pixels at half the frequency is that of 3 pixels.
    finest = phase_congruency.log_gabor(radius * (FINEST / phase_congruency.MIN_WAVELENGTH))[0]
    radial = np.concatenate([finest[None], bank.radial])
    filters = (radial[:, None] * bank.angular).reshape(FILTERS, height, width)
    coarse = filters[FINE:]
    if height % 4 == 0 and width % 4 == 0:
        coarse = _lowest(coarse, (height // 2, width // 2)) / 4  # the inverse divides by the pixels
    return filters[:FINE].astype(np.float32), np.ascontiguousarray(coarse, np.float32)
