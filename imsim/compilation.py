"""Compiling the kernels ahead of time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from imsim import engine, labelled
from imsim.region_scores import SMALL_PIXELS
from imsim.registry import METRICS, Metric
from imsim.tensors import Differentiated
from imsim.typing import Array
from imsim.validation import check_flag, check_names

DTYPES = ("uint8", "float32", "float64")
"""Dtypes of most images."""
COMPILED = (*DTYPES, "uint16")
"""Dtypes that have kernels; all others are converted to one of these."""
LARGE_PIXELS = 2 * SMALL_PIXELS
"""Of images of which a region is not scored with others within the cache."""
BLOCK_FRAME = (400, 412)
"""Of images that are scored in blocks: large enough for cells of several pixels."""
BLOCK_MEMORY = 10**6
"""Bytes, so few that these images are read in blocks."""
FAR = 1e9
"""Offset of pixels that take the kernels for pixels far from 0."""


def compile_kernels(
    metrics: Iterable[str] | None = None,
    dtypes: Iterable[DTypeLike] | None = None,
    *,
    gradients: bool = False,
    regions: bool = False,
    xray: bool = False,
) -> None:
    """Compile ahead of time what `compare` and all maps need, with default options.

    That includes what images in blocks need: those that are not in memory, and arrays of Dask.
    Otherwise the first call for images of a dtype, and the first one with a mask, compiles what
    it needs, which takes seconds. Compiled code is kept in the folder that the environment
    variable ``IMSIM_CACHE_DIR`` names, or else beside the installed package, or, if nobody may
    write there, among the caches of the user.

    Parameters
    ----------
    metrics : iterable of str, optional
        Names of metrics, see `imsim.METRICS`; by default all of them.
    dtypes : iterable of str or dtype, optional
        Of "uint8", "float32", "float64" and "uint16"; by default the first three. Images of other
        dtypes are converted to one of these: float16 to float32, integers to float64.
    gradients : bool
        Compile also the gradients of the scores, for tensors of PyTorch and JAX on the CPU. Only
        pixels of "float32" and "float64" have any.
    regions : bool
        Compile also what `imsim.regions` needs.
    xray : bool
        Compile also the passes of `imsim.anomaly.xray.VirtualPeel` over images of any dtype.

    Raises
    ------
    OptionError
        If a name is not that of a metric, or not one of these dtypes; if `gradients`, `regions` or
        `xray` is no bool; or if `set_engine` has chosen the portable engine, which runs no kernels.
    ImsimError
        If Numba is told not to compile.

    Examples
    --------
    >>> import imsim
    >>> imsim.compile_kernels(["se"], ["uint8"])
    """
    names = check_names("metrics", metrics, METRICS)
    check_flag("gradients", gradients)
    check_flag("regions", regions)
    check_flag("xray", xray)
    given: Any = dtypes
    if isinstance(dtypes, Iterable) and not isinstance(dtypes, str | np.ndarray):
        given = [_name(one) for one in dtypes]
    named = check_names("dtypes", given, COMPILED, DTYPES)
    for call in compiling_calls(names, named, gradients, regions, xray):
        call()


def _name(dtype: Any) -> Any:
    """Return the name of a dtype, and anything else as it is."""
    is_scalar = isinstance(dtype, type) and issubclass(dtype, np.generic)
    return np.dtype(dtype).name if is_scalar or isinstance(dtype, np.dtype) else dtype


def compiling_calls(
    metrics: Iterable[str],
    dtypes: Iterable[str],
    gradients: bool = False,
    regions: bool = False,
    xray: bool = False,
) -> list[Callable[[], None]]:
    """Return the calls that compile; each takes up to seconds."""
    engine.check_kernels()
    works = [(METRICS[name], dtype) for name in metrics for dtype in dtypes]
    calls: list[Callable[[], None]] = [partial(_compile, *work) for work in works]
    if gradients:
        calls += [
            partial(_compile, metric, dtype, gradients=True)
            for metric, dtype in works
            if metric.gradient is not None and dtype.startswith("float")
        ]
    if regions:
        calls += [partial(_compile_regions, *work) for work in works if work[0].crop is not None]
    if xray:
        calls.append(_compile_passes)
    return calls


def _compile_passes() -> None:
    """Visit the pixels of X-ray images of one size; the passes have one type of images."""
    from imsim.kernels.xray import compile_passes  # slow to import, as Numba is

    compile_passes()


def _compile(metric: Metric, dtype: str, gradients: bool = False) -> None:
    """Call a metric and its map, or its gradient, with grey and colour images, masked and not."""
    side = 8 + max(metric.least_side, metric.map_least_side)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, side, side, 3))
    pixels[:, :, side // 2 :] = 7  # constant windows are computed again
    pairs = [pixels, pixels + FAR] if dtype.startswith("float") else [pixels]
    mask = np.arange(side * side).reshape(side, side) > side  # some rows are empty, some are full
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for pair in pairs:
            x, y = pair.astype(dtype).view(Differentiated if gradients else np.ndarray)
            for inside in (None, mask):
                options = {"mask": inside, "data_range": 255}
                for function in (metric.function, None if gradients else metric.map_function):
                    if function is None:
                        continue
                    function(x, y, channel_axis=-1, **options)
                    if function is metric.function or not metric.map_needs_channels:
                        function(x[..., 0], y[..., 0], **options)
        if metric.pieces is not None and not gradients:
            _compile_blocks(metric, dtype)


FEW = 13
"""Columns for a few windows."""


class _OnDisk:
    """Pixels that are read by slices, as if they were not in memory."""

    def __init__(self, pixels: Array) -> None:
        self._pixels = pixels
        self.shape, self.dtype = pixels.shape, pixels.dtype

    def __getitem__(self, index: Any) -> Array:
        return self._pixels[index]


def _compile_blocks(metric: Metric, dtype: str) -> None:
    """Score images in blocks, grey and in colours, masked and not."""
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *BLOCK_FRAME, 3)).astype(dtype)
    if dtype.startswith("float"):
        pixels[:, :, -FEW:] = 5000  # few windows lose digits in float32
    mask = np.ones(BLOCK_FRAME, np.bool_)
    mask[::7, ::5] = False
    for inside in (None, mask):
        options: Any = {"mask": inside, "data_range": 255, "memory": BLOCK_MEMORY}
        for pair, axis in ((pixels, -1), (pixels[..., 0], None)):
            metric.function(*map(_OnDisk, pair), channel_axis=axis, **options)


def _compile_regions(metric: Metric, dtype: str) -> None:
    """Score regions that are small, that are large, and whose windows lose digits."""
    side = 8 + max(metric.least_side, metric.least_longer_side)
    height = LARGE_PIXELS // side
    pixels = np.random.default_rng(0).uniform(0, 255, (2, height, side, 3))
    labels = np.full((height, side), 2)
    labels[:side], labels[side : 2 * side] = 1, 3
    pixels[:, :, side // 2 :] = 7
    if dtype.startswith("float"):
        pixels[:, side // 2, side // 2] = np.nan  # a region with NaN is never scored with others
    x, y = pixels.astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labelled.regions(x[..., 0], y[..., 0], labels, [metric.name], data_range=255)
        labelled.regions(x, y, labels, [metric.name], data_range=255, channel_axis=-1)
