"""The strips of a line-scan camera, cut into items as they come."""

from __future__ import annotations

from typing import Any

import imsim
from imsim.anomaly.items import Item, ItemFinder
from imsim.anomaly.strips import Piece

__all__ = ["LineScan"]


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

    @property
    def rows_in_memory(self) -> int:
        """How many rows are kept."""
        return self._strips.memory

    def _items(self, pieces: list[Piece]) -> list[Item]:
        return [item for piece in pieces for item in self.finder.items(piece)]
