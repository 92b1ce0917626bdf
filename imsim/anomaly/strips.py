"""Connected marked pixels of an image whose rows arrive one by one, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imsim.anomaly.stacks import Booleans

CONTEXT = 2
"""Rows above and below that decide on a pixel's mark."""
_LEAST_ROWS = 16
"""Rows that are waited for before the next step, which looks at all rows in memory."""


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

    @property
    def memory(self) -> int:
        """How many rows are in memory."""
        rows = 0 if self._rows is None else len(self._rows)
        return rows + sum(map(len, self._waiting))

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
