"""Tensors that are drawn on pages or stored as references: as the same numbers of NumPy are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

import imsim
from imsim import pages
from imsim.regression import ImageRegression

NUMBERS = np.arange(20 * 24, dtype=np.float32).reshape(20, 24) % 251 + 1
"""All of them are numbers of bfloat16."""
TENSORS = {
    "bfloat16": torch.asarray(NUMBERS).bfloat16(),
    "with a gradient": torch.asarray(NUMBERS).requires_grad_(),
    "bfloat16 with a gradient": torch.asarray(NUMBERS).bfloat16().requires_grad_(),
    "negated later": torch.conj(torch.asarray(0 - 1j * NUMBERS)).imag,
    "bfloat16 of JAX": jax.numpy.asarray(NUMBERS, jax.numpy.bfloat16),
}
each_tensor = pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)


@each_tensor
def test_on_a_page(tensor: object) -> None:
    want = pages.pair_report(NUMBERS, NUMBERS, metrics=["rmse"], data_range=255)
    assert pages.pair_report(tensor, tensor, metrics=["rmse"], data_range=255) == want


@each_tensor
def test_as_a_reference(tensor: object, tmp_path: Path) -> None:
    def check(image: object, *, update: bool = False) -> None:
        places = {"report": tmp_path / "report", "start": tmp_path, "test": "t"}
        ImageRegression(tmp_path, "x", **places, update=update, written=print).check(image)

    check(tensor, update=True)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), NUMBERS)
    check(tensor)
    check(NUMBERS)


@each_tensor
def test_in_colours(tensor: object) -> None:
    want = pages.colour_map(NUMBERS, 0.0, 255.0)
    np.testing.assert_array_equal(pages.colour_map(tensor, 0.0, 255.0), want)


@each_tensor
def test_as_vertices(tensor: Any) -> None:
    want = imsim.polygon_mask((9, 9), NUMBERS[:, :2] % 9)
    np.testing.assert_array_equal(imsim.polygon_mask((9, 9), tensor[:, :2] % 9), want)


def test_booleans_are_no_scores() -> None:
    with pytest.raises(imsim.DTypeError, match=r"^score is a Tensor; expected a number"):
        imsim.METRICS["ssim"].dissimilarity(torch.asarray([True]))


def test_without_numbers() -> None:
    tensor = torch.asarray(NUMBERS).to("meta")
    with pytest.raises(imsim.DTypeError, match=r"^reference is a torch.Tensor, .*no data.*NumPy"):
        pages.pair_report(tensor, tensor, metrics=["rmse"], data_range=255)
