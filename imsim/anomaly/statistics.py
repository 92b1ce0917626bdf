"""Statistics of good images in the language of FSIM: Gaussians of log-Gabor energies.

What a good image looks like is told twice: by the energies at each place, and by a description of
the whole image. Images that are not aligned, in which no place means anything, are recognised from
the good images alone; all their places then share one Gaussian.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import scipy.fft
from sklearn.covariance import LedoitWolf

import imsim
from imsim.anomaly.pca import PCAAutoencoder
from imsim.anomaly.stacks import (
    Booleans,
    Doubles,
    Floats,
    batch_images,
    check_images,
    product,
    sample_of,
)
from imsim.anomaly.storage import Arrays, State, Stored
from imsim.caches import kept
from imsim.portable.coarse import automatic_factor, block_mean
from imsim.portable.phase_congruency import ORIENTATIONS, SCALES, filter_bank
from imsim.validation import check_integer
from imsim.workers import divided, in_parts

__all__ = ["GoodStatistics"]

METRIC = "fsim"
"""The metric in whose language the statistics are."""
FILTERS = SCALES * ORIENTATIONS
CELLS, LEAST_CELL = 32, 4
"""Most cells along a side of the grid of places, and least pixels along a side of a cell."""
COARSE = 4
"""Cells along a side of the grid that describes the whole image."""
QUANTILES = (0.5, 0.9, 0.99, 1.0)
"""Of the energies over all places, in the description of the whole image."""
FLOOR = 0.05
"""Share of the median energy that is added before the logarithm, and of the median deviation below
which none counts: what good images never show must not weigh without bound."""
ROUNDING, EQUAL = 1e-4, 0.1
"""Deviations below the first are rounding errors of float32; distances below the second, where good
images have about 4, are those of images that equal the only good one."""
LARGEST = 1e15
"""Spreads from the level at which pixels are clipped: float32 holds the sums."""
HIGHEST = 0.005
"""Share of the places, those most unlike good ones, whose mean is the score of places."""
HIGHEST_OF_ALL = 0.02
"""The same where places mean nothing."""
SAMPLE = 256
"""Most images from which the smallest energies that count, and the use of places, are learned."""


class _Gaussian(NamedTuple):
    """A normal distribution for each place, or one for all places."""

    mean: Doubles
    """Shape (places, features)."""
    whitening: Doubles
    """Shape (places, features, features): differences from the mean times it are white."""

    def squared_distances(self, features: Doubles) -> Doubles:
        """Return squared Mahalanobis distances of features (places, features)."""
        centred = features - self.mean
        if len(self.mean) == 1:
            white = centred @ self.whitening[0]
        else:
            white = np.einsum("pi,pij->pj", centred, self.whitening)
        result: Doubles = np.einsum("pj,pj->p", white, white)
        return result

    def surprise(self, features: Doubles) -> float:
        """Return the mean negative log-likelihood of features, less a constant."""
        volume = np.log(np.abs(np.diagonal(self.whitening, axis1=1, axis2=2))).sum(axis=1).mean()
        return float(self.squared_distances(features).mean() / 2 - volume)


class GoodStatistics(Stored):
    r"""Tell how unlike good images an image is, by its log-Gabor energies.

    The energies are the amplitudes of FSIM's log-Gabor filters (four scales, four orientations),
    averaged over the cells of a grid of at most 32 x 32 places. Two distances are learned from good
    images, both of Mahalanobis, :math:`\sqrt{(x - \mu)^T \Sigma^{-1} (x - \mu)}`:

    - of the *whole* image: its logarithmic energies on a grid of 4 x 4 cells, and their quantiles
      over the places; the covariance is Ledoit and Wolf's;
    - of the *places*: the logarithmic energies of each place have a mean and a covariance of their
      own; the mean of the largest 0.5 % of the distances counts.

    Where good images are more likely, held out, if all places share one Gaussian, places mean
    nothing: the two distances are then the mean over all places, and that of the largest 2 %, of
    the energies themselves. Without places only strong energies tell.

    `reconstruct` is that of `PCAAutoencoder`: the maps of a metric show where an image differs.

    Parameters
    ----------
    components : int
        Components of the reconstruction.
    places : bool, optional
        Whether places mean something; None learns it from the good images.

    Attributes
    ----------
    places_ : bool
        Whether places are told apart.
    linear_ : PCAAutoencoder
        What reconstructs.

    References
    ----------
    Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices,
    Journal of Multivariate Analysis 88(2), 365-411, doi:10.1016/S0047-259X(03)00096-4.
    Chen, Wiesel, Eldar and Hero 2010, Shrinkage algorithms for MMSE covariance estimation, IEEE
    Transactions on Signal Processing 58(10), 5016-5029, doi:10.1109/TSP.2010.2053029.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import GoodStatistics
    >>> y, x = np.mgrid[:32, :32]
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (22, 32, 32))
    >>> images = np.sin(x / 3) + noise
    >>> images[21, 12:16, 12:16] += 1
    >>> model = GoodStatistics(components=2).fit(images[:20])
    >>> good, bad = model.distances(images[20:])
    >>> bool((bad > 1.5 * good).all())
    True
    """

    _LEARNED = ("whole_mean", "whole_precision", "place_mean", "place_whitening", "shape")

    def __init__(self, components: int = 60, places: bool | None = None) -> None:
        self.components = components
        self.places = places

    def fit(self, images: Any, masks: Any = None) -> Self:
        """Learn from good images, at least two of them; outside the masks they have no influence.

        `OptionError` refuses parameters that are none of those allowed.
        """
        self._check_parameters()
        pixels, used = check_images(images, masks)
        self.linear_ = PCAAutoencoder(self.components).fit(pixels, used)
        self.shape_ = pixels.shape[1:]
        self.level_, self.spread_ = _level_and_spread(pixels if used is None else pixels[used])
        sample = sample_of(len(pixels), SAMPLE)
        some = self._energies(pixels[sample], None if used is None else used[sample])
        # Energies of constant images are rounding errors: 1e-6 of the spread is above these.
        self.floor_ = max(FLOOR * float(np.median(some)), 1e-6)
        self.places_ = has_places(some) if self.places is None else self.places
        wholes, moments = [], _Moments()
        for part in divided(len(pixels), 4 * batch_images(pixels)):
            if len(some) == len(pixels):
                found = some[part]
            else:
                found = self._energies(pixels[part], None if used is None else used[part])
            local = self._local(found)
            wholes.append(self._whole(found))
            moments.add(local if self.places_ else local.reshape(-1, 1, FILTERS))
        gaussian = moments.gaussian()
        self.place_mean_, self.place_whitening_ = gaussian
        whole = np.concatenate(wholes)
        deviations = _deviations(whole.std(axis=0))
        fitted = LedoitWolf(store_precision=False).fit(whole / deviations)
        # A constant description has no covariance; the identity times this keeps it invertible.
        covariance = fitted.covariance_ + ROUNDING * np.eye(len(deviations))
        self.whole_mean_ = fitted.location_ * deviations
        self.whole_precision_ = np.linalg.inv(covariance) / np.outer(deviations, deviations)
        return self

    def distances(self, images: Any, masks: Any = None) -> Doubles:
        """Return the two distances of each image, shape (n, 2); larger = more unlike good ones.

        They are NaN for an image of which the mask leaves nothing.
        """
        self._check_fitted()
        pixels, used = check_images(images, masks)
        if pixels.shape[1:] != self.shape_:
            raise imsim.ShapeError(
                f"images are {pixels.shape[1]}x{pixels.shape[2]} pixels, but the model was fitted "
                f"to {self.shape_[0]}x{self.shape_[1]}: resize them"
            )
        result = np.full((len(pixels), 2), np.nan)
        gaussian = _Gaussian(self.place_mean_, self.place_whitening_)
        for part in divided(len(pixels), 4 * batch_images(pixels)):
            given = None if used is None else used[part]
            found = self._energies(pixels[part], given)
            local, wholes = self._local(found), self._whole(found)
            for i, (places, whole) in enumerate(zip(local, wholes, strict=True), part.start):
                if given is not None and not given[i - part.start].any():
                    continue
                distances = np.sqrt(gaussian.squared_distances(places))
                if self.places_:
                    centred = whole - self.whole_mean_
                    first = np.sqrt(max(centred @ self.whole_precision_ @ centred, 0.0))
                    result[i] = first, _mean_of_highest(distances, HIGHEST)
                else:
                    result[i] = distances.mean(), _mean_of_highest(distances, HIGHEST_OF_ALL)
        result[result < EQUAL] = 0
        return result

    def reconstruct(self, images: Any, masks: Any = None) -> Floats:
        """Return the reconstruction of each image, see `PCAAutoencoder`."""
        self._check_fitted()
        return self.linear_.reconstruct(images, masks)

    def get_state(self) -> State:
        """Return what `from_state` needs: parameters, the choice, numbers and arrays."""
        parameters, arrays = super().get_state()
        linear, components = self.linear_.get_state()
        arrays |= {f"linear/{name}": array for name, array in components.items()}
        numbers = (self.level_, self.spread_, self.floor_)
        arrays["numbers"] = np.array(numbers)
        return {"parameters": parameters, "places": self.places_, "linear": linear}, arrays

    @classmethod
    def from_state(cls, parameters: dict[str, Any], arrays: Arrays) -> Self:
        """Make a fitted model from the result of `get_state`."""
        model = cls(**parameters["parameters"])
        model._check_parameters()
        model.linear_ = PCAAutoencoder.from_state(parameters["linear"], arrays.under("linear/"))
        height, width = arrays.take("shape", np.int64, 2).tolist()
        model.shape_ = (height, width)
        model.places_ = parameters["places"]
        rows, columns = _grid(model.shape_)
        places = rows * columns if model.places_ else 1
        if model.linear_.shape_ != model.shape_ or not isinstance(model.places_, bool):
            raise imsim.OptionError(f"a shape of {model.shape_} does not go with {model!r}")
        model.place_mean_ = arrays.take("place_mean", np.float64, places, FILTERS)
        model.place_whitening_ = arrays.take(
            "place_whitening", np.float64, places, FILTERS, FILTERS
        )
        features = FILTERS * (min(rows, COARSE) * min(columns, COARSE) + len(QUANTILES))
        model.whole_mean_ = arrays.take("whole_mean", np.float64, features)
        model.whole_precision_ = arrays.take("whole_precision", np.float64, features, features)
        model.level_, model.spread_, model.floor_ = arrays.take("numbers", np.float64, 3).tolist()
        units = np.sqrt(np.diagonal(model.whole_precision_).clip(np.finfo(np.float64).tiny))
        scaled = model.whole_precision_ / np.outer(units, units)  # rounding hides no small unit
        if not (np.linalg.eigvalsh(scaled) > 0).all() or not min(model.spread_, model.floor_) > 0:
            raise imsim.OptionError("its scale is none that good images have")
        return model

    def _check_parameters(self) -> None:
        check_integer("components", self.components, 1)
        if self.places is not None and not isinstance(self.places, bool | np.bool_):
            raise imsim.OptionError(f"places={self.places!r}; expected True, False or None")

    def _energies(self, pixels: Floats, used: Booleans | None) -> Floats:
        return energies_of(pixels, used, self.level_, self.spread_)

    def _local(self, energies: Floats) -> Doubles:
        """Return the features of all places, shape (n, places, filters)."""
        features = _by_place(energies)
        return np.log(features + self.floor_) if self.places_ else features / self.floor_

    def _whole(self, energies: Floats) -> Doubles:
        """Return the descriptions of whole images, shape (n, features)."""
        n = len(energies)
        rows, columns = (min(side, COARSE) for side in energies.shape[2:])
        coarse = _means(energies, rows, columns).reshape(n, -1)
        places = energies.reshape(n, FILTERS, -1)
        ranks = [round(q * (places.shape[2] - 1)) for q in QUANTILES]
        spread = np.partition(places, ranks, axis=2)[..., ranks].reshape(n, -1)
        found = np.concatenate([coarse, spread], axis=1).astype(np.float64)
        return np.log(found + self.floor_)


def energies_of(pixels: Floats, used: Booleans | None, level: float, spread: float) -> Floats:
    """Return the energies of images by cell, shape (n, filters, rows, columns).

    Images are counted from a level in units of a spread; outside a mask they are its mean inside.
    """
    result = np.empty((len(pixels), FILTERS, *_grid(pixels.shape[1:])), np.float32)

    def part(these: slice) -> None:
        for i in range(these.start, these.stop):
            image = (pixels[i].astype(np.float64) - level) / spread
            image = np.clip(image, -LARGEST, LARGEST)
            if used is not None and used[i].any():
                image = np.where(used[i], image, image[used[i]].mean())
            result[i] = cell_energies(image)

    in_parts(part, len(pixels), batch_images(pixels))
    return result


def cell_energies(image: Doubles) -> Floats:
    """Return the mean amplitude of each log-Gabor response by cell, (filters, rows, columns).

    The image is reduced as FSIM reduces it: a wavelength means the same at every size.
    """
    height, width = image.shape
    factor = automatic_factor(height, width)
    frame = block_mean(image, None, factor, border="symmetric")[0].astype(np.float32)
    spectrum = scipy.fft.fft2(frame)
    responses = scipy.fft.ifft2(spectrum * _filters(*frame.shape), overwrite_x=True)
    return _means(np.abs(responses), *_grid((height, width)))


def has_places(energies: Floats) -> bool:
    """Whether good images are more likely with a Gaussian for each place than with one for all.

    Each half of the images is judged by what is learned from the other.
    """
    features = _by_place(energies)
    return surprise(features) <= surprise(features, pooled=True)


def place_surprise(images: Floats) -> float:
    """Return how little one half of good images tells about the other, place by place.

    Of the logarithms of energies, so that images are not alike for being smoother.
    """
    energies = energies_of(images, None, *_level_and_spread(images))
    return surprise(np.log(_by_place(energies) + FLOOR * max(float(np.median(energies)), 1e-6)))


def surprise(features: Doubles, *, pooled: bool = False) -> float:
    """Return the mean negative log-likelihood of half of the images given the other half."""
    total = 0.0
    for learned, judged in ((features[::2], features[1::2]), (features[1::2], features[::2])):
        moments = _Moments()
        moments.add(learned.reshape(-1, 1, FILTERS) if pooled else learned)
        gaussian = moments.gaussian()
        total += sum(gaussian.surprise(image) for image in judged) / max(len(judged), 1)
    return total


def _by_place(energies: Floats) -> Doubles:
    """Return energies as features of places, shape (n, places, filters)."""
    return np.moveaxis(energies.reshape(*energies.shape[:2], -1), 1, 2).astype(np.float64)


def _level_and_spread(pixels: Floats) -> tuple[float, float]:
    """Return mean and standard deviation; 1 for a constant."""
    return float(pixels.mean(dtype=np.float64)), float(pixels.std(dtype=np.float64)) or 1.0


class _Moments:
    """Sums from which the Gaussians of places follow; features come batch by batch."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, features: Doubles) -> None:
        """Add features of shape (samples, places, features)."""
        if not self._count:  # a large offset would cost digits
            self._shift = features.mean(axis=0)
            self._sum = np.zeros_like(self._shift)
            self._products = np.zeros((*self._shift.shape, features.shape[-1]))
        moved = (features - self._shift).swapaxes(0, 1)
        self._count += len(features)
        self._sum += moved.sum(axis=1)
        self._products += moved.swapaxes(1, 2) @ moved

    def gaussian(self) -> _Gaussian:
        """Return the Gaussian of each place; the correlations are shrunk towards none."""
        mean = self._sum / self._count
        covariance = self._products / self._count - mean[:, :, None] * mean[:, None, :]
        deviations = _deviations(np.sqrt(np.diagonal(covariance, axis1=1, axis2=2).clip(0)))
        scale = deviations[:, :, None] * deviations[:, None, :]
        shrunk = _shrunk(covariance / scale, self._count)
        # With L L' = shrunk, the rows of inv(L) whiten.
        lower = np.linalg.inv(np.linalg.cholesky(shrunk))
        # A saved array is contiguous: in another layout, products would differ in the last bit.
        transposed = np.ascontiguousarray(lower.swapaxes(1, 2))
        return _Gaussian(self._shift + mean, transposed / deviations[:, :, None])


def _shrunk(matrices: Doubles, n: int) -> Doubles:
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


def _deviations(found: Doubles) -> Doubles:
    """Return standard deviations, none far below the others."""
    positive = found[found > ROUNDING]
    least = FLOOR * float(np.median(positive)) if positive.size else ROUNDING
    return np.maximum(found, least)


def _mean_of_highest(values: Doubles, share: float) -> float:
    number = max(1, round(share * values.size))
    return float(np.partition(values, values.size - number)[-number:].mean())


def _grid(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns of cells of a frame."""
    rows, columns = (max(1, min(CELLS, side // LEAST_CELL)) for side in shape)
    return rows, columns


def _means(values: Floats, rows: int, columns: int) -> Floats:
    """Return means over a grid of cells that share out the last two axes."""
    height, width = values.shape[-2:]
    across = product(values, np.ascontiguousarray(_averages(width, columns).T))
    return product(_averages(height, rows), across)


@kept
def _averages(n: int, cells: int) -> Floats:
    """Return the matrix (cells, n) whose product with n numbers is their means by cell."""
    edges = np.linspace(0, n, cells + 1).round()
    inside = (edges[:-1, None] <= np.arange(n)) & (np.arange(n) < edges[1:, None])
    means = inside / np.diff(edges)[:, None]
    result: Floats = means.astype(np.float32)
    return result


@kept
def _filters(height: int, width: int) -> Floats:
    """Return all log-Gabor filters of FSIM for one size, shape (filters, height, width)."""
    bank = filter_bank(height, width)
    filters = bank.radial[None] * bank.angular[:, None]
    return filters.reshape(FILTERS, height, width).astype(np.float32)
