"""The calls of other libraries as a user would type them, for the page on parity.

x and y are the two images, 0 to 255, in the form the library wants: arrays, float64 tensors of
shape (1, channels, height, width), or PIL images. x32 and x8 are arrays in float32 and uint8.
"""

from __future__ import annotations

from typing import NamedTuple

CV, SKI, TM, ISM = "OpenCV", "scikit-image", "torchmetrics", "image-similarity-measures"

IMPORTS = {
    CV: "import cv2",
    SKI: "from skimage import measure, metrics",
    "piq": "import piq",
    TM: "from torchmetrics import functional",
    "sewar": "import sewar",
    ISM: "from image_similarity_measures import quality_metrics",
    "ImageHash": "import imagehash",
    "imed": "import imed",
    "NumPy": "import numpy as np",
    "SciPy": "from scipy import ndimage",
}
FORMS = {
    CV: "x, y: arrays; x32, x8: the same in float32, uint8",
    SKI: "x, y: arrays",
    "piq": "x, y: tensors of shape (1, 1, height, width)",
    TM: "x, y: tensors of shape (1, channels, height, width)",
    "sewar": "x, y: arrays",
    ISM: "x, y: arrays of shape (height, width, channels); x8: the same in uint8",
    "ImageHash": "x, y: PIL images",
    "imed": "x, y: arrays",
    "NumPy": "x, y: arrays",
    "SciPy": "x, y: arrays",
}

_SKI_SSIM = "metrics.structural_similarity(x, y, data_range=255"
_ANGLE = (
    "np.arccos(x.ravel() @ y.ravel() / np.sqrt((x.ravel() @ x.ravel()) * (y.ravel() @ y.ravel())))"
)

CALLS: dict[tuple[str, str], str] = {
    ("se", CV): "cv2.norm(x, y, cv2.NORM_L2SQR)",
    ("se", SKI): "metrics.mean_squared_error(x, y) * x.size",
    ("se", "NumPy"): "np.sum((x - y) ** 2)",
    ("rmse", CV): "cv2.quality.QualityMSE_compute(x, y)[0][0] ** 0.5",
    ("rmse", "sewar"): "sewar.rmse(x, y)",
    ("rmse", TM): "functional.mean_squared_error(x, y, squared=False)",
    ("rmse", ISM): "quality_metrics.rmse(x, y, max_p=1)",
    ("psnr", CV): "cv2.PSNR(x, y, 255)",
    ("psnr", SKI): "metrics.peak_signal_noise_ratio(x, y, data_range=255)",
    ("psnr", "piq"): "piq.psnr(x, y, data_range=255)",
    ("psnr", TM): "functional.peak_signal_noise_ratio(x, y, data_range=255.0)",
    ("psnr", "sewar"): "sewar.psnr(x, y, MAX=255)",
    ("psnr", ISM): "quality_metrics.psnr(x, y, max_p=255)",
    ("imed", "SciPy"): "np.sqrt(np.sum((x - y) * ndimage.gaussian_filter("
    "x - y, 1, mode='constant', truncate=9)))",
    ("imed", "imed"): "imed.distance(x, y, 1, 'DCT')",
    ("ssim", CV): "cv2.quality.QualitySSIM_compute(x, y)[0][0]",
    ("ssim", SKI): f"{_SKI_SSIM}, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)",
    ("ssim", "piq"): "piq.ssim(x, y, data_range=255, downsample=False)",
    ("ssim", TM): "functional.image.structural_similarity_index_measure("
    "x, y, data_range=255.0, sigma=1.5)",
    ("ssim", "sewar"): "sewar.ssim(x, y, MAX=255, fltr_specs={"
    "'fltr': sewar.utils.Filter.GAUSSIAN, 'sigma': 1.5, 'ws': 11})[0]",
    ("ssim", ISM): "quality_metrics.ssim(x, y, max_p=255)",
    ("ssim, uniform", SKI): f"{_SKI_SSIM})",
    ("ssim, uniform", ISM): "quality_metrics.ssim(x, y, max_p=255)",
    ("zncc", CV): "cv2.matchTemplate(x32, y32, cv2.TM_CCOEFF_NORMED)[0, 0]",
    ("zncc", SKI): "measure.pearson_corr_coeff(x, y)[0]",
    ("zncc", "NumPy"): "np.corrcoef(x.ravel(), y.ravel())[0, 1]",
    ("zncc", TM): "functional.pearson_corrcoef(x.flatten(), y.flatten())",
    ("gmsd", CV): "cv2.quality.QualityGMSD_compute(x, y)[0][0]",
    ("gmsd", "piq"): "piq.gmsd(x, y, data_range=255)",
    ("fsim", "piq"): "piq.fsim(x, y, data_range=255, chromatic=False)",
    ("fsim", ISM): "quality_metrics.fsim(x, y)",
    ("issm", ISM): "quality_metrics.issm(x, y)",
    ("sre", ISM): "quality_metrics.sre(x, y)",
    ("sam, image", "NumPy"): _ANGLE,
    ("sam, spectral", TM): "functional.image.spectral_angle_mapper(x, y)",
    ("sam, spectral", "sewar"): "sewar.sam(x, y)",
    ("sam, spectral", ISM): "quality_metrics.sam(x, y, convert_to_degree=False)",
    ("uiq", SKI): f"{_SKI_SSIM})",
    ("uiq", TM): "functional.image.universal_image_quality_index(x, y)",
    ("uiq", "sewar"): "sewar.uqi(x, y)",
    ("uiq", ISM): "quality_metrics.uiq(x, y)",
    ("sh, wavelet", "ImageHash"): "(imagehash.whash(x) - imagehash.whash(y)) / 64",
    ("sh, perceptual", "ImageHash"): "(imagehash.phash(x) - imagehash.phash(y)) / 64",
    ("sh, difference", "ImageHash"): "(imagehash.dhash(x) - imagehash.dhash(y)) / 64",
    ("sh, average", "ImageHash"): "(imagehash.average_hash(x) - imagehash.average_hash(y)) / 64",
    ("sh, perceptual", CV): "cv2.norm(cv2.img_hash.pHash(x8), cv2.img_hash.pHash(y8), "
    "cv2.NORM_HAMMING) / 64",
    ("sh, average", CV): "cv2.norm(cv2.img_hash.averageHash(x8), cv2.img_hash.averageHash(y8), "
    "cv2.NORM_HAMMING) / 64",
}
"""By work and library, as in `benchmarks.peers`."""


class Variant(NamedTuple):
    """A number of another library that is not imsim's default, and how imsim gives it."""

    library: str
    theirs: str
    ours: str
    note: str
    channels: int = 1
    largest: int = 4096


_REFLECTED = "np.pad(x, 5, mode='reflect'), np.pad(y, 5, mode='reflect')"

VARIANTS = (
    Variant(
        CV,
        "cv2.quality.QualitySSIM_compute(x, y)[0][0]",
        f"imsim.ssim({_REFLECTED}, data_range=255)",
        "With its border",
    ),
    Variant(
        TM,
        "functional.image.structural_similarity_index_measure(x, y, data_range=255.0, sigma=1.5)",
        f"imsim.ssim({_REFLECTED}, data_range=255)",
        "With its border",
    ),
    Variant(
        TM,
        "functional.image.universal_image_quality_index(x, y)",
        "imsim.ssim(x, y, K1=0, K2=0, data_range=255)",
        "What it is: SSIM without constants, in a Gaussian window",
    ),
    Variant(
        "piq",
        "piq.ssim(x, y, data_range=255)",
        "imsim.ssim(x, y, downsample=True, data_range=255)",
        "Its default; it rounds half a factor to the even side, and drops the last rows",
    ),
    Variant(
        "piq",
        "piq.fsim(x, y, data_range=255)",
        "imsim.fsim(x, y, chromatic=True, data_range=255, channel_axis=-1)",
        "Its default, FSIMc: lower median, another way of downsampling large images",
        channels=3,
    ),
    Variant(
        "sewar",
        "sewar.ssim(x, y, MAX=255)[0]",
        "imsim.ssim(x, y, window='uniform', window_size=11, data_range=255)",
        "Its default",
    ),
    Variant(
        ISM,
        "quality_metrics.sam(x, y)",
        "imsim.sam(x, y, degrees=True, channel_axis=-1)",
        "Its default: degrees",
        channels=3,
    ),
    Variant(
        ISM,
        "quality_metrics.rmse(x, y)",
        "imsim.rmse(x, y) / 4095",
        "Its default divides by 4095, the range of 12 bits",
    ),
    Variant(
        ISM,
        "quality_metrics.psnr(x, y)",
        "imsim.psnr(x, y, data_range=4095)",
        "Its default, also for 8-bit images",
    ),
    Variant(
        ISM,
        "quality_metrics.sam(x8, y8)",
        "imsim.sam(x8, y8, degrees=True, channel_axis=-1)",
        "Its products of uint8 wrap around at 256",
        channels=3,
    ),
    Variant(
        ISM,
        "quality_metrics.issm(x, x)",
        "imsim.issm(x, x, data_range=255)",
        "It divides by 16 before it looks for edges; 8-bit images have none left, 0/0 becomes 0",
    ),
)
