"""align() of tensors: found on the host, and a tensor again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sampling import texture

import imsim


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.bfloat16, torch.float16, torch.float32, torch.float64]
)
def test_tensors_in_and_out(dtype: torch.dtype, rng: np.random.Generator) -> None:
    scene = torch.from_numpy(texture(rng, (60, 60))).to(dtype)
    found = imsim.align(scene[8:48, 8:48], scene[6:46, 9:49], mask=torch.ones(40, 40).bool())
    assert found.shift == (-2, 1)
    assert (found.image.dtype, found.valid.dtype) == (dtype, torch.bool)
    assert torch.equal(found.image[found.valid], scene[8:48, 8:48][found.valid])


def test_tensors_without_values_are_refused() -> None:
    images = torch.ones(2, 40, 40, device="meta")
    with pytest.raises(imsim.DTypeError, match=r"^a is lazy, traced or on another device"):
        imsim.align(*images)


def test_no_gradient_passes(rng: np.random.Generator) -> None:
    a, b = (torch.from_numpy(texture(rng, (40, 40))).requires_grad_() for _ in range(2))
    b = b * 0 + a
    assert not imsim.align(a, b).image.requires_grad
