"""SSIM and UIQ of many small regions."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import kernel
from imsim.kernels.common.planes import Planes
from imsim.kernels.common.window_strips import Strips, pixel_types
from imsim.kernels.common.window_sums import TILE, VECTORS, workspaces
from imsim.kernels.regions import Places
from imsim.kernels.regions.crops import for_each_part, load_crop
from imsim.kernels.ssim import quality_strip
from imsim.kernels.ssim import strips_of as ssim_strips
from imsim.kernels.uiq import strips_of as uiq_strips
from imsim.portable.pair import Scores
from imsim.portable.windows import Window
from imsim.validation import Images

MOST_COLUMNS, VECTOR = TILE // 8, VECTORS // 8
"""Most columns of a tile, and what their number is a multiple of, in float64."""


def ssim(
    images: Images,
    places: Places,
    window: Window,
    K1: float,
    K2: float,
    sample_covariance: bool,
    downsample: bool,
    min_coverage: float,
) -> Scores | None:
    """Mean structural similarity, in float64; None where another kernel must."""
    if K1 == 0 or K2 == 0 or downsample:
        return None
    images = images._replace(dtype=np.float64)
    kernel_options = (window, K1, K2, sample_covariance, min_coverage, min_coverage == 1)
    pixels, span = pixel_types(images), images.data_range
    return _scores(images, places, ssim_strips(pixels, np.float64, span, *kernel_options))


def uiq(images: Images, places: Places, block_size: int) -> Scores:
    """Mean quality over blocks."""
    return _scores(images, places, uiq_strips(pixel_types(images), block_size))


def _scores(images: Images, places: Places, strips: Strips) -> Scores:
    planes, n = Planes(images, None), len(places.wanted)
    sums = np.zeros((planes.count, n, 3))

    def score(channel: int, part: slice) -> None:
        x, y, _ = planes[channel]
        _, memory = workspaces(strips.window.size, strips.planes, MOST_COLUMNS, strips.dtype)
        flat = tuple(memory[i].reshape(-1) for i in (0, 1, 2, 4, 5, 6, 7))
        _quality_of(x, y, *places.part(part), sums[channel, part], flat, *strips.constants)

    for_each_part(score, planes.count, places.crops)
    totals, numbers, doubts = sums.transpose(2, 1, 0)
    # A doubtful window is computed again, and what is not finite is found, by the other kernels.
    left = ((doubts > 0) | ~np.isfinite(totals)).any(axis=-1)
    return Scores(totals / numbers, numbers, left=left)


@kernel
def _quality_of(  # type: ignore[no-untyped-def]
    x,
    y,
    codes,
    wanted,
    crops,
    sums,
    memory,
    taps,
    unrolled,
    ones,
    limits,
    is_sample,
    constants,
    rounding,
):
    size, real = taps.size, taps.dtype
    rows_of, slots, windows, found, scored, counted, counts = memory
    for k in range(wanted.size):
        top, left = crops[k, 0, 0], crops[k, 1, 0]
        height, width = crops[k, 0, 1] - top, crops[k, 1, 1] - left
        rows, columns = height - size + 1, width - size + 1
        if rows < 1 or columns < 1:  # at the border, where no window fits into the frame
            continue
        p, q = np.empty((height, width), x.dtype), np.empty((height, width), y.dtype)
        inside = np.empty((height, width), np.bool_)
        load_crop(x, codes, wanted[k], top, left, p, inside)
        load_crop(y, codes, wanted[k], top, left, q, inside)
        tiles = -(-columns // MOST_COLUMNS)
        tile = -(-columns // (tiles * VECTOR)) * VECTOR
        sums_of = windows[: 5 * tile]
        memory = (
            rows_of[: 3 * (tile + size - 1)].reshape(3, tile + size - 1),
            slots[: size * 5 * tile].reshape(size, 5 * tile),
            sums_of.reshape(5, tile),
            sums_of,
            found[:tile],
            scored[:tile],
            counted[: size * tile].reshape(size, tile),
            counts[: 2 * tile].reshape(2, tile),
        )
        quality_strip(
            p,
            q,
            inside,
            0,
            columns,
            False,
            sums[k],
            np.empty((rows, columns), real),
            np.empty((0, 0), np.bool_),
            np.empty((rows, tiles), np.bool_),
            memory,
            taps,
            unrolled,
            ones,
            limits,
            is_sample,
            constants,
            rounding,
        )
