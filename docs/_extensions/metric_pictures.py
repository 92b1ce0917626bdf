"""The picture of a metric: one photograph, seven distortions, their scores and maps."""

from __future__ import annotations

import io
import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import data

import imsim

Pixels = NDArray[np.uint8]


def to_uint8(image: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def jpeg(photo: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format="JPEG", quality=12)
    return np.asarray(Image.open(buffer))


def distortions(photo: Pixels) -> dict[str, Pixels]:
    real = photo.astype(np.float64)
    blot = photo.copy()
    blot[70:82, 40:52] = 20
    return {
        "noise, σ 12": to_uint8(real + np.random.default_rng(1).normal(0, 12, real.shape)),
        "blur, σ 1.5 px": to_uint8(ndimage.gaussian_filter(real, 1.5, axes=(0, 1))),
        "JPEG, quality 12": jpeg(photo),
        "20 brighter": to_uint8(real + 20),
        "contrast x 0.7": to_uint8(128 + 0.7 * (real - 128)),
        "1 px to the right": np.roll(photo, 1, axis=1),
        "blot of 12 x 12 px": blot,
    }


def words(score: float) -> str:
    return "∞" if math.isinf(score) else f"{score:.4g}"


def draw(name: str, path: Path) -> None:
    """Draw the picture; in colour for the spectral angle, whose map needs channels."""
    metric = imsim.METRICS[name]
    colour = name == "sam"
    photo = data.astronaut()[20:148, 150:278] if colour else data.camera()[60:188, 160:288]
    channel_axis = -1 if colour else None
    tests = {"reference": photo, **distortions(photo)}
    images = np.stack(list(tests.values()))
    options = {"channel_axis": channel_axis}
    scores = metric.function(photo, images, **options)
    maps = metric.map_function(photo, images, **options) if metric.map_function else None
    deep = 1 if maps is None else 2
    with mpl.rc_context({"font.size": 9}):
        # A Figure without pyplot: nothing global is touched, and there is no window to close.
        figure = Figure(figsize=(8, 4.6 * deep), layout="constrained")
        axes = figure.subplots(2 * deep, 4)
        for axis in axes.flat:
            axis.set_axis_off()
        unit = f" {metric.unit.replace('^2', '²')}" if metric.unit else ""
        for axis, title, image, score in zip(axes[::deep].flat, tests, images, scores, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_title(f"{title}\n{words(score)}{unit}")
        if maps is not None:
            draw_maps(figure, axes[1::2], metric, maps)
        figure.savefig(path, dpi=110)


def draw_maps(
    figure: Figure, axes: NDArray[np.object_], metric: imsim.Metric, maps: NDArray[np.float64]
) -> None:
    """Similarities from 1 to 0, distances from 0 to the 99.5th percentile; grey: not scored.

    Dark is alike, as in the pictures of the command.
    """
    similarity = metric.map_higher_is_better
    high = 1.0 if similarity else float(np.nanpercentile(maps, 99.5))
    colours = mpl.colormaps["viridis_r" if similarity else "viridis"].with_extremes(bad="0.6")
    for axis, values in zip(axes.flat, maps, strict=True):
        shown = axis.imshow(values, cmap=colours, vmin=0, vmax=high, interpolation="nearest")
    extend = ("min" if metric.map_bounds[0] < 0 else "neither") if similarity else "max"
    squared = {"se": " [I²]", "imed": " [I²]", "sam": " [rad]"}.get(metric.name, "")
    for row in axes:
        figure.colorbar(shown, ax=row, label=f"{metric.name}_map{squared}", extend=extend)
