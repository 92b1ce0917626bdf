"""SAM of whole images by weights: Gram matrices whose products have weights."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.gram import N_GRAM, fit, merge_gram
from imsim.kernels.common.jit import kernel, part
from imsim.kernels.common.pair_moments import weighed
from imsim.kernels.common.pixel_blocks import BLOCK
from imsim.kernels.common.weight_survey import is_unusual
from imsim.typing import Array


def gram_of_run(x: Array, y: Array, mask: Array | None, out: Array, weights: Array) -> None:
    """Gram matrix of a run by weights, the sum of the weights, and whether any is unusual."""
    _weighted_gram(x, y, weights, np.empty((2, BLOCK)), np.empty(N_GRAM), out)


@kernel
def _weighted_gram(x, y, weights, room, block, out):  # type: ignore[no-untyped-def]
    out[3] = 1.0
    for start in range(0, x.size, BLOCK):
        p, q = x[start : start + BLOCK], y[start : start + BLOCK]
        _merge_weighted(p, q, weights[start : start + BLOCK], room, block, out)


@part
def _merge_weighted(p, q, w, room, block, out):  # type: ignore[no-untyped-def]
    """Merge the Gram matrix of a block, whose products have weights."""
    u, v = room[0, : p.size], room[1, : p.size]
    whole, xx, yy, xy, unusual = 0.0, 0.0, 0.0, 0.0, False
    for i in range(p.size):
        weight = np.float64(w[i])
        a = np.float64(p[i]) if weight != 0 else 0.0
        b = np.float64(q[i]) if weight != 0 else 0.0
        u[i], v[i] = a, b
        whole += weight
        unusual |= is_unusual(weight)
        xx += weighed(weight, a, a)
        yy += weighed(weight, b, b)
        xy += weighed(weight, a, b)
    fit(u, v, w, xx, yy, xy, block)
    merge_gram(out, block)
    out[4] += whole
    out[5] += unusual
