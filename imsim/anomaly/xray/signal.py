"""What X-ray images are made of: faults and gains of the sensor, and the texture of items."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imsim.anomaly.stacks import ROBUST, Booleans, Floats, nearest, product
from imsim.anomaly.xray.frames import border, eroded, halfway
from imsim.caches import kept
from imsim.kernels import xray as passes

MOST_IMAGES = 64
"""Good images from whose median the faults are learned."""
_LONE = 0.1
"""A pixel is a lone outlier if its neighbours, less their slope, which is steep near the rim of an
item, differ by less than this part of its own distance from them. The blur of a sensor spreads even
the smallest body: for a Gaussian of half a pixel the neighbours of a point differ by 0.14."""
_LINE, _THROUGHOUT = 10.0, 0.9
"""A row or column is faulty if it differs from its neighbours by this many robust standard
deviations of all, and in this share of its length, which begins at the frame."""
_WIDEST = 5
"""Most rows and columns that are faulty together, and stand alone."""
DARK, _NEARLY_ALL = 4.6, 0.9
"""Absorbance of 1 % of the open beam, and the share of the good images in which a dead pixel is
darker."""
_CLEAR, _MANY = 0.1, 8
"""A pixel never changes if it has one value in so many good images, and is not the open beam, which
may be cut off at the top."""
_BROADEST = 8
"""What is always dark or never changes is a fault up to this part of the frame's side: what is
wider may be an item."""
_ROWS = 128
"""Rows whose clusters are sought at a time: 50 arrays of them are held."""
_STILL = 1e-6
"""Least standard deviation of a pixel that counts, in absorbance."""
_ALIKE = 0.2
"""Pixels around a cluster differ by less than this part of its distance from them."""
_ROUNDING = np.float32(1e-6)
"""Part of a level that its differences may be off by."""
_LARGEST_STEP = 0.2
"""Largest difference in absorbance between neighbours that counts as one of gains, which change by
a few per cent. What differs by more is a body or a fault, and must stay to be seen."""
_LEAST_PAIRS = 4
"""Least pairs of pixels that a difference is measured from: the error of their mean is 0.7 times
the noise of a pixel in the open beam, and a drift of 3 % is several times that noise."""
_ROUGH = 0.1
"""Largest gain that a strip along the frame is believed; more is an item that touches it."""
_AWAY = 2
"""Pixels between what absorbs and the open beam that is used: the reach of the blur."""
_ENOUGH = 32
"""Rows and columns of which the threshold between item and open beam is found."""
_DEVIATIONS = 6
"""Standard deviations at which a Gaussian ends; 2e-9 of its weight lie beyond."""
_LEAST_BLOCK = 64
"""Least pixels of a block of `smoothed`: products of smaller matrices take longer per pixel."""
REACH = 16
"""Distances from the rim, in pixels, that are told apart; all beyond count as the last one."""
_QUANTILE, _NORMAL = 0.999, 3.29
"""The strength is this quantile of the absolute texture, over that of a normal distribution."""
_LEAST_STRENGTH = 0.1
"""Least strength, as a part of the median one: flat parts must not be amplified to noise."""


def faults_of(images: Floats, dark: float = DARK) -> Booleans:
    """Find pixels, clusters, rows and columns that stand alone among good images.

    Items lie in many places, or have no structure of single pixels: what stays alone is the sensor.
    Its level is seen in the median of the images; what is stuck at the level of items in how little
    it varies. Pixels that are darker than `dark` in nearly all images, or never change, need not be
    compared with their neighbours.
    """
    deviation = np.std(images, axis=0)
    variation = np.log(np.maximum(deviation, _STILL))
    middle = np.median(images, axis=0)
    lone = (without_lone(middle[None])[0] != middle) & ~np.isnan(middle)
    found = lone | _alone(middle) | _alone(variation)
    dead = (images > dark).mean(axis=0) > _NEARLY_ALL
    if len(images) >= _MANY:
        dead |= (deviation < _STILL) & (np.abs(middle) > _CLEAR)
    broad = [side // _BROADEST + 1 for side in dead.shape]
    labels, number = ndimage.label(dead)
    narrow = np.ones(number + 1, np.bool_)
    narrow[labels[ndimage.minimum_filter(dead, broad, mode="constant")]] = False
    found |= dead & narrow[labels]
    return found if found.mean() < 0.5 else np.zeros_like(found)


def wide(faults: Booleans) -> list[tuple[slice, slice]]:
    """Return the boxes of faults that are wider than those that hide hardly any body."""
    opened = ndimage.grey_opening(faults.astype(np.uint8), _WIDEST + 1, mode="constant")
    return list(ndimage.find_objects(ndimage.label(opened)[0]))


def repaired(images: NDArray[Any], faults: Booleans) -> NDArray[Any]:
    """Replace faulty pixels by what the sound ones around them show."""
    if not faults.any():
        return images
    result = images.copy()
    flat, total = images.reshape(*images.shape[:-2], -1), np.float32(0)
    for places, weights in _sources(faults.shape, np.packbits(faults).tobytes()):
        total = total + flat[..., places] * weights
    result[..., faults] = total
    return result


@kept
def _sources(shape: tuple[int, int], packed: bytes) -> list[tuple[NDArray[Any], Floats]]:
    """Return the sound pixels that stand for faulty ones, and their weights.

    They are the next in each direction, by the inverse square of their distance: across a wide
    fault, one side passes into the other. A pixel without any has the nearest one.
    """
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=shape[0] * shape[1])
    faults = bits.reshape(shape).astype(np.bool_)
    rows, columns = nearest(faults)
    places = [np.ravel_multi_index((rows, columns), shape)[faults]]
    weights = [np.full(len(places[0]), 1e-12)]
    index = np.arange(faults.size).reshape(shape)
    for turns in range(4):
        sound, numbers = np.rot90(~faults, turns), np.rot90(index, turns)
        steps = np.arange(sound.shape[1])
        last = np.maximum.accumulate(np.where(sound, steps, -1), axis=1)
        found = np.take_along_axis(numbers, np.maximum(last, 0), axis=1)
        share = np.where(last < 0, 0.0, 1 / np.maximum(steps - last, 1.0) ** 2)
        places.append(np.rot90(found, -turns)[faults])
        weights.append(np.rot90(share, -turns)[faults])
    every = np.sum(weights, axis=0)
    return [(p, (w / every).astype(np.float32)) for p, w in zip(places, weights, strict=True)]


def without_lone(images: Floats) -> Any:
    """Replace lone outliers, far from eight neighbours that are alike, by the middle of these."""
    return passes.without_lone(images, _LONE)


def _alone(image: Floats) -> Booleans:
    """Find clusters, rows and columns that stand alone."""
    found = np.zeros(image.shape, np.bool_)
    for size in range(1, _WIDEST + 1):
        for top in range(0, len(image) if size > 1 else 0, _ROWS):
            rows = slice(top, top + _ROWS + size + 1)
            found[rows] |= _clusters(image[rows], size)
        for turns in range(4):
            found |= np.rot90(_columns(np.rot90(image, turns), size), -turns)
    return found


def _clusters(image: Floats, size: int) -> Booleans:
    """Find pixels of a square that are far from those around it, which are alike but for a slope.

    Others of the square are like those around it: the edges of what is blurred are neither.
    """
    result = np.zeros(image.shape, np.bool_)
    if min(image.shape) < size + 2:
        return result
    windows = np.lib.stride_tricks.sliding_window_view(image, (size + 2, size + 2))
    steps = np.arange(size + 2, dtype=np.float32) - np.float32((size + 1) / 2)
    places = list(itertools.product(range(size + 2), repeat=2))
    ring = [(y, x) for y, x in places if {y, x} & {0, size + 1}]
    # The plane that fits best: the ring is symmetric, so that its terms are independent.
    level = sum(windows[..., y, x] for y, x in ring) / np.float32(len(ring))
    lever = sum(steps[y] ** 2 for y, _ in ring)
    down = sum(windows[..., y, x] * steps[y] for y, x in ring) / lever
    across = sum(windows[..., y, x] * steps[x] for y, x in ring) / lever

    def apart(y: int, x: int) -> Any:
        return windows[..., y, x] - level - down * steps[y] - across * steps[x]

    spread = np.ptp([apart(y, x) for y, x in ring], axis=0) + _ROUNDING * np.abs(level)
    inner = [place for place in places if place not in ring]
    distances = np.abs([apart(y, x) for y, x in inner])
    far = distances > spread / _ALIKE
    far &= (far | (distances <= spread)).all(axis=0)
    for (y, x), places_of in zip(inner, far, strict=True):
        result[y : y + len(places_of), x : x + places_of.shape[1]] |= places_of
    return result


def _columns(image: Floats, width: int) -> Booleans:
    """Find columns, so many side by side, that differ from those beside them from the top on.

    They are above, or below, both of them nearly all along a quarter of the image or more, and 16
    pixels. Beyond the frame, the image goes on straight.
    """
    result = np.zeros(image.shape, np.bool_)
    if image.shape[1] < width + 2:
        return result
    first, last = (
        side[:, width] + (side[:, width] - side[:, width + 1]) * np.float32(width + 1)
        for side in (image, image[:, ::-1])
    )
    image = np.column_stack([first, image, last])
    left, right = image[:, : -width - 1], image[:, width + 1 :]
    inner = np.stack([image[:, 1 + k : image.shape[1] - width + k] for k in range(width)])
    apart = inner.mean(axis=0) - (left + right) / 2
    deviation = ROBUST * float(np.median(np.abs(np.median(apart, axis=0))))
    above = inner.min(axis=0) > np.maximum(left, right)
    below = inner.max(axis=0) < np.minimum(left, right)
    lengths = np.arange(1, len(image) + 1)
    for side in (above, below):
        holds = side.cumsum(axis=0) > _THROUGHOUT * lengths[:, None]
        ends = (holds * lengths[:, None]).max(axis=0)
        for x in np.flatnonzero(ends >= min(len(image), max(len(image) / 4, 16))):
            if abs(np.median(apart[: ends[x], x])) > _LINE * deviation:
                result[: ends[x], x : x + width] = True
    return result


def without_gains(absorbed: Floats) -> Floats:
    """Return absorbance relative to the frame's border, without the gains of columns and rows."""
    absorbed = np.ascontiguousarray(absorbed)  # sums depend on the order in memory
    columns, rows = gains_of(absorbed)
    flat = absorbed - columns[:, None, :]
    flat -= rows[:, :, None]
    # The strength of good texture depends on the absorbance: its zero must stay where it was.
    flat -= np.median(border(flat), axis=1)[:, None, None]
    return flat


def gains_of(absorbed: Floats) -> tuple[Floats, Floats]:
    r"""Find what columns (n, width) and rows (n, height) add to the absorbance of each image.

    A gain multiplies the transmission, so that its logarithm is added. It is relative to the mean.
    Between neighbouring columns the absorbance A of the open beam differs by

    .. math:: d_x = \frac{1}{n_x} \sum_y (A_{y,x} - A_{y,x-1})

    over the :math:`n_x` rows y in which both are in the open beam; the gain is the sum of these
    differences. The gain of the row cancels in each of them; scatter and shading, which vary
    slowly, nearly so. Of a column without open beam nothing is known, and its difference stays:
    what spans an item may be a wire. Rows likewise. An image with NaN has no gains.
    """
    finite = np.asarray(np.isfinite(absorbed).all(axis=(1, 2)))
    if not finite.all():
        absorbed = np.where(finite[:, None, None], absorbed, np.float32(0))
    beam = _open_beam(absorbed)
    found = []
    for totals, pairs in passes.steps(absorbed, beam, _LARGEST_STEP):
        means = np.where(pairs < _LEAST_PAIRS, 0, totals / np.maximum(pairs, 1))
        gains = np.pad(np.cumsum(means, axis=1), ((0, 0), (1, 0)))
        gains -= gains.mean(axis=1, keepdims=True)
        found.append(gains.astype(np.float32))
    return found[0], found[1]


def _open_beam(absorbed: Floats) -> Booleans:
    """Return the pixels away from what absorbs; beyond the frame the beam goes on."""
    if min(absorbed.shape[1:]) < _LEAST_PAIRS:
        return np.zeros(absorbed.shape, np.bool_)
    smooth = passes.mean_of_neighbours(absorbed)
    # Without rough gains, those of the strips along the frame, so that gains hardly change it.
    columns = _rough(smooth[:, 1], smooth[:, -2])
    rows = _rough(smooth[:, :, 1], smooth[:, :, -2])
    smooth -= columns[:, None, :]
    smooth -= rows[:, :, None]
    smooth -= np.median(border(smooth), axis=1)[:, None, None]
    every = max(1, min(absorbed.shape[1:]) // _ENOUGH)
    threshold = halfway(smooth[:, ::every, ::every]).astype(np.float32)[:, None, None] / 2
    padded = np.pad(smooth < threshold, ((0, 0), (_AWAY, _AWAY), (_AWAY, _AWAY)), mode="edge")
    return eroded(padded, _AWAY)[:, _AWAY:-_AWAY, _AWAY:-_AWAY]


def _rough(first: Floats, last: Floats) -> Floats:
    """Return the gains of strips along two opposite sides: the lesser, as an item only absorbs."""
    lesser = np.minimum(*(side - np.median(side, axis=1, keepdims=True) for side in (first, last)))
    return np.where(np.abs(lesser) < _ROUGH, lesser, np.float32(0))


def smoothed(image: Floats, sigma: float) -> Floats:
    """Convolve with a Gaussian, zeros beyond the frame.

    Along each axis, blocks of pixels are products of a matrix and the pixels that the Gaussian
    reaches, so that time grows with the number of pixels.
    """
    across, result = np.empty_like(image), np.empty_like(image)
    for inside, around, part in _blocks(image.shape[0], float(sigma)):
        across[inside] = product(part, image[around])
    for inside, around, part in _blocks(image.shape[1], float(sigma)):
        result[:, inside] = product(across[:, around], part.T)
    return result


def _blocks(length: int, sigma: float) -> Iterator[tuple[slice, slice, Floats]]:
    """Cut an axis into blocks: their pixels, those within reach, and the weights of these."""
    reach = math.ceil(_DEVIATIONS * sigma)
    block = max(2 * reach, _LEAST_BLOCK)
    if block >= length:  # a single block, which sees the whole axis
        reach, block = 0, length
    weights = _gaussian(reach, block, sigma)
    for start in range(0, length, block):
        stop = min(start + block, length)
        first, last = max(start - reach, 0), min(stop + reach, length)
        origin = start - reach
        part = weights[: stop - start, first - origin : last - origin]
        yield slice(start, stop), slice(first, last), part


@kept
def _gaussian(reach: int, block: int, sigma: float) -> Any:
    """Return the weights of the pixels from `reach` before a block to `reach` behind it."""
    distance = np.arange(block)[:, None] + reach - np.arange(block + 2 * reach)
    weights = np.exp(-0.5 * (distance / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return weights.astype(np.float32)


def rim_distances(masks: Booleans) -> Any:
    """Return the chessboard distance of pixels from the rim of their mask, at most `REACH`."""
    return passes.distances(masks, REACH)


def rim_strength(textures: Iterable[Floats], masks: Iterable[Booleans]) -> Floats:
    """Return the strength of the texture inside the masks at distances 1 to `REACH` from the rim.

    Nearer to the rim it is never taken for weaker than farther in: of the first pixels, half of
    their surroundings is missing, and that must not amplify them.
    """
    pairs = list(zip(textures, masks, strict=True))
    value = np.concatenate([np.abs(texture[mask]) for texture, mask in pairs])
    place = np.concatenate([rim_distances(mask[None])[0][mask] for _, mask in pairs])
    known = [k for k in range(1, REACH + 1) if (place == k).any()]
    strength = [float(np.quantile(value[place == k], _QUANTILE)) / _NORMAL for k in known]
    least = max(_LEAST_STRENGTH * float(np.median(strength)), float(np.finfo(np.float32).tiny))
    every = np.interp(np.arange(1, REACH + 1), known, np.maximum(strength, least))
    return np.maximum.accumulate(every[::-1])[::-1].astype(np.float32)


def divided_by_rim(textures: Floats, masks: Booleans, strength: Floats) -> Floats:
    """Return textures divided by their strength at each distance; 0 outside the masks."""
    factors = np.concatenate([np.zeros(1, np.float32), 1 / strength])
    result: Floats = textures * factors[rim_distances(masks)]
    return result
