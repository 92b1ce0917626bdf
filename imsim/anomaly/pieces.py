"""Pieces of an image that hang together: found as its rows come, and parted into items."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain, compress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imsim.anomaly.stacks import Booleans, Doubles, Floats
from imsim.caches import kept
from imsim.errors import ImsimError

MARGIN = 3
"""Pixels around a neighbour that are replaced with it: its blur ends there. It is as wide as the
strip of a frame that shows the open beam."""
_TILE = 256
"""Side in pixels of the noise, which repeats beyond; crops lie anywhere on it."""
Labels = NDArray[np.int32]
CONTEXT = 2
"""Rows above and below that decide on a pixel's mark."""
_LEAST_ROWS = 16
"""Rows that are waited for before the next step, which looks at all rows in memory."""
WAIST = 0.75
"""Where the half width of a neck is below this share of that of the narrower of its two sides,
items touch. Passes within single potatoes and bars have 0.96 and more."""
NARROW = 0.95
"""Passes below this share of the narrowest within a good item part what is larger than an item."""
CORES = (2.0, 2.5, 3.0)
"""Multiples of the threshold, a quarter of the contrast, above which cores of items lie: where flat
sides meet, no neck but a line of background shines through."""
TOLERANCE = 1.25
"""By this factor, items may be smaller or longer than the good ones that were seen. Of 30 potatoes,
which differ by a factor of 3 in area, the extremes are hardly ever a quarter off."""
SPECK = 9
"""Area in pixels up to which what stands out is nothing: the mean over 3x3 pixels makes this of a
single one."""
LEAST_ITEMS = 3
"""Least number of whole single items to learn from."""
_CRUMB = 0.1
"""Largest crumb, as a share of the area of the largest thing in good images."""
_GAP = 0.04
"""Holes up to this share of an item are filled. Three discs that touch leave a gap of 0.05."""
_FENCE = 1.5
"""Interquartile ranges of the logarithm of areas (Tukey) within which things are single items."""


def alone(
    piece: Piece,
    own: Booleans,
    middle: tuple[int, int],
    shape: tuple[int, int],
    background: tuple[float, float],
) -> NDArray[Any]:
    """Cut an item out of the window of its piece.

    The crop, around the pixel `middle` of the window, holds the item's own pixels, and the
    background but for pixels within the margin of anything else that is marked. These, and what
    lies beyond the frame, have the median of that background, or its given level, with white noise
    of the given deviation that depends on their place only.
    """
    others = (piece.marked & ~own).view(np.uint8)
    sound = own | (ndimage.maximum_filter(others, 2 * MARGIN + 1, mode="constant") == 0)
    source, target, places = [], [], []
    for place, most, side, start in zip(middle, own.shape, shape, (piece.y, piece.x), strict=True):
        shift = place - side // 2
        first, last = max(shift, 0), min(shift + side, most)
        source.append(slice(first, last))
        target.append(slice(first - shift, last - shift))
        places.append((start + shift + np.arange(side)) % _TILE)
    values, taken = piece.values[*source], sound[*source]
    around = values[taken & ~own[*source]].astype(np.float64)
    level = float(np.median(around)) if around.size else background[0]
    fill = level + background[1] * _noise()[np.ix_(*places)]
    if values.dtype.kind in "iu":
        most = np.iinfo(values.dtype)
        fill = np.clip(np.rint(fill), most.min, most.max)
    crop: NDArray[Any] = fill > 0.5 if values.dtype == bool else fill.astype(values.dtype)
    crop[*target][taken] = values[taken]
    return crop


@kept
def _noise() -> Floats:
    return np.random.default_rng(0).standard_normal((_TILE, _TILE), np.float32)


class Piece(NamedTuple):
    """Connected marked pixels, in the window around them."""

    x: int
    y: int  # column and row of the window's first pixel in the image
    values: NDArray[Any]  # the pixels of the window
    mask: Booleans  # which of them belong to the piece
    marked: Booleans  # which of them are marked: they belong to the piece or to others
    edges: tuple[bool, bool, bool, bool]
    """Whether the window's first row, last row, first column, last column is the image's."""
    goes_on: bool  # whether it goes on above or below, since it is longer than the memory holds


class Strips:
    """Find the pieces of an image as its rows come, however these are divided.

    A piece is complete once all rows of the window around it, of this `reach`, have arrived. A
    piece that has grown to `longest` rows is given out as it is; its continuation counts as another
    piece, which says so. `mark` may be wrong in `CONTEXT` rows at each end.
    """

    def __init__(
        self, mark: Callable[[NDArray[Any]], Booleans], reach: tuple[int, int], longest: int
    ) -> None:
        self._mark, self._reach, self._longest = mark, reach, longest
        self._waiting: list[NDArray[Any]] = []
        self._rows: NDArray[Any] | None = None
        self._first = 0  # the row of the image that is the first one in memory
        self._open = 0  # the first row of what is not complete
        self._marked: Booleans = np.zeros((0, 0), np.bool_)
        self._done = self._marked  # pixels of pieces that were given out

    def feed(self, rows: NDArray[Any]) -> list[Piece]:
        """Take further rows; return the pieces that are complete by now."""
        self._waiting.append(np.array(rows))  # the caller may use the memory again
        if sum(map(len, self._waiting)) < _LEAST_ROWS:
            return []
        return self._advance(is_end=False)

    def end(self, rows: NDArray[Any] | None = None) -> list[Piece]:
        """Take the last rows, if there are more, and end the image; return what is left."""
        if rows is not None:
            self._waiting.append(np.array(rows))
        return self._advance(is_end=True)

    def _advance(self, *, is_end: bool) -> list[Piece]:
        pieces: list[Piece] = []
        if self._rows is None and self._waiting:
            self._rows = self._waiting[0][:0]
            self._marked = self._done = np.zeros(self._rows.shape, np.bool_)
        if self._rows is None:
            return pieces
        self._rows, self._waiting = np.concatenate([self._rows, *self._waiting]), []
        while True:
            known, total = len(self._marked), len(self._rows)
            last = total if is_end else total - CONTEXT
            # No step goes beyond the row at which a piece is as long as it may be.
            stop = min(last, self._open - self._first + self._longest)
            if stop <= known:
                return pieces
            start = max(known - CONTEXT, 0)
            fresh = self._mark(self._rows[start : stop + CONTEXT])[known - start : stop - start]
            self._marked = np.concatenate([self._marked, fresh])
            self._done = np.concatenate([self._done, np.zeros_like(fresh)])
            pieces += self._completed(is_end and stop == total)

    def _completed(self, is_end: bool) -> list[Piece]:
        """Return the pieces that are complete with the rows that are known, and forget them."""
        known, first = len(self._marked), self._first
        labels, _ = ndimage.label(self._marked & ~self._done)
        above = self._done[:-1] & (labels[1:] > 0)
        goes_on = set(np.unique(labels[1:][above]).tolist())
        found: list[tuple[tuple[int, int], Piece]] = []
        unfinished, growing = known, known
        for number, box in enumerate(ndimage.find_objects(labels), 1):
            rows = box[0]
            is_long = rows.stop == known and known - rows.start >= self._longest
            when = known - 1 if is_long else rows.stop - 1 + self._reach[0]
            if not (is_end or is_long or when < known):
                unfinished = min(unfinished, rows.start)
                if rows.stop == known:
                    growing = min(growing, rows.start)
                continue
            inside = labels[box] == number
            left = box[1].start + int(inside[-1].argmax())
            is_whole = number not in goes_on and (is_end or not is_long)
            piece = self._piece(box, labels, number, not is_whole, is_end)
            found.append(((first + when, left), piece))
            self._done[box] |= inside
        self._open = first + growing
        self._forget(min(unfinished, known) - max(self._reach[0], CONTEXT))
        return [piece for _, piece in sorted(found, key=lambda pair: pair[0])]

    def _piece(
        self, box: Any, labels: NDArray[Any], number: int, goes_on: bool, is_end: bool
    ) -> Piece:
        (rows, columns), (height, width) = box, labels.shape
        down, across = self._reach
        top, left = max(rows.start - down, 0), max(columns.start - across, 0)
        bottom, right = rows.stop + down, columns.stop + across
        window = np.s_[top:bottom, left:right]
        y = top + self._first
        memory: Any = self._rows
        return Piece(
            x=left,
            y=y,
            values=memory[:height][window].copy(),
            mask=labels[window] == number,
            marked=self._marked[window].copy(),
            edges=(y == 0, is_end and bottom >= height, left == 0, right >= width),
            goes_on=goes_on,
        )

    def _forget(self, row: int) -> None:
        if row > 0 and self._rows is not None:
            self._rows = self._rows[row:].copy()
            self._marked, self._done = self._marked[row:].copy(), self._done[row:].copy()
            self._first += row


class Limits(NamedTuple):
    """What an item may be; areas in pixels, lengths in pixels."""

    smallest: float  # area of the smallest item
    largest: float  # area of the largest one
    length: float  # length of the longest one: that of the ellipse with its moments
    radius: float  # radius of the largest disc in the narrowest one
    hole: float  # largest area of a hole that is filled in what is larger than an item
    waist: float  # see `WAIST`
    narrow: float  # see `NARROW`

    def hold(self, mask: Booleans) -> bool:
        """Tell whether a mask is not too large for an item."""
        return bool(mask.sum() <= self.largest) and length(mask) <= self.length


def without_holes(mask: Booleans, most: float = np.inf) -> Booleans:
    """Fill holes of at most this area: background that is not connected with the outside."""
    labels, found = ndimage.label(np.pad(~mask, 1, constant_values=True))
    areas = np.bincount(labels.ravel(), minlength=found + 1)
    is_hole = areas <= most
    is_hole[[0, labels[0, 0]]] = False
    result: Booleans = mask | is_hole[labels[1:-1, 1:-1]]
    return result


def length(mask: Booleans) -> float:
    """Return the long axis of the ellipse that has the moments of a mask."""
    places = np.stack(np.nonzero(mask)).astype(np.float64)
    values = np.linalg.eigvalsh(np.cov(places, bias=True))
    return float(4 * np.sqrt(max(values[-1], 0) + 1 / 12))  # a pixel is a square


def distance(mask: Booleans) -> Doubles:
    """Return the distance of each pixel of a mask from the background, and from the frame."""
    found: Doubles = ndimage.distance_transform_edt(np.pad(mask, 1))
    return found[1:-1, 1:-1]


def waist(mask: Booleans) -> float:
    """Return the narrowest neck of an item as `WAIST` measures it; 1 if there is none."""
    depth = distance(mask)
    basins = _Basins(mask, depth, float(depth.max()))
    return basins.joined(0.0) if basins.count > 1 else 1.0


def learned_limits(things: list[Booleans]) -> tuple[Limits, float, list[tuple[int, ...]]]:
    """Return limits, the area up to which something is nothing, and the sizes of single items."""
    areas = [int(m.sum()) for m in things]
    most = _CRUMB * max(areas, default=0)
    large = [m for m, area in zip(things, areas, strict=True) if area > most]
    if len(large) < LEAST_ITEMS:
        raise ImsimError(
            f"the good images show {len(large)} whole items that do not touch the border; expected "
            f"at least {LEAST_ITEMS}: pass more images, or larger frames"
        )
    filled = [without_holes(m) for m in large]
    waists = np.array([waist(m) for m in filled])
    has_neck = waists < WAIST  # items that touch, unless most things have one
    chosen = ~has_neck if has_neck.mean() < 0.5 else np.ones_like(has_neck)
    logs = np.log([m.sum() for m in filled])
    low, middle, high = np.quantile(logs[chosen], (0.25, 0.5, 0.75))
    reach = np.maximum(_FENCE * (high - low), math.log(TOLERANCE))
    chosen &= (logs >= min(low - reach, middle)) & (logs <= high + reach)
    narrowest = float(waists[chosen].min())
    items, solid = (list(compress(masks, chosen)) for masks in (large, filled))
    sizes = [float(m.sum()) for m in solid]
    holes = max(size - float(m.sum()) for size, m in zip(sizes, items, strict=True))
    limits = Limits(
        smallest=min(sizes) / TOLERANCE,
        largest=max(sizes) * TOLERANCE,
        length=max(map(length, items)) * TOLERANCE,
        radius=min(float(distance(m).max()) for m in solid),
        hole=max(_GAP * float(np.median(sizes)), TOLERANCE * holes),
        waist=min(WAIST, NARROW * narrowest),
        narrow=NARROW * narrowest,
    )
    crumb = max((area for area in areas if area <= most), default=0)
    speck = float(min(max(SPECK, 2 * crumb), limits.smallest))
    return limits, speck, [m.shape for m in items]


def parted(mask: Booleans, limits: Limits, apart: Callable[[], Floats]) -> Labels:
    """Number the items of a connected mask, from 1 on; its holes are filled.

    The distance from the background is highest in the middle of items; a watershed parts its
    hills. Hills are joined again whose pass is no neck, and so are pieces below an item with the
    neighbour beside the widest neck, as long as the whole is no larger than an item. A part that
    is too large is parted once more, with its holes as gaps, at wider necks, or between cores that
    stand out more from the background. `apart` returns how much, in units of the threshold.
    """
    solid = without_holes(mask)
    if solid.sum() > limits.largest:  # there may be gaps between items that touch each other
        solid = without_holes(mask, limits.hole)
    labels = _parted_at(limits.waist, solid, limits)
    for number in range(1, labels.max() + 1):
        part = labels == number
        if limits.hold(part):
            continue
        necks = (
            _parted_at(narrowest, one, limits)
            for narrowest in (limits.waist, limits.narrow)
            for one in (part, part & mask)  # holes may be gaps
        )
        for finer in chain(necks, _by_cores(part, limits, apart)):
            parts = [finer == k for k in range(1, finer.max() + 1)]
            if all(limits.hold(m) and m.sum() >= limits.smallest for m in parts):
                labels[part] = np.where(finer[part] > 0, labels.max() + finer[part], 0)
                break
    return _numbered(labels)


def _parted_at(narrowest: float, solid: Booleans, limits: Limits) -> Labels:
    basins = _Basins(solid, distance(solid), limits.radius)
    if basins.count > 1:
        basins.joined(narrowest)
        basins.rejoined(limits)
    return _numbered(basins.labels())


def _by_cores(part: Booleans, limits: Limits, apart: Callable[[], Floats]) -> Iterator[Labels]:
    """Yield watersheds between the cores of items, higher and higher ones."""
    depth, values = distance(part), apart()
    for height in CORES:
        labels, count = ndimage.label(without_holes(part & (values > height), limits.hole))
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        areas[0] = 0
        is_core = areas >= limits.smallest / 2
        if is_core.sum() > 1:
            yield _numbered(_flooded(depth, np.where(is_core[labels], labels, 0), part))


def _flooded(depth: Doubles, markers: Labels, mask: Booleans) -> Labels:
    from skimage import segmentation  # slow to import

    flood: Any = segmentation.watershed
    result: Labels = flood(-depth, markers, mask=mask).astype(np.int32)
    return result


def _numbered(labels: Labels) -> Labels:
    """Number parts from 1 on in the order of their first pixels, row by row."""
    found, first = np.unique(labels[labels > 0], return_index=True)
    numbers = np.zeros(labels.max() + 1, np.int32)
    numbers[found[np.argsort(first)]] = np.arange(1, len(found) + 1)
    return numbers[labels]


class _Basins:
    """The basins of a watershed of a mask, their neighbours and passes.

    They are parted at every pass between hills at least half as deep as the narrowest item.
    """

    def __init__(self, mask: Booleans, depth: Doubles, radius: float) -> None:
        side = 2 * max(int(radius / 2), 1) + 1
        is_peak = (depth == ndimage.maximum_filter(depth, side)) & (depth >= radius / 2) & mask
        markers, count = ndimage.label(is_peak, np.ones((3, 3)))
        count = max(count, 1)
        regions = _flooded(depth, markers, mask) if count > 1 else mask.astype(np.int32)
        self.regions, self.count = regions, count
        self.areas = np.bincount(regions.ravel(), minlength=count + 1).astype(np.float64)
        self.peaks = np.zeros(count + 1)
        np.maximum.at(self.peaks, regions, depth)
        self.passes = np.zeros((count + 1, count + 1))
        self.names = np.arange(count + 1)
        for one, other in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
            a, b = regions[one], regions[other]
            meet = (a != b) & (a > 0) & (b > 0)
            least = np.minimum(depth[one], depth[other])[meet]
            np.maximum.at(self.passes, (a[meet], b[meet]), least)
        self.passes = np.maximum(self.passes, self.passes.T)

    def join(self, one: int, other: int) -> None:
        """Make one basin of two."""
        self.names[self.names == other] = one
        self.areas[one] += self.areas[other]
        self.peaks[one] = max(self.peaks[one], self.peaks[other])
        both = np.maximum(self.passes[one], self.passes[other])
        self.passes[one], self.passes[:, one] = both, both
        self.passes[other] = self.passes[:, other] = self.passes[one, one] = 0
        self.areas[other] = 0

    def joined(self, narrowest: float) -> float:
        """Join basins whose pass is wider than this, the widest first; return the narrowest."""
        found = 1.0
        while True:
            lower = np.minimum(self.peaks[:, None], self.peaks)
            ratios = np.divide(self.passes, lower, out=np.zeros_like(lower), where=lower > 0)
            one, other = divmod(int(ratios.argmax()), len(ratios))
            if not ratios[one, other] > narrowest:
                return found
            found = min(found, float(ratios[one, other]))
            self.join(one, other)

    def rejoined(self, limits: Limits) -> None:
        """Join pieces that are smaller than an item with a neighbour, if that makes an item."""
        left = {int(k) for k in np.flatnonzero((self.areas > 0) & (self.areas < limits.smallest))}
        left.discard(0)
        while left:
            piece = min(left, key=lambda k: (self.areas[k], k))
            left.discard(piece)
            near = self.passes[piece]
            fits = (near > 0) & (self.areas + self.areas[piece] <= limits.largest)
            if not fits.any():
                continue
            other = int(np.where(fits, near, 0).argmax())
            self.join(other, piece)
            if self.areas[other] >= limits.smallest:
                left.discard(other)
            else:
                left.add(other)

    def labels(self) -> Labels:
        """Return the basins."""
        return self.names[self.regions].astype(np.int32)
