"""Training of a network that reconstructs images: losses, batches, early stopping."""

from __future__ import annotations

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
from imsim.anomaly import corruption
from imsim.anomaly.products import Floats

LOSSES = ("mse", "ssim")
DATA_RANGE = 8.0
"""Of images divided by their standard deviation, for SSIM: four of them either way."""
_WINDOW = 11
"""Side of the window of SSIM."""

Booleans = NDArray[np.bool_]


class Examples(NamedTuple):
    """Images to learn from or to validate with; equal shapes (n, height, width)."""

    images: Floats
    """On a scale of about one, 0 outside the masks."""
    masks: Booleans

    def at(self, indices: NDArray[np.intp]) -> Examples:
        """Return those at the given indices."""
        return Examples(self.images[indices], self.masks[indices])


class Plan(NamedTuple):
    """How to train; the parameters of `ConvAutoencoder`, checked."""

    loss: str
    patch: int | None
    corruption: float
    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    progress: bool | None


class Trained(NamedTuple):
    """The network at its best, and how it came to it."""

    network: Any
    best_epoch: int
    losses: list[float]
    validation_losses: list[float]


def train(
    network: Any,
    examples: Examples,
    validation: Examples | None,
    plan: Plan,
    rng: np.random.Generator,
) -> Trained:
    """Minimise the loss with Adam until it no longer falls; return the network at its best.

    Without validation images the loss on the training images decides.
    """
    rate = jnp.asarray(plan.learning_rate, dtype=jnp.float32)
    state = optax.adam(rate).init(eqx.filter(network, eqx.is_inexact_array))
    sides = examples.images.shape[1:]
    longest = min(sides if plan.patch is None else (*sides, plan.patch)) / 5
    trials = []
    if validation is not None:  # the same bodies in every epoch, so that the losses compare
        for batch in _batches(validation, plan.batch_size, None):
            bodies = corruption.draw(rng, batch.images.shape, longest, plan.corruption)
            trials.append((*batch, bodies, plan.loss))
    weights = [masks.any(axis=(1, 2)).sum() for _, masks, _, _ in trials]
    result = Trained(network, -1, [], [])
    best = np.inf
    # None shows the bar on terminals only.
    hidden = None if plan.progress is None else not plan.progress
    with tqdm(range(plan.epochs), desc="training", unit="epoch", disable=hidden) as bar:
        for epoch in bar:
            losses = []
            for batch in _batches(_crops(examples, plan.patch, rng), plan.batch_size, rng):
                bodies = corruption.draw(rng, batch.images.shape, longest, plan.corruption)
                network, state, loss = _step(network, state, *batch, bodies, plan.loss, rate)
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


def reconstruct(network: Any, images: Floats) -> Floats:
    """Apply a network to images of shape (n, height, width)."""
    return np.asarray(_apply(network, images))


@eqx.filter_jit
def _apply(network: Any, images: Any) -> Any:
    return jax.vmap(network)(images[:, None])[:, 0]


def _loss(network: Any, images: Any, masks: Any, bodies: Any, kind: str) -> Any:
    """Mean over the pixels inside the masks (mse), or over the images (1 - ssim).

    The network sees the images with the bodies, and is to return those without.
    """
    added = corruption.render(bodies, *images.shape[1:])
    result = _apply(network, images + jnp.where(masks, added, 0))
    if kind == "mse":
        errors = jnp.where(masks, (result - images) ** 2, 0)
        return errors.sum() / jnp.maximum(masks.sum(), 1)
    # SSIM scores where its window fits into the frame; images without such a place count nothing.
    margin = _WINDOW // 2
    usable = masks[:, margin:-margin, margin:-margin].any(axis=(1, 2))
    scores = imsim.ssim(
        images + DATA_RANGE / 2,  # its constants want values that are not negative
        result + DATA_RANGE / 2,
        mask=masks | ~usable[:, None, None],
        data_range=DATA_RANGE,
    )
    return jnp.where(usable, 1 - scores, 0).sum() / jnp.maximum(usable.sum(), 1)


_evaluate: Any = eqx.filter_jit(_loss)
_loss_and_gradient: Any = eqx.filter_value_and_grad(_loss)


@eqx.filter_jit
def _step(
    network: Any, state: Any, images: Any, masks: Any, bodies: Any, kind: str, rate: Any
) -> tuple[Any, Any, Any]:
    loss, gradient = _loss_and_gradient(network, images, masks, bodies, kind)
    updates, state = optax.adam(rate).update(gradient, state)
    return eqx.apply_updates(network, updates), state, loss


def _crops(examples: Examples, patch: int | None, rng: np.random.Generator) -> Examples:
    """Cut patches around pixels inside the masks, as many as would tile the images."""
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
