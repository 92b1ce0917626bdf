"""A map as Jupyter shows it: its colours on the scale of the metric, with that scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from imsim import METRICS, DataRangeError, ShapeError
from imsim.pages import blocks
from imsim.pages.colour import Scale, checked_scale, map_scale, numbers_of, small_png
from imsim.pages.layers import overview_step
from imsim.pages.page import Html, number, picture, tag
from imsim.pages.pair import colour_bar

_SMALL = 256
"""Maps with shorter sides than this are enlarged by a whole number."""
_STYLE = Html(
    ".imsim-map{display:inline-block;max-width:100%;font-size:0.875em}"
    ".imsim-map img{display:block;width:100%;max-width:none;margin:0;image-rendering:pixelated}"
    ".imsim-map .bar img{height:10px;margin-top:0.35em}"
    ".imsim-map .bar div{display:flex;justify-content:space-between;gap:1em}"
)
# No colour of text or background: those of the notebook hold, bright or dark.


class MapPicture:
    """The picture of a map, which a notebook shows where it is the last line of a cell.

    The maps themselves are plain arrays and stay so. As in reports, the scale follows from the
    bounds of the metric and not from the map, so that pictures of different pairs compare: dark is
    alike, bright is different, grey is not scored.

    Parameters
    ----------
    values : array_like, shape (height, width)
        The map of one pair. NaN, and what an array of `numpy.ma` masks, is not scored.
    metric : str
        The metric it is of, such as ``"ssim"``.
    data_range : float, optional
        Largest possible minus smallest possible value of the images: the scales of squared errors
        (se, imed) end at its square. The others need none.
    scale : Scale, optional
        Another scale, such as ``Scale(1, 0.9)`` for pairs that hardly differ; the picture says it.

    Attributes
    ----------
    scale : Scale
        How values become colours.

    Raises
    ------
    ShapeError
        If `values` is not one map.
    DTypeError
        If `values` are not real numbers.
    OptionError
        If there is no metric of that name, it has no map, or the scale has no colours.
    DataRangeError
        If the scale depends on the data range, and there is none, or it is not positive.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> from imsim.pages import MapPicture
    >>> a = np.arange(1024.0).reshape(32, 32) % 60
    >>> MapPicture(imsim.ssim_map(a, a[::-1], data_range=255), "ssim")
    <MapPicture of ssim: Structural similarity, 32 x 32, from 1 (alike) to −1 (different)>
    """

    def __init__(
        self,
        values: Any,
        metric: str,
        *,
        data_range: float | None = None,
        scale: Scale | None = None,
    ) -> None:
        values = numbers_of(values)
        if values.ndim != 2 or not values.size:
            raise ShapeError(
                f"values has shape {values.shape}",
                "expected one map, (height, width): show the maps of a batch one by one",
            )
        fixed = map_scale(metric, 1.0 if data_range is None else data_range)
        if scale is None and fixed.root and data_range is None:
            raise DataRangeError(
                f"the scale of {metric} ends at the square of data_range, which is missing",
                "pass that of the images, e.g. data_range=255 for uint8",
            )
        self._values, self._metric = values, METRICS[metric]
        self.scale = fixed if scale is None else checked_scale(scale)

    def __repr__(self) -> str:
        height, width = self._values.shape
        low, high = (number(end) for end in (self.scale.low, self.scale.high))
        ends = f"from {low} ({self._ends[0]}) to {high} ({self._ends[1]})"
        return f"<MapPicture of {self._title}, {width} x {height}, {ends}>"

    def _repr_html_(self) -> str:
        """Return the picture and its scale as Jupyter shows them."""
        height, width = self._values.shape
        step = overview_step(height, width)
        far = np.asarray(self._metric.map_dissimilarity(self._values), dtype=np.float64)
        shown = self.scale.colours_of(self._values[blocks.worst(far, step)])
        enlarged = max(1, _SMALL // max(height, width))
        return tag(
            "div",
            tag("style", _STYLE),
            tag("div", self._title),
            picture(small_png(shown), f"map of {self._title}"),
            colour_bar(self.scale, self._ends),
            *(tag("div", note) for note in self._notes(step)),
            class_="imsim-map",
            style=f"width:{max(shown.shape[1] * enlarged, _SMALL)}px",
        )

    @property
    def _title(self) -> str:
        return f"{self._metric.name}: {self._metric.map_title}"

    @property
    def _ends(self) -> tuple[str, str]:
        """The meaning of the ends of the scale."""
        low, high = (self._metric.map_dissimilarity(end) for end in self.scale[:2])
        return ("alike", "different") if low < high else ("different", "alike")

    def _notes(self, step: blocks.Step) -> list[str]:
        """Say what the colours do not."""
        notes = ["Square-root scale."] if self.scale.root else []
        if np.isnan(self._values).any():
            notes.append("Grey: not scored.")
        ends = sorted(self.scale[:2])
        beyond = int(np.count_nonzero((self._values < ends[0]) | (self._values > ends[1])))
        if beyond:
            notes.append(f"{beyond} values lie beyond the scale and have the colour of its end.")
        if max(step) > 1:
            notes.append(f"Each block of {step[1]} × {step[0]} pixels shows its worst value.")
        return notes
