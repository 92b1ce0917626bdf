"""FSIM's formula in chunks: memory that hardly grows with the batch."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from engines import by_engine
from torch.utils._python_dispatch import TorchDispatchMode

import imsim
from imsim.metrics import fsim as module

FRAME = (24, 31)


class _Live:
    """Bytes of the tensors that live at once, at most."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.known: set[int] = set()

    def see(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if place and place not in self.known:
            self.known.add(place)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self.forget, place, size)

    def forget(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.now -= size


def most_bytes(count: int) -> int:
    """Bytes that FSIM of a batch takes at once, besides the input."""
    live = _Live()

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(
            self, call: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = call(*args, **(kwargs or {}))
            for part in result if isinstance(result, list | tuple) else [result]:
                if isinstance(part, torch.Tensor):
                    live.see(part)
            return result

    images = torch.rand(2, count, *FRAME)
    live.known.add(images.untyped_storage().data_ptr())  # views of it are no further memory
    with torch.no_grad(), Counter():
        by_engine("portable", imsim.fsim, *images, data_range=1.0)
    return live.most


def test_memory_hardly_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further pair takes the copies without NaN of its two images, no transforms."""
    pair = 2 * 4 * FRAME[0] * FRAME[1]
    assert most_bytes(16) - most_bytes(4) > 12 * 10 * pair
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    assert most_bytes(16) - most_bytes(4) < 12 * 1.1 * pair
