"""Images of which a part lies far from the rest: what real scenes, CT and damaged files bring."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from strategies import SEEDS

KINDS = (
    "offset",  # all pixels far from 0, next to their contrast
    "apart",  # one image far from the other, on either side of 0 or at a multiple
    "cliff",  # one part of the frame far from the other
    "nodata",  # a corner at -9999
    "outlier",  # a single pixel far away, in one image or in both
    "constant part",  # a part that does not vary, in one image or in both
    "black bands",
    "hounsfield",  # air, water and metal: three levels thousands apart
    "plateaus",  # constant blocks at distant levels, texture in between
)


def distant_pair(
    kind: str,
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    distance: float = 1e4,
    dtype: Any = np.float64,
) -> tuple[np.ndarray, np.ndarray]:
    """Make a texture of contrast about 1 and a noisy version, with a part `distance` away."""
    height, width = shape
    x = rng.normal(0, 0.3, shape) + np.sin(np.arange(width) / 3)
    y = x + rng.normal(0, 0.1, shape)
    column = int(rng.integers(1, max(width, 2)))
    row = int(rng.integers(1, max(height, 2)))
    if kind == "offset":
        x, y = x + distance, y + distance
    elif kind == "apart":
        x, y = x + distance * rng.choice([-1.0, 3.0]), y + distance
    elif kind == "cliff":
        x[:, column:] += distance
        y[:, column:] += distance
    elif kind == "nodata":
        x[row:, column:] = y[row:, column:] = -9999.0
    elif kind == "outlier":
        x[row - 1, column - 1] = distance
        if rng.random() < 0.5:
            y[row - 1, column - 1] = distance
    elif kind == "constant part":
        x[:row] = 0.25
        if rng.random() < 0.5:
            y[:row] = 0.25
    elif kind == "black bands":
        for v in (x, y):
            v += 2
            v[: row // 2] = v[height - row // 2 :] = 0
            v[:, : column // 4] = 0
    elif kind == "hounsfield":
        level = rng.choice([-1000.0, 0.0, 3000.0], size=(1 + height // 16, 1 + width // 16))
        level = np.kron(level, np.ones((16, 16)))[:height, :width]
        x, y = x + level, y + level
    elif kind == "plateaus":
        for _ in range(4):
            i, j = int(rng.integers(height)), int(rng.integers(width))
            level = distance * rng.normal()
            for v in (x, y):
                v[i : i + height // 3 + 1, j : j + width // 3 + 1] = level
    else:
        raise ValueError(kind)
    return x.astype(dtype), y.astype(dtype)


@st.composite
def distant_pairs(
    draw: st.DrawFn, low: int = 16, high: int = 48, dtypes: tuple[Any, ...] = (np.float64,)
) -> tuple[np.ndarray, np.ndarray]:
    """Two images of one shape, a part of which lies 10^2 to 10^6 contrasts away."""
    side = st.integers(low, high)
    return distant_pair(
        draw(st.sampled_from(KINDS)),
        np.random.default_rng(draw(SEEDS)),
        (draw(side), draw(side)),
        distance=draw(st.sampled_from((1e2, 1e3, 1e4, 1e5, 1e6))),
        dtype=draw(st.sampled_from(dtypes)),
    )
