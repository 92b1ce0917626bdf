"""The pose of an item: its centre, its axis, and which of its ends is which."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imsim.anomaly.stacks import Booleans, Doubles, Floats, batch_images, check_images, check_size
from imsim.anomaly.storage import Stored, all_or_nothing
from imsim.anomaly.xray.frames import LARGEST_ITEM, border, find_items, levels_of
from imsim.workers import in_parts

__all__ = ["Pose"]

MOST_ROUND = 0.9
"""Ratio of the axes above which an item is round: the direction of its axis is noise."""
LEAST_MOVE = 1.0
"""Root mean square, in pixels, by which poses must differ: since moving an image smooths it."""
LEAST_SHIFT = 4.0
"""The same of items that are centred only, a cell of the statistics: in uneven light the centre of
an item is known to half a pixel, which costs more than smaller shifts do."""
LEAST_FOUND = 0.95
"""Share of the good images that must show an item for poses to have a meaning: where none is found,
the image stays as it lies, and is unlike the others."""
SEEN = 0.999
"""Share of a moved pixel that must come from inside a mask; 1 less what rounding takes."""
ROUNDS, FAR = 3, 4.5
"""Fits of a plane to the background, and the median distances from it beyond which nothing counts:
three standard deviations of noise."""
TURNS = 5
"""Rounds in which good images are turned towards their mean."""


class Pose(Stored):
    """Bring single items into one pose: centre to the middle, long axis level, one end to the left.

    The item is what differs from the background, a plane through the border of the frame. Its
    centre and its axis follow from its moments; of the two half turns that is taken in which the
    image is more like the mean of the good ones. Round items, whose axis means nothing, are centred
    only, by whole pixels. Pixels between the old ones are interpolated linearly; what comes in from
    beyond the frame has the median of the border.

    An image without an item stays as it is.

    Attributes
    ----------
    is_found_ : bool
        Whether most good images show an item that does not touch the frame, and the poses differ.
    turns_ : bool
        Whether items are turned.
    mean_ : float32 array, shape (height, width)
        Mean of the good images in their pose.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly.pose import Pose
    >>> images = np.zeros((2, 48, 48))
    >>> images[0, 10:18, 8:32] = images[1, 20:44, 30:38] = 1
    >>> level, upright = Pose().fit(images).transform(images)[0]
    >>> float(abs(level - upright).max().round(3))
    0.0
    """

    _LEARNED = (("mean", np.float32, None, None), ("turns", np.bool_), ("is_found", np.bool_))

    @all_or_nothing
    def fit(self, images: Any) -> Self:
        """Learn from good images whether they show items, how round these are, and their mean."""
        frames, _ = check_images(images)
        moments = _moments(frames)
        found = np.isfinite(moments).all(axis=1)
        self.turns_ = bool(found.any() and np.median(moments[found, 3]) < MOST_ROUND)
        placements = self._placements(moments, frames.shape[1:])
        least = LEAST_MOVE if self.turns_ else LEAST_SHIFT
        self.is_found_ = bool(
            found.mean() >= LEAST_FOUND and _spread(placements, frames.shape[1:]) >= least
        )
        posed = _moved(frames, placements, levels_of(frames))
        self.mean_ = posed[0]
        for _ in range(TURNS):
            if self.turns_:
                turned = self._is_turned(posed) & found
                posed[turned] = posed[turned, ::-1, ::-1]
            self.mean_ = posed.mean(axis=0, dtype=np.float64).astype(np.float32)
        return self

    def placements(self, images: Any) -> Doubles:
        """Return matrices (n, 2, 3) from places in posed images to places in the given ones."""
        frames, _ = check_images(images)
        self._check_size(frames)
        return self._posed(frames)[0]

    def _posed(self, frames: Floats) -> tuple[Doubles, Floats]:
        """Return placements, and the images there."""
        moments = _moments(frames)
        found = self._placements(moments, self.mean_.shape)
        moved = _moved(frames, found, levels_of(frames))
        if self.turns_:
            last = np.array(self.mean_.shape) - 1
            turned = self._is_turned(moved) & np.isfinite(moments).all(axis=1)
            found[turned, :, 2] += found[turned, :, :2] @ last
            found[turned, :, :2] *= -1
            moved[turned] = moved[turned, ::-1, ::-1]
        return found, moved

    def transform(self, images: Any, masks: Any = None) -> tuple[Floats, Booleans | None]:
        """Return the images in their pose, float32, and the masks of pixels seen whole, or None.

        Pixels outside the masks count as 0.
        """
        frames, used = check_images(images, masks)
        self._check_size(frames)
        placements, moved = self._posed(frames)
        if used is None:
            return moved, None
        # What comes in from beyond the frame counts, with masks as without: a full mask stays full.
        inside = _moved(used.astype(np.float32), placements, np.ones(len(used))) > SEEN
        return np.where(inside, moved, np.float32(0)), inside

    def _check_size(self, frames: Floats) -> None:
        self._check_fitted()
        check_size(frames, self.mean_.shape, "resize them")

    def _placements(self, moments: Doubles, shape: tuple[int, ...]) -> Doubles:
        """Return placements without half turns; the identity where there is no item."""
        result = np.zeros((len(moments), 2, 3))
        middle = (np.array(shape) - 1) / 2
        for placement, (row, column, angle, _) in zip(result, moments, strict=True):
            if not np.isfinite(angle):
                placement[:, :2] = np.eye(2)
                continue
            cosine, sine = (np.cos(angle), np.sin(angle)) if self.turns_ else (1.0, 0.0)
            placement[:, :2] = (cosine, sine), (-sine, cosine)
            placement[:, 2] = (row, column) - placement[:, :2] @ middle
            if not self.turns_:  # by whole pixels, since what lies between these is smoothed
                placement[:, 2] = np.rint(placement[:, 2])
        return result

    def _is_turned(self, posed: Floats) -> Booleans:
        """Return which images are more like the mean after a half turn."""
        mean = self.mean_.astype(np.float64)
        return np.array(
            [((one - mean) ** 2).sum() > ((one[::-1, ::-1] - mean) ** 2).sum() for one in posed]
        )


def _spread(placements: Doubles, shape: tuple[int, ...]) -> float:
    """Return how far apart a point half-way between centre and corner lies, in pixels (rms)."""
    places = placements[:, :, :2] @ (np.array(shape) / 4) + placements[:, :, 2]
    places += placements[:, :, :2] @ ((np.array(shape) - 1) / 2)
    return float(np.sqrt(places.var(axis=0).sum()))


def moved_back(maps: Doubles, placements: Doubles) -> Doubles:
    """Return maps of posed images in the places of the given ones; NaN where nothing was seen."""
    result = np.empty_like(maps)
    for i, placement in enumerate(placements):
        # The matrix is a rotation: its transpose turns back.
        matrix = placement[:, :2].T
        result[i] = ndimage.affine_transform(
            maps[i], matrix, -matrix @ placement[:, 2], order=1, cval=np.nan
        )
    return result


def _moments(frames: Floats) -> Doubles:
    """Return row and column of the centre of each item, angle of its axis, and ratio of its axes.

    They are NaN where there is no item, or where it touches or fills the frame.
    """
    result = np.full((len(frames), 4), np.nan)

    def part(these: slice) -> None:
        distance = np.abs(frames[these] - _grounds(frames[these]))
        largest = distance.max(axis=(1, 2), keepdims=True)
        distance /= np.where(largest > 0, largest, 1)  # squares and sums stay within float32
        items, _ = find_items(distance.astype(np.float32), single=True)
        for i, item in enumerate(items, these.start):
            rows, columns = np.nonzero(item)
            if len(rows) < 3 or item.mean() > LARGEST_ITEM:
                continue
            values, axes = np.linalg.eigh(np.cov(np.stack([rows, columns])))
            if not values[1] > 0:
                continue
            angle = np.arctan2(axes[0, 1], axes[1, 1])
            ratio = np.sqrt(max(values[0], 0) / values[1])
            result[i] = rows.mean(), columns.mean(), angle, ratio

    in_parts(part, len(frames), batch_images(frames))
    return result


def _grounds(frames: Floats) -> Doubles:
    """Return the background of each image, a plane through the border: light may be uneven.

    Pixels of the border far from a first plane, such as those of an item there, do not count.
    """
    around = border(frames).astype(np.float64)
    rows, columns = np.mgrid[-1 : 1 : frames.shape[1] * 1j, -1 : 1 : frames.shape[2] * 1j]
    plane = np.stack([np.ones_like(rows), rows, columns])
    there = border(plane).T
    counts = np.ones(around.shape)
    for _ in range(ROUNDS):
        weighted = counts[:, None] * there.T
        found = np.linalg.solve(weighted @ there, weighted @ around[:, :, None])
        away = np.abs(around - (there @ found)[:, :, 0])
        counts = (away <= FAR * np.median(away, axis=1, keepdims=True)).astype(np.float64)
    return np.tensordot(found[:, :, 0], plane, 1)


def _moved(frames: Floats, placements: Doubles, beyond: NDArray[Any]) -> Floats:
    """Return images at their placements; what comes in from beyond the frame has a given value."""
    result = np.empty_like(frames)

    def part(these: slice) -> None:
        for i in range(these.start, these.stop):
            ndimage.affine_transform(
                frames[i],
                placements[i, :, :2],
                placements[i, :, 2],
                order=1,
                cval=beyond[i],
                output=result[i],
            )

    in_parts(part, len(frames), batch_images(frames))
    return result
