"""The network of the convolutional autoencoder."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


@eqx.filter_jit  # compiled once, where the layers would compile their random numbers one by one
def autoencoder(channels: tuple[int, ...], bottleneck: int, key: jax.Array) -> eqx.nn.Sequential:
    """Return a network from images (1, height, width) to the same, with random weights.

    Height and width must be multiples of 2 ** len(channels). What each layer does is said in
    `imsim.anomaly.ConvAutoencoder`.
    """
    keys = iter(jax.random.split(key, 2 * len(channels) + 2))
    rectifier = eqx.nn.Lambda(jax.nn.relu)

    def convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> eqx.nn.Conv2d:
        padding = (side - stride + 1) // 2
        return eqx.nn.Conv2d(
            inputs, outputs, side, stride, padding, dtype=jnp.float32, key=next(keys)
        )

    layers: list[Any] = []
    width = 1
    for features in channels:
        layers += [convolution(width, features, 4, stride=2), rectifier]
        width = features
    layers += [convolution(width, bottleneck, 1), convolution(bottleneck, width, 1), rectifier]
    for features in (*reversed(channels[:-1]), 1):
        layers += [convolution(width, 4 * features, 3), eqx.nn.Lambda(_twice_as_fine), rectifier]
        width = features
    return eqx.nn.Sequential(layers[:-1])  # pixel values may be negative: no rectifier last


def _twice_as_fine(features: jax.Array) -> jax.Array:
    """Lay four channels out as the 2 x 2 pixels of one place, after Shi et al. 2016.

    doi:10.1109/CVPR.2016.207
    """
    channels, height, width = features.shape
    parts = features.reshape(channels // 4, 2, 2, height, width)
    return parts.transpose(0, 3, 1, 4, 2).reshape(channels // 4, 2 * height, 2 * width)
