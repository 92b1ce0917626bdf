"""Image similarity: many metrics, one API, masks and batches.

Every metric is ``f(a, b, *, mask=None, data_range=None, channel_axis=None, ...)`` with options of
its own, and returns a score. ``f_map``, where there is one, takes the same and returns a value per
pixel. `METRICS` holds the facts about each metric.

a, b : array_like, shape (..., height, width)
    Reference and test image. Leading axes are batch axes, and broadcast against each other.
mask : array_like of bool, shape (..., height, width), optional
    True = use. Pixels outside influence no bit of the result.
weights : array_like of float, shape (..., height, width), optional
    Weights of the pixels, finite and >= 0. A pixel of weight 0 is outside the mask; where all other
    weights are equal, the score is that of the mask. Scores are means by weight: a common factor
    changes only the sums `se` and `imed`, in which a pixel of weight 2 counts as two. A weight
    below 5e-32 of the largest counts as 0. `issm` and `sh` take no weights.
data_range : float, optional
    Largest possible minus smallest possible pixel value; the pixels never decide it. By default
    255 for uint8 and 1 for bool; for other dtypes, the metrics that depend on it need it.
channel_axis : int or str, optional
    The axis that holds channels, or its name in arrays of xarray. The scores, or maps, of the
    channels are averaged unless the metric says otherwise. By default, images have no channels.
ndim : {2, 3}, default 2
    3 takes the last three axes, besides that of channels, for the depth, height and width of
    volumes; else each plane is an image of its own. For volumes, read "volume" for "image", and
    "(..., depth, height, width)" for the shape.
dims : sequence of str, optional
    Names of the axes of an image, such as ("y", "x"), of arrays of xarray; all others, besides that
    of channels, are batch axes. An array without others needs no names.
memory : int or str, default "512 MB"
    Most bytes to take for images that are not in memory, such as arrays of Zarr, HDF5 or
    `numpy.memmap`. Two images that take more than a quarter of it are read in blocks; their scores
    are those of the whole images, to rounding.

A score is a float64 for one pair, an array of the batch shape for a batch. It is NaN if NaN or an
infinity lies inside the mask, and, with an `EmptyMaskWarning`, if the mask leaves nothing to score.
A map has the shape of the batch and of the images, and is NaN where nothing was scored; it is
float32 if both images are floats of at most 32 bits, else float64. Scores and maps of Dask arrays
are lazy; those of xarray's have the names and coordinates of the images.

All errors are of the class `ImsimError`: `ShapeError` if images do not fit together or are too
small, `DTypeError` if they are not made of real numbers, `MaskError` if the mask is not boolean or
does not fit, `WeightsError` if weights do not fit or are negative, NaN or infinite,
`DataRangeError` if `data_range` is missing or not positive, `OptionError` if an
option has no meaning. `align` raises `AlignmentError` where it finds no shift, or one larger
than expected.
"""

from imsim import _interrupt  # noqa: F401 - first, since the others take time to import
from imsim._version import __version__
from imsim.alignment import Alignment, align
from imsim.caches import clear_caches
from imsim.comparison import Comparison, LazyComparison, compare
from imsim.compilation import compile_kernels
from imsim.differing import COUNTS, Count, DifferingPixels, differing_pixels
from imsim.engine import set_engine
from imsim.errors import (
    AlignmentError,
    ChannelAxisWarning,
    DataRangeError,
    DataRangeWarning,
    DTypeError,
    EmptyMaskWarning,
    ImsimError,
    MaskError,
    MaskTypeError,
    OptionError,
    PrecisionWarning,
    ShapeError,
    WeightsError,
)
from imsim.labelled import Regions, regions
from imsim.masks import finite_mask, polygon_mask
from imsim.metrics.fsim import fsim, fsim_map
from imsim.metrics.gmsd import gmsd, gmsd_map
from imsim.metrics.imed import imed, imed_map
from imsim.metrics.issm import ISSMComponents, issm, issm_components
from imsim.metrics.psnr import psnr
from imsim.metrics.rmse import rmse
from imsim.metrics.sam import sam, sam_map
from imsim.metrics.se import se, se_map
from imsim.metrics.sh import sh
from imsim.metrics.sre import sre
from imsim.metrics.ssim import ssim, ssim_map
from imsim.metrics.uiq import uiq, uiq_map
from imsim.metrics.zncc import zncc, zncc_map
from imsim.registry import METRICS, Metric
from imsim.slices import by_slice
from imsim.workers import get_workers, set_workers, workers

__all__ = [
    "COUNTS",
    "METRICS",
    "Alignment",
    "AlignmentError",
    "ChannelAxisWarning",
    "Comparison",
    "Count",
    "DTypeError",
    "DataRangeError",
    "DataRangeWarning",
    "DifferingPixels",
    "EmptyMaskWarning",
    "ISSMComponents",
    "ImsimError",
    "LazyComparison",
    "MaskError",
    "MaskTypeError",
    "Metric",
    "OptionError",
    "PrecisionWarning",
    "Regions",
    "ShapeError",
    "WeightsError",
    "__version__",
    "align",
    "by_slice",
    "clear_caches",
    "compare",
    "compile_kernels",
    "differing_pixels",
    "finite_mask",
    "fsim",
    "fsim_map",
    "get_workers",
    "gmsd",
    "gmsd_map",
    "imed",
    "imed_map",
    "issm",
    "issm_components",
    "polygon_mask",
    "psnr",
    "regions",
    "rmse",
    "sam",
    "sam_map",
    "se",
    "se_map",
    "set_engine",
    "set_workers",
    "sh",
    "sre",
    "ssim",
    "ssim_map",
    "uiq",
    "uiq_map",
    "workers",
    "zncc",
    "zncc_map",
]
