"""Distances from what good images show: Gaussians, and the nearest of many examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imsim.anomaly.stacks import Doubles, Floats, product
from imsim.errors import OptionError

if TYPE_CHECKING:
    from imsim.anomaly.storage import Arrays

FLOOR = 0.05
"""Share of the median deviation below which none counts: what good images never show must not weigh
without bound."""
ROUNDING = 1e-4
"""Deviations below are rounding errors of float32."""
CLASSES = 5
"""Of places or windows by their energy; 3 to 8 did as well."""
SHARE = 0.3
"""Of the identity in the covariance of whole images. That by which half of the good images made the
other half likeliest, between 0.01 and this, did no better."""


class Gaussian(NamedTuple):
    """A normal distribution for each place, or one for all places."""

    mean: Doubles
    """Shape (places, features)."""
    whitening: Doubles
    """Shape (places, features, features): differences from the mean times it are white."""

    def white(self, features: Doubles) -> Doubles:
        """Return features (places, features) with a mean of 0 and a covariance of 1."""
        centred = features - self.mean
        if len(self.mean) == 1:
            result: Doubles = centred @ self.whitening[0]
        else:
            result = np.einsum("pi,pij->pj", centred, self.whitening)
        return result

    def squared_distances(self, features: Doubles) -> Doubles:
        """Return squared Mahalanobis distances of features (places, features)."""
        white = self.white(features)
        result: Doubles = np.einsum("pj,pj->p", white, white)
        return result


class Moments:
    """Sums from which the Gaussians of places follow; features come batch by batch.

    They are counted from a shift, since a large offset would cost digits.
    """

    def __init__(self, shift: Doubles | None = None) -> None:
        self.count, self.shift = 0, shift
        self.sum: Doubles | int = 0
        self.products: Doubles | int = 0

    def add(self, features: Doubles) -> None:
        """Add features of shape (samples, places, features)."""
        if self.shift is None:
            # As saved: NumPy may add up other layouts in another order, and so round otherwise.
            self.shift = np.ascontiguousarray(features.mean(axis=0))
        moved = (features - self.shift).swapaxes(0, 1)
        self.count += len(features)
        self.sum = self.sum + moved.sum(axis=1)
        self.products = self.products + moved.swapaxes(1, 2) @ moved

    @classmethod
    def total(cls, parts: Sequence[Moments]) -> Moments:
        """Add up moments of one shift."""
        moments = cls(parts[0].shift)
        for name in ("count", "sum", "products"):
            setattr(moments, name, sum(getattr(part, name) for part in parts))
        return moments

    @classmethod
    def taken(cls, arrays: Arrays, places: int, features: int) -> Moments:
        """Take moments from a file."""
        moments, each = cls(), (np.float64, places, features)
        table = ("count", np.int64), ("shift", *each), ("sum", *each), ("products", *each, features)
        vars(moments).update(arrays.listed(table))
        if moments.count < 1:
            raise OptionError(f"its statistics come from {moments.count} samples")
        return moments

    def gaussian(self) -> Gaussian:
        """Return the Gaussian of each place; the correlations are shrunk towards none."""
        mean: Any = self.sum / self.count
        covariance = self.products / self.count - mean[:, :, None] * mean[:, None, :]
        found = deviations(np.sqrt(np.diagonal(covariance, axis1=1, axis2=2).clip(0)))
        scale = found[:, :, None] * found[:, None, :]
        shrunk = shrunk_of(covariance / scale, self.count)
        # With L L' = shrunk, the rows of inv(L) whiten.
        lower = np.linalg.inv(np.linalg.cholesky(shrunk))
        # A saved array is contiguous: in another layout, products would differ in the last bit.
        transposed = np.ascontiguousarray(lower.swapaxes(1, 2))
        return Gaussian(self.shift + mean, transposed / found[:, :, None])


class Usual(NamedTuple):
    """The squared distances that places or windows of good images have, by their energy.

    Strong structure varies more than weak: without, the strongest would be the farthest.
    """

    energies: Doubles
    """Logarithms of the energies of classes of equal size, ascending; (classes,)."""
    squares: Doubles
    """The mean squared distance of each class."""

    @classmethod
    def of(cls, energies: Doubles, squares: Doubles) -> Usual:
        """Learn from places or windows of good images."""
        ordered = np.argsort(energies, kind="stable")
        parts = [part for part in np.array_split(ordered, CLASSES) if part.size]
        levels = [np.log1p(energies[part]).mean() for part in parts]
        # What is always the same has no distance; else it is the number of features on average.
        return cls(np.array(levels), np.array([max(squares[part].mean(), 1.0) for part in parts]))

    def relative(self, energies: Doubles, squares: Doubles) -> Doubles:
        """Return distances in units of what is usual for the energy."""
        usual = np.exp(np.interp(np.log1p(energies), self.energies, np.log(self.squares)))
        return np.sqrt(squares / usual)


class Whole(NamedTuple):
    r"""A normal distribution of few samples of many features, shrunk towards equal variances.

    The covariance of the standardised features is :math:`(1 - s) C + s \mu I` with the mean
    variance :math:`\mu`.
    """

    mean: Doubles
    """Shape (features,)."""
    deviations: Doubles
    """Of the features, likewise."""
    axes: Doubles
    """Directions in which samples vary, shape (axes, features)."""
    variances: Doubles
    """Along the axes and, last, across them; shape (axes + 1,)."""

    @classmethod
    def of(cls, samples: Doubles) -> Whole:
        """Learn from samples (n, features)."""
        found = deviations(samples.std(axis=0))
        scaled = samples / found
        mean = scaled.mean(axis=0)
        centred = (scaled - mean) / np.sqrt(len(samples))
        _, spreads, axes = np.linalg.svd(centred, full_matrices=False)
        variances = np.append(spreads**2, 0.0)
        # A constant description has no covariance; the last term keeps it invertible.
        shrunk = (1 - SHARE) * variances + SHARE * (spreads**2).sum() / len(found) + ROUNDING
        return cls(mean * found, found, np.ascontiguousarray(axes), shrunk)

    def distance(self, features: Doubles) -> float:
        """Return the Mahalanobis distance of features (features,)."""
        centred = (features - self.mean) / self.deviations
        # A product of a matrix and a vector may depend on the number of threads.
        along = np.einsum("kp,p->k", self.axes, centred)
        across = max(float(np.einsum("p,p->", centred, centred) - (along**2).sum()), 0.0)
        return float(np.sqrt((along**2 / self.variances[:-1]).sum() + across / self.variances[-1]))


def nearest_distances(features: Floats, examples: Floats) -> Floats:
    """Return the distance of each place (places, features) from the nearest of (n, features)."""
    squares = np.einsum("nf,nf->n", examples, examples)
    # The product of (a, 1) and (-2 b, b b) is (a - b)^2 - a a, in one pass over all pairs.
    given = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
    known = np.concatenate([-2 * examples, squares[:, None]], axis=1)
    near = product(given, np.ascontiguousarray(known.T)).min(axis=1)
    result: Floats = np.sqrt((near + np.einsum("pf,pf->p", features, features)).clip(0))
    return result


def shrunk_of(matrices: Doubles, n: int) -> Doubles:
    """Shrink covariances of n samples towards multiples of the identity (Chen et al., OAS)."""
    p = matrices.shape[-1]
    trace = np.trace(matrices, axis1=1, axis2=2)
    square = np.einsum("pij,pij->p", matrices, matrices)
    away = (n + 1) * (square - trace**2 / p)  # as in scikit-learn, less what is small for large p
    share = np.ones_like(away)
    np.divide(square + trace**2, away, out=share, where=away > 0)
    share = np.minimum(share, 1.0)
    mean = np.maximum(trace / p, FLOOR**2)
    share = np.maximum(share, 1e-3)[:, None, None]  # keeps the matrices definite
    result: Doubles = (1 - share) * matrices + share * mean[:, None, None] * np.eye(p)
    return result


def deviations(found: Doubles) -> Doubles:
    """Return standard deviations, none far below the others."""
    positive = found[found > ROUNDING]
    least = FLOOR * float(np.median(positive)) if positive.size else ROUNDING
    return np.maximum(found, least)


def mean_of_highest(values: Doubles | Floats, share: float) -> float:
    """Return the mean of a share of the values, of one at least."""
    number = max(1, round(share * values.size))
    return float(np.partition(values, values.size - number)[-number:].mean())
