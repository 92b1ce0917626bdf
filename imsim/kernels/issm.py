"""ISSM: edges, histogram and structural similarity side by side."""

from __future__ import annotations

import math

import numpy as np

from imsim import kernels
from imsim.kernels.jit import inline, kernel
from imsim.kernels.planes import Plane, Planes
from imsim.kernels.sharing import distinct, owners
from imsim.metrics import issm as formula
from imsim.metrics.issm import BINS, ISSMComponents
from imsim.portable.arrays import keep
from imsim.portable.gradients import eroded
from imsim.portable.pair import Scores
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import parallel

PASSES = 64
"""How much more work a pixel is for Canny than a threshold in pixels expects."""


def issm(images: Images, mask: Array | None, canny: dict[str, float]) -> Scores | None:
    """ISSM per channel."""
    found = _components(images, mask, canny)
    return None if found is None else Scores(formula.combine(found[0]), found[1])


def issm_components(
    images: Images, mask: Array | None, canny: dict[str, float]
) -> tuple[Scores, ...] | None:
    """Compute entropy, edge correlation and structural similarity."""
    found = _components(images, mask, canny)
    return None if found is None else tuple(Scores(part, found[1]) for part in found[0])


def _components(
    images: Images, mask: Array | None, canny: dict[str, float]
) -> tuple[ISSMComponents, Array] | None:
    structural = kernels.run("ssim", images, mask, formula.SSIM)
    if structural is None:
        return None
    planes = Planes(images, mask)
    scale = np.dtype(images.dtype).type(BINS / images.data_range)
    entropy, correlation, scored = np.empty((3, planes.count))
    edges: dict[tuple[int, int], Array] = {}
    sides = owners(images, mask, planes.shape)
    firsts = distinct(sides)

    def find_edges(k: int) -> None:
        side, image, i = firsts[k]
        plane = planes[i]
        v = keep(plane.mask, (plane.y if side else plane.x).astype(images.dtype))
        inside = None if plane.mask is None or plane.mask.all() else plane.mask
        edges[side, image] = formula.edge_map(v, inside, images.data_range, canny)

    def compare(i: int) -> None:
        p, q = (edges[side, int(own[i])] for side, own in enumerate(sides))
        valid = eroded(planes[i].mask)
        correlation[i] = formula.edge_correlation(p, q, valid).item()
        scored[i] = p.size if valid is None else np.count_nonzero(valid)
        entropy[i] = formula.shannon_entropy(joint_histogram(planes[i], scale))

    pixels = PASSES * planes.count * math.prod(planes.frame)
    parallel(find_edges, len(firsts), pixels)
    parallel(compare, planes.count, pixels)
    shape = planes.shape
    parts = ISSMComponents(entropy.reshape(shape), correlation.reshape(shape), structural.values)
    return parts, np.minimum(structural.scored, scored.reshape(shape))


def joint_histogram(plane: Plane, scale: np.floating) -> Array:
    """Count pairs of pixels in BINS x BINS bins over the data range."""
    counts = np.zeros((BINS, BINS), dtype=np.int64)
    _joint_histogram(*plane, scale, counts)
    return counts


@kernel
def _joint_histogram(x, y, mask, scale, counts):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            if mask is None or mask[i, j]:
                counts[_bin(x[i, j] * scale), _bin(y[i, j] * scale)] += 1


@inline
def _bin(position):  # type: ignore[no-untyped-def]
    if not position >= 0:  # NaN has no bin; the structural similarity takes care of it
        return 0
    return int(position) if position < BINS else BINS - 1
