"""The anomalous images of one kind or size, against all good images."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly.separation import area_under_roc

MOST_SIZES = 6
"""Up to so many different sizes have a row each; more are put into `SIZE_CLASSES` classes."""
SIZE_CLASSES = 4


@dataclass(frozen=True)
class Group:
    """The anomalous images of one kind or size, against all good images."""

    name: str
    """The kind, or the size or sizes."""
    count: int
    """How many anomalous images there are."""
    auroc: float
    """Against all good images; NaN if no image of the group has a score."""
    detection_rate: float
    """The share that the detector flagged."""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON can hold them."""
        auroc = None if math.isnan(self.auroc) else self.auroc
        return asdict(self) | {"auroc": auroc}


Members = dict[str, NDArray[np.bool_]]
"""Name of a group -> which of all images belong to it; good ones may, and do not count."""


def members_by_kind(kinds: Any, anomalous: NDArray[np.bool_]) -> Members:
    """Sort images by the kind of their anomaly."""
    given = _one_each("kinds", kinds, anomalous)
    return {str(kind): given == kind for kind in np.unique(given[anomalous])}


def members_by_size(sizes: Any, anomalous: NDArray[np.bool_]) -> Members:
    """Sort images by the size of their anomaly: each size, or classes of equal width."""
    given = _one_each("sizes", sizes, anomalous)
    if given.dtype.kind not in "buif" or not np.isfinite(given[anomalous]).all():
        raise imsim.OptionError(
            f"sizes (of dtype {given.dtype}) must be finite numbers where labels is 1"
        )
    found = np.unique(given[anomalous])
    if len(found) <= MOST_SIZES:
        return {f"{size:g}": given == size for size in found}
    edges = np.linspace(found[0], found[-1], SIZE_CLASSES + 1)
    which = np.digitize(given, edges[1:-1])
    classes = {f"{edges[i]:.3g} to {edges[i + 1]:.3g}": which == i for i in range(SIZE_CLASSES)}
    return {name: member for name, member in classes.items() if (member & anomalous).any()}


def _one_each(name: str, values: Any, anomalous: NDArray[np.bool_]) -> NDArray[Any]:
    given = np.asarray(values)
    if given.shape != anomalous.shape:
        raise imsim.ShapeError(
            f"{name} has shape {given.shape}; expected one for each image, {anomalous.shape}"
        )
    return given


def groups_of(
    members: Members,
    scores: NDArray[np.float64],
    anomalous: NDArray[np.bool_],
    flagged: NDArray[np.bool_],
) -> tuple[Group, ...]:
    """Judge each group of anomalous images against all good images."""
    groups = []
    for name, member in members.items():
        of_group = anomalous & member
        scored = (of_group | ~anomalous) & ~np.isnan(scores)
        bad = anomalous[scored]
        both = bad.any() and not bad.all()
        auroc = area_under_roc(scores[scored], bad) if both else math.nan
        found = float(np.mean(flagged[of_group]))
        groups.append(Group(name, int(of_group.sum()), auroc, found))
    return tuple(groups)
