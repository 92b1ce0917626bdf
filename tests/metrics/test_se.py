"""SE, and the kernels that RMSE, PSNR and SRE share with it, against their formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from agreement import (
    DTYPES,
    FRAMES,
    check_agreement,
    check_layouts,
    check_outside,
    check_workers,
    masks,
    pair,
    tolerance,
)
from hypothesis import example, given
from PIL import Image
from strategies import SEEDS, image

import imsim

EXTREME = np.where(image("binary", 5, 18, 20) > 0, 65535, 0).astype(np.uint16)
SCORES: tuple[tuple[Any, dict[str, Any]], ...] = (
    (imsim.se, {}),
    (imsim.se, {"reduction": "mean"}),
    (imsim.rmse, {"normalize": "range", "data_range": 255}),
    (imsim.psnr, {"data_range": 255}),
    (imsim.sre, {}),
)
each_score = pytest.mark.parametrize(("function", "options"), SCORES)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@each_score
def test_engines_agree(
    rng: Any, function: Any, options: dict[str, Any], dtype: Any, frame: tuple[int, int]
) -> None:
    # A decibel is a logarithm: a relative error of the ratio becomes an absolute one, times 4.4.
    close = 5 * tolerance(dtype, 4, frame[0] * frame[1])
    for mask in masks(rng, frame):
        images = pair(rng, (2, *frame), dtype)
        check_agreement(function, images, close, close, mask=mask, **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_maps_agree(rng: Any, dtype: Any, reduction: str) -> None:
    images = pair(rng, (2, 19, 23, 3), dtype)
    for mask in masks(rng, (19, 23)):
        close = tolerance(dtype, 6, 1)
        check_agreement(
            imsim.se_map, images, close, 0, mask=mask, channel_axis=-1, reduction=reduction
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@each_score
def test_layouts(rng: Any, function: Any, options: dict[str, Any], dtype: Any) -> None:
    check_layouts(function, pair(rng, (3, 20, 26, 3), dtype), **options)


@each_score
def test_outside(rng: Any, function: Any, options: dict[str, Any]) -> None:
    check_outside(function, pair(rng, (2, 40, 90), np.float32), **options)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_workers(rng: Any, dtype: Any) -> None:
    images = pair(rng, (2, 1100, 1000), dtype)
    mask = rng.random((1100, 1000)) < 0.5
    for function in (imsim.se, imsim.sre, imsim.se_map):
        check_workers(function, images)
        check_workers(function, images, mask=mask)


def test_sums_of_bytes_do_not_overflow() -> None:
    """More than 2^15 of the largest squares, and more than 2^31 / 255^2."""
    black = np.zeros((300, 300), np.uint8)
    white = black + np.uint8(255)
    assert imsim.se(black, white) == 90000 * 255**2
    assert imsim.se(white, black, mask=np.eye(300, dtype=bool)) == 300 * 255**2
    assert imsim.sre(white, black) == 0


def test_bilevel_images_of_pil() -> None:
    """NumPy arrays made of them, or masks, hold 255 for True."""
    image = Image.fromarray((np.arange(600).reshape(20, 30) % 7 < 4).astype(np.uint8) * 255)
    odd = np.asarray(image.convert("1"))
    plain = odd.copy().view(np.uint8) != 0
    assert imsim.se(odd, np.zeros_like(odd)) == plain.sum()
    x = np.random.default_rng(0).uniform(1, 255, (2, 20, 30))
    colour = np.random.default_rng(1).uniform(1, 255, (2, 20, 30, 3))
    for name in ("se", "rmse", "psnr", "sre", "zncc", "sam", "imed", "gmsd"):
        function = imsim.METRICS[name].function
        for dtype in (np.uint8, np.float32):
            a, b = x.astype(dtype)
            want = function(a, b, data_range=255, mask=plain | (a < 200))
            mask = np.asarray(Image.fromarray(plain | (a < 200)))
            assert function(a, b, data_range=255, mask=mask) == want
    want = imsim.sam(*colour, channel_axis=-1, mask=plain)
    assert imsim.sam(*colour, channel_axis=-1, mask=odd) == want


@given(SEEDS)
@example(0)
def test_extreme_uint16(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.choice(np.array([0, 65535], dtype=np.uint16), EXTREME.shape)
    n = np.count_nonzero(y != EXTREME)
    assert imsim.se(EXTREME, y) == n * 65535**2
    want = 65535 * math.sqrt(n / EXTREME.size)
    assert imsim.rmse(EXTREME, y) == pytest.approx(want, rel=1e-15)
    assert imsim.psnr(EXTREME, y, data_range=65535) == pytest.approx(
        -10 * math.log10(n / EXTREME.size), rel=1e-12
    )
    assert imsim.se(EXTREME, 65535 - EXTREME) == EXTREME.size * 65535**2
