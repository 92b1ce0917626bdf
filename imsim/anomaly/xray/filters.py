"""Erosion, smoothing and matched filters of many images at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

import imsim
from imsim.anomaly.products import Floats, product
from imsim.caches import kept

Doubles = NDArray[np.float64]

LAGS = 16
"""Distances in pixels up to which the pixels of a texture are taken to hang together."""
RIDGE = 5.0
"""How many times the mean power of a texture is added to its power at every frequency."""


def eroded(masks: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Return what lies at least `width` pixels inside: erosion by an octagon.

    Beyond the frame lies the outside. Crosses and squares in turn make the octagon, with two
    crosses to a square so that it is as wide in the diagonals, to a few per cent.
    """
    result = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    for step in range(width):
        inner = result[:, 1:-1, 1:-1].copy()
        for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
            inner &= _shifted(result, rows, columns)
        if step % 2:
            for rows, columns in ((0, 0), (0, 2), (2, 0), (2, 2)):
                inner &= _shifted(result, rows, columns)
        result[:, 1:-1, 1:-1] = inner
    interior: NDArray[np.bool_] = result[:, 1:-1, 1:-1]
    return interior


def _shifted(padded: NDArray[np.bool_], rows: int, columns: int) -> NDArray[np.bool_]:
    height, width = padded.shape[1:]
    return padded[:, rows : height - 2 + rows, columns : width - 2 + columns]


def smoothed(images: Floats, sigma: float) -> Floats:
    """Convolve with a Gaussian, zeros beyond the frame.

    A product with a matrix along each axis: for wide Gaussians several times faster than a
    convolution.
    """
    rows, columns = (_gaussian(length, float(sigma)) for length in images.shape[1:])
    return product(rows, product(images, columns))


def autocovariance(textures: Iterable[Floats], masks: Iterable[NDArray[np.bool_]]) -> Doubles:
    """Return the mean product of pixels inside the masks, by their distance in whole pixels.

    Parameters
    ----------
    textures : iterable of float32 array, shape (n, height, width)
        0 outside the masks.
    masks : iterable of bool array, shape (n, height, width)
        Where the textures count.

    Returns
    -------
    float64 array, shape (LAGS,)
    """
    products, pairs = np.zeros(LAGS), np.zeros(LAGS)
    for texture, mask in zip(textures, masks, strict=True):
        shape = _padded(texture.shape[1:])
        distances = np.rint(_distance(shape)).astype(int).ravel()
        near = distances < LAGS
        for values, total in ((texture, products), (mask.astype(np.float32), pairs)):
            power = np.abs(_transform(values, shape)) ** 2
            sums = scipy.fft.irfft2(power.sum(axis=0, dtype=np.float64), shape).ravel()
            total += np.bincount(distances[near], sums[near], LAGS)
    return products / np.maximum(pairs, 1)


def matched(textures: Floats, covariance: Doubles, body: float) -> Floats:
    r"""Filter for a Gaussian body within texture of the given autocovariance.

    The transfer function of the matched filter in coloured noise is the spectrum of the body over
    the power spectrum N of the texture. Here it is

    .. math:: H(f) = \frac{\exp(-2 \pi^2 s^2 f^2)}{N(f) + \lambda \bar N}

    with s = `body` in pixels; :math:`\lambda` keeps away from the gaps of a spectrum that is
    known from few images, and :math:`\bar N` is the mean of N. In space the filter is tapered to
    `LAGS` pixels, so that strong metal does not ring through the image. Beyond the frame lie zeros.
    """
    shape = _padded(textures.shape[1:])
    distance = _distance(shape)
    taper = 0.5 * (1 + np.cos(np.pi * np.minimum(distance / LAGS, 1)))
    near = np.interp(distance, np.arange(LAGS), covariance) * taper
    power = np.maximum(scipy.fft.rfft2(near).real, 0)
    y, x = scipy.fft.fftfreq(shape[0])[:, None], scipy.fft.rfftfreq(shape[1])
    spectrum = np.exp(-2 * (np.pi * body) ** 2 * (y**2 + x**2))
    transfer = spectrum / (power + RIDGE * covariance[0])  # the mean of N is the variance
    transfer = scipy.fft.rfft2(scipy.fft.irfft2(transfer, shape) * taper).real
    spectra = _transform(textures, shape)
    spectra *= transfer.astype(np.float32)
    found = scipy.fft.irfft2(spectra, shape, overwrite_x=True, workers=imsim.get_workers())
    height, width = textures.shape[1:]
    result: Floats = found[:, :height, :width]
    return result


def _transform(images: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    result: NDArray[Any] = scipy.fft.rfft2(images, shape, workers=imsim.get_workers())
    return result


def _padded(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return a size that keeps `LAGS` pixels between an image and its periodic continuation."""
    height, width = (int(scipy.fft.next_fast_len(length + LAGS, real=True)) for length in shape)
    return height, width


def _distance(shape: tuple[int, int]) -> Doubles:
    """Return the distance of each lag of a circular correlation from zero, in pixels."""
    y, x = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape)
    result: Doubles = np.hypot(y[:, None], x)
    return result


@kept
def _gaussian(n: int, sigma: float) -> Floats:
    """Return the symmetric matrix whose rows are Gaussians around the diagonal."""
    distance = np.arange(n)[:, None] - np.arange(n)
    weights = np.exp(-0.5 * (distance / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    result: Floats = weights.astype(np.float32)
    return result
