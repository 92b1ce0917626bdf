"""regions() of tensors in the memory of the host: a table of NumPy arrays."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
import torch
from libraries import Library
from sampling import FRAME, textured_pair

import imsim

METRICS = ["rmse", "gmsd"]
REFUSED = r"regions takes NumPy arrays, and tensors.*neither traced nor ask for a gradient"


def sample(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    a, b = (v.astype(np.float32) for v in textured_pair(rng, *FRAME))
    labels = np.kron(np.arange(1, 5).reshape(2, 2), np.ones((20, 20), int))
    return a, b, np.pad(labels, 40)[40 : 40 + FRAME[0], 40 : 40 + FRAME[1]]


def same(found: imsim.Regions, want: imsim.Regions) -> None:
    assert list(found) == list(want)
    for name, column in found.items():
        assert type(column) is np.ndarray
        np.testing.assert_array_equal(column, want[name])


def test_a_table_of_numpy_arrays(library: Library, rng: np.random.Generator) -> None:
    a, b, labels = sample(rng)
    want = imsim.regions(a, b, labels, METRICS, data_range=255)
    for numbers in (labels, library.asarray(labels.astype(np.int32))):
        given = library.asarray(a), library.asarray(b), numbers
        same(imsim.regions(*given, METRICS, data_range=255), want)
    given = library.asarray(a), b, labels
    same(imsim.regions(*given, METRICS, data_range=library.asarray(255.0)), want)


def test_short_floats(rng: np.random.Generator) -> None:
    a, b, labels = sample(rng)
    short = [torch.from_numpy(v).bfloat16() for v in (a, b)]
    want = imsim.regions(*(v.float().numpy() for v in short), labels, METRICS, data_range=255)
    same(imsim.regions(*short, labels, METRICS, data_range=255), want)


def test_gradients_are_not_dropped_in_silence(rng: np.random.Generator) -> None:
    a, b, labels = sample(rng)
    x, y = torch.from_numpy(a).requires_grad_(), torch.from_numpy(b)
    with pytest.raises(imsim.DTypeError, match=REFUSED):
        imsim.regions(x, y, labels, METRICS, data_range=255)
    want = imsim.regions(a, b, labels, METRICS, data_range=255)
    with torch.no_grad():
        same(imsim.regions(x, y, labels, METRICS, data_range=255), want)
    same(imsim.regions(x.detach(), y, labels, METRICS, data_range=255), want)


def test_traced_arrays_are_refused(rng: np.random.Generator) -> None:
    a, b, labels = sample(rng)
    with pytest.raises(imsim.DTypeError, match=REFUSED):
        jax.jit(lambda x: imsim.regions(x, b, labels, METRICS, data_range=255)["rmse"])(a)
    with pytest.raises(imsim.DTypeError, match="labels"):
        jax.jit(lambda k: imsim.regions(a, b, k, METRICS, data_range=255)["rmse"])(labels)
