"""Raw statistics of images, in the units of pixels: cheap numbers that tell when a line changes.

`imsim.anomaly.drift.DriftAlarm` says what each of them is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly.stacks import Booleans, Doubles, batch_images, masks_at
from imsim.anomaly.xray.frames import BORDER, border
from imsim.errors import warn
from imsim.workers import in_parts

RAW = ("level", "contrast", "border", "noise", "texture", "column pattern", "row pattern")
"""Names of the raw statistics of an image, in the order of their columns."""
_BODY = 0.9
"""Share of the smallest details whose mean is a strength: edges and foreign bodies are not in it,
and where the half of an image is flat it is not 0, as the median would be."""

RANGES = 10.0
"""Ratio of contrasts beyond which images have another range: from 12 to 16 bits it is 16, from
percent 100, from 8 bits to shares 255, while a new harvest changes it by a few tenths."""


def warn_of_other_range(new: Doubles, known: Doubles) -> None:
    """Warn if new images have another range of numbers than known ones, by their raw statistics."""
    column = RAW.index("contrast")
    contrasts = [values[np.isfinite(values)] for values in (new[:, column], known[:, column])]
    if not all(values.size for values in contrasts):
        return
    one, other = (float(np.median(values)) for values in contrasts)
    if min(one, other) > 0 and not 1 / RANGES < one / other < RANGES:
        warn(
            f"the new images have {one / other:.3g} times the contrast of those learned from "
            "before: if they have another range of numbers, convert them, and update the detector "
            "as it was saved before; a model of both hardly finds what is wrong in either",
            UserWarning,
        )


def raw_statistics(frames: NDArray[Any], used: Booleans | None) -> Doubles:
    """Return the raw statistics of good images, a row each; NaN for those without."""
    result = np.full((len(frames), len(RAW)), np.nan)

    def part(these: slice) -> None:
        for i in range(these.start, these.stop):
            found = of_image(frames[i], masks_at(used, i))
            if np.isfinite(found).all():  # a preprocess of the caller may repair NaN
                result[i] = found

    in_parts(part, len(frames), batch_images(frames))
    return result


def check_raw(raw: Doubles) -> Doubles:
    """Refuse raw statistics out of a file that `raw_statistics` does not return."""
    known = np.isfinite(raw).all(axis=1)
    if not known.any() or not np.isnan(raw[~known]).all():
        raise imsim.OptionError("its raw statistics are none that good images have")
    return raw


@np.errstate(over="ignore", invalid="ignore")
def of_image(image: NDArray[Any], used: Booleans | None) -> list[float]:
    """Return the raw statistics of an image; they may be NaN or infinite, as pixels may."""
    if used is not None and not used.any():
        return [np.nan] * len(RAW)
    pixels = image.astype(np.float64)
    if used is not None and not used.all():
        pixels[~used] = pixels[used].mean()
    height, width = (side // 2 * 2 for side in pixels.shape)
    above, below = pixels[0:height:2, :width], pixels[1:height:2, :width]
    total, step = above + below, below - above
    blocks = (total[:, ::2] + total[:, 1::2]) / 4
    down = blocks[1:] - blocks[:-1]
    edge = min(BORDER, *(side // 2 for side in pixels.shape))
    return [
        float(pixels.mean()),
        float(pixels.std()),
        float(np.median(border(pixels[None], edge))) if edge else 0.0,
        _strength((step[:, 1::2] - step[:, ::2]) / 2),
        _strength((down[:, 1:] - down[:, :-1]) / 2),
        _strength(np.diff(pixels.mean(axis=0), 2)),
        _strength(np.diff(pixels.mean(axis=1), 2)),
    ]


def _strength(details: Doubles) -> float:
    """Return the mean absolute value of the smaller details."""
    values = np.abs(details).ravel()
    if not values.size:
        return 0.0
    number = max(1, round(_BODY * values.size))
    return float(np.partition(values, number - 1)[:number].mean())
