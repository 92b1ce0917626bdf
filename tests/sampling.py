"""Images, masks, and the list of calls that the tests over all metrics go through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

import imsim

HASHES = ("wavelet", "perceptual", "difference", "average", "census")
MAP_NAMES = ("se", "imed", "ssim", "zncc", "gmsd", "fsim", "sam", "uiq")


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

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of one image."""
        return (height, width, 3) if self.colour else (height, width)


SCORES = (
    Variant("se"),
    Variant("se", {"reduction": "mean"}),
    Variant("se", colour=True),
    Variant("rmse"),
    Variant("rmse", {"normalize": "range"}),
    Variant("psnr"),
    Variant("psnr", colour=True),
    Variant("imed"),
    Variant("imed", {"sigma": 2.0, "normalize": "rms"}),
    Variant("imed", colour=True),
    Variant("ssim"),
    Variant("ssim", {"window": "uniform", "sample_covariance": True}),
    Variant("ssim", {"window": "uniform", "window_size": 8}),
    Variant("ssim", {"min_coverage": 0.75}),
    Variant("ssim", {"downsample": True}),
    Variant("ssim", colour=True),
    Variant("zncc"),
    Variant("zncc", {"window_size": 7}),
    Variant("zncc", colour=True),
    Variant("gmsd"),
    Variant("gmsd", colour=True),
    Variant("fsim"),
    Variant("fsim", colour=True),
    Variant("fsim", {"chromatic": True}, colour=True),
    Variant("issm"),
    Variant("issm", colour=True),
    Variant("sre"),
    Variant("sre", colour=True),
    Variant("sam"),
    Variant("sam", {"degrees": True}),
    Variant("sam", colour=True),
    Variant("sam", {"mode": "image"}, colour=True),
    Variant("uiq"),
    Variant("uiq", {"block_size": 5}),
    Variant("uiq", colour=True),
    *(Variant("sh", {"hash": kind}) for kind in HASHES),
    Variant("sh", {"hash_size": 6}),
    Variant("sh", colour=True),
)

MAPS = (
    *(Variant(name, is_map=True) for name in MAP_NAMES if name != "sam"),
    Variant("se", is_map=True, colour=True),
    Variant("imed", {"sigma": 2.0}, is_map=True, colour=True),
    Variant("ssim", {"window": "uniform", "window_size": 8}, is_map=True),
    Variant("ssim", is_map=True, colour=True),
    Variant("zncc", {"window_size": 7}, is_map=True, colour=True),
    Variant("gmsd", is_map=True, colour=True),
    Variant("fsim", {"chromatic": True}, is_map=True, colour=True),
    Variant("sam", is_map=True, colour=True),
    Variant("uiq", {"block_size": 5}, is_map=True),
    Variant("uiq", is_map=True, colour=True),
)

DEFAULTS = tuple(v for v in SCORES if not v.options and not v.colour)

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
