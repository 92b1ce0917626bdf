"""Which call of imsim each golden number belongs to, and how close the two have to be.

Tolerances, with their reasons:

* `EXACT`: sums of squares of integers stay below 2**53, so every order of summation is exact.
* `1e-12` absolute (FSIM, GMSD): two independent double-precision transcriptions differ by 5e-14;
  what is left is the last bits of the FFT and of ~1e5 additions.
* `1e-11` absolute (SSIM, UIQ): the authors' program under Octave adds ~1e5 values near 1 one
  after the other, which alone costs 6e-13.
* `1e-11` relative (MSE, RMSE, PSNR, SRE, ZNCC): well-conditioned formulas of exact integer sums.
* `1e-12` relative (IMED): a sum of products with kernel values that carry half an ulp each.
* `3e-8` rad (SAM): the golden angle went through arccos, whose error near 0 is sqrt(2 eps).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from golden_data import Golden, Pair

import imsim

Images = tuple[Any, Any]
SAM_RADIANS = 3e-8
NAN_BY_AUTHORS = {
    # A constant image has no phase congruency (0/0): NaN there, 1.0 here by definition.
    "fsim": 1.0,
    # Both images constant: no correlation there, 1.0 here by definition.
    "zncc": 1.0,
}


@dataclass(frozen=True)
class Check:
    """Compare `call(*images(pair))` with the golden value `name`."""

    name: str
    metric: str
    images: Callable[[Pair], Images]
    call: Callable[[Any, Any], Any]
    absolute: float = 0.0
    relative: float = 0.0
    expected: Callable[[float], float] = float
    # float32 arithmetic: 24 bits instead of 53; None where a float32 result means nothing.
    float32: float | None = 2e-6
    # Whether images of one shape may be stacked along a new first axis.
    stackable: bool = True

    def wanted(self, golden: Golden) -> float:
        """Return the number imsim has to give; its own definition where the authors' is NaN."""
        if np.isnan(golden.value):
            return NAN_BY_AUTHORS[self.metric]
        return self.expected(golden.value)

    def tolerance(self, wanted: float) -> float:
        """Return the largest admitted absolute difference."""
        return self.absolute + self.relative * abs(wanted) if np.isfinite(wanted) else 0.0


def grey(pair: Pair) -> Images:
    """Both images of a grey pair, or the 601 luma of a colour pair."""
    return pair.grey601 if pair.is_rgb else pair.float64


def whole(pair: Pair) -> Images:
    """Both images as they are: (height, width) or (height, width, 3)."""
    return pair.float64


def unit(pair: Pair) -> Images:
    """Both grey images divided by 255."""
    ref, dist = grey(pair)
    return ref / 255, dist / 255


def _channel(k: int) -> Callable[[Pair], Images]:
    return lambda pair: (pair.float64[0][..., k], pair.float64[1][..., k])


def _crop(rows: slice, cols: slice) -> Callable[[Pair], Images]:
    return lambda pair: (pair.float64[0][rows, cols], pair.float64[1][rows, cols])


def _ssim(**options: Any) -> Callable[[Any, Any], Any]:
    return lambda a, b: imsim.ssim(a, b, **{"data_range": 255, **options})


def _uiq(**options: Any) -> Callable[[Any, Any], Any]:
    return lambda a, b: imsim.uiq(a, b, **options)


def _gmsd(a: Any, b: Any) -> Any:
    return imsim.gmsd(a, b, data_range=255)


def _fsim(a: Any, b: Any) -> Any:
    return imsim.fsim(a, b, data_range=255)


def _mean_of_bands(a: Any, b: Any) -> Any:
    return np.mean(imsim.rmse(np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)))


# Quotients without a stabilising constant, on images with windows that are flat in both: 0/0 in
# the authors' code, decided by how its sums happen to be rounded. Black windows are exempt, their
# sums are exact, and so are uniform windows over integers.
UNDEFINED = {
    ("page__blur_hi", "ssim_index_K0_0"),
    ("rgb_rocket__blur_lo", "uiq_b8@grey601"),
    ("rgb_rocket__jpeg_lo", "uiq_b4@grey601"),
    ("rgb_rocket__jpeg_lo", "uiq_b7@grey601"),
    ("rgb_rocket__jpeg_lo", "uiq_b8@grey601"),
}

# The window options that have golden values; the suffix is part of the golden name.
_SSIM_VARIANTS: dict[str, dict[str, Any]] = {
    "ssim_index": {},
    "ssim_auto": {"downsample": True},
    "ssim_index_win_ones8": {"window": "uniform", "window_size": 8},
    "ssim_index_win_ones7": {"window": "uniform", "window_size": 7},
    "ssim_index_K0.05_0.05": {"K1": 0.05, "K2": 0.05},
    "ssim_index_K0_0": {"K1": 0.0, "K2": 0.0},
}


def _everywhere(pair: Pair) -> tuple[Check, ...]:
    """Checks whose golden value pools over the channels of a colour pair."""
    axis = -1 if pair.is_rgb else None

    def pooled(name: str, metric: str, **kw: Any) -> Check:
        options = {"channel_axis": axis, **kw.pop("options", {})}
        function = getattr(imsim, metric)
        return Check(
            name,
            metric,
            whole,
            lambda a, b: function(a, b, **options),
            stackable=axis is None,
            **kw,
        )

    return (
        pooled("se", "se"),
        pooled("mse", "se", options={"reduction": "mean"}, relative=1e-11),
        pooled("skimage_mse", "se", options={"reduction": "mean"}, relative=1e-11),
        pooled("rmse", "rmse", relative=1e-11),
        pooled("psnr255", "psnr", options={"data_range": 255}, relative=1e-11),
        pooled("skimage_psnr255", "psnr", options={"data_range": 255}, relative=1e-11),
        # scikit-image's Gaussian mode is the authors' SSIM; its default is a uniform 7x7
        # window with sample covariances.
        pooled("skimage_ssim_gauss", "ssim", options={"data_range": 255}, absolute=1e-11),
        pooled(
            "skimage_ssim_default",
            "ssim",
            options={"data_range": 255, "window": "uniform", "sample_covariance": True},
            absolute=1e-11,
        ),
    )


def _grey_images(suffix: str, images: Callable[[Pair], Images]) -> tuple[Check, ...]:
    """Checks on one grey image pair, however it came about."""
    ssims = [
        # Without constants, float32 rounding is multiplied by mean^2 / variance.
        Check(
            name + suffix,
            "ssim",
            images,
            _ssim(**options),
            absolute=1e-11,
            float32=None if name == "ssim_index_K0_0" else 2e-6,
        )
        for name, options in _SSIM_VARIANTS.items()
    ]
    uiqs = [
        Check(f"uiq_b{size}{suffix}", "uiq", images, _uiq(block_size=size), absolute=1e-11)
        for size in (4, 7, 8, 11, 16, 32)
    ]
    return (
        *ssims,
        *uiqs,
        Check(f"gmsd{suffix}", "gmsd", images, _gmsd, absolute=1e-12),
        Check(f"fsim{suffix}", "fsim", images, _fsim, absolute=1e-12),
    )


def _grey_only(pair: Pair) -> tuple[Check, ...]:
    degrees = float(np.degrees(SAM_RADIANS))
    return (
        Check("zncc", "zncc", whole, lambda a, b: imsim.zncc(a, b), relative=1e-11),
        Check("sre_lanaras_db", "sre", whole, lambda a, b: imsim.sre(a, b), relative=1e-11),
        Check("imed_d_sigma1", "imed", whole, lambda a, b: imsim.imed(a, b), relative=1e-12),
        Check(
            "imed_d2_sigma1",
            "imed",
            whole,
            lambda a, b: imsim.imed(a, b) ** 2,
            relative=2e-12,  # the square doubles the relative error
            float32=4e-6,
        ),
        Check(
            "angle_flat_deg",
            "sam",
            whole,
            lambda a, b: imsim.sam(a, b, degrees=True),
            absolute=degrees,
            # One float32 rounding of each pixel turns the vectors by up to 2**-24 rad = 3e-6 deg.
            float32=4e-6,
        ),
    )


def _imed_crops(pair: Pair) -> tuple[Check, ...]:
    pattern = re.compile(r"imed_d2_brute_sigma([\d.]+)_crop\[(\d+):(\d+),(\d+):(\d+)\]")
    found = [(name, match) for name in pair.values if (match := pattern.fullmatch(name))]
    checks = []
    for name, match in found:
        sigma = float(match[1])
        top, bottom, left, right = (int(match[k]) for k in range(2, 6))
        checks.append(
            Check(
                name,
                "imed",
                _crop(slice(top, bottom), slice(left, right)),
                lambda a, b, sigma=sigma: imsim.imed(a, b, sigma=sigma) ** 2,  # type: ignore[misc]
                relative=2e-12,  # the square doubles the relative error
                float32=4e-6,
                stackable=False,  # the crops of a batch differ
            )
        )
    return tuple(checks)


def _rgb_only(pair: Pair) -> tuple[Check, ...]:
    n_zero = pair.values["sam_n_zero_pixels"].value
    share = 1 - n_zero / (pair.height * pair.width)

    def rgb(name: str, metric: str, call: Callable[[Any, Any], Any], **kw: Any) -> Check:
        return Check(name, metric, whole, call, stackable=False, **kw)

    def spectral(a: Any, b: Any, **options: Any) -> Any:
        # The golden values leave out pixels that are black in either image.
        coloured = np.any(a != 0, axis=-1) & np.any(b != 0, axis=-1)
        return imsim.sam(a, b, channel_axis=-1, mask=coloured, **options)

    return (
        rgb("rmse_bandmean", "rmse", _mean_of_bands, relative=1e-11),
        rgb(
            "sre_lanaras_db_bandmean",
            "sre",
            lambda a, b: imsim.sre(a, b, channel_axis=-1),
            relative=1e-11,
        ),
        rgb("sam_mean_rad_nonzero", "sam", spectral, absolute=SAM_RADIANS),
        # Zero vectors count as angle 0 in this golden mean, so it is smaller by their share.
        # It went through atan2 and is good to full precision.
        rgb("sam_mean_rad_atan2", "sam", spectral, relative=1e-12, expected=lambda v: v / share),
        rgb(
            "sam_mean_deg_nonzero",
            "sam",
            lambda a, b: spectral(a, b, degrees=True),
            absolute=float(np.degrees(SAM_RADIANS)),
            float32=4e-6,
        ),
        rgb(
            "fsimc",
            "fsim",
            lambda a, b: imsim.fsim(a, b, data_range=255, channel_axis=-1, chromatic=True),
            absolute=1e-12,
        ),
        rgb("ssim_index@chmean", "ssim", _ssim(channel_axis=-1), absolute=1e-11),
        rgb("ssim_auto@chmean", "ssim", _ssim(channel_axis=-1, downsample=True), absolute=1e-11),
        rgb("uiq_b8@chmean", "uiq", _uiq(channel_axis=-1), absolute=1e-11),
        rgb(
            "gmsd@chmean",
            "gmsd",
            lambda a, b: imsim.gmsd(a, b, data_range=255, channel_axis=-1),
            absolute=1e-12,
        ),
    )


def checks(pair: Pair) -> list[Check]:
    """Return the checks that apply to a pair, for the values its record has."""
    found = [*_everywhere(pair), *_imed_crops(pair)]
    if pair.is_rgb:
        found += _rgb_only(pair)
        found += _grey_images("@rgb2gray", lambda p: p.rgb2gray)
        found += _grey_images("@grey601", grey)
        found += [c for k in range(3) for c in _grey_images(f"@ch{k}", _channel(k))]
        # The authors' FSIM of a colour image is the FSIM of its luminance.
        found.append(Check("fsim", "fsim", grey, _fsim, absolute=1e-12))
    else:
        found += _grey_only(pair)
        found += _grey_images("", whole)
    name = "ssim_index_L1@grey601" if pair.is_rgb else "ssim_index_L1"
    found.append(Check(name, "ssim", unit, _ssim(data_range=1), absolute=1e-11))
    return [
        c
        for c in found
        if golden_value(pair, c.name) is not None and (pair.id, c.name) not in UNDEFINED
    ]


def golden_value(pair: Pair, name: str) -> Golden | None:
    """Look a name up among the values, then among the intermediates (per-channel scores)."""
    if name in pair.values:
        return pair.values[name]
    if name in pair.intermediates:
        return Golden(pair.intermediates[name], "as the metric itself", {})
    return None
