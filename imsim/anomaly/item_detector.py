"""One verdict per item, in frames of several and in strips of a line-scan camera."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import clone

import imsim
from imsim.anomaly.detector import AnomalyDetector, OddImageWarning, UnscorableImageWarning
from imsim.anomaly.items import Item, ItemFinder
from imsim.anomaly.pieces import Piece
from imsim.anomaly.stacks import as_stack, listed
from imsim.anomaly.storage import Arrays, Stored, all_or_nothing
from imsim.anomaly.xray.frames import UnusableImageWarning
from imsim.errors import silent, warn
from imsim.validation import check_integer
from imsim.workers import in_parts

_NOT_INSPECTED = ("cut", "large", "damaged")
_ODD = "is unlike the others"


class ItemInspection(NamedTuple):
    """The verdict on what was found in a frame, and where it is."""

    frame: int
    """Index of the frame; 0 in strips."""
    kind: str
    """See `Item`."""
    x: int
    y: int
    width: int
    height: int
    centre_x: float
    centre_y: float
    area: int
    """As of `Item`."""
    anomaly_score: float
    """Larger = more anomalous; NaN for what could not be compared."""
    verdict: str
    """``"good"``, ``"anomaly"``, as debris is, or ``"not inspected"``: cut, large or damaged."""
    reason: str | None
    """Why there is no score."""


@dataclass(eq=False, repr=False)
class ItemDetector(Stored):
    """Find the items of each frame, and tell for each whether it is an anomaly.

    What is smaller than any item, debris and pieces, is an anomaly too. Items that the frame cuts,
    that lie on each other or that hold NaN are not inspected; a line rejects them like anomalies.

    Each item is scored alone. So its score depends on nothing but its crop.

    Parameters
    ----------
    detector : AnomalyDetector, optional
        Learns from the crops; by default ``AnomalyDetector()``, which peels X-ray images.
    finder : ItemFinder, optional
        By default ``ItemFinder()``.

    Attributes
    ----------
    detector_, finder_ : AnomalyDetector and ItemFinder
        The fitted ones.
    kinds_ : Counter of str
        What the good frames show, by kind; only items were learned from.
    missed_ : int
        How much of what the good frames show was not inspected: what is cut, large or damaged, and
        frames without items.
    left_out_ : dict of int to str
        Good frames that were not learned from, or some items of them, and why.
    odd_ : dict of int to str
        Good frames with items that are so unlike the others that these were not learned from.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import AnomalyDetector, ItemDetector
    >>> rng, (y, x) = np.random.default_rng(0), np.mgrid[:40, :40] - 20
    >>> disc = np.where(np.hypot(y, x) < 12, 0.5, 1.0)
    >>> good = np.tile(disc, (10, 1, 3)) + rng.normal(0, 0.01, (10, 40, 120))
    >>> frame = good[0].copy()
    >>> frame[18:21, 58:61] = 0.3
    >>> detector = ItemDetector(AnomalyDetector(preprocess=None, random_state=0)).fit(good)
    >>> [(item.x, item.verdict) for item in detector.inspect_frame(frame)]
    [(8, 'good'), (48, 'anomaly'), (88, 'good')]
    """

    _LEARNED = (("missed", np.int64),)
    _PARTS = (("detector", AnomalyDetector), ("finder", ItemFinder))

    detector: AnomalyDetector | None = None
    finder: ItemFinder | None = None

    @all_or_nothing
    def fit(self, good: Any, y: Any = None) -> Self:
        """Learn from good frames, (n, height, width), or from good images of one item each.

        Warns
        -----
        UnusableImageWarning, UnscorableImageWarning, OddImageWarning
            If frames, or some of their items, are not learned from: `left_out_`, `odd_`.
        """
        detector = AnomalyDetector() if self.detector is None else self.detector
        finder = ItemFinder() if self.finder is None else self.finder
        for name, part, kind in (
            ("detector", detector, AnomalyDetector),
            ("finder", finder, ItemFinder),
        ):
            if not isinstance(part, kind):
                raise imsim.OptionError(f"{name}={part!r}; expected an {kind.__name__}")
        frames = as_stack("images", good)
        found = clone(finder).fit(frames)
        usable = [i for i in range(len(frames)) if i not in found.left_out_]
        cut = [(i, item) for i in usable for item in found.cut(frames[i])]
        self.kinds_ = Counter(item.kind for _, item in cut)
        self.missed_ = len(found.left_out_) + sum(self.kinds_[kind] for kind in _NOT_INSPECTED)
        whole = [(i, item) for i, item in cut if item.crop is not None]
        crops = np.stack([item.crop for _, item in whole])
        # Their indices are those of crops, which the caller does not see.
        with silent(UnscorableImageWarning, UnusableImageWarning, OddImageWarning):
            self.detector_ = clone(detector).fit(crops)
        unusable = _by_frame((whole[k], text) for k, text in self.detector_.left_out_.items())
        self.left_out_ = found.left_out_ | unusable
        if unusable:
            warn(f"items are not learned from: {listed(unusable)}", UnscorableImageWarning)
        self.odd_ = _by_frame((whole[k], _ODD) for k in self.detector_.odd_)
        if self.odd_:
            warn(
                f"items are not learned from: {listed(self.odd_)}; look at them, and if they are "
                "good, pass AnomalyDetector(fence=None)",
                OddImageWarning,
            )
        self.finder_ = found
        return self

    def inspect_frame(self, frame: Any, index: int = 0) -> list[ItemInspection]:
        """Return a verdict for each item that a frame of any size shows, and for what is none.

        `index` is the number of the frame in the result.
        """
        self._check_fitted()
        return self.verdicts(self.finder_.cut(frame), index)

    def inspect(self, frames: Any) -> list[ItemInspection]:
        """Return the verdicts for all items of frames, (n, height, width)."""
        self._check_fitted()
        images = as_stack("images", frames)
        return [v for i, image in enumerate(images) for v in self.inspect_frame(image, i)]

    def scan(self) -> ItemScan:
        """Return what takes the strips of a line-scan camera, and gives verdicts."""
        self._check_fitted()
        return ItemScan(self)

    def verdicts(self, items: Iterable[Item], frame: int = 0) -> list[ItemInspection]:
        """Return the verdicts on items that the finder has cut out."""
        self._check_fitted()
        found = list(items)

        def judged(part: slice) -> list[ItemInspection]:
            return [self._judged(item, frame) for item in found[part]]

        rows = in_parts(judged, len(found), 1) if found else []
        return [row for part in rows for row in part]

    def _check_learned(self, arrays: Arrays) -> None:
        check_integer("missed", self.missed_, 0)
        detector, finder = self.detector_, self.finder_
        if (detector.shape_, detector.depth_) != (finder.shape_, finder.depth_):
            raise imsim.OptionError("its detector is for other images than the finder cuts out")

    def _judged(self, item: Item, frame: int) -> ItemInspection:
        score, verdict, reason = math.nan, "not inspected", item.reason
        if item.crop is not None:
            scores, problems = self.detector_.inspect(item.crop[None])
            score, reason = float(scores[0]), problems.get(0)
            if reason is None:
                verdict = "anomaly" if score > self.detector_.threshold_ else "good"
        elif item.kind == "debris":
            verdict = "anomaly"
        place = item._asdict()
        del place["crop"], place["reason"]
        return ItemInspection(frame, **place, anomaly_score=score, verdict=verdict, reason=reason)


def _by_frame(reasons: Iterable[tuple[tuple[int, Item], str]]) -> dict[int, str]:
    """Return for each frame which of its items are not learned from, and why."""
    found: dict[int, list[str]] = {}
    for (frame, item), reason in reasons:
        found.setdefault(frame, []).append(f"has an item at x={item.x}, y={item.y} that {reason}")
    return {frame: "; ".join(texts) for frame, texts in found.items()}


class LineScan:
    """Cut the strips of a line-scan camera into items, whatever the height of the strips.

    The items are those of `ItemFinder.cut` of all rows at once, to the last bit. What hangs
    together for more than ``finder.longest_`` rows is given out as ``"large"``, over and over, as
    long as it goes on; so no more rows than that are in memory, and few more.

    Parameters
    ----------
    finder : ItemFinder
        Fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import ItemFinder, LineScan
    >>> y, x = np.mgrid[:48, :48] - 24
    >>> good = np.stack([np.where(np.hypot(y, x) < r, 0.5, 1.0) for r in (12, 13, 14)])
    >>> scan = LineScan(ItemFinder().fit(good))
    >>> found = [item for strip in np.split(good[1], 3) for item in scan.feed(strip)]
    >>> [(item.kind, item.y) for item in [*found, *scan.end()]]
    [('item', 11)]
    """

    def __init__(self, finder: ItemFinder) -> None:
        if not isinstance(finder, ItemFinder):
            raise imsim.OptionError(f"finder={finder!r}; expected an ItemFinder")
        self.finder = finder
        self._strips = finder.strips()
        self._width: int | None = None
        self._has_ended = False

    def feed(self, rows: Any) -> list[Item]:
        """Take the next rows, (height, width); return the items that are complete.

        Raises
        ------
        ImsimError
            If rows have another width than those before, or another type than the good images, or
            `end` was called.
        """
        if self._has_ended:
            raise imsim.ImsimError("the image has ended", "make another LineScan")
        strip = self.finder.checked("rows", rows)
        if self._width not in (None, strip.shape[1]):
            raise imsim.ShapeError(
                f"rows have {strip.shape[1]} pixels, those before {self._width}",
                "make another LineScan for another camera",
            )
        self._width = strip.shape[1]
        return self._items(self._strips.feed(strip)) if len(strip) else []

    def end(self) -> list[Item]:
        """End the image; return the items that are left. Those at the last row are cut."""
        self._has_ended = True
        return self._items(self._strips.end())

    def _items(self, pieces: list[Piece]) -> list[Item]:
        return [item for piece in pieces for item in self.finder.items(piece)]


class ItemScan:
    """Verdicts on the items of a line-scan camera, as its strips come: ``ItemDetector.scan``."""

    def __init__(self, detector: ItemDetector) -> None:
        self._detector, self._scan = detector, LineScan(detector.finder_)

    def feed(self, rows: Any) -> list[ItemInspection]:
        """Take the next rows; return the verdicts on the items that are complete."""
        return self._detector.verdicts(self._scan.feed(rows))

    def end(self) -> list[ItemInspection]:
        """Return the verdicts on what is left."""
        return self._detector.verdicts(self._scan.end())
