"""Every metric over size, pixel type, mask and batch; run with pytest-benchmark.

``pytest benchmarks/test_metrics.py -k "ssim and 512 and float32" --benchmark-compare`` picks some;
all of them take about half an hour.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import imsim
from benchmarks import images

SIZES = (128, 256, 512, 1024, 2048)
BATCHES = (1, 16)
LARGEST = 2048 * 2048
"""Pixels of the largest batch."""


@pytest.mark.parametrize("metric", imsim.METRICS)
@pytest.mark.parametrize("dtype", images.DTYPES)
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("size", "count"),
    [
        pytest.param(size, count, id=f"{size}-batch{count}")
        for size in SIZES
        for count in BATCHES
        if size * size * count <= LARGEST
    ],
)
@pytest.mark.benchmark(max_time=0.1, min_rounds=3, disable_gc=True)
def test_speed(
    benchmark: Any, metric: str, size: int, count: int, dtype: str, masked: bool
) -> None:
    # One pair is repeated: batches of distinct ones would take longer to make than to measure.
    x, y = images.pair(size, dtype)
    if count > 1:
        x, y = (np.repeat(v[None], count, axis=0) for v in (x, y))
    mask = images.mask(size) if masked else None
    function = getattr(imsim, metric)
    function(x, y, mask=mask, data_range=images.DATA_RANGE)  # compiles
    benchmark.group = f"{metric} {size}x{size} x {count}"
    score = benchmark(function, x, y, mask=mask, data_range=images.DATA_RANGE)
    assert np.shape(score) == (() if count == 1 else (count,))
