"""Several items in a frame: found, parted where they touch, and cut out one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import imsim
from imsim.anomaly import pieces, stacks
from imsim.anomaly.stacks import Booleans, Floats
from imsim.anomaly.storage import Arrays, Stored, all_or_nothing
from imsim.anomaly.xray.frames import UnusableImageWarning, border, find_items, levels_of
from imsim.anomaly.xray.signal import MOST_IMAGES, faults_of, without_lone
from imsim.errors import warn
from imsim.kernels.xray import mean_of_neighbours
from imsim.validation import check_integer

__all__ = ["Item", "ItemFinder"]

LEAST_SIDE, MOST_SIDE = 16, 1 << 15
"""Least and largest side of crops in pixels; pose needs the least one."""
_ONE_SIDED = 0.5
"""Items are brighter than the background, or darker, if their mean differs from it by more than
this share of how far their pixels do."""
_OTHER_SIDE, _MOST_OF_A_ROW = 2.0, 0.5
"""Thresholds beyond the background, on the side where no items are, and the share of a row that has
to be there: then it is the background that has changed, and not a glint."""
_EVEN = 0.999
"""Share of the pixels of the border of good images, without items, that is below the threshold."""
_MOST_ITEMS = 64
"""Most connected items that are parted: a larger piece is a background that has changed."""


class Item(NamedTuple):
    """What was found in a frame, and where."""

    kind: str
    """``"item"``; ``"debris"``, smaller than an item; ``"cut"`` by the frame's border; ``"large"``:
    larger than an item, and not to be parted; ``"damaged"``: with NaN or infinity."""
    x: int
    y: int
    """Column and row of the first pixel of its box; in strips, rows count from the first fed."""
    width: int
    height: int
    """Size of the box."""
    centre_x: float
    centre_y: float
    """Mean column and row of its pixels."""
    area: int
    """Number of its pixels, holes included."""
    reason: str | None
    """Why it is no item to inspect; None for an item."""
    crop: NDArray[Any] | None
    """The item alone, in the type of the frame; None for what is no item."""


@dataclass(eq=False, repr=False)
class ItemFinder(Stored):
    r"""Find the items in frames of any size, part those that touch, and cut out one by one.

    1. A pixel is marked if the mean of it and its neighbours is brighter than the background by
       more than a quarter of what good items are, or darker if they are darker; up to half of it
       where the background is uneven. Lone outliers take the middle of their neighbours first.
       Where most of a row is beyond the background on the other side, it is marked too.
       Background and contrast are those of the good images, for all frames.
    2. Marked pixels that hang together are parted by a watershed of their distance from the
       background, where the pass between two hills is a neck:

       .. math:: \frac{d_{\text{pass}}}{\min(d_1, d_2)} < w

       with the largest distances :math:`d_1, d_2` of both sides. :math:`w` is 0.75, or less if good
       items have narrower waists themselves; what is then larger than an item is parted at any
       pass that is narrower than those within good items. Holes are filled before. Pieces smaller
       than any item are joined again.
    3. A crop keeps the item's own pixels and the background. Whatever else is marked, and 3 pixels
       around it, takes the median of the background that is left, with noise as in good images. So
       nothing of a neighbour is in the crop: only through what is marked has it any influence.

    The box of the item is in the middle of the crop; nothing is interpolated.

    Parameters
    ----------
    shape : (int, int), optional
        Height and width of crops. By default a quarter more than the largest good item, in
        multiples of 8.
    longest : int, optional
        Rows after which what hangs together is given up; it bounds the memory of `LineScan`. At
        least the height of crops; by default 8 times their longer side.

    Attributes
    ----------
    level_, noise_, threshold_ : float
        Median of the background, its standard deviation, and the difference from it above which
        pixels are marked.
    side_ : int
        1 if items are brighter than the background, -1 if they are darker; 0 if they are both, and
        pixels are marked that differ either way.
    faults_ : bool array, shape (width,)
        Columns that stand alone in the median of the good images: faults of the detector. They take
        the values of the nearest sound ones. With faults, all frames have this width.
    limits_ : Limits
        Smallest and largest area of items, and more (``imsim.anomaly.pieces``).
    speck_ : float
        Largest area of what is left out as nothing: 9 pixels, or twice the largest crumb in good
        images.
    depth_ : str
        Type of number of the images, see `AnomalyDetector`.
    left_out_ : dict of int to str
        Good images that were not learned from, and why.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import ItemFinder
    >>> y, x = np.mgrid[:48, :48] - 24
    >>> good = np.stack([np.where(np.hypot(y, x) < r, 0.5, 1.0) for r in (12, 13, 14)])
    >>> finder = ItemFinder().fit(good)
    >>> row = np.concatenate([good[1][:, 10:38], good[2][:, 10:]], axis=1)
    >>> sorted((item.x, item.width, item.kind) for item in finder.cut(row))
    [(1, 27, 'item'), (28, 29, 'item')]
    """

    shape: tuple[int, int] | None = None
    longest: int | None = None

    _LEARNED = (
        *((name, np.float64) for name in ("level", "noise", "threshold", "speck")),
        ("limits", np.float64, len(pieces.Limits._fields)),
        ("faults", np.bool_, None),
        ("shape", np.int64, 2),
        ("longest", np.int64),
        ("side", np.int64),
    )
    _TOLD = ("depth",)

    @all_or_nothing
    def fit(self, good: Any, y: Any = None) -> Self:
        """Learn background, contrast and size of items from good images or frames.

        Most things in them must be single whole items; there may be crumbs, and some items may
        touch each other or the border.

        Warns
        -----
        UnusableImageWarning
            If images show no item, or hold NaN or infinity; they are left out.
        """
        self._check_parameters()
        frames = stacks.as_stack("images", good)
        self.depth_ = stacks.depth_of(frames)
        with np.errstate(over="ignore"):  # numbers beyond float32 are not finite
            values = frames.astype(np.float32)
        found: Any = faults_of(np.nan_to_num(values[stacks.sample_of(len(values), MOST_IMAGES)]))
        self.faults_: Booleans = found.all(axis=0)
        values = self._repaired(values)
        self._fit_contrast(values)
        usable = np.setdiff1d(np.arange(len(values)), list(self.left_out_))
        masks = [m for i in usable for m in self._things(values[i])]
        self.limits_, self.speck_, boxes = pieces.learned_limits(masks)
        self._fit_shape(boxes)
        return self

    def cut(self, frame: Any) -> list[Item]:
        """Return what a frame of any size shows, in the order of the lowest rows."""
        found = self.strips().end(self.checked("frame", frame))
        return [item for piece in found for item in self.items(piece)]

    def strips(self) -> pieces.Strips:
        """Return what finds the pieces of one image."""
        self._check_fitted()
        reach = (self.shape_[0] // 2 + pieces.MARGIN, self.shape_[1] // 2 + pieces.MARGIN)
        return pieces.Strips(self.mark, reach, self.longest_)

    def checked(self, name: str, rows: Any) -> NDArray[Any]:
        """Return rows of an image without faulty columns; refuse those of another type or width."""
        self._check_fitted()
        values = stacks.as_real(name, rows)
        if values.ndim != 2 or not values.shape[1]:
            raise imsim.ShapeError(f"{name} has shape {values.shape}", "expected (height, width)")
        if stacks.depth_of(values) != self.depth_:
            raise imsim.DTypeError(
                f"{name} is of type {stacks.depth_of(values)}, the good images of {self.depth_}, "
                "and may mean something else: convert it"
            )
        if self.faults_.any() and self.faults_.shape != values.shape[1:]:
            raise imsim.ShapeError(
                f"{name} is {values.shape[1]} pixels wide, but faulty columns were learned in "
                f"images of {self.faults_.size}: fit a finder to images of this camera"
            )
        return self._repaired(values)

    def mark(self, rows: NDArray[Any]) -> Booleans:
        """Return which pixels stand out from the background; NaN and infinity do."""
        values, finite = self._sound(rows)
        apart = self._apart(mean_of_neighbours(values)[0])
        marked: Booleans = apart > np.float32(1)
        if self.side_:  # against a background beyond, items may not stand out
            beyond = apart < np.float32(-_OTHER_SIDE)
            marked |= beyond & (beyond.mean(axis=1, keepdims=True) > _MOST_OF_A_ROW)
        return marked | ~finite

    def items(self, piece: pieces.Piece) -> list[Item]:
        """Return the items that hang together, in the order of their first rows."""
        area = int(piece.mask.sum())
        if area <= self.speck_ and not piece.goes_on:
            return []
        if area > _MOST_ITEMS * self.limits_.largest or piece.goes_on:
            return [self._item(piece, piece.mask)]
        box = stacks.bounding_box(piece.mask)
        labels = np.zeros(piece.mask.shape, np.int32)
        labels[box] = pieces.parted(
            piece.mask[box], self.limits_, lambda: self._apart(self._sound(piece.values)[0][0])[box]
        )
        return [self._item(piece, labels == k) for k in range(1, labels.max() + 1)]

    def _check_learned(self, arrays: Arrays) -> None:
        self.limits_ = limits = pieces.Limits(*np.asarray(self.limits_).tolist())
        _check_shape("shape_", self.shape_)
        check_integer("longest_", self.longest_, 1)
        check_integer("side_", self.side_, -1, 1)
        is_odd = limits.smallest > limits.largest or limits.radius > max(self.shape_)
        positive = (self.threshold_, self.speck_, *limits)
        if is_odd or self.faults_.all() or self.noise_ < 0 or min(positive) <= 0:
            raise imsim.OptionError("its limits are none that items have")

    def _repaired(self, values: NDArray[Any]) -> NDArray[Any]:
        """Replace faulty columns by the nearest sound ones."""
        return (
            values[..., stacks.nearest(self.faults_[None])[1][0]] if self.faults_.any() else values
        )

    def _apart(self, values: Floats) -> Floats:
        """Return how far values are from the background, in units of the threshold."""
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is apart
            apart: Floats = (values - np.float32(self.level_)) / np.float32(self.threshold_)
        return apart * np.float32(self.side_) if self.side_ else np.abs(apart)

    def _sound(self, rows: NDArray[Any]) -> tuple[Floats, Booleans]:
        """Return a stack of one image without outliers, NaN and infinity, and what is finite."""
        with np.errstate(over="ignore"):
            values = rows.astype(np.float32)
        finite: Booleans = np.isfinite(values)
        return without_lone(np.where(finite, values, np.float32(self.level_))[None]), finite

    def _check_parameters(self) -> None:
        if self.shape is not None:
            _check_shape("shape", self.shape)
        if self.longest is not None:
            check_integer("longest", self.longest, LEAST_SIDE)

    def _fit_contrast(self, values: Floats) -> None:
        """Learn background and contrast; leave out images that show no item."""
        finite: Any = np.isfinite(values).all(axis=(1, 2))
        clean = np.where(finite[:, None, None], values, 0)
        levels = levels_of(clean)
        apart = np.abs(clean - levels[:, None, None].astype(np.float32))
        largest = float(apart.max()) or 1.0
        apart /= np.float32(largest)  # squares and sums stay within float32
        masks, problems = find_items(apart)
        problems |= {int(i): stacks.NOT_FINITE for i in np.flatnonzero(~finite)}
        self.left_out_ = dict(sorted(problems.items()))
        if 2 * len(problems) > len(values):
            raise imsim.ImsimError(
                "most of the good images show no items that stand out from the border of the "
                f"frame: {stacks.listed(problems)}"
            )
        if problems:
            message = f"{len(problems)} of {len(values)} images are not learned from"
            warn(f"{message}: {stacks.listed(problems)}", UnusableImageWarning)
        usable = [i for i in range(len(values)) if i not in problems]
        self.level_ = float(np.median(levels[usable]))
        brighter = [float((clean[i][masks[i]] - levels[i]).mean()) for i in usable]
        contrasts = [largest * float(apart[i][masks[i]].mean(dtype=np.float64)) for i in usable]
        whole, contrast = float(np.median(brighter)), float(np.median(contrasts))
        self.side_ = int(np.sign(whole)) if abs(whole) > _ONE_SIDED * contrast else 0
        contrast = abs(whole) if self.side_ else contrast
        rest = [border(clean[i][None])[~border(masks[i][None])] - levels[i] for i in usable]
        self.noise_ = stacks.ROBUST * float(np.median(np.abs(np.concatenate([*rest, [0.0]]))))
        self.threshold_ = 1.0
        around: Any = border(self._apart(mean_of_neighbours(clean[usable])))[~border(masks[usable])]
        uneven = float(np.quantile(around, _EVEN)) if around.size else 0.0
        self.threshold_ = min(max(contrast / 4, uneven), contrast / 2)

    def _things(self, frame: Floats) -> list[Booleans]:
        """Return the masks of what stands out and does not touch the border of the frame."""
        from skimage import segmentation  # slow to import

        clear: Any = segmentation.clear_border
        labels = clear(ndimage.label(self.mark(frame))[0])
        boxes = enumerate(ndimage.find_objects(labels), 1)
        masks = [labels[box] == k for k, box in boxes if box is not None]
        return [m for m in masks if m.sum() > pieces.SPECK]

    def _fit_shape(self, boxes: Iterable[tuple[int, ...]]) -> None:
        sides = np.max([*boxes], axis=0)
        if self.shape is None:
            wanted = np.maximum(
                8 * np.ceil((pieces.TOLERANCE * sides + 2 * pieces.MARGIN) / 8), LEAST_SIDE
            )
            self.shape_ = (int(wanted[0]), int(wanted[1]))
        else:
            self.shape_ = (int(self.shape[0]), int(self.shape[1]))
        if (sides + 2 * pieces.MARGIN > self.shape_).any():
            raise imsim.OptionError(
                f"shape={self.shape}; good items have up to {sides[0]} x {sides[1]} pixels, and "
                f"need {pieces.MARGIN} more on each side"
            )
        self.longest_ = int(self.longest or 8 * max(self.shape_))
        if self.longest_ < self.shape_[0]:
            raise imsim.OptionError(
                f"longest={self.longest}; items would be given up before their end: expected at "
                f"least the height of crops, {self.shape_[0]}"
            )

    def _item(self, piece: pieces.Piece, part: Booleans) -> Item:
        """Describe a part of a piece; what else is marked in its holes is not its own."""
        box = stacks.bounding_box(part)
        own = np.zeros_like(part)
        own[box] = pieces.without_holes(part[box]) & ~(piece.marked[box] & ~part[box])
        rows, columns = np.nonzero(own)
        top, left = int(rows.min()), int(columns.min())
        height, width = int(rows.max()) + 1 - top, int(columns.max()) + 1 - left
        kind, reason = self._kind(piece, own, (height, width))
        crop = None
        if kind == "item":
            middle = (top + height // 2, left + width // 2)
            crop = pieces.alone(piece, own, middle, self.shape_, (self.level_, self.noise_))
        return Item(
            kind,
            x=piece.x + left,
            y=piece.y + top,
            width=width,
            height=height,
            centre_x=piece.x + float(columns.mean()),
            centre_y=piece.y + float(rows.mean()),
            area=len(rows),
            reason=reason,
            crop=crop,
        )

    def _kind(
        self, piece: pieces.Piece, own: Booleans, size: tuple[int, int]
    ) -> tuple[str, str | None]:
        """Return what a part is, and why it is no item to inspect."""
        limits, area = self.limits_, int(own.sum())
        items = f"is as large as {area / limits.largest:.0f} items"
        at_edge = (own[0].any(), own[-1].any(), own[:, 0].any(), own[:, -1].any())
        if not self._sound(piece.values)[1][own].all():
            return "damaged", stacks.NOT_FINITE
        if any(touches and is_edge for touches, is_edge in zip(at_edge, piece.edges, strict=True)):
            if area > 2 * limits.largest:
                return "cut", (
                    f"{items} and touches the border of the frame: is the background as bright as "
                    "in the good images?"
                )
            return "cut", "touches the border of the frame: the item is not seen whole"
        if piece.goes_on:
            return "large", "goes on for longer than items do"
        if area < limits.smallest:
            return "debris", "is smaller than any item: debris, or a piece of one"
        if area > _MOST_ITEMS * limits.largest:
            return "large", f"{items}: so many that hang together are not parted"
        if not limits.hold(own):
            return "large", "is larger than an item, and shows no neck at which it could be parted"
        height, width = self.shape_
        if size[0] + 2 * pieces.MARGIN > height or size[1] + 2 * pieces.MARGIN > width:
            return "large", f"is an item, but does not fit into {width} x {height} pixels"
        return "item", None


def _check_shape(name: str, shape: Any) -> None:
    """Refuse a size that crops cannot have."""
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise imsim.OptionError(f"{name}={shape!r}; expected (height, width) of crops in pixels")
    for side in shape:
        check_integer(name, side, LEAST_SIDE, MOST_SIDE)
