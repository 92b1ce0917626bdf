"""Seeded image pairs: the same pixel values for every library, dtype and run."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
DATA_RANGE = 255.0
DTYPES = ("uint8", "uint16", "float32", "float64")


def _texture(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Noise whose amplitude falls with frequency as in photographs, with hard edges.

    A tenth is dark and flat, as shadows are: its windows are far from the mean of their
    surroundings, and need more digits. It lies off the border, where libraries differ.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / frequency**1.2
    spectrum[0, 0] = 0.0
    image = np.fft.irfft2(spectrum, s=(size, size))
    image /= image.std()
    image[:, size // 3 : size // 2] += 1.5
    image = 128 + 35 * image
    image[:, size // 6 : size // 6 + size // 10] = 12 + rng.normal(0, 1, (size, size // 10))
    return np.asarray(image)


@functools.lru_cache(maxsize=4)
def _bytes(size: int, count: int, channels: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`count` pairs as whole numbers from 1 to 255: black pixels have no spectral angle."""
    rng = np.random.default_rng([size, count, channels])
    pairs = []
    for _ in range(count * channels):
        x = _texture(rng, size)
        y = 0.9 * x + 20 + rng.normal(0, 8, x.shape)
        pairs.append([np.clip(np.rint(v), 1, 255).astype(np.uint8) for v in (x, y)])
    shape = (count, channels, size, size)
    x, y = (np.moveaxis(np.stack(v).reshape(shape), 1, -1) for v in zip(*pairs, strict=True))
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def pair(
    size: int, dtype: str = "float32", *, count: int | None = None, channels: int = 1
) -> tuple[Array, Array]:
    """Reference and test image, or `count` of each; several channels are the last axis."""
    images = []
    for v in _bytes(size, count or 1, channels):
        image = v.astype(dtype)
        image = image[..., 0] if channels == 1 else image
        images.append(image[0] if count is None else image)
    return images[0], images[1]


def mask(size: int) -> NDArray[np.bool_]:
    """A disc of about two thirds of the frame, as of a part under inspection."""
    along = np.arange(size) - (size - 1) / 2
    return np.asarray(np.hypot(along[:, None], along) < 0.46 * size)


@functools.lru_cache(maxsize=1)
def cells(size: int, count: int) -> NDArray[np.int32]:
    """Labels of the pixels nearest to each of some points: regions of many sizes and shapes."""
    from scipy.spatial import cKDTree

    points = np.random.default_rng([size, count]).uniform(0, size, (count, 2))
    pixels = np.stack(np.mgrid[:size, :size], axis=-1).reshape(-1, 2)
    labels = cKDTree(points).query(pixels)[1].reshape(size, size) + 1
    return np.asarray(labels, np.int32)
