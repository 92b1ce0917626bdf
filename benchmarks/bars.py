"""What the fast engine set out to reach, each bar with the cases that it is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

import imsim
from benchmarks import images, probes
from benchmarks.libraries import Bind, Call, looped
from benchmarks.peers import WORKS, peer
from benchmarks.timing import Spread, interleave


@dataclass(frozen=True)
class Case:
    """One measurement; it takes the seconds that it may spend on each call."""

    label: str
    measure: Callable[[float], Spread]
    slow: bool = False
    """Left out of a quick run."""


@dataclass(frozen=True)
class Bar:
    """A limit for the median of every case."""

    work: str
    text: str
    limit: float
    at_least: bool
    cases: tuple[Case, ...]
    unit: str = "x"

    def meets(self, median: float) -> bool:
        return median >= self.limit if self.at_least else median <= self.limit


@dataclass(frozen=True)
class Input:
    """Which pair, or how many pairs, a case is about."""

    size: int
    dtype: str = "float32"
    count: int | None = None
    label: str = field(init=False)

    def __post_init__(self) -> None:
        batch = f"{self.count} pairs " if self.count else ""
        label = f"{batch}{self.size}x{self.size} {self.dtype}"
        object.__setattr__(self, "label", label)

    def pair(self, work: str) -> tuple[images.Array, images.Array]:
        channels = WORKS[work].channels
        return images.pair(self.size, self.dtype, count=self.count, channels=channels)


def _faster(work: str, library: str, given: Input, *, slow: bool = False) -> Case:
    """How many times as long the peer takes."""

    def measure(budget: float) -> Spread:
        x, y = given.pair(work)
        bind = peer(work, library).bind
        batch = given.count is not None and library != "piq"  # piq takes batches
        calls = {"imsim": WORKS[work].bind(x, y), library: (looped(bind) if batch else bind)(x, y)}
        return interleave(calls, budget).ratio(library, "imsim")

    return Case(f"{work} against {library}, {given.label}", measure, slow)


def _beside(work: str, name: str, bind: Bind, given: Input) -> Case:
    """How many times as long as imsim the reference takes."""

    def measure(budget: float) -> Spread:
        x, y = given.pair(work)
        calls = {"imsim": WORKS[work].bind(x, y), name: bind(x, y)}
        return interleave(calls, budget).ratio(name, "imsim")

    return Case(f"{work}, {given.label}", measure)


def _within(work: str, name: str, bind: Bind, given: Input) -> Case:
    """How many times as long as the reference imsim takes."""

    def measure(budget: float) -> Spread:
        x, y = given.pair(work)
        calls = {"imsim": WORKS[work].bind(x, y), name: bind(x, y)}
        return interleave(calls, budget).ratio("imsim", name)

    return Case(f"{work}, {given.label}", measure)


def _psnr_of_bytes(x: images.Array, y: images.Array) -> Call:
    import cv2

    return partial(cv2.PSNR, x.astype(np.uint8), y.astype(np.uint8))


def _dot(x: images.Array, y: images.Array) -> Call:
    return partial(np.dot, x.ravel(), y.ravel())


def _canny_twice(x: images.Array, y: images.Array) -> Call:
    from skimage.feature import canny

    p, q = (v.astype(np.float64) / images.DATA_RANGE for v in (x, y))
    detect = partial(canny, sigma=1.0, low_threshold=0.1, high_threshold=0.2)
    return lambda: (detect(p), detect(q))


def _bare_transforms(x: images.Array, y: images.Array) -> Call:
    """34 complex transforms of the size that FSIM works on, for each pair.

    In place and all at once, which is the fastest way; orthonormal, so that values stay alike.
    """
    import scipy.fft

    pairs = 1 if x.ndim == 2 else len(x)
    step = max(1, int(min(x.shape[-2:]) / 256 + 0.5))
    frame = [-(-n // step) for n in x.shape[-2:]]
    rng = np.random.default_rng(0)
    complex_type = np.complex64 if x.dtype == np.float32 else np.complex128
    stack = rng.standard_normal((34, *frame)).astype(complex_type)

    def transform() -> None:
        for _ in range(pairs):
            scipy.fft.ifft2(stack, norm="ortho", overwrite_x=True, workers=imsim.get_workers())

    return transform


def _masked(work: str, size: int) -> Case:
    def measure(budget: float) -> Spread:
        x, y = Input(size, WORKS[work].dtype).pair(work)
        bind = WORKS[work].bind
        calls = {"all": bind(x, y), "masked": bind(x, y, images.mask(size))}
        return interleave(calls, budget).ratio("masked", "all")

    return Case(f"{work}, {size}x{size}", measure)


def _weighted(work: str, dtype: str) -> Case:
    def measure(budget: float) -> Spread:
        x, y = Input(512, dtype).pair(work)
        bind, mask = WORKS[work].bind, images.mask(512)
        weights = np.where(mask, np.random.default_rng(0).random(mask.shape), 0)
        calls = {"masked": bind(x, y, mask), "weighted": bind(x, y, weights=weights)}
        return interleave(calls, budget).ratio("weighted", "masked")

    return Case(f"{work}, 512x512, {dtype}", measure)


def _growth(work: str) -> Case:
    def measure(budget: float) -> Spread:
        # Repeating the small pair keeps the content, and 4096 x 4096 cheap to make.
        x, y = Input(512, WORKS[work].dtype).pair(work)
        tiles = (8, 8, 1)[: x.ndim]
        bind = WORKS[work].bind
        calls = {"small": bind(x, y), "large": bind(np.tile(x, tiles), np.tile(y, tiles))}
        ratio = interleave(calls, budget).ratio("large", "small")
        return Spread(ratio.median / 64, ratio.low / 64, ratio.high / 64)

    return Case(work, measure, slow=True)


def _wide(name: str, option: str, dtype: str) -> Case:
    """How many times as long uniform windows of 64 x 64 pixels take as those of 8 x 8."""

    def measure(budget: float) -> Spread:
        x, y = Input(512, dtype).pair(name)
        call = partial(imsim.METRICS[name].function, x, y)
        calls = {str(side): partial(call, **{option: side}) for side in (8, 64)}
        return interleave(calls, budget).ratio("64", "8")

    return Case(f"{name}, 512x512, {dtype}", measure)


def _overhead(work: str) -> Case:
    def measure(budget: float) -> Spread:
        x, y = images.pair(16, channels=WORKS[work].channels)
        seconds = interleave({"imsim": WORKS[work].bind(x, y)}, budget).seconds("imsim")
        return Spread(seconds.median * 1e6, seconds.low * 1e6, seconds.high * 1e6)

    return Case(work, measure)


def _memory(work: str, masked: bool) -> Case:
    def measure(budget: float) -> Spread:
        percent = 100 * probes.extra_memory(work, 4096, masked)
        return Spread(percent, percent, percent)

    return Case(work + (", masked" if masked else ""), measure, slow=True)


def _import(budget: float) -> Spread:
    return probes.import_seconds(7 if budget > 0.5 else 3)


def _first(work: str) -> Case:
    """Seconds until the first score, on a machine where nothing is compiled."""

    def measure(budget: float) -> Spread:
        return Spread.of([probes.first_call(work)["cold"]])

    return Case(work, measure, slow=True)


def _compile_all(budget: float) -> Spread:
    return Spread.of([probes.compile_seconds()])


def _regions(given: Input, labels: int, each: float) -> Case:
    """Part of the time of two unmasked calls of each metric, and `each` seconds a label."""
    works = ("ssim", "gmsd")

    def measure(budget: float) -> Spread:
        x, y = given.pair("ssim")
        options = {"data_range": images.DATA_RANGE}
        cells = images.cells(given.size, labels)
        once = [WORKS[work].bind(x, y) for work in works]
        calls = {
            "regions": partial(imsim.regions, x, y, cells, works, **options),
            "once": lambda: [call() for call in once],
        }
        rounds = interleave(calls, budget).rounds
        times = zip(rounds["regions"], rounds["once"], strict=True)
        allowed = labels * each
        return Spread.of([t / (2 * u + allowed) for t, u in times if t is not None and u])

    return Case(f"{labels} labels, {given.label}", measure)


PIXELWISE = ("se", "rmse", "psnr", "sre", "zncc", "sam, image", "sam, spectral")
WINDOWED = ("ssim", "uiq", "gmsd", "fsim", "imed", "issm")
WEIGHTED = ("ssim", "uiq", "gmsd")  # those with a kernel for weights
HASHES = ("sh, wavelet", "sh, perceptual", "sh, difference", "sh, average")
F32, U8 = "float32", "uint8"

BARS = (
    Bar("SSIM, float32", "5x as fast as OpenCV's at 512x512", 5, True,
        (_faster("ssim", "OpenCV", Input(512)),)),
    Bar("SSIM, float32", "8x as fast as OpenCV's at 1024x1024", 8, True,
        (_faster("ssim", "OpenCV", Input(1024)),)),
    Bar("SSIM, float32", "30x as fast as scikit-image's", 30, True,
        tuple(_faster("ssim", "scikit-image", Input(size)) for size in (512, 1024))),
    Bar("SSIM, uint8", "2.5x as fast as OpenCV's at 512x512", 2.5, True,
        (_faster("ssim", "OpenCV", Input(512, U8)),)),
    Bar("UIQ", "30x as fast as scikit-image's uniform SSIM", 30, True,
        tuple(_faster("uiq", "scikit-image", Input(512, dtype)) for dtype in (F32, U8))),
    Bar("UIQ", "1000x as fast as image-similarity-measures'", 1000, True,
        (_faster("uiq", "image-similarity-measures", Input(256), slow=True),)),
    Bar("GMSD", "2x as fast as OpenCV's", 2, True,
        tuple(_faster("gmsd", "OpenCV", Input(512, dtype)) for dtype in (F32, U8))),
    Bar("GMSD", "5x as fast as piq's", 5, True,
        (_faster("gmsd", "piq", Input(512)),)),
    Bar("FSIM", "4x as fast as piq's", 4, True,
        tuple(_faster("fsim", "piq", Input(size)) for size in (256, 512))),
    Bar("FSIM, batch of 64", "8x as fast as piq's", 8, True,
        (_faster("fsim", "piq", Input(128, count=64)),)),
    Bar("FSIM", "1.6x the 34 bare Fourier transforms", 1.6, False,
        (*(_within("fsim", "transforms", _bare_transforms, Input(256, d)) for d in (F32, U8)),
         _within("fsim", "transforms", _bare_transforms, Input(512)),
         _within("fsim", "transforms", _bare_transforms, Input(128, count=64)))),
    Bar("SE, RMSE, PSNR", "1.5x OpenCV's PSNR on uint8", 1.5, False,
        tuple(_within(work, "PSNR", _psnr_of_bytes, Input(size, dtype))
              for work in ("se", "rmse", "psnr") for size in (1024, 2048) for dtype in (U8, F32))),
    Bar("ZNCC, SRE, SAM", "2x numpy.dot at 2048x2048 float32", 2, False,
        tuple(_within(work, "dot", _dot, Input(2048)) for work in ("zncc", "sre", "sam, image"))),
    Bar("IMED", "5x as fast as through SciPy's gaussian_filter", 5, True,
        (_faster("imed", "SciPy", Input(512)), _faster("imed", "SciPy", Input(512, U8)),
         _faster("imed", "SciPy", Input(1024)))),
    Bar("IMED", "10x as fast as imed's", 10, True,
        tuple(_faster("imed", "imed", Input(512, dtype)) for dtype in (F32, U8))),
    Bar("SH", "5x as fast as ImageHash's", 5, True,
        tuple(_faster(work, "ImageHash", Input(512, U8)) for work in HASHES)),
    Bar("ISSM", "10x as fast as the two Canny calls of scikit-image at 1024x1024", 10, True,
        tuple(_beside("issm", "Canny", _canny_twice, Input(1024, dtype)) for dtype in (F32, U8))),
    Bar("masked / unmasked, windowed", "2x the time", 2, False,
        tuple(_masked(work, 512) for work in WINDOWED)),
    Bar("masked / unmasked, pixelwise", "1.5x the time", 1.5, False,
        tuple(_masked(work, 1024) for work in PIXELWISE)),
    Bar("regions, SSIM and GMSD", "2x one unmasked call of each, and 20 µs a label", 1, False,
        tuple(_regions(Input(2048, dtype), 5000, 20e-6) for dtype in (U8, F32))),
    Bar("weighted / masked", "2x the time", 2, False,
        tuple(_weighted(work, dtype) for work in (*WEIGHTED, *PIXELWISE) for dtype in (F32, U8))),
    Bar("growth", "1.3x the time per pixel at 4096x4096 as at 512x512", 1.3, False,
        tuple(_growth(work) for work in (*WINDOWED, *PIXELWISE, *HASHES))),
    Bar("uniform windows of 64x64", "4x the time of 8x8", 4, False,
        tuple(_wide(name, option, dtype) for name, option in
              (("uiq", "block_size"), ("zncc", "window_size")) for dtype in (F32, U8))),
    Bar("call overhead, pixelwise", "12 µs for 16x16 float32", 12, False,
        tuple(_overhead(work) for work in PIXELWISE), unit="µs"),
    Bar("call overhead, SSIM", "25 µs for 16x16 float32", 25, False,
        (_overhead("ssim"),), unit="µs"),
    Bar("memory at 4096x4096 float32", "10 % of the two inputs", 10, False,
        tuple(_memory(work, masked) for work in ("ssim", "uiq", "gmsd")
              for masked in (False, True)), unit="%"),
    Bar("import imsim", "0.1 s more than import numpy", 0.1, False,
        (Case("import", _import),), unit="s"),
    Bar("first call, SSIM", "2 s where nothing is compiled", 2, False, (_first("ssim"),),
        unit="s"),
    Bar("first call", "4 s where nothing is compiled", 4, False,
        tuple(_first(work) for work in (*WINDOWED, *PIXELWISE, *HASHES)), unit="s"),
    Bar("compile_kernels()", "25 s of one core", 25, False,
        (Case("all metrics", _compile_all, slow=True),), unit="s"),
)  # fmt: skip
