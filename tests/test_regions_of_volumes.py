"""Regions of volumes: each row is the score of its mask."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import imsim

VOLUMES = [m for m in imsim.METRICS.values() if m.volumes]


def volumes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two volumes and labels: boxes, one of them at the border, and scattered pixels."""
    a = rng.uniform(20, 230, (20, 26, 28))
    labels = np.zeros(a.shape, np.int16)
    labels[:14, 1:15, 2:16] = 3
    labels[4:18, 15:26, 14:28] = -2
    labels[(rng.random(a.shape) < 0.01) & (labels == 0)] = 7
    return a, a + rng.normal(0, 9, a.shape), labels


@pytest.mark.parametrize("spacing", [None, (2.0, 1.0, 1.0)])
@pytest.mark.parametrize("channels", [False, True])
def test_regions_of_volumes(rng: np.random.Generator, spacing: Any, channels: bool) -> None:
    a, b, labels = volumes(rng)
    b[3, 4, 5] = np.nan  # of region 3 only
    options: dict[str, Any] = {"data_range": 255, "ndim": 3}
    if channels:
        a, b = np.stack([a, a[::-1]], -1), np.stack([b, b[::-1]], -1)
        options["channel_axis"] = -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", imsim.EmptyMaskWarning)  # of GMSD, and scattered pixels
        found = imsim.regions(a, b, labels, spacing=spacing, **options)
        assert found.labels.tolist() == [-2, 3, 7]
        assert set(found.scores) == {m.name for m in VOLUMES}
        assert set(found.skipped) == set(imsim.METRICS) - {m.name for m in VOLUMES}
        for facts in VOLUMES:
            spaced = {"spacing": spacing} if facts.takes_spacing else {}
            for k, label in enumerate(found.labels):
                want = facts.function(a, b, mask=labels == label, **options, **spaced)
                assert found[facts.name][k] == pytest.approx(want, rel=1e-12, nan_ok=True)
    assert found.boxes[1].tolist() == [[0, 14], [1, 15], [2, 16]]
    assert np.isnan(found["ssim"][1])
