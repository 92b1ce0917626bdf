"""Synthetic foreign bodies, which a network learns to take out of images: random ellipses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imsim.anomaly.stacks import Floats

_AREA = 1024
"""Pixels for each body: four in a patch of 64 x 64."""
_THINNEST = 0.7
"""Least semi-axis of a body in pixels."""
_CONTRAST = 0.7, 12.0
"""Range of the contrast, in standard deviations of the training pixels."""


def draw(
    rng: np.random.Generator, shape: tuple[int, ...], longest: float, probability: float
) -> Floats:
    """Draw ellipses for images of shape (n, height, width), of shape (n, bodies, 6).

    A body is row, column, longer and shorter semi-axis, angle, and contrast; this is 0 where there
    is none. Both semi-axes and the contrast are drawn evenly over their logarithms: the axes from
    0.7 pixels to `longest`, the contrast from 0.7 to 12, of either sign.
    """
    n, height, width = shape
    count = -(-height * width // _AREA) if probability else 0
    size = n, count
    axes = np.exp(rng.uniform(np.log(_THINNEST), np.log(max(longest, 1.0)), (*size, 2)))
    low, high = np.log(_CONTRAST)
    contrast = np.exp(rng.uniform(low, high, size)) * rng.choice([-1.0, 1.0], size)
    bodies = [
        rng.uniform(0, height, size),
        rng.uniform(0, width, size),
        axes.max(axis=-1),
        axes.min(axis=-1),
        rng.uniform(0, np.pi, size),
        contrast * (rng.uniform(size=size) < probability),
    ]
    return np.stack(bodies, axis=-1).astype(np.float32)


def render(bodies: Any, height: int, width: int) -> Any:
    """Return the sum of the bodies of each image, shape (n, height, width), on JAX's device."""
    row, column, longer, shorter, angle, contrast = jnp.moveaxis(bodies, -1, 0)[..., None, None]
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - row
    x = jnp.arange(width, dtype=jnp.float32) - column
    along = (x * jnp.cos(angle) + y * jnp.sin(angle)) / longer
    across = (y * jnp.cos(angle) - x * jnp.sin(angle)) / shorter
    # Approximately the distance from the edge, in pixels; the edge is about two pixels wide.
    distance = (jnp.hypot(along, across) - 1) * shorter
    return (contrast * jax.nn.sigmoid(-2 * distance)).sum(axis=1)
