"""FSIM's formula in chunks: the same values, in memory that hardly grows with the batch."""

from __future__ import annotations

import importlib
import weakref
from typing import Any

import numpy as np
import pytest
from engines import by_engine
from sampling import blob_mask

import imsim
from imsim.metrics import fsim as module

FRAME = (24, 31)


@pytest.mark.parametrize("planes", [1, 2, 3, 5])
@pytest.mark.parametrize("chromatic", [False, True])
@pytest.mark.parametrize("is_masked", [False, True])
def test_the_same_values(
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    planes: int,
    chromatic: bool,
    is_masked: bool,
) -> None:
    """Of batches that broadcast, too."""
    a, b = rng.random((3, 1, 3, *FRAME)), rng.random((2, 3, *FRAME))
    mask = np.stack([blob_mask(rng, *FRAME), blob_mask(rng, *FRAME)]) if is_masked else None
    options: Any = {"data_range": 1.0, "channel_axis": -3, "chromatic": chromatic, "mask": mask}
    calls = []

    def found() -> list[Any]:
        return [by_engine("portable", f, a, b, **options) for f in (imsim.fsim, imsim.fsim_map)]

    whole = found()
    features = module.features

    def counted(image: Any, *rest: Any) -> Any:
        calls.append(image.shape)
        return features(image, *rest)

    monkeypatch.setattr(module, "features", counted)
    monkeypatch.setattr(module, "CHUNK_BYTES", planes * (module.PIXEL_BYTES + 400) * 24 * 31)
    for got, want in zip(found(), whole, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)
    assert max(int(np.prod(shape[:-2])) for shape in calls) <= max(planes, 3 if chromatic else 1)


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
    torch = pytest.importorskip("torch", reason="torch is an optional array library")
    mode = importlib.import_module("torch.utils._python_dispatch").TorchDispatchMode
    live = _Live()

    class Counter(mode):  # type: ignore[misc, valid-type]
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
