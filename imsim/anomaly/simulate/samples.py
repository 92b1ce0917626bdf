"""Simulated images with their ground truth."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

SHARED = ("flat", "dark")  # one for all samples


@dataclass(frozen=True, eq=False)
class Samples:
    """Simulated images with their ground truth; the first axis counts the samples.

    `len(samples)` is their number, and `samples[index]` picks some of them: a boolean mask over the
    samples, a slice, integers, or one integer, which gives `Samples` of length 1. The flat and the
    dark field stay with them.

    Attributes
    ----------
    counts : numpy.ndarray of uint16, shape (n, height, width)
        Raw detector counts.
    flat, dark : numpy.ndarray of float32, shape (height, width)
        Measured open beam and dark signal, each the average of 64 frames.
    images : numpy.ndarray of float32, shape (n, height, width)
        Transmission: the counts after flat and dark correction; 1 is the open beam.
    labels : numpy.ndarray of int64, shape (n,)
        0 good, 1 bad.
    kinds : numpy.ndarray of str, shape (n,)
        `"good"` or one of `KINDS`.
    sizes : numpy.ndarray of float64, shape (n,)
        Size of the defect, as a fraction of the greatest of its kind; 0 for good samples.
    defect_masks : numpy.ndarray of bool, shape (n, height, width)
        Every pixel that the sharp projection of the defect touches; the blur of the beam spreads
        the defect a little beyond. Empty for good samples.
    interiors : numpy.ndarray of bool, shape (n, height, width)
        Silhouette of the whole item in sharp projection, whether there is a defect or not. A peeled
        mask is an erosion of it.
    clean : numpy.ndarray of float32, shape (n, height, width)
        Transmission of the clean twin: the same item and the same noise without the defect. It
        equals `images` bit by bit outside the blur's reach of the defect.
    cnr : numpy.ndarray of float64, shape (n,)
        Contrast-to-noise ratio: the noise-free difference between sample and twin, without its
        sign, over the standard deviation of the noise, in the pixel where it is greatest. The
        texture of the item does not count as noise. NaN for good samples.
    """

    counts: npt.NDArray[np.uint16]
    flat: npt.NDArray[np.float32]
    dark: npt.NDArray[np.float32]
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.str_]
    sizes: npt.NDArray[np.float64]
    defect_masks: npt.NDArray[np.bool_]
    interiors: npt.NDArray[np.bool_]
    clean: npt.NDArray[np.float32]
    cnr: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Samples:
        if not isinstance(index, slice):
            index = np.atleast_1d(np.asarray(index))
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return Samples(**{k: v if k in SHARED else v[index] for k, v in arrays.items()})
