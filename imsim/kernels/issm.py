"""ISSM: edges, joint histogram and structural similarity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim.kernels.common.canny import find_strengths, link
from imsim.kernels.common.canny import strips as canny_strips
from imsim.kernels.common.jit import inline, kernel
from imsim.kernels.common.planes import NO_MASK, Plane, Planes, distinct_images, image_numbers
from imsim.kernels.ssim import ssim
from imsim.portable.coarse import eroded
from imsim.portable.edges import (
    BINS,
    correlation_of_counts,
    pair_counts,
    shannon_entropy,
    upper_end,
)
from imsim.portable.pair import Scores
from imsim.typing import Array
from imsim.validation import Images
from imsim.workers import parallel

COST = 24
"""Work per pixel, as a multiple of that for which `parallel` has its threshold."""


def issm_components(
    images: Images, mask: Array | None, canny: dict[str, float], ssim_options: dict[str, Any]
) -> tuple[Scores, ...]:
    """Entropy, edge correlation and structural similarity per channel."""
    structural: Any = ssim(images, mask, **ssim_options)
    planes = Planes(images, mask)
    entropy, correlation, scored = np.empty((3, planes.count))
    sides = image_numbers(images, mask, planes.shape)
    firsts = distinct_images(sides)
    strips = canny_strips(*planes.frame, canny["sigma"])
    strengths = [np.empty(planes.frame, dtype=np.uint8) for _ in firsts]

    def prepare(i: int) -> None:
        if i < planes.count:
            entropy[i] = joint_entropy(planes[i], images)
            return
        k, strip = divmod(i - planes.count, len(strips))
        side, _, first = firsts[k]
        image, mask = planes[first][side], planes[first].mask
        inside = None if mask is None or mask.all() else mask
        options = {"data_range": images.data_range, **canny}
        find_strengths(image, inside, strips[strip], strengths[k], **options)

    pixels = COST * planes.count * math.prod(planes.frame)
    parallel(prepare, planes.count + len(firsts) * len(strips), pixels)
    edges: dict[tuple[int, int], Array] = {}

    def link_edges(k: int) -> None:
        edges[firsts[k][:2]] = link(strengths[k])

    def compare(i: int) -> None:
        p, q = (edges[side, int(own[i])] for side, own in enumerate(sides))
        valid = eroded(planes[i].mask)
        counts = count_edges(p, q, valid)
        scored[i] = counts[0]
        correlation[i] = correlation_of_counts(*counts).item()

    parallel(link_edges, len(firsts), pixels)
    parallel(compare, planes.count, pixels)
    parts = (entropy.reshape(planes.shape), correlation.reshape(planes.shape), structural.values)
    scored = np.minimum(structural.scored, scored.reshape(planes.shape))
    return tuple(Scores(part, scored, left=structural.left) for part in parts)


def count_edges(p: Array, q: Array, valid: Array | None) -> Array:
    """Count the valid pixels, the edges in p, those in q, and those in both."""
    n = p.size
    if valid is not None:
        n, p, q = np.count_nonzero(valid), p & valid, q & valid
    return np.array([n, *map(np.count_nonzero, (p, q, p & q))], np.float64)


def joint_entropy(plane: Plane, images: Images) -> float:
    """Entropy of the joint histogram; pairs outside the data range are sorted to count them."""
    counts = np.zeros((BINS, BINS), dtype=np.int64)
    scale = np.float64(BINS / images.data_range)
    top = upper_end(images.dtype, images.data_range)
    x, y, mask = plane.x, plane.y, NO_MASK if plane.mask is None else plane.mask
    outside = _count_pairs(x, y, mask, scale, top, counts, np.empty((2, 0)))
    if outside == 0:
        return shannon_entropy(counts)
    others = np.empty((2, outside))
    counts[:] = 0
    _count_pairs(x, y, mask, scale, top, counts, others)
    numbers = pair_counts(*others)
    if numbers.size == 0:  # not finite
        return math.nan
    return shannon_entropy(np.concatenate([counts[counts > 0], numbers]))


@kernel
def _count_pairs(x, y, mask, scale, top, counts, others):  # type: ignore[no-untyped-def]
    """Count pairs of bins in the data range; return how many lie outside it, and write these.

    Only as many are written as `others` has columns.
    """
    outside = 0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            if mask.size == 0 or mask[i, j]:
                p, q = _bin(x[i, j], scale, top), _bin(y[i, j], scale, top)
                if 0 <= p < BINS and 0 <= q < BINS:
                    counts[int(p), int(q)] += 1
                    continue
                if outside < others.shape[1]:
                    others[0, outside], others[1, outside] = p, q
                outside += 1
    return outside


@inline
def _bin(value, scale, top):  # type: ignore[no-untyped-def]
    """Return the number of a bin; see `imsim.portable.edges.bins`."""
    found = np.floor(np.float64(value) * scale)
    return BINS - 1.0 if found == BINS and value <= top else found
