"""One image as an array, whatever it is handed over as: an array, a PIL image, a figure."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np

from imsim._images import Reading
from imsim._images.png import open_png
from imsim._images.reading import Source
from imsim.errors import OptionError, ShapeError
from imsim.inputs import as_array, check_real
from imsim.portable.arrays import to_host
from imsim.typing import Array, ImageLike

DPI = 100
"""Of figures of Matplotlib, whatever they have for the screen."""


def pixels_of(image: ImageLike, channel_axis: int | None = None) -> Array:
    """Return one image as a NumPy array with its channels last; draw a figure of Matplotlib."""
    drawn = _drawn(image)
    if drawn is not None:
        return drawn
    array = as_array("image", image)
    check_real("image", array)
    pixels = np.asarray(to_host(array))
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if channel_axis is None and hasattr(image, "getbands") and len(image.getbands()) > 1:
        channel_axis = -1  # of a PIL image
    if channel_axis is not None and pixels.ndim != 3:
        raise ShapeError(
            f"image has shape {pixels.shape}, and channel_axis={channel_axis!r}",
            "expected three axes, one of them that of channels, or no channel_axis",
        )
    if pixels.ndim != (2 if channel_axis is None else 3) or not pixels.size:
        raise ShapeError(
            f"image has shape {pixels.shape}",
            "expected (height, width): name the axis that holds channels, e.g. channel_axis=-1, "
            "and check the images of a stack one by one",
        )
    if channel_axis is None:
        return pixels
    if channel_axis not in range(-3, 3):
        raise OptionError(f"channel_axis={channel_axis!r}", "expected an axis, from -3 to 2")
    return np.moveaxis(pixels, channel_axis, -1)


def _drawn(image: Any) -> Array | None:
    """Draw a figure, or that of axes; nobody can have one who has not imported Matplotlib."""
    figures = sys.modules.get("matplotlib.figure")
    if figures is None:
        return None
    if isinstance(image, sys.modules["matplotlib.artist"].Artist):
        while (above := image.figure) not in (None, image):  # a sub-figure, or the figure
            image = above
    if not isinstance(image, figures.Figure):
        return None
    content = io.BytesIO()
    # As PNG, a figure is drawn by Agg, whatever canvas it has.
    image.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return open_png(Source("figure", content.getvalue()), Reading()).read(0).pixels
