"""Images, masks, and the list of calls that the tests over all metrics go through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import imsim

HASHES = ("wavelet", "perceptual", "difference", "average", "census")


@dataclass(frozen=True)
class Variant:
    """A metric or a map with options, called on images in [0, 255]."""

    metric: str
    options: dict[str, Any] = field(default_factory=dict)
    is_map: bool = False
    colour: bool = False

    @property
    def id(self) -> str:
        """A name for the test report."""
        words = [f"{k}={v}" for k, v in self.options.items()] + ["rgb"] * self.colour
        return f"{self.metric}{'_map' * self.is_map}({', '.join(words)})"

    @property
    def function(self) -> Callable[..., Any]:
        """The public function."""
        return getattr(imsim, self.metric + "_map" * self.is_map)  # type: ignore[no-any-return]

    def __call__(self, a: Any, b: Any, **options: Any) -> Any:
        """Call it with data_range=255 and, for colour, the channels last."""
        defaults = {"data_range": 255, **({"channel_axis": -1} if self.colour else {})}
        return self.function(a, b, **{**defaults, **self.options, **options})

    def some(self, *dtypes: Any) -> tuple[Any, ...]:
        """All dtypes for a call by default, and the first one for a call with options.

        Each pair may be a kernel of its own, of seconds. `tests/metrics` hold kernels of other
        dtypes with options to the formula.
        """
        return dtypes[:1] if self.options else dtypes

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of one image."""
        return (height, width, 3) if self.colour else (height, width)


OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "se": ({"reduction": "mean"},),
    "rmse": ({"normalize": "range"},),
    "imed": ({"sigma": 2.0, "normalize": "rms"},),
    "ssim": (
        {"window": "uniform", "window_size": 11, "sample_covariance": True},
        {"window": "uniform", "window_size": 6},
        {"min_coverage": 0.75},
        {"downsample": True},
    ),
    "zncc": ({"window_size": 9},),
    "sam": ({"degrees": True},),
    "uiq": ({"block_size": 5},),
    "sh": (*({"hash": kind} for kind in HASHES), {"hash_size": 6}),
}
"""Calls of a metric besides the one by default. Each usual size of a window is a kernel of its
own, and all others have one together: so there are few sizes here."""
COLOUR_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "fsim": ({"chromatic": True},),
    "sam": ({"mode": "image"},),
}
MAP_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "ssim": ({"window": "uniform", "window_size": 6},),
    "uiq": ({"block_size": 5},),
}
MAP_COLOUR_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "imed": ({"sigma": 2.0},),
    "zncc": ({"min_coverage": 0.75},),
    "fsim": ({"chromatic": True},),
}


def _variants() -> Iterator[Variant]:
    """Call every metric and every map: by default, on colour, and with options."""
    for name, metric in imsim.METRICS.items():
        yield Variant(name)
        yield from (Variant(name, options) for options in OPTIONS.get(name, ()))
        for options in ({}, *COLOUR_OPTIONS.get(name, ())):
            yield Variant(name, options, colour=True)
        if metric.map_function is None:
            continue
        if not metric.map_needs_channels:
            yield Variant(name, is_map=True)
            yield from (Variant(name, options, True) for options in MAP_OPTIONS.get(name, ()))
        for options in ({}, *MAP_COLOUR_OPTIONS.get(name, ())):
            yield Variant(name, options, is_map=True, colour=True)


def each_of_some(
    variants: Iterable[Variant],
    *dtypes: Any,
    thorough: Callable[[Variant, Any], bool] = lambda variant, dtype: False,
) -> Any:
    """Parametrise a test by variants and `Variant.some` of the dtypes; mark some as thorough."""
    cases = [
        pytest.param(
            *(variant, dtype),
            marks=pytest.mark.thorough if thorough(variant, dtype) else (),
            id=f"{np.dtype(dtype).name}-{variant.id}",
        )
        for variant in variants
        for dtype in variant.some(*dtypes)
    ]
    return pytest.mark.parametrize(("variant", "dtype"), cases)


SCORES = tuple(variant for variant in _variants() if not variant.is_map)
MAPS = tuple(variant for variant in _variants() if variant.is_map)
DEFAULTS = tuple(v for v in SCORES if not v.options and not v.colour)
PLAIN = tuple(
    v
    for v in (*SCORES, *MAPS)
    if not v.options and (not v.colour or imsim.METRICS[v.metric].map_needs_channels)
)
"""Every metric and map by default, on grey images where it takes them; on spectra as well where a
metric is about these. Enough for what happens to images before they reach a metric."""

_LEAST = max(max(m.least_side, m.map_least_side) for m in imsim.METRICS.values())


def frame(height: int, width: int) -> tuple[int, int]:
    """Height and width of images that are large enough for every metric and every map."""
    return max(height, _LEAST), max(width, _LEAST)


FRAME = frame(24, 27)

# Metrics whose masked and unmasked score depends on each pixel's own place only.
PIXELWISE = ("se", "rmse", "psnr", "sre", "zncc", "sam")


def texture(rng: np.random.Generator, shape: tuple[int, ...], grain: float = 1.5) -> np.ndarray:
    """Smooth random texture, float64 in [30, 220]; the last two axes (or two before RGB) vary."""
    field = rng.standard_normal(shape)
    spatial = (0, 1) if shape[-1] == 3 and len(shape) == 3 else (-2, -1)
    field = gaussian_filter(field, grain, axes=spatial)
    low, high = field.min(), field.max()
    return 30 + 190 * (field - low) / (high - low)


def textured_pair(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    colour: bool = False,
    batch: tuple[int, ...] = (),
    noise: float = 8.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Images and noisy versions of them, float64 in [0, 255]."""
    shape = (height, width, 3) if colour else (height, width)
    a = np.empty((*batch, *shape))
    for index in np.ndindex(*batch):
        a[index] = texture(rng, shape)
    return a, np.clip(a + noise * rng.standard_normal(a.shape), 0, 255)


def blob_mask(
    rng: np.random.Generator, height: int, width: int, coverage: float = 0.6
) -> np.ndarray:
    """A region with a winding boundary that covers about the given share of the frame."""
    field = gaussian_filter(rng.standard_normal((height, width)), 3)
    return field > np.quantile(field, 1 - coverage)


def spread_mask(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Give a (height, width) mask the shape of an image that may have channels last."""
    return np.broadcast_to(mask[..., None] if image.ndim > mask.ndim else mask, image.shape)


def outside_replaced(image: np.ndarray, mask: np.ndarray, values: Any) -> np.ndarray:
    """Copy an image with other values (numbers, or an array) outside a mask."""
    return np.where(spread_mask(mask, image), image, values)


def noise_like(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Independent noise over the range of 8-bit images."""
    return rng.uniform(0, 255, image.shape)
