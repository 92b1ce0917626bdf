"""How many operations, and how many numbers written, a score takes; this stands for its time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engines import formulas
from torch.utils._python_dispatch import TorchDispatchMode

import imsim

SIDE = 256


def counted(function: Any, *images: Any) -> tuple[int, float]:
    """Count the operations that write, and the numbers they write, in sizes of an image.

    Views write nothing.
    """
    operations = numbers = 0

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(
            self, call: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal operations, numbers
            result = call(*args, **(kwargs or {}))
            if not any(value.alias_info for value in call._schema.returns):
                operations += 1
                parts = result if isinstance(result, list | tuple) else [result]
                numbers += sum(part.numel() for part in parts if isinstance(part, torch.Tensor))
            return result

    with Counter():
        function(*images, data_range=1.0)
    return operations, numbers / SIDE**2


@pytest.mark.parametrize(("name", "operations", "sizes"), [("ssim", 60, 40), ("gmsd", 40, 12)])
def test_few_operations(name: str, operations: int, sizes: float) -> None:
    images = torch.rand(2, SIDE, SIDE)
    with formulas():
        found = counted(imsim.METRICS[name].function, *images)
    assert found[0] <= operations
    assert found[1] <= sizes
