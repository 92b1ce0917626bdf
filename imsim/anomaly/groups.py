"""Anomalous images sorted by what is wrong with them, and how well each group is found."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly.separation import area_under_roc, one_each
from imsim.anomaly.stacks import Booleans, Doubles

MOST_SIZES = 6
"""Up to this number, each size has a row; more sizes are put into `SIZE_CLASSES` classes."""
SIZE_CLASSES = 4
MOST_DIGITS = 17
"""These tell any two numbers of double precision apart."""


@dataclass(frozen=True)
class Group:
    """The anomalous images of one kind or size, against all good images."""

    name: str
    count: int
    auroc: float
    """NaN if no image of the group has a score."""
    detection_rate: float
    """The share that the detector flagged."""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, in types of JSON."""
        auroc = None if math.isnan(self.auroc) else self.auroc
        return asdict(self) | {"auroc": auroc}


Members = dict[str, Booleans]
"""From the name of a group to a mask of its images; good images do not count."""


def members_by_kind(kinds: Any, anomalous: Booleans) -> Members:
    """Sort images by the kind of their anomaly."""
    given = one_each("kinds", kinds, len(anomalous))
    if given.dtype.kind in "Of":  # None and NaN, as of a table with gaps, are kinds too
        given = np.array([str(kind) for kind in given.tolist()])
    return {str(kind): given == kind for kind in np.unique(given[anomalous])}


def members_by_size(sizes: Any, anomalous: Booleans) -> Members:
    """Sort images by the size of their anomaly: each size, or classes of equal width."""
    given = one_each("sizes", sizes, len(anomalous))
    if given.dtype.kind not in "buif" or not np.isfinite(given[anomalous]).all():
        raise imsim.OptionError(
            f"sizes (of dtype {given.dtype}) must be finite numbers where labels is 1"
        )
    found = np.unique(given[anomalous])
    if len(found) <= MOST_SIZES:
        names = _distinct(found, 6)
        return {name: given == size for name, size in zip(names, found, strict=True)}
    edges = np.linspace(found[0], found[-1], SIZE_CLASSES + 1)
    which = np.digitize(given, edges[1:-1])
    ends = _distinct(edges, 3)
    classes = {f"{ends[i]} to {ends[i + 1]}": which == i for i in range(SIZE_CLASSES)}
    return {name: member for name, member in classes.items() if (member & anomalous).any()}


def _distinct(numbers: NDArray[Any], digits: int) -> list[str]:
    """Return numbers in words, with as many more digits as tell them apart."""
    while True:
        words = [f"{number:.{digits}g}" for number in numbers]
        if len({*words}) == len(words) or digits >= MOST_DIGITS:
            return words
        digits += 1


def groups_of(
    members: Members, scores: Doubles, anomalous: Booleans, flagged: Booleans
) -> tuple[Group, ...]:
    """Judge each group of anomalous images against all good images."""
    groups = []
    for name, member in members.items():
        of_group = anomalous & member
        scored = (of_group | ~anomalous) & ~np.isnan(scores)
        bad = anomalous[scored]
        both = bad.any() and not bad.all()
        auroc = area_under_roc(scores[scored], bad) if both else math.nan
        count, rate = int(of_group.sum()), float(np.mean(flagged[of_group]))
        groups.append(Group(name, count, auroc, rate))
    return tuple(groups)
