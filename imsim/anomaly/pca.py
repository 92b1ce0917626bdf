"""Linear autoencoders: principal components of images or of patches, and the mean alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import scipy.linalg
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

import imsim
from imsim.anomaly import stacks
from imsim.anomaly.stacks import Booleans, Doubles, Floats
from imsim.anomaly.storage import Arrays, Stored, all_or_nothing
from imsim.validation import check_integer
from imsim.workers import divided

_Scalar = TypeVar("_Scalar", np.float32, np.bool_)
_NEGLIGIBLE = 1e-10
"""Variance, relative to the largest, below which a component is rounding noise."""
_STEPS = 4
"""Steps towards the least-squares fit to the known numbers of a vector."""


def _places(size: int, side: int, stride: int) -> int:
    """Return the number of patches that cover an axis; the last may reach beyond its end."""
    return -(-(size - side) // stride) + 1


def cut(image: NDArray[_Scalar], side: int, stride: int) -> NDArray[_Scalar]:
    """Return the patches of an image (height, width) as rows, shape (patches, side * side).

    Where the last patches reach beyond the image they hold 0 (False in a mask).
    """
    beyond = [(0, side + (_places(n, side, stride) - 1) * stride - n) for n in image.shape]
    if any(after for _, after in beyond):
        image = np.pad(image, beyond)
    windows = sliding_window_view(image, (side, side))[::stride, ::stride]
    return windows.reshape(-1, side * side)


def join(patches: Floats, shape: tuple[int, int], side: int, stride: int) -> Floats:
    """Return the sum of patches at the places where `cut` took them from an image of this shape."""
    rows, columns = (_places(n, side, stride) for n in shape)
    parts = side // stride
    # In blocks of stride x stride pixels, part (i, j) of all patches is added at once.
    cells = patches.reshape(rows, columns, parts, stride, parts, stride)
    total = np.zeros((rows + parts - 1, stride, columns + parts - 1, stride), dtype=np.float32)
    for i in range(parts):
        for j in range(parts):
            total[i : i + rows, :, j : j + columns] += cells[:, :, i, :, j].transpose(0, 2, 1, 3)
    height, width = shape
    full = total.reshape((rows + parts - 1) * stride, (columns + parts - 1) * stride)
    return full[:height, :width]


def window(side: int) -> Floats:
    """Return a smooth weight for each pixel of a patch, largest in its middle, never 0."""
    profile = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    return np.outer(profile, profile).astype(np.float32).ravel()


@dataclass(eq=False, repr=False)
class PCAAutoencoder(Stored):
    r"""Reconstruct images from the principal components of good ones.

    With :math:`\mu` the mean and the columns of :math:`W` the leading eigenvectors of the
    covariance of the training data, a vector of pixels is reconstructed as

    .. math:: \hat x = \mu + W W^T (x - \mu).

    A vector is a whole image (``patch=None``), or a square patch: patches overlap, and a pixel is
    the mean over the patches that hold it, weighted by a :math:`\sin^2` window and by how much of
    the patch is seen. Patches suit texture, which has no fixed place; they take images of any
    size from one patch upwards. Whole images suit parts that always lie in the same place.

    With too many components a linear model reconstructs foreign bodies as well as good texture;
    as many as a patch has pixels reproduce everything.

    Parameters
    ----------
    components : int, optional
        The number of components. Fewer are kept where the training data have no more.
    patch : int, optional
        Side of the patches in pixels, which lie half of it apart; None takes whole images, all of
        one size.

    Attributes
    ----------
    components_, mean_ : float32 array, shapes (kept, pixels) and (pixels,)
        The columns of W as rows, and the mean.
    explained_variance_ : float64 array, shape (kept,)
        Variance along each component, in units of the pixel values squared.
    count_ : int
        Images, or complete patches, that were learned from.
    shape_ : tuple of int
        Height and width of a patch, or of the images.

    Notes
    -----
    Masks. Patches are learned from where they lie inside the mask entirely; of whole images, each
    pixel's mean is that of the images in which it is inside, and the others count as this mean.
    In reconstruction, pixels outside have no influence: the coefficients of an incomplete patch
    (or image) start at zero and take four steps
    :math:`c \leftarrow c + W^T M (x - \mu - W c)`,
    where :math:`M` leaves the outside out. They tend to the least squares fit of the pixels
    inside and stop short of fitting the noise of a few. The first step already gives a
    complete patch its final coefficients.

    Each image is reconstructed by itself: a batch equals its images one by one to the last bit.

    References
    ----------
    Jolliffe and Cadima 2016, Principal component analysis: a review and recent developments,
    Philosophical Transactions of the Royal Society A 374, 20150202, doi:10.1098/rsta.2015.0202.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import PCAAutoencoder
    >>> y, x = np.mgrid[:32, :32]
    >>> waves = np.sin(x / 3 + y / 5 + np.arange(20)[:, None, None])
    >>> model = PCAAutoencoder(components=2, patch=8).fit(waves)
    >>> good = waves[:1]
    >>> bad = good.copy()
    >>> bad[0, 12:15, 12:15] += 1
    >>> float(abs(model.reconstruct(good) - good).max()) < 1e-5
    True
    >>> float(abs(model.reconstruct(bad) - bad).max()) > 0.5
    True
    """

    _LEARNED = (
        ("shape", np.int64, 2),
        ("components", np.float32, "kept", "pixels"),
        ("mean", np.float32, "pixels"),
        ("explained_variance", np.float64, "kept"),
        ("count", np.int64),
    )

    components: int = 16
    patch: int | None = None

    @all_or_nothing
    def fit(self, images: Any, masks: Any = None) -> Self:
        """Learn mean and components from good images, at least two of them, or two patches."""
        self._check_parameters()
        pixels, used = stacks.check_images(images, masks)
        self._check_size(pixels)
        found, count = self._principal(pixels, used)
        if found is None or count < 2:
            raise imsim.MaskError(
                f"there are {count} complete images or patches to learn from; expected at least 2: "
                "pass more images, larger masks, or a smaller patch"
            )
        self.shape_ = pixels.shape[1:] if self.patch is None else (self.patch, self.patch)
        self._keep(found, count)
        return self

    @all_or_nothing
    def partial_fit(self, images: Any, masks: Any = None) -> Self:
        r"""Learn further good images; what is kept of the earlier ones are mean and components.

        With n earlier vectors of mean :math:`\mu` and m new ones of mean :math:`\nu`, the
        components are those of the kept ones, of the new vectors about their mean, and of
        :math:`\sqrt{n m / (n + m)} (\mu - \nu)`. Pixels outside a mask count as the earlier mean.

        References
        ----------
        Ross, Lim, Lin and Yang 2008, Incremental learning for robust visual tracking, International
        Journal of Computer Vision 77, 125-141, doi:10.1007/s11263-007-0075-7.
        """
        if not hasattr(self, "components_"):
            return self.fit(images, masks)
        pixels, used = stacks.check_images(images, masks)
        self._check_size(pixels, self.shape_)
        new, count = self._principal(pixels, used, self.mean_)
        if new is None or not count:
            raise imsim.MaskError(
                "the masks leave no image and no complete patch to learn from: pass larger masks"
            )
        n, kept = self.count_, self.explained_variance_
        axes = self.components_.astype(np.float64)
        earlier = _Principal(self.mean_.astype(np.float64), kept, axes)
        self._keep(_merged(earlier, n, new, count), n + count)
        return self

    def _principal(
        self, pixels: Floats, used: Booleans | None, filling: Floats | None = None
    ) -> tuple[_Principal | None, int]:
        """Return all components of images or patches, and the number of these.

        Of images, pixels outside the masks take the filling, or the mean of the others.
        """
        if self.patch is not None:
            return _of_many(self._complete_patches(pixels, used), self.patch**2)
        pixels, used = stacks.with_pixels(pixels, used)
        if not len(pixels):
            return None, 0
        n, vectors = len(pixels), pixels.reshape(len(pixels), -1)
        seen = None if used is None else used.reshape(vectors.shape)
        if seen is not None and filling is not None:
            vectors, seen = np.where(seen, vectors, filling), None
        if seen is None:
            mean = vectors.mean(axis=0, dtype=np.float64)
            return _of_centred(mean, vectors - mean, max(n - 1, 1)), n
        mean = vectors.sum(axis=0, dtype=np.float64) / np.maximum(seen.sum(axis=0), 1)
        return _of_centred(mean, np.where(seen, vectors - mean, 0.0), max(n - 1, 1)), n

    def _keep(self, found: _Principal, count: int) -> None:
        """Keep as many components as the parameters ask for, and as carry more than rounding."""
        mean, variances, axes = found
        kept = min(int((variances > _NEGLIGIBLE * variances[0]).sum()), self.components)
        self.mean_ = mean.astype(np.float32)
        self.components_ = np.ascontiguousarray(axes[:kept], dtype=np.float32)
        self.explained_variance_ = variances[:kept].copy()
        self.count_ = count

    def reconstruct(self, images: Any, masks: Any = None) -> Floats:
        """Return the reconstruction of each image, float32 of the shape of the images.

        Whole images must have the size of the training images. The result is 0 outside the masks.
        """
        self._check_fitted()
        pixels, used = stacks.check_images(images, masks)
        self._check_size(pixels, self.shape_)
        if self.patch is None:
            vectors = pixels.reshape(len(pixels), 1, -1)
            seen = [None] * len(pixels) if used is None else used.reshape(vectors.shape)
            pairs = zip(vectors, seen, strict=True)
            flat = [_project(*pair, self.mean_, self.components_) for pair in pairs]
            result = np.concatenate(flat).reshape(pixels.shape)
        else:
            inside = np.broadcast_to(np.True_, pixels.shape) if used is None else used
            result = np.stack(
                [self._overlapping(*pair) for pair in zip(pixels, inside, strict=True)]
            )
        if used is not None:
            result[~used] = 0
        return result

    def _check_learned(self, arrays: Arrays) -> None:
        side = self.patch
        fits = min(self.shape_) > 0 and np.prod(self.shape_) == self.mean_.size
        if not fits or (side is not None and self.shape_ != (side, side)):
            raise imsim.OptionError(f"a shape of {self.shape_} does not go with {self!r}")
        if self.count_ < 2:
            raise imsim.OptionError(f"its components were learned from {self.count_} images")

    def _check_parameters(self) -> None:
        check_integer("components", self.components, 1)
        if self.patch is None:
            return
        side = self.patch
        check_integer("patch", side, 2)
        if self.components >= side**2:
            raise imsim.OptionError(
                f"components={self.components!r} reproduce all {side}x{side} pixels of a patch, "
                "defects too: use fewer, or larger patches"
            )

    def _geometry(self) -> tuple[int, int]:
        """Side of the patches, and their distance: half the side, or the side if it is odd."""
        side = self.patch or 1
        return side, side // 2 if side % 2 == 0 else side

    def _check_size(self, pixels: Floats, wanted: tuple[int, int] | None = None) -> None:
        """Refuse images smaller than a patch; without patches, of another size than `wanted`."""
        height, width = pixels.shape[1:]
        if self.patch is not None and min(height, width) < self.patch:
            raise imsim.ShapeError(
                f"images are {height}x{width} pixels, smaller than a patch of "
                f"{self.patch}x{self.patch}: use larger images or a smaller patch"
            )
        if self.patch is None and wanted is not None:
            stacks.check_size(pixels, wanted, "resize them, or use patches, e.g. patch=16")

    def _complete_patches(self, pixels: Floats, used: Booleans | None) -> Iterator[Floats]:
        """Yield, batch by batch, the patches that lie entirely inside the masks."""
        everywhere = np.ones(pixels.shape[1:], dtype=np.bool_)
        for part in divided(len(pixels), stacks.batch_images(pixels)):
            some = []
            for i, image in enumerate(pixels[part], part.start):
                seen = cut(everywhere if used is None else used[i], *self._geometry())
                some.append(cut(image, *self._geometry())[seen.all(axis=1)])
            yield np.concatenate(some)

    def _overlapping(self, image: Floats, inside: Booleans) -> Floats:
        """Reconstruct the patches of one image, and average them where they overlap."""
        side, stride = self._geometry()
        seen = cut(inside, side, stride)
        shares = seen.mean(axis=1, dtype=np.float32)
        weights = shares[:, None] * window(side)
        some = shares > 0
        weighted = np.zeros_like(weights)
        vectors = cut(image, side, stride)[some]
        weighted[some] = weights[some] * _project(vectors, seen[some], self.mean_, self.components_)
        result, total = (join(p, inside.shape, side, stride) for p in (weighted, weights))
        return np.divide(result, total, out=np.zeros_like(image), where=inside)


class MeanModel(Stored):
    """Reconstruct every image as the mean of all good pixels.

    It is the linear autoencoder of no components and of patches of one pixel, and fits what a
    peel leaves: texture without fixed places, whose predictable part the peel has taken out
    already. A model with components would reconstruct part of a foreign body as well.

    Attributes
    ----------
    mean_ : float
        The mean of the pixels inside the masks of good images.
    count_ : int
        The number of these pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly.pca import MeanModel
    >>> print(MeanModel().fit(np.array([[[1.0, 2.0]]])).reconstruct(np.array([[[7.0, 8.0]]])))
    [[[1.5 1.5]]]
    """

    _LEARNED = (("mean", np.float64), ("count", np.int64))

    @all_or_nothing
    def fit(self, images: Any, masks: Any = None) -> Self:
        """Learn the mean from good images."""
        self.mean_, self.count_ = 0.0, 0
        return self.partial_fit(images, masks)

    @all_or_nothing
    def partial_fit(self, images: Any, masks: Any = None) -> Self:
        """Learn from further good images."""
        pixels, used = stacks.check_images(images, masks)
        inside = pixels if used is None else pixels[used]
        if not inside.size:
            raise imsim.MaskError("the masks leave no pixel to learn from: pass larger masks")
        earlier, number = getattr(self, "mean_", 0.0), getattr(self, "count_", 0)
        self.count_ = number + inside.size
        mean = float(inside.mean(dtype=np.float64))
        self.mean_ = mean + (earlier - mean) * (number / self.count_)
        return self

    def reconstruct(self, images: Any, masks: Any = None) -> Floats:
        """Return the mean for every pixel, and 0 outside the masks."""
        self._check_fitted()
        pixels, used = stacks.check_images(images, masks)
        result = np.full(pixels.shape, self.mean_, dtype=np.float32)
        if used is not None:
            result[~used] = 0
        return result

    def _check_learned(self, arrays: Arrays) -> None:
        if self.count_ < 1:
            raise imsim.OptionError(f"its mean was learned from {self.count_} pixels")


class _Principal(NamedTuple):
    """All principal components of some vectors."""

    mean: Doubles  # shape (length,)
    variances: Doubles  # in descending order, none negative
    axes: Doubles  # unit vectors as rows, shape (len(variances), length)


def _merged(one: _Principal, n: int, other: _Principal, m: int) -> _Principal:
    """Principal components of n and m vectors together, from those of each."""
    mean = (n * one.mean + m * other.mean) / (n + m)
    rows = [
        np.sqrt((n - 1) * one.variances)[:, None] * one.axes,
        np.sqrt((m - 1) * other.variances)[:, None] * other.axes,
        np.sqrt(n * m / (n + m)) * (one.mean - other.mean)[None],
    ]
    return _of_centred(mean, np.concatenate(rows), n + m - 1)


def _of_centred(mean: Doubles, centred: Doubles, divisor: int) -> _Principal:
    """Principal components of vectors less their mean."""
    n, length = centred.shape
    if n >= length:
        return _of_symmetric(mean, centred.T @ centred / divisor)
    # The matrix of inner products is smaller, and has the same eigenvalues.
    _, variances, combinations = _of_symmetric(mean, centred @ centred.T / divisor)
    lengths = np.sqrt(divisor * variances)
    with np.errstate(divide="ignore", invalid="ignore"):
        axes = np.where(lengths[:, None] > 0, combinations @ centred / lengths[:, None], 0)
    return _Principal(mean, variances, axes)


def _of_many(batches: Iterable[Floats], length: int) -> tuple[_Principal, int]:
    """Principal components of many short vectors, and their number."""
    count, shift = 0, np.zeros(length)
    total, products = np.zeros(length), np.zeros((length, length))
    for batch in batches:
        if not count and len(batch):
            shift = batch.mean(axis=0, dtype=np.float64)  # a large offset would cost precision
        moved = batch - shift
        count += len(batch)
        total += moved.sum(axis=0)
        products += moved.T @ moved
    mean = total / max(count, 1)
    covariance = (products - count * np.outer(mean, mean)) / max(count - 1, 1)
    return _of_symmetric(shift + mean, covariance), count


def _project(vectors: Floats, seen: Booleans | None, mean: Floats, axes: Floats) -> Floats:
    """Reconstruct vectors (rows) from their known numbers."""
    centred = vectors - mean
    if seen is not None:
        centred[~seen] = 0
    coefficients = stacks.product(centred, axes.T)
    if seen is not None and (some := np.flatnonzero(~seen.all(axis=1))).size:
        wanted, visible, found = centred[some], seen[some], coefficients[some]
        for _ in range(_STEPS):
            missing = np.where(visible, wanted - stacks.product(found, axes), np.float32(0))
            found += stacks.product(missing, axes.T)
        coefficients[some] = found
    return stacks.product(coefficients, axes) + mean


def _of_symmetric(mean: Doubles, symmetric: Doubles) -> _Principal:
    values, vectors = scipy.linalg.eigh(symmetric)
    return _Principal(mean, np.maximum(values[::-1], 0), vectors.T[::-1])
