"""
Score distorted photographs
===========================

Three photographs that scikit-image carries are distorted in five ways and scored with every
metric, once whole and once inside a round mask. The blot lies outside the mask: there, every
metric gives the blot column the score of two identical images.
"""

import io

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import data
from tabulate import tabulate

import imsim

# %%
# Five distortions, each of them 8-bit in and 8-bit out.


def noise(photo):
    rng = np.random.default_rng(1)
    return to_uint8(photo + rng.normal(0, 12, photo.shape))


def blur(photo):
    return to_uint8(ndimage.gaussian_filter(photo.astype(float), 1.5, axes=(0, 1)))


def jpeg(photo):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format="JPEG", quality=15)
    return np.asarray(Image.open(buffer))


def brighter(photo):
    return to_uint8(photo + 20.0)


def blot(photo):
    stained = photo.copy()
    stained[20:50, 20:50] = 0
    return stained


def to_uint8(photo):
    return np.clip(np.rint(photo), 0, 255).astype(np.uint8)


# %%
# The photographs are cropped to 256 x 256, so that the script takes seconds.


def centre(photo, size=256):
    top, left = (photo.shape[0] - size) // 2, (photo.shape[1] - size) // 2
    return np.ascontiguousarray(photo[top : top + size, left : left + size])


def disc(size=256, radius=100):
    row, column = np.ogrid[:size, :size]
    middle = (size - 1) / 2
    return (row - middle) ** 2 + (column - middle) ** 2 <= radius**2


PHOTOGRAPHS = {
    "camera (grey)": centre(data.camera()),
    "coins (grey)": centre(data.coins()),
    "astronaut (RGB)": centre(data.astronaut()),
}
DISTORTIONS = (noise, blur, jpeg, brighter, blot)

# %%
# One call to `compare` gives all metrics; `METRICS` says which direction is the better one.


def print_scores(heading, photo, mask):
    channel_axis = -1 if photo.ndim == 3 else None
    columns = [
        imsim.compare(photo, distort(photo), mask=mask, channel_axis=channel_axis)
        for distort in DISTORTIONS
    ]
    print(f"\n{heading}\n" + "-" * 78)
    rows = [
        [name, "higher" if metric.higher_is_better else "lower", *(c[name] for c in columns)]
        for name, metric in imsim.METRICS.items()
    ]
    heads = ["metric", "better", *(distort.__name__ for distort in DISTORTIONS)]
    print(tabulate(rows, heads, tablefmt="plain", floatfmt=".5g", numalign="right"))


if __name__ == "__main__":
    print(__doc__.strip().split("\n\n", 1)[1])
    for title, photograph in PHOTOGRAPHS.items():
        print_scores(f"{title}, whole", photograph, None)
        print_scores(f"{title}, inside the mask", photograph, disc())
