"""The model without any component: the mean of good pixels."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly.inputs import check_images
from imsim.anomaly.parameters import Parameterised
from imsim.anomaly.storage import Arrays, State, Stored


class MeanModel(Parameterised, Stored):
    """Reconstruct every image as the mean of all good pixels.

    It is the linear autoencoder of no components and of patches of one pixel, and fits what a
    peel leaves: texture without fixed places, whose predictable part the peel has taken out
    already. A model with components would reconstruct part of a foreign body as well.

    Attributes
    ----------
    mean_ : float
        The mean of the pixels inside the masks of good images.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly.mean import MeanModel
    >>> print(MeanModel().fit(np.array([[[1.0, 2.0]]])).reconstruct(np.array([[[7.0, 8.0]]])))
    [[[1.5 1.5]]]
    """

    mean_: float

    def __init__(self) -> None:
        pass

    def fit(self, images: Any, masks: Any = None) -> Self:
        """Learn the mean from good images.

        Parameters
        ----------
        images : array_like, shape (n, height, width)
            Any real dtype.
        masks : array_like of bool, shape (n, height, width) or (height, width), optional
            True = use.

        Returns
        -------
        self

        Raises
        ------
        DTypeError, ShapeError, MaskError
            If images or masks are not as said, or no pixel is used.
        """
        pixels, used = check_images(images, masks)
        inside = pixels if used is None else pixels[used]
        if not inside.size:
            raise imsim.MaskError("the masks leave no pixel to learn from: pass larger masks")
        self.mean_ = float(inside.mean(dtype=np.float64))
        return self

    def reconstruct(self, images: Any, masks: Any = None) -> NDArray[np.float32]:
        """Return the mean for every pixel, and 0 outside the masks.

        Parameters
        ----------
        images, masks
            As in `fit`.

        Returns
        -------
        float32 array, shape (n, height, width)
        """
        if not hasattr(self, "mean_"):
            raise imsim.ImsimError("this MeanModel is not fitted: call fit(good_images) first")
        pixels, used = check_images(images, masks)
        result = np.full(pixels.shape, self.mean_, dtype=np.float32)
        if used is not None:
            result[~used] = 0
        return result

    def get_state(self) -> State:
        """Return what `from_state` needs."""
        return {}, {"mean": np.array(self.mean_)}

    @classmethod
    def from_state(cls, parameters: dict[str, Any], arrays: Arrays) -> Self:
        """Make a fitted model of what `get_state` returned."""
        model = cls(**parameters)
        model.mean_ = arrays.number("mean")
        return model
