"""Folds of good images, which are held out in turn; related images are held out together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imsim.errors import OptionError, ShapeError

FOLDS = 5
"""Parts of the good images; each in turn is held out to learn the threshold."""
LEAST_LEFT = 2
"""Least images that a part leaves to learn from: a single one has no variety."""


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
