"""`--maps`: similarity maps as pictures in colour, each metric on its own fixed scale."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imsim._images import ImageFileError, Picture
from imsim.cli.outputs import replacing
from imsim.cli.terminal import in_options
from imsim.errors import ImsimError
from imsim.registry import METRICS
from imsim.validation import usual_data_range


def write_maps(
    folder: str,
    stem: str,
    reference: Picture,
    test: Picture,
    metrics: Iterable[str],
    options: dict[str, Any],
) -> dict[str, str]:
    """Write the map of each metric that has one, and return why others are missing.

    The picture of the stem ``sub/a`` is ``sub/a.ssim.png``. The scale follows from the bounds of
    the map and the data range, never from the map at hand.
    """
    from imsim.pages import map_scale, png

    data_range = options["data_range"] or usual_data_range([test.pixels.dtype])
    missing = {}
    path = os.path.join(folder, stem)
    _make_folder(os.path.dirname(path))
    for metric in metrics:
        function = METRICS[metric].map_function
        if function is None:
            continue
        scale = map_scale(metric, data_range or 1.0)
        if scale.root and data_range is None:
            missing[metric] = "its scale needs --data-range"
            continue
        try:
            values = function(reference.pixels, test.pixels, **options)
        except ImsimError as error:
            missing[metric] = in_options(str(error))
            continue
        with replacing(f"{path}.{metric}.png") as file:
            Path(file).write_bytes(png(scale.colours_of(values)))
    return missing


def scales(metrics: Iterable[str], data_range: float | None) -> str:
    """Describe the scales, from alike (dark) to different (bright)."""
    from imsim.pages import map_scale

    said = []
    for metric in metrics:
        if METRICS[metric].map_function is None:
            continue
        scale = map_scale(metric, data_range or 1.0)
        high = f"{scale.high:.4g}" if data_range or not scale.root else "the data range squared"
        said.append(
            f"{metric} {scale.low:.4g} to {high}" + (" (by the root)" if scale.root else "")
        )
    return "dark (alike) to bright (different): " + ", ".join(said)


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be made: {error.strerror}") from error
