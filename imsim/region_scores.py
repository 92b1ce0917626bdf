"""From a pair of images and a survey of their labels to the scores of all regions.

Small regions are scored by a kernel of the metric for many of them at once, or in batches of crops.
A metric whose score depends on the whole frame, and the formulas, take one label after the other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from imsim import engine
from imsim.cropping import Survey, batches, crops_around, in_three_axes
from imsim.errors import (
    ChannelAxisWarning,
    EmptyMaskWarning,
    ImsimError,
    PrecisionWarning,
    silent,
    without_traceback,
)
from imsim.portable.volumes import unstacked
from imsim.registry import METRICS, Crop
from imsim.typing import Array
from imsim.validation import Images, check_data_range, check_frame

SPARSE = 8
"""A region that fills less than one part of so many of a large box is scattered."""
SMALL_PIXELS = 1 << 15
"""Most pixels of a box that one thread scores within its cache."""


class Places(NamedTuple):
    """Where the pixels of each code lie."""

    order: Array
    """Places in the flat frame, by code."""
    ends: Array
    """Where those of each code end."""


class Scorer:
    """Scores all regions of one pair of images, which has no batch axes.

    `broken` tells which regions hold NaN or infinities; `data_range` and `spacing` are what the
    user gave.
    """

    def __init__(
        self,
        images: Images,
        found: Survey,
        broken: Array,
        data_range: Any,
        spacing: tuple[float, ...] | None = None,
    ) -> None:
        x, y = (np.ascontiguousarray(v) for v in (images.x, images.y))
        self._images = images._replace(x=x, y=y)
        self._found, self._broken, self._data_range = found, broken, data_range
        self._spacing = spacing
        self._pixels = tuple(
            in_three_axes(unstacked(v, images.depth), channels=True) for v in (x, y)
        )
        self._scores: dict[str, Array] = {}
        self._errors: dict[str, ImsimError] = {}

    def scores(self, names: Iterable[str]) -> tuple[dict[str, Array], dict[str, ImsimError]]:
        """Return the scores of each metric, and why others have none."""
        names = list(names)
        self._scores = {name: np.full(len(self._found.labels), np.nan) for name in names}
        with silent(EmptyMaskWarning, ChannelAxisWarning, PrecisionWarning):
            alike: dict[Crop | None, list[str]] = {}
            for name in names:
                self._attempt(name, self._check)
                crop = None if self._spaced(name) else METRICS[name].crop
                crop = crop if engine.runs_kernels() else None
                alike.setdefault(crop, []).append(name)
            for crop, some in alike.items():
                if crop is not None:
                    self._score_crops(crop, some)
                    continue
                for name in some:
                    self._attempt(name, self._score_frames, range(len(self._found.labels)))
        scores = {name: self._scores[name] for name in names if name not in self._errors}
        return scores, self._errors

    def _attempt(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of a metric, unless that has failed before."""
        if name not in self._errors:
            try:
                return function(name, *args)
            except ImsimError as error:
                self._errors[name] = without_traceback(error)
        return None

    def _spaced(self, name: str) -> dict[str, Any]:
        """Return the option of the spacing, if there is one and the metric takes it."""
        takes = self._spacing is not None and METRICS[name].takes_spacing
        return {"spacing": self._spacing} if takes else {}

    def _check(self, name: str) -> None:
        facts, images = METRICS[name], self._images
        needed_by = name if facts.needs_data_range else None
        check_data_range(self._data_range, (images.x.dtype, images.y.dtype), needed_by, np)
        if not self._spaced(name):  # or the windows have other sides
            check_frame(name, images.sides, facts.least_side, facts.least_longer_side)

    def _score_frames(self, name: str, rows: Iterable[int]) -> None:
        """Score one label after the other, in the whole frame."""
        for row in rows:
            mask = in_three_axes(self._found.codes == self._found.wanted[row])
            x, y = self._pixels
            self._scores[name][row : row + 1] = self._call(name, x, y, mask[None])

    def _score_gathered(self, name: str, rows: Iterable[int]) -> None:
        """Score one label after the other, whose pixels are gathered in one row."""
        for row in rows:
            end = self._places.ends[self._found.wanted[row]]
            places = self._places.order[end - self._found.pixels[row] : end]
            x, y = (
                v.reshape(*v.shape[:-3], -1)[..., places].reshape(*v.shape[:-3], 1, 1, -1)
                for v in self._pixels
            )
            mask = np.ones((1, *x.shape[-3:]), np.bool_)
            self._scores[name][row : row + 1] = self._call(name, x, y, mask)

    @functools.cached_property
    def _places(self) -> Places:
        """The places of all pixels by their codes: as much work as one pass, for all labels."""
        codes = self._found.codes.reshape(-1)
        ends = np.cumsum(np.bincount(codes))
        narrow = len(ends) <= np.iinfo(np.uint16).max  # of which NumPy sorts the digits
        order = np.argsort(codes.astype(np.uint16) if narrow else codes, kind="stable")
        return Places(order, ends)

    def _score_crops(self, crop: Crop, names: list[str]) -> None:
        crops = crops_around(self._found.boxes, self._images.sides, crop)
        # Metrics of which the same regions are left share their crops.
        waiting: dict[bytes, tuple[Array, list[str]]] = {}
        for name in names:
            rows = self._attempt(name, self._score_small)
            if rows is not None:
                waiting.setdefault(rows.tobytes(), (rows, []))[1].append(name)
        for rows, some in waiting.values():
            self._score_batches(crop, some, rows, crops[rows])

    def _score_small(self, name: str) -> Array:
        """Score small regions by the kernel for these, if there is one; return the rows left."""
        load, found = METRICS[name].region_kernel, self._found
        rows = np.arange(len(found.labels))
        sizes = (found.boxes[..., 1] - found.boxes[..., 0]).prod(axis=1)
        small = rows[(sizes <= SMALL_PIXELS) & ~self._broken]
        if load is None or self._images.depth is not None or not len(small):
            return rows
        from imsim.kernels.regions import Places

        places = Places(found.codes, found.wanted[small], found.boxes[small])
        with np.errstate(all="ignore"):
            scores = load()(self._images, places)
        if scores is None:
            return rows
        done = small[~scores.left]
        values = np.where(scores.scored > 0, scores.values, np.nan).mean(axis=-1)
        self._scores[name][done] = values[~scores.left]
        return np.setdiff1d(rows, done)

    def _score_batches(self, crop: Crop, names: list[str], rows: Array, crops: Array) -> None:
        """Score crops, those of nearly equal size at once."""
        from imsim.kernels.regions.crops import crops_of, masks_of  # slow to import, as Numba is

        found, frame = self._found, self._images.sides
        facts = [METRICS[name] for name in names]
        least = max(max(one.least_side, one.least_longer_side) for one in facts)
        codes, widens = in_three_axes(found.codes), crop.widens and self._is_narrow
        for batch in batches(crops, frame, crop.step, least):
            own = rows[batch.rows]
            if batch.is_large:  # copies would take as much memory as the images
                is_sparse = SPARSE * self._found.pixels[own].max() < math.prod(batch.shape)
                score = self._score_gathered if crop.gathers and is_sparse else self._score_frames
                for name in names:
                    self._attempt(name, score, own)
                continue
            masks = masks_of(codes, found.wanted[own], batch.starts, batch.shape)
            x, y = (crops_of(v, masks, batch.starts) for v in self._pixels)
            if widens:
                x, y = x.astype(np.float64), y.astype(np.float64)
            for name in names:
                found_scores = self._attempt(name, self._call, x, y, masks)
                if found_scores is not None:
                    self._scores[name][own] = found_scores

    @property
    def _is_narrow(self) -> bool:
        """Whether the arithmetic is that of float32."""
        return bool(self._images.dtype == np.float32)

    def _call(self, name: str, x: Array, y: Array, masks: Array) -> Array:
        """Score crops, (crops, channels, 3 axes), or one pair without the first axis."""
        has_channels, axes = self._images.has_channels, len(self._images.sides)

        def plain(values: Array, lead: int) -> Array:
            """View without the axes of length 1 that the images lack."""
            return values.reshape(*values.shape[:lead], *values.shape[-axes:])

        x, y = (plain(v, v.ndim - (3 if has_channels else 4)) for v in (x, y))
        return METRICS[name].function(
            x,
            y,
            mask=plain(masks, 1),
            data_range=self._data_range,
            channel_axis=-1 - axes if has_channels else None,
            ndim=axes,
            **self._spaced(name),
        )
