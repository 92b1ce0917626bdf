"""What other libraries compute: metric -> library -> call, with options for the same quantity.

The benchmarks and the agreement tests both read `WORKS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import ism
from benchmarks import libraries as lib
from benchmarks.images import DATA_RANGE, Array
from benchmarks.libraries import Bind, Call, using

ROUNDING = 1e-9
SINGLE = 2e-5


@dataclass(frozen=True)
class Peer:
    """How one library computes a metric."""

    library: str
    bind: Bind
    """Takes two images, and returns a call without arguments."""
    tolerance: float | None = ROUNDING
    """Largest difference from imsim, relative for values above 1; None if there is no bound."""
    reason: str = "float64 sums in another order"
    same: bool = True
    """Whether it is the same quantity; if not, the reason says what differs."""
    largest: int = 4096
    """Side of the largest image worth waiting for."""

    @property
    def mark(self) -> str:
        """Nothing for the same number, ≈ for one close to it, ≠ for another."""
        return "" if self.same else "≠" if self.tolerance is None else "≈"


@dataclass(frozen=True)
class Work:
    """A metric with its options, and who else computes it."""

    metric: str
    options: Mapping[str, Any]
    peers: tuple[Peer, ...]
    channels: int = 1
    dtype: str = "float32"
    """Pixels of the images in the report."""

    def bind(
        self, x: Array, y: Array, mask: Array | None = None, weights: Array | None = None
    ) -> Call:
        """Return imsim's call."""
        import imsim

        channel_axis = None if self.channels == 1 else -1
        return partial(
            getattr(imsim, self.metric),
            *(x, y),
            mask=mask,
            weights=weights,
            data_range=DATA_RANGE,
            channel_axis=channel_axis,
            **self.options,
        )


def _other(library: str, bind: Bind, tolerance: float | None, reason: str, **rest: Any) -> Peer:
    """A peer that computes another number; within a tolerance if it is close."""
    return Peer(library, bind, tolerance, reason, same=False, **rest)


def _hashes(kind: str, name: str, opencv: str | None = None) -> Work:
    reduced = "reduces the image with another filter than cell means"
    peers = [_other("ImageHash", lib.imagehash(name), 0.25, reduced)]
    if opencv:
        reduced = "reduces the image by bilinear samples, and has rules of its own"
        peers.append(_other("OpenCV", lib.opencv_hash(opencv), None, reduced))
    return Work("sh", {"hash": kind}, tuple(peers), dtype="uint8")


CV, SKI, TM, ISM = "OpenCV", "scikit-image", "torchmetrics", "image-similarity-measures"
FULL = "averages over the frame and a reflected border, not over whole windows"
SEVEN = "uniform 7x7 window, constants, sample covariance"
POPULATION = "population instead of sample deviation, another border"
FLOAT32 = "computes in float32"
ARCCOS = "the arc cosine of nearly 1 keeps half the digits"

WORKS: dict[str, Work] = {
    "se": Work("se", {}, (
        Peer(CV, using("cv2", lambda cv2, x, y: cv2.norm(x, y, cv2.NORM_L2SQR))),
        Peer(SKI, using("skimage.metrics", lambda m, x, y: m.mean_squared_error(x, y) * x.size)),
        Peer("NumPy", using("numpy", lambda np, x, y: np.sum(np.subtract(x, y, dtype=float) ** 2))),
    )),
    "rmse": Work("rmse", {}, (
        Peer(CV, using("cv2", lambda cv2, x, y: cv2.quality.QualityMSE_compute(x, y)[0][0] ** 0.5),
             SINGLE, FLOAT32),
        Peer("sewar", using("sewar", lambda sewar, x, y: sewar.rmse(x, y))),
        Peer(TM, lib.torchmetrics("mean_squared_error", squared=False)),
        Peer(ISM, ism.bind("rmse", max_p=1), SINGLE, FLOAT32),
    )),
    "psnr": Work("psnr", {}, (
        Peer(CV, using("cv2", lambda cv2, x, y: cv2.PSNR(x, y, DATA_RANGE))),
        Peer(SKI, using("skimage.metrics",
                        lambda m, x, y: m.peak_signal_noise_ratio(x, y, data_range=DATA_RANGE))),
        Peer("piq", lib.piq("psnr"), 2e-4, "adds 1e-8 to the error of images scaled to [0, 1]"),
        Peer(TM, lib.torchmetrics("peak_signal_noise_ratio", data_range=DATA_RANGE),
             SINGLE, "keeps the data range in float32"),
        Peer("sewar", using("sewar", lambda sewar, x, y: sewar.psnr(x, y, MAX=DATA_RANGE))),
        Peer(ISM, ism.bind("psnr", max_p=255), SINGLE, FLOAT32),
    )),
    "imed": Work("imed", {}, (
        Peer("SciPy", lib.plain(lib.gaussian_filtered), 2e-8, "taps sum to 1, ours to 1 + 5e-9"),
        _other("imed", lib.imed("DCT"), 0.03, "another border and a sampled spectrum"),
    )),
    "ssim": Work("ssim", {}, (
        _other(CV, using("cv2", lambda cv2, x, y: cv2.quality.QualitySSIM_compute(x, y)[0][0]),
               0.01, FULL + "; float32"),
        Peer(SKI, using("skimage", lib.skimage_ssim)),
        Peer("piq", lib.piq("ssim", downsample=False)),
        _other(TM, lib.torchmetrics("image.structural_similarity_index_measure",
                                    data_range=DATA_RANGE, sigma=1.5), 0.01, FULL),
        Peer("sewar", using("sewar", lib.sewar_ssim), largest=1024),
        _other(ISM, ism.bind("ssim", max_p=255), None, SEVEN),
    )),
    "ssim, uniform": Work("ssim", {"window": "uniform", "sample_covariance": True}, (
        Peer(SKI, using("skimage", lib.skimage_uniform_ssim)),
        Peer(ISM, ism.bind("ssim", max_p=255)),
    )),
    "zncc": Work("zncc", {}, (
        Peer(CV, using("cv2", lib.opencv_zncc), SINGLE, FLOAT32),
        Peer(SKI, using("skimage.measure", lambda m, x, y: m.pearson_corr_coeff(x, y)[0])),
        Peer("NumPy", using("numpy", lambda np, x, y: np.corrcoef(x.ravel(), y.ravel())[0, 1])),
        Peer(TM, lib.torchmetrics("pearson_corrcoef", flat=True)),
    )),
    "gmsd": Work("gmsd", {}, (
        _other(CV, using("cv2", lambda cv2, x, y: cv2.quality.QualityGMSD_compute(x, y)[0][0]),
               1e-3, POPULATION + "; float32"),
        _other("piq", lib.piq("gmsd"), 1e-3, POPULATION),
    )),
    "fsim": Work("fsim", {}, (
        _other("piq", lib.piq("fsim", chromatic=False), 1e-3,
               "lower median, another way of downsampling large images"),
        _other(ISM, ism.bind("fsim"), None,
               "6 orientations, other gradients, no downsampling", largest=512),
    )),
    "issm": Work("issm", {}, (
        _other(ISM, ism.bind("issm"), None, "entropy of counts; made for 12-bit data"),
    )),
    "sre": Work("sre", {}, (_other(ISM, ism.bind("sre"), None, "a square is missing"),)),
    "sam, image": Work("sam", {"mode": "image"}, (
        Peer("NumPy", lib.plain(lib.angle), 1e-7, ARCCOS),
    )),
    "sam, spectral": Work("sam", {"mode": "spectral"}, (
        Peer(TM, lib.torchmetrics("image.spectral_angle_mapper"), 1e-7, ARCCOS),
        Peer("sewar", using("sewar", lambda sewar, x, y: sewar.sam(x, y)), 1e-7, ARCCOS),
        Peer(ISM, ism.bind("sam", convert_to_degree=False), 1e-7, ARCCOS),
    ), channels=3),
    "uiq": Work("uiq", {}, (
        _other(SKI, using("skimage", lib.skimage_uniform_ssim), None, "SSIM: " + SEVEN),
        _other(TM, lib.torchmetrics("image.universal_image_quality_index"), None,
               "Gaussian 11x11 window"),
        _other("sewar", using("sewar", lambda sewar, x, y: sewar.uqi(x, y)), None,
               "formula for sums fed with means"),
        _other(ISM, ism.bind("uiq"), 1e-4, "float32; flat windows count as 0", largest=256),
    )),
    "sh, wavelet": _hashes("wavelet", "whash"),
    "sh, perceptual": _hashes("perceptual", "phash", "PHash"),
    "sh, difference": _hashes("difference", "dhash"),
    "sh, average": _hashes("average", "average_hash", "AverageHash"),
    "sh, census": Work("sh", {"hash": "census"}, (), dtype="uint8"),
}  # fmt: skip


def peer(work: str, library: str) -> Peer:
    """Return how a library does some work."""
    return next(p for p in WORKS[work].peers if p.library == library)
