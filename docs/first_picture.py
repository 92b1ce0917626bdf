"""Draw the picture of README.md and of the front page: `python docs/first_picture.py`.

Three changes of a photograph that the squared error cannot tell apart, and SSIM can.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import KDTree
from skimage import data

import imsim

PICTURE = Path(__file__).parent / "pictures" / "first.png"
ERROR = 12
"""The root mean squared error of each change, in grey levels."""
Pixels = NDArray[np.uint8]


def changes(photo: Pixels) -> dict[str, Pixels]:
    """Return the photograph, brighter, blurred and noisy, equally far from it by RMSE."""
    real = photo.astype(np.float64)
    changed = {
        "brighter": np.full(photo.shape, 1.0),
        "blurred": ndimage.gaussian_filter(real, 2) - real,
        "noisy": np.random.default_rng(0).normal(size=photo.shape),
    }
    return {name: scaled(real, change) for name, change in changed.items()}


def scaled(real: NDArray[np.float64], change: NDArray[np.float64]) -> Pixels:
    """Add a change in the strength that gives `ERROR` after rounding to 8 bits."""
    low, high = 0.0, 100.0
    for _ in range(40):
        strength = (low + high) / 2
        image = np.clip(np.rint(real + strength * change), 0, 255).astype(np.uint8)
        low, high = (strength, high) if imsim.rmse(real, image) < ERROR else (low, strength)
    return image


def draw(path: Path) -> None:
    photo = data.camera()[60:316, 130:386]
    images = changes(photo)
    with mpl.rc_context({"font.size": 10.5}):
        figure = Figure(figsize=(9, 4.9), layout="constrained")
        top, bottom = figure.subplots(2, 4)
        for axes in (*top, *bottom):
            axes.set_axis_off()
        grey = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}
        top[0].imshow(photo, **grey)
        top[0].set_title("reference")
        for image, title, above, below in zip(
            images.values(), images, top[1:], bottom[1:], strict=True
        ):
            above.imshow(image, **grey)
            above.set_title(title)
            shown = below.imshow(
                imsim.ssim_map(photo, image),
                cmap="viridis_r",
                vmin=0,
                vmax=1,
                interpolation="nearest",
            )
            words = f"RMSE {imsim.rmse(photo, image):.1f}, SSIM {imsim.ssim(photo, image):.2f}"
            below.set_title(words)
        bar = figure.colorbar(shown, cax=bottom[0].inset_axes((0.45, 0.1, 0.08, 0.8)), ticks=(0, 1))
        bar.set_ticklabels(["differs", "alike"])
        bottom[0].text(0.35, 0.5, "SSIM map", rotation=90, ha="right", va="center")
        figure.savefig(path, dpi=100)
    in_few_colours(path)


def in_few_colours(path: Path) -> None:
    """Save a picture of grey and viridis with a palette, in less than half the bytes."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    grey = np.linspace(0, 255, 64)[:, None].repeat(3, axis=1)
    viridis = 255 * mpl.colormaps["viridis"](np.linspace(0, 1, 96))[:, :3]
    colours = np.rint(np.concatenate([grey, viridis]))
    nearest = KDTree(colours).query(pixels)[1]
    small = Image.fromarray(nearest.astype(np.uint8), "P")
    small.putpalette(colours.astype(np.uint8).tobytes())
    small.save(path, optimize=True)


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    draw(PICTURE)
