"""Hypothesis strategies: images of many kinds, and masks, on the scale 0..255."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from sampling import blob_mask, texture, textured_pair

KINDS = ("texture", "noise", "integers", "ramp", "binary", "constant", "zero", "spike", "offset")
SEEDS = st.integers(0, 2**32 - 1)


def image(kind: str, seed: int, height: int, width: int) -> np.ndarray:
    """Make an image of a kind."""
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {
        "texture": lambda: texture(rng, (height, width)),
        "noise": lambda: rng.uniform(0, 255, (height, width)),
        "integers": lambda: rng.integers(0, 256, (height, width)).astype(float),
        "ramp": lambda: np.add.outer(np.arange(height), np.arange(width)) * 2.0,
        "binary": lambda: 255.0 * (texture(rng, (height, width)) > 125),
        "constant": lambda: np.full((height, width), float(rng.integers(1, 256))),
        "zero": lambda: np.zeros((height, width)),
        "spike": lambda: (
            np.eye(1, height * width, int(rng.integers(height * width))).reshape(height, width)
            * 255
        ),
        "offset": lambda: 250 + 0.01 * rng.standard_normal((height, width)),
    }
    return np.asarray(made[kind](), dtype=np.float64)


@st.composite
def images(draw: st.DrawFn, low: int = 16, high: int = 36, even: bool = False) -> np.ndarray:
    """One image."""
    side = st.integers(low, high).map(lambda n: n + n % 2 if even else n)
    return image(draw(st.sampled_from(KINDS)), draw(SEEDS), draw(side), draw(side))


@st.composite
def pairs(
    draw: st.DrawFn, low: int = 16, high: int = 36, even: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Two images of one shape: unrelated, or one a noisy or shifted version of the other."""
    x = draw(images(low, high, even))
    seed = draw(SEEDS)
    rng = np.random.default_rng(seed)
    relation = draw(st.sampled_from(("other", "noise", "contrast", "pixel")))
    if relation == "other":
        return x, image(draw(st.sampled_from(KINDS)), seed, *x.shape)
    if relation == "noise":
        return x, np.clip(x + rng.uniform(1, 30) * rng.standard_normal(x.shape), 0, 255)
    if relation == "contrast":
        return x, 0.7 * x + 30
    y = x.copy()
    y[tuple(rng.integers(x.shape))] += 7
    return x, y


@st.composite
def textured_pairs(
    draw: st.DrawFn, low: int = 24, high: int = 40, even: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A textured image and a noisy version of it: nothing flat, nothing clipped."""
    side = st.integers(low, high).map(lambda n: n + n % 2 if even else n)
    rng = np.random.default_rng(draw(SEEDS))
    x = texture(rng, (draw(side), draw(side)))
    return x, x + draw(st.sampled_from((2.0, 10.0))) * rng.standard_normal(x.shape)


def region(seed: int, like: np.ndarray) -> np.ndarray:
    """Make a mask that covers at least 30 % of the frame."""
    rng = np.random.default_rng(seed)
    return blob_mask(rng, *like.shape[:2], coverage=float(rng.uniform(0.3, 0.95)))


def masked_pair(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a textured image, a noisy version of it, and a mask."""
    rng = np.random.default_rng(seed)
    a, b = textured_pair(rng, height, width, noise=float(rng.uniform(0.5, 40)))
    return a, b, blob_mask(rng, height, width, float(rng.uniform(0.3, 0.95)))
