"""Good images are held out in turn: their folds, models, scores, and which of them are odd."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imsim.anomaly.stacks import Booleans, Doubles, Floats, masks_at
from imsim.anomaly.statistics import GoodStatistics
from imsim.anomaly.xray.peel import VirtualPeel
from imsim.errors import OptionError, ShapeError

FOLDS = 5
"""Parts of the good images; each in turn is held out to learn the threshold."""
LEAST_LEFT = 2
"""Least images that a part leaves to learn from: a single one has no variety."""
ROUNDS, GROWTH = 3, 1.5
"""Most rounds of leaving out odd images and learning again, and the growth of their number from the
first round on above which good images simply differ: without some of them, others are odd."""
FARTHEST_GOOD = 1.3
"""Times the median up to which a score is never odd. Good images that hardly differ have their
fence next to the median: clean chocolate bars scored up to 1.3 times it, defects more."""
LEAST_ODD, LEAST_NUMBER = 0.05, 5
"""Least share and number of odd images that are left out: of clean images, up to 4 % were beyond
the fence, and of 40 to 60 up to three."""
FAR_OUT, FEW = 2.0, range(30, 100)
"""Times the reach of the fence beyond which fewer than five of so few images are odd too (Tukey's
outer fence): where a tenth of 40 is bad, four are. The quartiles of fewer are too uncertain."""
MOST_ODD = 0.25
"""Largest share of odd images. Above the upper quartile lie no more; but without those of earlier
rounds it moves down."""

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
        for _ in range(ROUNDS):
            found = odd_ones(columns, fence, odd)
            first = first or int(found.sum())
            most = min(MOST_ODD * len(odd), GROWTH * max(first, LEAST_NUMBER))
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


def odd_ones(columns: Doubles, reach: float, known: Booleans | None = None) -> Booleans:
    r"""Return which images are beyond Tukey's upper fence.

    .. math:: q_3 + k (q_3 - q_1)

    with the quartiles of the images that are not `known` to be odd, and the reach k. Columns of
    scores count in logarithms where all are positive, since distances have a longer upper tail than
    a normal distribution; an odd score is then also at least 1.3 times the median. Of several
    columns the largest counts, each from its median in units of its interquartile range.

    Few such images are none: without `known` ones it takes 5 % of those with a score, and five; of
    30 to 99 images, a reach of 2 k will do as well.

    References
    ----------
    Tukey 1977, Exploratory Data Analysis, Addison-Wesley, chapter 2.
    """
    if known is None:
        known = np.zeros(len(columns), np.bool_)
    total = np.full(len(columns), -math.inf)
    is_far = np.zeros(len(columns), np.bool_)
    for column in columns.T:
        finite = np.isfinite(column)
        values, usual = column[finite], ~known[finite]
        if not usual.any():
            continue
        least = -math.inf
        if (values > 0).all():
            values, least = np.log(values), math.log(FARTHEST_GOOD)
        low, middle, high = np.quantile(values[usual], (0.25, 0.5, 0.75))
        if high > low:
            total[finite] = np.maximum(total[finite], (values - middle) / (high - low))
            is_far[finite] |= values - middle > least
    judged = total > -math.inf
    if not (judged & ~known).any():
        return np.zeros_like(is_far)
    low, high = np.quantile(total[judged & ~known], (0.25, 0.75))
    odd: Booleans = is_far & (total > high + reach * (high - low))
    if not known.any() and odd.sum() < max(LEAST_NUMBER, LEAST_ODD * judged.sum()):
        odd &= (total > high + FAR_OUT * reach * (high - low)) & (int(judged.sum()) in FEW)
    return odd


def deal_folds(
    n: int, count: int, generator: np.random.Generator, groups: NDArray[Any] | None = None
) -> list[NDArray[np.intp]]:
    """Deal the indices below n at random into folds to hold out; a single fold is a fifth.

    Images of one group stay together: each group goes to the fold that has the fewest images.
    """
    wanted = FOLDS if count == 1 else count
    if groups is None:
        dealt = [np.sort(p) for p in np.array_split(generator.permutation(n), min(wanted, n))]
    else:
        _, which, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        fold_of, filled = np.zeros(len(sizes), np.intp), np.zeros(min(wanted, len(sizes)), int)
        shuffled = generator.permutation(len(sizes))
        for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
            fold_of[group] = fold = int(np.argmin(filled))
            filled[fold] += sizes[group]
        dealt = [np.flatnonzero(fold_of[which] == fold) for fold in range(len(filled))]
    return dealt[:1] if count == 1 else dealt


def check_left(groups: NDArray[Any], n: int) -> None:
    """Refuse groups of n images of which the largest, held out, leaves too few to learn from."""
    sizes = np.unique(groups, return_counts=True)[1]
    if len(sizes) < 2:
        raise OptionError(
            "groups names one group only; expected at least two, of which one can be held out"
        )
    if n - sizes.max() < LEAST_LEFT:
        raise OptionError(
            f"groups has {sizes.max()} of {n} images in one group, which leaves {n - sizes.max()} "
            f"to learn from when it is held out; expected at least {LEAST_LEFT}: pass images of "
            "more groups"
        )


def check_groups(groups: Any, n: int) -> NDArray[Any] | None:
    """Return the group of each image, as whole numbers."""
    if groups is None:
        return None
    try:
        # As objects, since NumPy would turn 1 into "1" beside texts.
        names = np.asarray(groups, dtype=object)
    except ValueError as error:
        raise ShapeError("groups makes no array", f"expected ({n},): {error}") from error
    if names.shape != (n,):
        raise ShapeError(
            f"groups has shape {names.shape}", f"expected a name or number for each image, ({n},)"
        )
    known: dict[Any, int] = {}
    plain = [name.item() if isinstance(name, np.generic) else name for name in names]
    for i, name in enumerate(plain):
        if not isinstance(name, str | int | float | bytes) or name != name:
            raise OptionError(
                f"groups[{i}] is {name!r}; expected a name or a number: give an image of its own a "
                "group of its own"
            )
        known.setdefault(name, len(known))
    return np.array([known[name] for name in plain])


def with_twins(groups: NDArray[Any] | None, digests: NDArray[np.uint8]) -> NDArray[Any] | None:
    """Return groups that keep equal images together, too; as they were if no images are equal.

    An image would not be held out from a model that learned from its twin. Where nearly all images
    are equal, they cannot be held out together.
    """
    _, twin, sizes = np.unique(digests, axis=0, return_inverse=True, return_counts=True)
    twin, number = twin.reshape(-1), len(sizes)
    if number == len(twin) or sizes.max() > len(twin) - LEAST_LEFT:
        return groups
    if groups is None:
        return twin
    # Different images and groups are nodes, and each image is an edge between two of them.
    nodes = number + int(groups.max()) + 1
    edges = coo_array((np.ones(len(twin)), (twin, number + groups)), shape=(nodes, nodes))
    joined: NDArray[Any] = connected_components(edges, directed=False)[1][twin]
    return joined
