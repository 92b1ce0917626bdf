"""The network of the convolutional autoencoder, the bodies it learns to take out, its training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray
from tqdm import tqdm

import imsim
from imsim.anomaly.stacks import Booleans, Floats

WINDOW = 11
"""Side of the window of SSIM."""
_DATA_RANGE = 8.0
"""Data range for SSIM of images in units of their standard deviation: four to each side."""
_CHANGED = 0.3
"""Change, in these units, from which on a pixel counts as one of a body: less than the least."""
_RISE = 0.05
"""Part of the steps over which their length rises."""
_AREA = 1024
"""Pixels for each body: four in a patch of 64 x 64."""
_THINNEST = 0.7
"""Least semi-axis of a body in pixels."""
_CONTRAST = 0.7, 12.0
"""Range of the contrast, in standard deviations of the training pixels."""


@eqx.filter_jit  # compiled once, where the layers would compile their random numbers one by one
def autoencoder(channels: tuple[int, ...], bottleneck: int, key: jax.Array) -> eqx.nn.Sequential:
    """Return a network from images (1, height, width) to the same, with random weights."""
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
    """Lay four channels out as 2 x 2 pixels (Shi et al. 2016, doi:10.1109/CVPR.2016.207)."""
    channels, height, width = features.shape
    parts = features.reshape(channels // 4, 2, 2, height, width)
    return parts.transpose(0, 3, 1, 4, 2).reshape(channels // 4, 2 * height, 2 * width)


def draw(
    rng: np.random.Generator, shape: tuple[int, ...], longest: float, probability: float
) -> Floats:
    """Draw ellipses for images (n, height, width), even in the logarithms of their size.

    Of shape (n, bodies, 6): row, column, semi-axes, angle, and contrast, 0 where there is none.
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


class Examples(NamedTuple):
    """Images to learn from or to validate with; equal shapes (n, height, width)."""

    images: Floats  # scaled to values of about 1; 0 outside the masks
    masks: Booleans

    def at(self, indices: NDArray[np.intp]) -> Examples:
        """Return those at the given indices."""
        return Examples(self.images[indices], self.masks[indices])


class Trained(NamedTuple):
    """The best network, and the history of its training."""

    network: Any
    best_epoch: int
    losses: list[float]
    validation_losses: list[float]


def train(
    network: Any,
    examples: Examples,
    validation: Examples | None,
    plan: Any,
    rng: np.random.Generator,
) -> Trained:
    """Minimise the loss with Adam until it no longer falls; `plan` has the parameters."""
    state = optax.adam(plan.learning_rate).init(eqx.filter(network, eqx.is_inexact_array))
    emphasis = np.float32(plan.emphasis)
    sides = examples.images.shape[1:]
    longest = min(sides if plan.patch is None else (*sides, plan.patch)) / 5
    trials = []
    if validation is not None:  # the same bodies in every epoch, so that the losses compare
        for batch in _batches(validation, plan.batch_size, None):
            bodies = draw(rng, batch.images.shape, longest, plan.corruption)
            trials.append((*batch, bodies, emphasis, plan.loss))
    weights = [trial[1].any(axis=(1, 2)).sum() for trial in trials]
    result = Trained(network, -1, [], [])
    best = np.inf
    # None shows the bar on terminals only.
    hidden = None if plan.progress is None else not plan.progress
    with tqdm(range(plan.epochs), desc="training", unit="epoch", disable=hidden) as bar:
        for epoch in bar:
            losses: list[Any] = []
            crops = _crops(examples, plan.patch, rng)
            steps = -(-len(crops.images) // plan.batch_size)
            for batch in _batches(crops, plan.batch_size, rng):
                bodies = draw(rng, batch.images.shape, longest, plan.corruption)
                done = (epoch + len(losses) / steps) / plan.epochs
                rate = np.float32(plan.learning_rate * _step_length(done, steps * plan.epochs))
                terms = (*batch, bodies, emphasis, plan.loss)
                network, state, loss = _step(network, state, rate, *terms)
                losses.append(loss)
            result.losses.append(float(np.mean(losses)))
            watched = result.losses[-1]
            if trials and any(weights):
                values = [float(_evaluate(network, *trial)) for trial in trials]
                watched = float(np.average(values, weights=weights))
                result.validation_losses.append(watched)
            bar.set_postfix(loss=f"{watched:.4g}", refresh=False)
            if watched < best:
                best = watched
                result = result._replace(network=network, best_epoch=epoch)
            elif epoch - result.best_epoch >= plan.patience:
                break
    if result.best_epoch < 0:
        raise imsim.ImsimError(
            "the loss was never a number: the training diverged; lower learning_rate "
            f"(it is {plan.learning_rate})"
        )
    return result


def _step_length(done: float, steps: int) -> float:
    """Return the length of a step, of at most 1, when this part of all steps is done."""
    rising = min(1.0, (done + 1 / steps) / _RISE)
    return rising * (1 + math.cos(math.pi * done)) / 2


@eqx.filter_jit
def apply(network: Any, images: Any) -> Any:
    """Apply a network to images of shape (n, height, width)."""
    return jax.vmap(network)(images[:, None])[:, 0]


def _loss(network: Any, images: Any, masks: Any, bodies: Any, emphasis: Any, kind: str) -> Any:
    """Weighted mean over the pixels inside the masks (mse), or mean over the images (1 - ssim)."""
    added = render(bodies, *images.shape[1:])
    result = apply(network, images + jnp.where(masks, added, 0))
    if kind == "mse":
        counts = jnp.where(masks, 1 + emphasis * (jnp.abs(added) > _CHANGED), 0)
        return (counts * (result - images) ** 2).sum() / jnp.maximum(counts.sum(), 1)
    # SSIM scores the places where its window fits into the frame; images without one have weight 0.
    margin = WINDOW // 2
    usable = masks[:, margin:-margin, margin:-margin].any(axis=(1, 2))
    scores = imsim.ssim(
        images + _DATA_RANGE / 2,  # its constants want values that are not negative
        result + _DATA_RANGE / 2,
        mask=masks | ~usable[:, None, None],
        data_range=_DATA_RANGE,
        window_size=WINDOW,
    )
    return jnp.where(usable, 1 - scores, 0).sum() / jnp.maximum(usable.sum(), 1)


_evaluate: Any = eqx.filter_jit(_loss)
_loss_and_gradient: Any = eqx.filter_value_and_grad(_loss)


@eqx.filter_jit
def _step(network: Any, state: Any, rate: Any, *terms: Any) -> tuple[Any, Any, Any]:
    """Take a step against the gradient of `_loss` with these terms."""
    loss, gradient = _loss_and_gradient(network, *terms)
    updates, state = optax.adam(rate).update(gradient, state)
    return eqx.apply_updates(network, updates), state, loss


def _crops(examples: Examples, patch: int | None, rng: np.random.Generator) -> Examples:
    """Cut patches around pixels inside the masks: the number that would tile the images."""
    images, masks = examples
    n, height, width = images.shape
    if patch is None or (patch >= height and patch >= width):
        return examples
    sides = min(patch, height), min(patch, width)
    owners = np.repeat(np.arange(n), -(-height * width // (sides[0] * sides[1])))
    crops = np.empty((len(owners), *sides), dtype=np.float32)
    inside = np.empty(crops.shape, dtype=np.bool_)
    for k, i in enumerate(owners):
        centres = np.flatnonzero(masks[i])
        centre = divmod(int(rng.choice(centres)) if centres.size else 0, width)
        top, left = (
            min(max(place - side // 2, 0), whole - side)
            for place, side, whole in zip(centre, sides, (height, width), strict=True)
        )
        here = (i, slice(top, top + sides[0]), slice(left, left + sides[1]))
        crops[k], inside[k] = images[here], masks[here]
    return Examples(crops, inside)


def _batches(examples: Examples, size: int, rng: np.random.Generator | None) -> Iterator[Examples]:
    """Yield batches of one size, shuffled by `rng`; the last is filled up with empty masks."""
    images, masks = examples
    n = len(images)
    order = np.arange(n) if rng is None else rng.permutation(n)
    for start in range(0, n, size):
        chosen = order[start : start + size]
        filling = [(0, min(size, n) - len(chosen)), (0, 0), (0, 0)]
        yield Examples(np.pad(images[chosen], filling), np.pad(masks[chosen], filling))
