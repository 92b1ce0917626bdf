"""Structural similarity (SSIM)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

from imsim import engine, validation
from imsim.errors import OptionError
from imsim.kernels import loaders
from imsim.portable.coarse import automatic_factor
from imsim.portable.structural_similarity import mean_structural_similarity, structural_similarity
from imsim.portable.windows import Window, gaussian, uniform
from imsim.registry import Crop, Kernel, metric
from imsim.scenes.local import Coarse, PaddedMeans, WindowMeans
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory, Score, Writable

REACH = 3
"""Standard deviations from the middle of a Gaussian window to its end, where there is a spacing;
that of 1 pixel and a sigma of 1.5 pixels give the usual 11 pixels."""
LONGEST_REPLICATED = 128
"""Longest side of a window of volumes whose border is repeated, half of it to each side."""
LARGEST_CONSTANT = 1e50
"""Largest K1 and K2: their squares are multiplied by that of the data range."""


def check_options(
    window: str,
    window_size: float | None,
    sigma: float,
    K1: float,
    K2: float,
    sample_covariance: bool,
    downsample: bool,
    min_coverage: float,
    border: str = "valid",
    ndim: int = 2,
    spacing: tuple[float, ...] | None = None,
) -> dict[str, Any]:
    """Check the options, and make the window."""
    validation.check_choice("window", window, ("gaussian", "uniform"))
    ndim = validation.check_ndim(ndim)
    spacing = validation.check_spacing(spacing, ndim)
    sigma = validation.check_number("sigma", sigma, validation.SMALLEST)
    validation.check_flag("sample_covariance", sample_covariance)
    validation.check_flag("downsample", downsample)
    if downsample and ndim == 3:
        raise OptionError("downsample=True, which is defined for images only", "leave it False")
    validation.check_choice("border", border, ("valid", "replicate"))
    made = _window(window, window_size, sigma, spacing, ndim)
    if border == "replicate" and ndim == 3 and max(made.lengths) > LONGEST_REPLICATED:
        raise OptionError(
            f"border='replicate' with a window of {max(made.lengths)} pixels, whose copies would "
            "fill the memory",
            f"expected at most {LONGEST_REPLICATED} pixels for volumes",
        )
    return {
        "window": made,
        "K1": validation.check_number("K1", K1, most=LARGEST_CONSTANT),
        "K2": validation.check_number("K2", K2, most=LARGEST_CONSTANT),
        "sample_covariance": bool(sample_covariance),
        "downsample": bool(downsample),
        "min_coverage": validation.check_number("min_coverage", min_coverage, 0.0, 1.0),
        "border": border,
    }


def _window(
    kind: str,
    window_size: float | None,
    sigma: float,
    spacing: tuple[float, ...] | None,
    ndim: int,
) -> Window:
    """Return a window whose size and sigma are in pixels, or in the unit of the spacing."""
    if window_size is None and kind == "gaussian" and spacing is not None:
        reaches = (math.ceil(REACH * sigma / distance - 1e-9) for distance in spacing)
        lengths = tuple(2 * reach + 1 for reach in reaches)
        if not 2 <= max(lengths) <= validation.LONGEST_SIDE:
            raise OptionError(
                f"sigma={sigma} with spacing={spacing}, a window of {max(lengths):g} pixels",
                f"expected 2 to {validation.LONGEST_SIDE} pixels along the axis of the smallest "
                "spacing",
            )
    else:
        usual = 11 if kind == "gaussian" else 7
        size = usual if window_size is None else window_size
        lengths = validation.check_window_size("window_size", size, spacing, ndim)
    if kind == "uniform":
        return uniform(*lengths)
    # Beyond the bounds of numbers that are squared, a Gaussian is a point, or flat.
    sigmas = (
        min(max(sigma / one, validation.SMALLEST), validation.LARGEST)
        for one in spacing or (1.0,) * ndim
    )
    return gaussian(lengths, tuple(sigmas))


DEFAULTS = check_options("gaussian", None, 1.5, 0.01, 0.03, False, False, 0.0)
"""The options of the formula by default."""


def _least_side(options: dict[str, Any]) -> int | tuple[int, ...] | Callable[[int, int], int]:
    """Pixels a side that a window needs, on a coarser grid if there is one."""
    if options["border"] == "replicate":
        return 1
    if len(set(options["window"].lengths)) > 1 or len(options["window"].sides) == 3:
        lengths: tuple[int, ...] = options["window"].lengths
        return lengths
    size: int = options["window"].size
    if not options["downsample"]:
        return size
    return lambda height, width: (size - 1) * automatic_factor(height, width) + 1


def ssim_map(
    a: ImageLike,
    b: ImageLike,
    *,
    mask: MaskLike | None = None,
    weights: MaskLike | None = None,
    data_range: float | None = None,
    channel_axis: int | str | None = None,
    ndim: Literal[2, 3] = 2,
    dims: Dims = None,
    memory: Memory = None,
    out: Writable | None = None,
    window: Literal["gaussian", "uniform"] = "gaussian",
    window_size: float | None = None,
    sigma: float = 1.5,
    K1: float = 0.01,
    K2: float = 0.03,
    sample_covariance: bool = False,
    downsample: bool = False,
    min_coverage: float = 0.0,
    border: Literal["valid", "replicate"] = "valid",
    spacing: tuple[float, ...] | None = None,
) -> Array:
    """Structural similarity of the window around each pixel.

    The mean of the map over the scored pixels is `ssim`, with the same options.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for `ssim`.
    out : array-like, optional
        Where to write the map, block by block, e.g. an array of Zarr; it is returned.
    window, window_size, sigma, K1, K2, sample_covariance, downsample, min_coverage, border, spacing
        As for `ssim`.

    Returns
    -------
    array, shape (..., height, width)
        Similarity per pixel; a window outside the frame is not scored.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> x = np.eye(16)
    >>> local = imsim.ssim_map(x, x, data_range=1)
    >>> print(local.shape, np.nanmin(local), int(np.isfinite(local).sum()))
    (16, 16) 1.0 36
    """
    options = window, window_size, sigma, K1, K2, sample_covariance, downsample, min_coverage
    checked = check_options(*options, border, ndim, spacing)
    return engine.score_map(
        "ssim",
        structural_similarity,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        out=out,
        least_side=_least_side(checked),
        **checked,
    )


def _region_kernel() -> Any:
    from imsim.kernels.regions.windows import ssim

    return functools.partial(ssim, **DEFAULTS)


def _pieces(whole: Any, **options: Any) -> Any:
    kernels = loaders.windows if len(whole.sides) == 2 else loaders.volume_windows
    kernel, lengths = Kernel(kernels, "ssim"), options["window"].lengths
    if options["downsample"] and automatic_factor(*whole.sides) > 1:
        options["downsample"] = False
        return Coarse(whole, mean_structural_similarity, kernel, "symmetric", options)
    options["downsample"] = False
    if options["border"] == "valid":
        return WindowMeans(whole, mean_structural_similarity, kernel, lengths, options)
    kernel = Kernel(kernels, "ssim_map")
    return PaddedMeans(whole, structural_similarity, kernel, lengths, options)


@metric(
    title="Structural similarity",
    higher_is_better=True,
    best=1.0,
    bounds=(-1.0, 1.0),
    needs_data_range=True,
    references=("Wang et al. 2004, doi:10.1109/TIP.2003.819861",),
    map_function=ssim_map,
    sees="Do brightness, contrast and pattern agree around each pixel?",
    least_side=11,
    kernel=Kernel(loaders.windows, "ssim"),
    map_kernel=Kernel(loaders.windows, "ssim_map"),
    gradient=Kernel(loaders.window_gradients, "ssim"),
    volumes="windows",
    volume_kernel=Kernel(loaders.volume_windows, "ssim"),
    volume_map_kernel=Kernel(loaders.volume_windows, "ssim_map"),
    takes_spacing=True,
    crop=Crop(halo=5, widens=True),  # half a window
    region_kernel=_region_kernel,
    pieces=_pieces,
)
def ssim(
    a: ImageLike,
    b: ImageLike,
    *,
    mask: MaskLike | None = None,
    weights: MaskLike | None = None,
    data_range: float | None = None,
    channel_axis: int | str | None = None,
    ndim: Literal[2, 3] = 2,
    dims: Dims = None,
    memory: Memory = None,
    window: Literal["gaussian", "uniform"] = "gaussian",
    window_size: float | None = None,
    sigma: float = 1.5,
    K1: float = 0.01,
    K2: float = 0.03,
    sample_covariance: bool = False,
    downsample: bool = False,
    min_coverage: float = 0.0,
    border: Literal["valid", "replicate"] = "valid",
    spacing: tuple[float, ...] | None = None,
) -> Score:
    r"""Structural similarity (SSIM), as its authors' ``ssim_index.m`` computes it.

    .. math::
        \mathrm{SSIM} = \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
        {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)},
        \quad C_i = (K_i L)^2

    with the mean, variance and covariance in the window around a pixel, averaged over all
    positions where the window fits into the frame. With a mask, the moments are those of the
    pixels of the window inside the mask, and a position counts if its centre lies inside.
    With weights, the taps of the window are multiplied by the weights of its pixels. A position
    counts by the weight of its centre; of a window of even size, by the mean weight of its pixels
    inside, in which they count by their taps.

    The constants assume pixel values that are not negative. For the values that ``ssim.m`` of
    2009 gives, set ``downsample=True``; for scikit-image's default, ``window="uniform",
    sample_covariance=True``.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``.
    window : {"gaussian", "uniform"}
        Weights of the window.
    window_size : float, optional
        Side of the window, a whole number of pixels or, with `spacing`, in its unit. By default
        11 pixels for Gaussian weights (with `spacing`, 3 sigma to both sides), 7 for uniform ones.
    sigma : float
        Standard deviation of the Gaussian weights, in pixels or in the unit of `spacing`.
    K1, K2 : float
        The constants of the formula, relative to the data range.
    sample_covariance : bool
        Divide moments by the number of pixels of the window less 1. With weights of pixels, the
        number is the square of their sum over the sum of their squares.
    downsample : bool
        First average over blocks of F = max(1, round(min(height, width) / 256)) pixels a side.
    min_coverage : float
        Least part of a window's weights, from 0 to 1, that must lie inside the mask; 1 scores
        only windows that lie inside entirely.
    border : {"valid", "replicate"}
        Average over the positions where the window fits into the frame, or over all pixels, with
        the pixels at the border repeated beyond it, as MATLAB's ``ssim`` does.
    spacing : tuple of float, optional
        Distance of neighbouring pixels, (dy, dx), or (dz, dy, dx) for volumes. Along each axis,
        the window then has its size in pixels if that is a whole number, else the nearest odd one.

    Returns
    -------
    float64 or array of float64
        One per pair of images.

    Raises
    ------
    ImsimError
        One of the errors in ``help(imsim)``.

    References
    ----------
    Wang, Z., Bovik, A. C., Sheikh, H. R., Simoncelli, E. P.: Image quality assessment: from
    error visibility to structural similarity. IEEE Transactions on Image Processing 13(4),
    600-612 (2004). doi:10.1109/TIP.2003.819861

    Examples
    --------
    >>> import numpy as np, imsim
    >>> x = np.tile(np.arange(0, 160, 10, dtype=np.uint8), (16, 1))
    >>> print(imsim.ssim(x, x), round(imsim.ssim(x, x + 20), 4))
    1.0 0.9691
    """
    options = window, window_size, sigma, K1, K2, sample_covariance, downsample, min_coverage
    checked = check_options(*options, border, ndim, spacing)
    return engine.score(
        "ssim",
        mean_structural_similarity,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        least_side=_least_side(checked),
        **checked,
    )
