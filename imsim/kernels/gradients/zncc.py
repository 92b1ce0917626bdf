"""Gradient of ZNCC, of whole images and of windows."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import exact
from imsim.kernels.common.pair_moments import moments_of_planes
from imsim.kernels.common.planes import NO_BYTES, Planes, flat_rows
from imsim.kernels.common.rescaling import find_lost_sums
from imsim.kernels.common.window_moments import TINY
from imsim.kernels.gradients import Gradients, plane_weights
from imsim.kernels.gradients.window_fields import MEAN_X, MEAN_Y, XX, XY, YY
from imsim.kernels.gradients.windows import Windowed, windowed_gradient
from imsim.portable.pair import Pair
from imsim.portable.windows import least_weight, uniform
from imsim.typing import Array
from imsim.workers import parallel


def zncc(
    pair: Pair,
    upstream: Array,
    wanted: tuple[bool, bool],
    *,
    lengths: tuple[int, ...] | None,
    min_coverage: float,
) -> Gradients | None:
    """Gradient of the correlation of the whole images, or of its mean over square windows."""
    if lengths is None:
        return _whole(pair, upstream, wanted)
    window = uniform(*lengths)
    if not window.is_square:
        return None
    windowed = Windowed(
        window,
        np.float64,
        least_weight(window, min_coverage, float(np.finfo(np.float64).eps)),
        window.pixels if min_coverage == 1 else 0,
        False,
        None,
        correlation_coefficients,
    )
    return windowed_gradient(pair, upstream, wanted, windowed)


def correlation_coefficients(moments: Array) -> Array:
    """Coefficients of the correlation at single windows; 0 where an image is flat."""
    xx, yy, xy = moments[XX], moments[YY], moments[XY]
    flat = (xx == 0) | (yy == 0)
    c = np.where(flat, 0, 1 / np.sqrt(xx) / np.sqrt(yy))
    b_x, b_y = (np.where(flat, 0, -c * (xy / square)) for square in (xx, yy))
    lost = np.zeros(len(c), np.bool_)
    for square, mean in ((xx, moments[MEAN_X]), (yy, moments[MEAN_Y])):
        lost |= (square < TINY) & ((square > 0) | (mean != 0))
    nothing = np.zeros_like(c)
    return np.stack([nothing, nothing, b_x, b_y, np.where(lost, np.nan, c)])


def _whole(pair: Pair, upstream: Array, wanted: tuple[bool, bool]) -> Gradients | None:
    planes = Planes(pair, pair.mask)
    totals = moments_of_planes(planes)
    squares = totals[:, 3:5].reshape(*planes.shape, 2)
    if find_lost_sums(pair, squares[..., 0], squares[..., 1]) is not None and _leaves(totals):
        return None
    weights = plane_weights(upstream, planes.shape)
    out = [np.empty((planes.count, *planes.frame), pair.x.dtype) if w else None for w in wanted]

    def task(k: int) -> None:
        x, y, mask = planes[k]
        inside = NO_BYTES if mask is None else flat_rows(mask)
        of_x, of_y = (None if v is None else v[k].reshape(-1) for v in out)
        if of_x is not None:
            _spread(flat_rows(x), flat_rows(y), inside, totals[k], 0, weights[k], of_x)
        if of_y is not None:
            _spread(flat_rows(y), flat_rows(x), inside, totals[k], 1, weights[k], of_y)

    parallel(task, planes.count, planes.count * planes.frame[0] * planes.frame[1] // 4)
    full = (*planes.shape, *planes.frame)
    found_x, found_y = (None if v is None else v.reshape(full) for v in out)
    return found_x, found_y


def _leaves(totals: Array) -> bool:
    """Whether a sum of squares has left float64, and is not 0 of a constant image."""
    squares = totals[:, 3:5]
    return bool((~np.isfinite(squares) | ((squares < TINY) & (squares > 0))).any())


@exact  # without fused operations, equal images have a gradient of exactly 0
def _spread(x, y, inside, moments, side, weight, out):  # type: ignore[no-untyped-def]
    """Write the gradient with respect to x, the image of `side` 0 or 1."""
    xx, yy, xy = moments[3 + side], moments[4 - side], moments[5]
    if xx <= 0 or yy <= 0:
        for i in range(out.size):
            out[i] = 0
        return
    centre_x, centre_y = moments[6 + side], moments[7 - side]
    mean_x, mean_y = moments[1 + side], moments[2 - side]
    share, slope = weight / np.sqrt(xx) / np.sqrt(yy), xy / xx
    for i in range(out.size):
        p = (np.float64(x[i]) - centre_x) - mean_x
        q = (np.float64(y[i]) - centre_y) - mean_y
        out[i] = share * (q - slope * p)
    if inside.size > 0:
        for i in range(out.size):
            if inside[i] == 0:
                out[i] = 0
