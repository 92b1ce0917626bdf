"""Label images, and what the rows of `regions` are defined by."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sampling import FRAME, textured_pair
from scipy.ndimage import gaussian_filter

import imsim

CROPPED = [name for name, metric in imsim.METRICS.items() if metric.crop is not None]
KINDS = ("cells", "noise", "boxes", "blobs", "rows")
TOLERANCE = 1e-12


def label_image(kind: str, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Make labels of a kind: compact or scattered, touching each other and the frame, or not."""
    n = int(rng.integers(1, 12))
    labels = np.zeros((height, width), np.int64)
    match kind:
        case "cells":
            points = rng.uniform(0, 1, (n, 2)) * (height, width)
            places = np.stack(np.mgrid[:height, :width], axis=-1)[..., None, :]
            labels = ((places - points) ** 2).sum(axis=-1).argmin(axis=-1) + 1
        case "noise":
            labels = rng.integers(0, n + 1, (height, width))
        case "boxes":
            for label in range(1, n + 1):
                top, left = rng.integers(0, (height, width))
                labels[top : top + rng.integers(1, 24), left : left + rng.integers(1, 24)] = label
        case "blobs":
            labels = (40 * gaussian_filter(rng.standard_normal((height, width)), 4)).astype(int)
        case "rows":
            labels[:] = np.arange(height)[:, None] // 3
    labels.flat[rng.integers(labels.size)] = 99  # a single pixel
    return labels


def by_loop(name: str, a: Any, b: Any, labels: np.ndarray, **options: Any) -> np.ndarray:
    """Score one label after the other, as the documentation defines the rows."""
    crop, images = imsim.METRICS[name].crop, (a, b)
    if crop and crop.widens and a.dtype == np.float32:
        images = (a.astype(np.float64), b.astype(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array(
            [
                imsim.METRICS[name].function(*images, mask=labels == label, **options)
                for label in np.setdiff1d(labels, [0])
            ]
        )


def assert_rows(found: imsim.Regions, a: Any, b: Any, labels: np.ndarray, **options: Any) -> None:
    for name, scores in found.scores.items():
        want = by_loop(name, a, b, labels, **options)
        np.testing.assert_allclose(
            scores, want, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True, err_msg=name
        )


def regions(*args: Any, **options: Any) -> imsim.Regions:
    """Score, whatever cannot be scored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", imsim.EmptyMaskWarning)
        return imsim.regions(*args, **options)


def pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two images of bytes."""
    a, b = (v.astype(np.uint8) for v in textured_pair(rng, *FRAME))
    return a, b
