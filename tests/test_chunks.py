"""FSIM's formula in chunks has the same values; tests/tensors measures its memory."""

from __future__ import annotations

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
