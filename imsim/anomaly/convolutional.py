"""Small convolutional autoencoder, in JAX: its network, what it takes out, its training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray
from tqdm import tqdm

import imsim
from imsim.anomaly.stacks import Booleans, Floats, check_images
from imsim.anomaly.storage import Arrays, State, Stored, all_or_nothing
from imsim.validation import check_flag, check_integer, check_number

_CHANGED = 0.3
"""Change, in standard deviations of the training pixels, from which on a pixel counts as one of a
body: less than the least."""
_EMPHASIS = np.float32(10)
"""How much more, beside 1, the squared error of such a pixel counts."""
_RISE = 0.05
"""Part of the steps over which their length rises."""
_AREA = 1024
"""Pixels for each body: four in a patch of 64 x 64."""
_THINNEST = 0.7
"""Least semi-axis of a body in pixels."""
_CONTRAST = 0.7, 12.0
"""Range of the contrast, in standard deviations of the training pixels."""
_MOST_HALVINGS = 12
"""More halvings leave nothing of an image of 4096 pixels a side."""
_LARGEST = 2**32 - 1
"""Largest integer that JAX takes."""
_AT_ONCE = 16
"""Images in one call of the network."""


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
    """Images to learn from; equal shapes (n, height, width)."""

    images: Floats  # scaled to values of about 1; 0 outside the masks
    masks: Booleans


def _step_length(done: float, steps: int) -> float:
    """Return the length of a step, of at most 1, when this part of all steps is done."""
    rising = min(1.0, (done + 1 / steps) / _RISE)
    return rising * (1 + math.cos(math.pi * done)) / 2


@eqx.filter_jit
def apply(network: Any, images: Any) -> Any:
    """Apply a network to images of shape (n, height, width)."""
    return jax.vmap(network)(images[:, None])[:, 0]


def _loss(network: Any, images: Any, masks: Any, bodies: Any) -> Any:
    """Weighted mean of the squared errors inside the masks."""
    added = render(bodies, *images.shape[1:])
    result = apply(network, images + jnp.where(masks, added, 0))
    counts = jnp.where(masks, 1 + _EMPHASIS * (jnp.abs(added) > _CHANGED), 0)
    return (counts * (result - images) ** 2).sum() / jnp.maximum(counts.sum(), 1)


@eqx.filter_jit
def _step(network: Any, state: Any, rate: Any, *terms: Any) -> tuple[Any, Any, Any]:
    """Take a step against the gradient of `_loss` with these terms."""
    measured: Any = eqx.filter_value_and_grad(_loss)
    loss, gradient = measured(network, *terms)
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


def _batches(examples: Examples, size: int, rng: np.random.Generator) -> Iterator[Examples]:
    """Yield shuffled batches of one size; the last is filled up with empty masks."""
    n = len(examples.images)
    order = rng.permutation(n)
    for start in range(0, n, size):
        chosen = order[start : start + size]
        filling = [(0, min(size, n) - len(chosen)), (0, 0), (0, 0)]
        yield Examples(
            np.pad(examples.images[chosen], filling), np.pad(examples.masks[chosen], filling)
        )


@dataclass(eq=False, repr=False)
class ConvAutoencoder(Stored):
    r"""Reconstruct images by a small convolutional network that was trained on good ones.

    The encoder halves the image once for each entry of `channels`, by convolutions of
    :math:`4 \times 4` with stride 2; a convolution of :math:`1 \times 1` keeps `bottleneck`
    numbers for each place. The decoder mirrors it with convolutions of :math:`3 \times 3` that
    give the four pixels of each place twice as fine. Between them stand rectifiers. Being
    convolutional throughout, it takes images of any size.

    A network that only copies learns to copy foreign bodies too. This one is trained as a
    denoising autoencoder [2]_: it sees good images with random ellipses in them, bright and dark,
    thin and thick, sharp-edged and faint, and has to return the images without. With
    ``corruption=0`` the size of the code, ``bottleneck / 4**len(channels)`` numbers per pixel, is
    all that keeps foreign bodies out of the reconstruction.

    Parameters
    ----------
    channels, bottleneck : sequence of int and int
        Features after each halving, and of the code.
    patch : int, optional
        Side of the random patches to train on, a multiple of ``2**L``; None, or a side beyond the
        images', trains on whole images.
    corruption : float, optional
        Probability, in [0, 1], of each of the synthetic foreign bodies, four to a patch of
        64 x 64; 0 trains a plain autoencoder.
    epochs : int, optional
        The passes over the training images; a pass takes as many patches as tile them.
    batch_size, learning_rate : int and float, optional
        Patches, or images, in each step of the optimiser, Adam [1]_, and the largest length of its
        steps: it rises over the first 5 % of ``epochs`` and falls like half a cosine [3]_.
    seed : int, optional
        The same seed gives the same weights on the same machine.
    progress : bool, optional
        Whether to show a progress bar; None shows it on terminals only.

    Attributes
    ----------
    offset_, scale_ : float
        Mean and standard deviation of the training pixels inside their masks; every image is
        normalised by these two, never by its own.
    history_ : list of float
        The loss of each epoch.

    Notes
    -----
    The loss is the mean squared error inside the masks, in which a pixel that a body has changed by
    more than 0.3 standard deviations of the training pixels counts eleven times.

    Pixels outside a mask, and what is added to a size that the strides do not divide, enter the
    network as the mean, and neither count in the loss nor in the result. JAX computes in float32
    on the device that it finds.

    References
    ----------
    .. [1] Kingma and Ba 2015, Adam: a method for stochastic optimization, 3rd International
       Conference on Learning Representations, doi:10.48550/arXiv.1412.6980.
    .. [2] Vincent, Larochelle, Bengio and Manzagol 2008, Extracting and composing robust features
       with denoising autoencoders, 25th International Conference on Machine Learning, 1096-1103,
       doi:10.1145/1390156.1390294.
    .. [3] Loshchilov and Hutter 2017, SGDR: stochastic gradient descent with warm restarts, 5th
       International Conference on Learning Representations, doi:10.48550/arXiv.1608.03983.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import ConvAutoencoder
    >>> y, x = np.mgrid[:16, :16]
    >>> waves = np.sin(x / 3 + y / 5 + np.arange(20)[:, None, None])
    >>> model = ConvAutoencoder(channels=(8,), epochs=3).fit(waves)
    >>> model.reconstruct(waves).shape
    (20, 16, 16)
    >>> model.history_[-1] < model.history_[0]
    True
    """

    _LEARNED = (("offset", np.float64), ("scale", np.float64), ("history", np.float64, None))

    channels: tuple[int, ...] = (16, 32)
    bottleneck: int = 32
    patch: int | None = 64
    corruption: float = 0.5
    epochs: int = 20
    batch_size: int = 16
    learning_rate: float = 1e-2
    seed: int = 0
    progress: bool | None = None

    @all_or_nothing
    def fit(self, images: Any, masks: Any = None) -> Self:
        """Train a new network on good images."""
        self._check_parameters()
        pixels, used = check_images(images, masks)
        if used is None:
            used = np.ones(pixels.shape, dtype=np.bool_)
        if not used.any():
            raise imsim.MaskError("masks are False everywhere; there is nothing to learn from")
        values = pixels[used]
        self.offset_ = float(values.mean(dtype=np.float64))
        self.scale_ = float(values.std(dtype=np.float64)) or 1.0
        self._train(Examples(self._normalised(pixels, used), self._padded(used)))
        return self

    def _train(self, examples: Examples) -> None:
        """Minimise the loss with Adam."""
        rng = np.random.default_rng(self.seed)
        network = autoencoder(tuple(self.channels), self.bottleneck, jax.random.key(self.seed))
        state = optax.adam(self.learning_rate).init(eqx.filter(network, eqx.is_inexact_array))
        sides = examples.images.shape[1:]
        longest = min(sides if self.patch is None else (*sides, self.patch)) / 5
        losses: list[float] = []
        # None shows the bar on terminals only.
        hidden = None if self.progress is None else not self.progress
        with tqdm(range(self.epochs), desc="training", unit="epoch", disable=hidden) as bar:
            for epoch in bar:
                found: list[Any] = []
                crops = _crops(examples, self.patch, rng)
                steps = -(-len(crops.images) // self.batch_size)
                for batch in _batches(crops, self.batch_size, rng):
                    bodies = draw(rng, batch.images.shape, longest, self.corruption)
                    done = (epoch + len(found) / steps) / self.epochs
                    rate = self.learning_rate * _step_length(done, steps * self.epochs)
                    network, state, loss = _step(network, state, np.float32(rate), *batch, bodies)
                    found.append(loss)
                losses.append(float(np.mean(found)))
                bar.set_postfix(loss=f"{losses[-1]:.4g}", refresh=False)
        if not np.isfinite(losses[-1]):
            raise imsim.ImsimError(
                "the loss is no number: the training diverged; lower learning_rate "
                f"(it is {self.learning_rate})"
            )
        self.network_, self.history_ = network, losses

    def reconstruct(self, images: Any, masks: Any = None) -> Floats:
        """Return the reconstruction of each image, of any size; 0 outside the masks."""
        self._check_fitted()
        pixels, used = check_images(images, masks)
        normalised = self._normalised(pixels, used)
        result = np.empty_like(pixels)
        n, height, width = pixels.shape
        for start in range(0, n, _AT_ONCE):
            batch = normalised[start : start + _AT_ONCE]
            filled = 1 << (len(batch) - 1).bit_length()  # few sizes, each compiled once
            whole = np.pad(batch, [(0, filled - len(batch)), (0, 0), (0, 0)])
            found = np.asarray(apply(self.network_, whole))
            result[start : start + len(batch)] = found[: len(batch), :height, :width]
        result *= np.float32(self.scale_)
        result += np.float32(self.offset_)
        if used is not None:
            result[~used] = 0
        return result

    def get_state(self) -> State:
        """Return what ``from_state`` needs."""
        told, arrays = super().get_state()
        weights = jax.tree.leaves(eqx.filter(self.network_, eqx.is_array))
        arrays |= {f"weights_{i}": np.asarray(array) for i, array in enumerate(weights)}
        return told, arrays

    def _check_learned(self, arrays: Arrays) -> None:
        key = jax.random.key(0)  # for the shapes only
        empty = eqx.filter_eval_shape(autoencoder, self.channels, self.bottleneck, key)
        shapes, rest = eqx.partition(empty, lambda leaf: hasattr(leaf, "shape"))
        leaves, tree = jax.tree.flatten(shapes)
        weights = [
            jnp.asarray(arrays.take(f"weights_{i}", np.float32, *leaf.shape))
            for i, leaf in enumerate(leaves)
        ]
        self.network_ = eqx.combine(jax.tree.unflatten(tree, weights), rest)
        self.history_ = np.asarray(self.history_).tolist()
        if not self.scale_ > 0:
            raise imsim.OptionError("its scale is none that a training has")

    def _padded(self, array: NDArray[Any]) -> NDArray[Any]:
        """Pad with zeros below and on the right, to a multiple of the strides."""
        stride = 2 ** len(self.channels)
        return np.pad(array, [(0, 0), *((0, -size % stride) for size in array.shape[1:])])

    def _normalised(self, pixels: Floats, used: Booleans | None) -> Floats:
        values = (pixels - np.float32(self.offset_)) / np.float32(self.scale_)
        if used is not None:
            values[~used] = 0
        return self._padded(values)

    def _check_parameters(self) -> None:
        if self.progress is not None:
            check_flag("progress", self.progress)
        channels = self.channels
        if not isinstance(channels, tuple | list) or not 1 <= len(channels) <= _MOST_HALVINGS:
            raise imsim.OptionError(
                f"channels={channels!r}; expected a tuple of 1 to {_MOST_HALVINGS} integers, "
                "e.g. (16, 32)"
            )
        wholes = {f"channels[{i}]": value for i, value in enumerate(channels)}
        for name in ("bottleneck", "epochs", "batch_size"):
            wholes[name] = getattr(self, name)
        for name, value in wholes.items():
            check_integer(name, value, 1, _LARGEST)
        check_integer("seed", self.seed, 0, _LARGEST)
        check_number("learning_rate", self.learning_rate, 1e-30, 1e30)
        check_number("corruption", self.corruption, 0, 1)
        stride = 2 ** len(channels)
        if self.patch is not None:
            check_integer("patch", self.patch, stride)
            if self.patch % stride:
                raise imsim.OptionError(
                    f"patch={self.patch}; expected a multiple of {stride}, by which the "
                    f"{len(channels)} halvings divide the image"
                )
