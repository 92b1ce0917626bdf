"""Models of good images, and scores of good images by models that did not learn from them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imsim.anomaly import learning
from imsim.anomaly.stacks import Booleans, Doubles, Floats, masks_at
from imsim.anomaly.statistics import GoodStatistics
from imsim.anomaly.xray.peel import VirtualPeel

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class CrossFit:
    """Good images whose folds are held out in turn."""

    images: Floats
    masks: Booleans | None
    folds: list[Indices]
    """Indices of the images that are held out together."""
    compare: Callable[[Any, Floats, Booleans | None], Doubles]
    """Returns columns of scores of images, by a model and their masks."""
    by_distances: bool = False
    """Whether the scores are distances of the model."""
    peel: VirtualPeel | None = None
    """Its rim is learned from the same images as each model; None leaves the images as they are."""

    def fit_without_odd(
        self, new_model: Callable[[], Any], fence: float | None
    ) -> tuple[Any, Doubles, Booleans]:
        """Fit without images beyond the fence; return the model, columns, and which are odd."""
        odd: Booleans = np.zeros(len(self.images), np.bool_)
        model, columns = self.fit(new_model, odd)
        if fence is None:
            return model, columns, odd
        good, first = self, 0
        for _ in range(learning.ROUNDS):
            found = learning.odd_ones(columns, fence, odd)
            first = first or int(found.sum())
            most = min(learning.MOST_ODD * len(odd), learning.GROWTH * first)
            if found.sum() > most:  # good images simply differ
                found = np.zeros_like(odd)
            if (found == odd).all():
                break
            odd = found
            if self.peel is not None and self.masks is not None:
                images = self.peel.learn_rim(good.images, self.masks, np.flatnonzero(~odd))
                good = replace(self, images=images)
            model, columns = good.fit(new_model, odd)
            if not odd.any():
                break
        return model, columns, odd

    def fit(self, new_model: Callable[[], Any], odd: Booleans) -> tuple[Any, Doubles]:
        """Fit a model to all images that are not odd; return it, and columns of held-out scores.

        Each fold is scored by a model of the others. A single fold is scored by the model that is
        returned, which has not learned from it. Images in no fold have NaN.
        """
        learned, model = np.flatnonzero(~odd), new_model()
        if self.by_distances and len(self.folds) > 1 and isinstance(model, GoodStatistics):
            return model, model.cross_fit(self.images, self.masks, self.folds, learned)

        def taught(some: Indices, images: Floats) -> Any:
            return new_model().fit(images[some], masks_at(self.masks, some))

        final = taught(learned, self.images) if len(self.folds) > 1 else None
        model, columns = self._held_out(taught, learned)
        return model if final is None else final, columns

    def update(self, earlier: Any, odd: Booleans) -> tuple[Any, Doubles]:
        """Teach a model further images that are not odd; return it, and columns of their scores.

        Each fold is scored by the earlier model that learned from the other folds too; a single
        image by the earlier model.
        """
        learned = np.flatnonzero(~odd)

        def taught(some: Indices, images: Floats) -> Any:
            if not some.size:
                return earlier
            return deepcopy(earlier).partial_fit(images[some], masks_at(self.masks, some))

        _, columns = self._held_out(taught, learned)
        return taught(learned, self.images), columns

    def _held_out(
        self, taught: Callable[[Indices, Floats], Any], learned: Indices
    ) -> tuple[Any, Doubles]:
        """Score each fold by what is taught by the others; return the last model, and columns."""
        model, found = None, []
        for fold in self.folds:
            images, others = self.images, np.setdiff1d(learned, fold)
            if self.peel is not None and self.masks is not None:
                images = self.peel.with_rim_of(images, self.masks, others)
            model = taught(others, images)
            found.append(self.compare(model, images[fold], masks_at(self.masks, fold)))
        columns = np.full((len(self.images), found[0].shape[1]), np.nan)
        columns[np.concatenate(self.folds)] = np.concatenate(found)
        return model, columns
