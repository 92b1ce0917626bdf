"""The matched filter for a small body within the texture of good items."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from imsim.anomaly.stacks import Booleans, Doubles, Floats
from imsim.caches import kept
from imsim.workers import SMALLEST_SHARED, get_workers

LAGS = 16
"""Distances in pixels for which the autocovariance of a texture is computed."""
RIDGE = 5.0
"""The mean power of a texture, times this, is added to its power at every frequency."""


def autocovariance(textures: Iterable[Floats], masks: Iterable[Booleans]) -> Doubles:
    """Return the mean product of pixels inside the masks, by their distance in whole pixels."""
    products, pairs = np.zeros(LAGS), np.zeros(LAGS)
    for texture, mask in zip(textures, masks, strict=True):
        shape = _padded_size(texture.shape[1:])
        distances = np.rint(_distance(shape)).astype(int).ravel()
        near = distances < LAGS
        for values, total in ((texture, products), (mask.astype(np.float32), pairs)):
            power = np.abs(_transform(values, shape)) ** 2
            sums = scipy.fft.irfft2(power.sum(axis=0, dtype=np.float64), shape).ravel()
            total += np.bincount(distances[near], sums[near], LAGS)
    return products / np.maximum(pairs, 1)


def filtered(textures: Floats, covariance: Doubles, body: float) -> Floats:
    r"""Filter for a Gaussian body within texture of the given autocovariance.

    The spectrum of the body, of `body` pixels, over the power spectrum N of the texture:

    .. math:: H(f) = \frac{\exp(-2 \pi^2 s^2 f^2)}{N(f) + \lambda \bar N}

    where :math:`\lambda` bounds the gain in gaps of a spectrum that is known from few images only.
    The filter is tapered to `LAGS` pixels, so that metal does not ring through the image.
    """
    shape = _padded_size(textures.shape[1:])
    spectra = _transform(textures, shape)
    spectra *= _transfer(shape, tuple(covariance.tolist()), body)
    found = scipy.fft.irfft2(spectra, shape, overwrite_x=True, workers=_threads(textures))
    height, width = textures.shape[1:]
    result: Floats = found[:, :height, :width]
    return result


@kept
def _transfer(shape: tuple[int, int], autocovariance: tuple[float, ...], body: float) -> Floats:
    """Return the transfer function of `filtered`, at the frequencies of a transform of reals."""
    covariance = np.array(autocovariance)
    distance = _distance(shape)
    taper = 0.5 * (1 + np.cos(np.pi * np.minimum(distance / LAGS, 1)))
    near = np.interp(distance, np.arange(LAGS), covariance) * taper
    power = np.maximum(scipy.fft.rfft2(near).real, 0)
    y, x = scipy.fft.fftfreq(shape[0])[:, None], scipy.fft.rfftfreq(shape[1])
    spectrum = np.exp(-2 * (np.pi * body) ** 2 * (y**2 + x**2))
    transfer = spectrum / (power + RIDGE * covariance[0])  # the mean of N is the variance
    tapered = scipy.fft.rfft2(scipy.fft.irfft2(transfer, shape) * taper).real
    result: Floats = tapered.astype(np.float32)
    return result


def _transform(images: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    result: NDArray[Any] = scipy.fft.rfft2(images, shape, workers=_threads(images))
    return result


def _threads(images: NDArray[Any]) -> int:
    """Return the threads for transforms: few pixels are done before another thread has woken."""
    return get_workers() if images.size >= SMALLEST_SHARED else 1


def _padded_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return a size that keeps `LAGS` pixels between an image and its periodic continuation."""
    height, width = (int(scipy.fft.next_fast_len(length + LAGS, real=True)) for length in shape)
    return height, width


def _distance(shape: tuple[int, int]) -> Doubles:
    """Return the distance of each lag of a circular correlation from zero, in pixels."""
    y, x = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape)
    result: Doubles = np.hypot(y[:, None], x)
    return result
