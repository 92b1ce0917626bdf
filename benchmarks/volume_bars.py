"""What volumes set out to reach."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

import imsim
from benchmarks import probes
from benchmarks.bars import Bar, Case
from benchmarks.libraries import Call
from benchmarks.timing import Spread, interleave

SIDE = 128


@cache
def volumes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two smooth volumes with noise, and a mask of a ball."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((SIDE,) * 3).astype(np.float32), 2)
    x = 255 * (smooth - smooth.min()) / np.ptp(smooth)
    y = x + rng.normal(0, 12, x.shape).astype(np.float32)
    places = np.ogrid[tuple(slice(n) for n in x.shape)]
    ball = sum((g - SIDE / 2) ** 2 for g in places) < (0.47 * SIDE) ** 2
    return x, y, ball


def _ssim(mask: np.ndarray | None = None) -> Call:
    x, y, _ = volumes()
    return partial(imsim.ssim, x, y, ndim=3, data_range=255, mask=mask)


def _scikit_image() -> Call:
    from skimage.metrics import structural_similarity

    x, y, _ = volumes()
    options: dict[str, Any] = {"gaussian_weights": True, "use_sample_covariance": False}
    return partial(structural_similarity, x, y, data_range=255, sigma=1.5, **options)


def _torchmetrics() -> Call:
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = (torch.from_numpy(v)[None, None] for v in volumes()[:2])
    return partial(structural_similarity_index_measure, x, y, data_range=255.0)


def _faster(name: str, bind: Callable[[], Call]) -> Case:
    def measure(budget: float) -> Spread:
        return interleave({"imsim": _ssim(), name: bind()}, budget).ratio(name, "imsim")

    return Case(f"ssim against {name}, {SIDE}^3 float32", measure)


def _masked(budget: float) -> Spread:
    calls = {"all": _ssim(), "masked": _ssim(volumes()[2])}
    return interleave(calls, budget).ratio("masked", "all")


def _large(what: str) -> Case:
    def measure(budget: float) -> Spread:
        return Spread.of(probes.volume()[what])

    return Case("ssim, 512^3 uint16", measure, slow=True)


VOLUME_BARS = (
    Bar("SSIM of volumes", "20x as fast as scikit-image's", 20, True,
        (_faster("scikit-image", _scikit_image),)),
    Bar("SSIM of volumes", "50x as fast as torchmetrics'", 50, True,
        (_faster("torchmetrics", _torchmetrics),)),
    Bar("SSIM of volumes", "2x the time with a mask", 2, False, (Case("ssim, ball", _masked),)),
    Bar("SSIM of volumes", "1.5 s", 1.5, False, (_large("seconds"),), unit="s"),
    Bar("SSIM of volumes", "256 MB besides the volumes", 256, False, (_large("megabytes"),),
        unit="MB"),
)  # fmt: skip
