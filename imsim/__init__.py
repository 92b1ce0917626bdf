"""Image similarity: many metrics, one API, masks and batches."""

from imsim import _interrupt  # noqa: F401 - first, since the others take time to import
from imsim._version import __version__
from imsim.caches import clear_caches
from imsim.comparison import Comparison, compare
from imsim.engine import set_engine
from imsim.errors import (
    ChannelAxisWarning,
    DataRangeError,
    DataRangeWarning,
    DTypeError,
    EmptyMaskWarning,
    ImsimError,
    MaskError,
    MaskTypeError,
    OptionError,
    ShapeError,
)
from imsim.masks import finite_mask
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
from imsim.workers import get_workers, set_workers, workers

__all__ = [
    "METRICS",
    "ChannelAxisWarning",
    "Comparison",
    "DTypeError",
    "DataRangeError",
    "DataRangeWarning",
    "EmptyMaskWarning",
    "ISSMComponents",
    "ImsimError",
    "MaskError",
    "MaskTypeError",
    "Metric",
    "OptionError",
    "ShapeError",
    "__version__",
    "clear_caches",
    "compare",
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
    "psnr",
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
