"""Linear autoencoder: principal components of whole images or of overlapping patches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly.batches import divided
from imsim.anomaly.inputs import check_images
from imsim.anomaly.parameters import Parameterised
from imsim.anomaly.patches import cut, join, window
from imsim.anomaly.principal import of_few, of_many, project
from imsim.anomaly.products import Floats
from imsim.anomaly.storage import Arrays, State, Stored
from imsim.validation import check_integer, check_number

_NEGLIGIBLE = 1e-10
"""Variance, relative to the largest, below which a component is rounding noise."""


class PCAAutoencoder(Parameterised, Stored):
    r"""Reconstruct images from the principal components of good ones.

    With :math:`\mu` the mean and the columns of :math:`W` the leading eigenvectors of the
    covariance of the training data, a vector of pixels is reconstructed as

    .. math:: \hat x = \mu + W W^T (x - \mu).

    A vector is a whole image (``patch=None``), or a square patch: patches overlap, and a pixel is
    the mean over the patches that hold it, weighted by a :math:`\sin^2` window and by how much of
    the patch is seen. Patches suit texture, which has no fixed place; they take images of any
    size from one patch upwards. Whole images suit parts that always lie in the same place.

    Capacity is a matter of detection, not of fidelity: with too many components a linear model
    reconstructs foreign bodies as well as good texture, and the two cannot be told apart. As many
    components as a patch has pixels reproduce everything.

    Parameters
    ----------
    components : int or float, optional
        The number of components, or the fraction of the variance, in (0, 1), that they explain
        together. Fewer are kept where the training data have no more.
    patch : int, optional
        Side of the patches in pixels; None takes whole images, all of one size.
    stride : int, optional
        Distance of neighbouring patches in pixels, a divisor of `patch`; half of it by default.

    Attributes
    ----------
    components_ : float32 array, shape (kept, pixels)
        The columns of W as rows.
    mean_ : float32 array, shape (pixels,)
        The mean.
    explained_variance_ : float32 array, shape (kept,)
        Variance along each component, in units of the pixel values squared.
    total_variance_ : float
        Sum of the variances of all pixels.
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
    inside and stop short of fitting the noise of a few. All steps leave a complete one alone.

    The result is deterministic. Each image is reconstructed by itself, so that a batch equals its
    images one by one to the last bit.

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

    components_: Floats
    mean_: Floats
    explained_variance_: Floats
    total_variance_: float
    shape_: tuple[int, int]

    def __init__(
        self, components: float = 16, patch: int | None = None, stride: int | None = None
    ) -> None:
        self.components = components
        self.patch = patch
        self.stride = stride

    def fit(self, images: Any, masks: Any = None) -> Self:
        """Learn mean and components from good images.

        Parameters
        ----------
        images : array_like, shape (n, height, width)
            Any real dtype, at least two images, or two patches.
        masks : array_like of bool, shape (n, height, width) or (height, width), optional
            True = use; by default every pixel is used.

        Returns
        -------
        self

        Raises
        ------
        DTypeError, ShapeError, MaskError
            If images or masks are not as said, or hold NaN or infinity inside; if there is no
            place for two patches inside the masks.
        OptionError
            If a parameter is none of those that are allowed.
        """
        self._check_parameters()
        pixels, used = check_images(images, masks)
        self._check_size(pixels)
        if self.patch is None:
            count, self.shape_ = len(pixels), pixels.shape[1:]
            inside = None if used is None else used.reshape(count, -1)
            found = of_few(pixels.reshape(count, -1), inside) if count > 1 else None
        else:
            self.shape_ = (self.patch, self.patch)
            found, count = of_many(self._complete_patches(pixels, used), self.patch**2)
        if found is None or count < 2:
            raise imsim.MaskError(
                f"there are {count} complete images or patches to learn from; expected at least 2: "
                "pass more images, larger masks, or a smaller patch"
            )
        mean, variances, axes = found
        total = float(variances.sum())
        kept = int((variances > _NEGLIGIBLE * variances[0]).sum())
        if self.components < 1:
            explained = np.cumsum(variances)
            kept = min(kept, int(np.searchsorted(explained, self.components * total)) + 1)
        else:
            kept = min(kept, int(self.components))
        self.mean_ = mean.astype(np.float32)
        self.components_ = np.ascontiguousarray(axes[:kept], dtype=np.float32)
        self.explained_variance_ = variances[:kept].astype(np.float32)
        self.total_variance_ = total
        return self

    def reconstruct(self, images: Any, masks: Any = None) -> Floats:
        """Return what the components make of each image.

        Parameters
        ----------
        images : array_like, shape (n, height, width)
            Any real dtype; with whole images, of the size of the training images.
        masks : array_like of bool, shape (n, height, width) or (height, width), optional
            True = use; pixels outside have no influence.

        Returns
        -------
        float32 array, shape (n, height, width)
            0 outside the masks.

        Raises
        ------
        DTypeError, ShapeError, MaskError
            If images or masks are not as said, or hold NaN or infinity inside.
        ImsimError
            If the model is not fitted.
        """
        self._check_fitted()
        pixels, used = check_images(images, masks)
        self._check_size(pixels, self.shape_)
        if self.patch is None:
            vectors = pixels.reshape(len(pixels), 1, -1)
            seen = [None] * len(pixels) if used is None else used.reshape(vectors.shape)
            pairs = zip(vectors, seen, strict=True)
            flat = [project(*pair, self.mean_, self.components_) for pair in pairs]
            result = np.concatenate(flat).reshape(pixels.shape)
        else:
            inside = np.broadcast_to(np.True_, pixels.shape) if used is None else used
            result = np.stack(
                [self._overlapping(*pair) for pair in zip(pixels, inside, strict=True)]
            )
        if used is not None:
            result[~used] = 0
        return result

    def get_state(self) -> State:
        """Return what `from_state` needs: parameters, and what was fitted, as arrays."""
        self._check_fitted()
        arrays = {
            "components": self.components_,
            "mean": self.mean_,
            "explained_variance": self.explained_variance_,
            "total_variance": np.array(self.total_variance_),
            "shape": np.array(self.shape_),
        }
        return self.get_params(), arrays

    @classmethod
    def from_state(cls, parameters: dict[str, Any], arrays: Arrays) -> Self:
        """Make a fitted model of what `get_state` returned."""
        model = cls(**parameters)
        model._check_parameters()
        height, width = arrays.take("shape", np.int64, 2).tolist()
        model.shape_ = (height, width)
        side = model.patch
        if min(model.shape_) < 1 or (side is not None and model.shape_ != (side, side)):
            raise imsim.OptionError(f"a shape of {model.shape_} does not go with {model!r}")
        model.explained_variance_ = arrays.take("explained_variance", np.float32, None)
        kept = len(model.explained_variance_)
        model.components_ = arrays.take("components", np.float32, kept, height * width)
        model.mean_ = arrays.take("mean", np.float32, height * width)
        model.total_variance_ = arrays.number("total_variance")
        return model

    def _check_fitted(self) -> None:
        if not hasattr(self, "components_"):
            raise imsim.ImsimError("this PCAAutoencoder is not fitted: call fit(good_images) first")

    def _check_parameters(self) -> None:
        number = check_number("components", self.components)
        if not (0 < number < 1 or (number >= 1 and number.is_integer())):
            raise imsim.OptionError(
                f"components={self.components!r}; expected an integer of at least 1, "
                "or the fraction of the variance to explain, in (0, 1)"
            )
        for name, value in (("patch", self.patch), ("stride", self.stride)):
            if value is not None:
                check_integer(name, value, 1)
        if self.patch is None:
            if self.stride is not None:
                raise imsim.OptionError(
                    f"stride={self.stride!r} is for patches only: give patch too, or no stride"
                )
            return
        side, stride = self._geometry()
        if side < 2 or side % stride:
            raise imsim.OptionError(
                f"patch={side} with stride={stride}; expected a patch of at least 2 pixels a "
                "side, and a stride that divides it"
            )
        if number >= side**2:
            raise imsim.OptionError(
                f"components={self.components!r} reproduce all {side}x{side} pixels of a patch, "
                "defects too: use fewer, or larger patches"
            )

    def _geometry(self) -> tuple[int, int]:
        """Side and stride of the patches; by default half the side, or the side if it is odd."""
        side = self.patch or 1
        return side, self.stride or (side // 2 if side % 2 == 0 else side)

    def _check_size(self, pixels: Floats, wanted: tuple[int, int] | None = None) -> None:
        """Refuse images smaller than a patch, or whole ones of another size than `wanted`."""
        height, width = pixels.shape[1:]
        if self.patch is not None and min(height, width) < self.patch:
            raise imsim.ShapeError(
                f"images are {height}x{width} pixels, smaller than a patch of "
                f"{self.patch}x{self.patch}: use larger images or a smaller patch"
            )
        if self.patch is None and wanted is not None and wanted != (height, width):
            raise imsim.ShapeError(
                f"images are {height}x{width} pixels, but the model was fitted to "
                f"{wanted[0]}x{wanted[1]}: resize them, or use patches, e.g. patch=16"
            )

    def _complete_patches(self, pixels: Floats, used: NDArray[np.bool_] | None) -> Iterator[Floats]:
        """Yield, for some images at a time, the patches that lie in their masks entirely."""
        everywhere = np.ones(pixels.shape[1:], dtype=np.bool_)
        for part in divided(len(pixels)):
            some = []
            for i, image in enumerate(pixels[part], part.start):
                seen = cut(everywhere if used is None else used[i], *self._geometry())
                some.append(cut(image, *self._geometry())[seen.all(axis=1)])
            yield np.concatenate(some)

    def _overlapping(self, image: Floats, inside: NDArray[np.bool_]) -> Floats:
        """Reconstruct the patches of one image, and average them where they overlap."""
        side, stride = self._geometry()
        seen = cut(inside, side, stride)
        shares = seen.mean(axis=1, dtype=np.float32)
        weights = shares[:, None] * window(side)
        some = shares > 0
        weighted = np.zeros_like(weights)
        vectors = cut(image, side, stride)[some]
        weighted[some] = weights[some] * project(vectors, seen[some], self.mean_, self.components_)
        result, total = (join(p, inside.shape, side, stride) for p in (weighted, weights))
        return np.divide(result, total, out=np.zeros_like(image), where=inside)
