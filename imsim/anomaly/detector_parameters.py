"""The parameters of a detector: what may be given, and what is taken where nothing is."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

import imsim
from imsim.anomaly import scoring
from imsim.anomaly.cross_fitting import FOLDS
from imsim.anomaly.pca import MeanModel, PCAAutoencoder
from imsim.anomaly.stacks import Booleans, Floats
from imsim.anomaly.statistics import METRIC, GoodStatistics
from imsim.validation import (
    check_between,
    check_choice,
    check_data_range,
    check_integer,
    check_number,
    usual_data_range,
)

COMPONENTS = 60
"""Components of the default reconstruction of whole images, see docs/decisions.md."""
PATCH, PATCH_COMPONENTS = 8, 4
"""Side in pixels and components of patches, for peeled images if the metric needs contrast."""


def check_parameters(detector: Any) -> str:
    """Refuse parameters that are none of those allowed; return the aggregate."""
    plain = detector.preprocess is None
    has_distances = hasattr(detector.model, "distances")
    # Anything may be given as the metric, which is checked below.
    is_fsim = isinstance(detector.metric, str) and detector.metric == METRIC
    if detector.model is None and plain and is_fsim:
        has_distances = detector.aggregate in (None, scoring.STATISTICS)
    aggregate = scoring.choose_aggregate(
        detector.aggregate, detector.metric, not plain, has_distances=has_distances
    )
    check_choice("pose", detector.pose, ("auto", None))
    check_between("false_alarm_rate", detector.false_alarm_rate)
    check_integer("window", detector.window, 1)
    if detector.folds is not None:
        check_integer("folds", detector.folds, 1)
    if detector.fence is not None:
        check_number("fence", detector.fence)
    if not isinstance(detector.note, str):
        raise imsim.OptionError(f"note={detector.note!r}; expected a text")
    if detector.data_range is not None:
        check_data_range(detector.data_range, (), None, np)
    model, preprocess = detector.model, detector.preprocess
    _check_part("model", model, "reconstruct", (None,), "PCAAutoencoder(components=60)")
    _check_part("preprocess", preprocess, "transform", ("xray", None), "VirtualPeel()")
    return aggregate


def _check_part(name: str, given: Any, method: str, names: tuple[Any, ...], example: str) -> None:
    """Refuse a value that is neither a part of a detector nor the name of one."""
    if given is None or (isinstance(given, str) and given in names):
        return
    methods = ("fit", method, "get_params")
    if isinstance(given, type) or not all(hasattr(given, m) for m in methods):
        raise imsim.OptionError(
            f"{name}={given!r}; expected {', '.join(map(repr, names))}, or an object with "
            f"{', '.join(methods)}, such as {example}"
        )


def random_generator(random_state: Any) -> np.random.Generator:
    """Return a generator that the given `random_state` seeds."""
    try:
        if not isinstance(random_state, bool | np.bool_):
            return np.random.default_rng(check_random_state(random_state).randint(2**31))
    except ValueError:
        pass
    raise imsim.OptionError(
        f"random_state={random_state!r}; expected None, an integer from 0 to 2**32 - 1, or a "
        "RandomState"
    )


def data_range_of(detector: Any, dtype: Any, inputs: Floats, used: Booleans | None) -> float:
    """Return the given data range, or that of preprocess or dtype, or that of the images."""
    if detector.data_range is not None:
        return float(detector.data_range)
    if detector.preprocess_ is None:
        known = usual_data_range([dtype])
    else:
        known = getattr(detector.preprocess_, "data_range", None)
    if known is not None:
        return float(known)
    return float(np.ptp(inputs if used is None else inputs[used])) or 1.0


def folds_of(detector: Any) -> int:
    """Return the given number of folds, or one that suits the time that the model takes."""
    closed = PCAAutoencoder | MeanModel | GoodStatistics  # learned in one step
    is_closed = detector.model is None or isinstance(detector.model, closed)
    return detector.folds or (FOLDS if is_closed else 1)


def new_model(detector: Any, pixels: int, seed: int) -> Any:
    """Return a fresh model for images of so many pixels."""
    # With as many components as pixels, the model would reproduce anomalies too.
    components = max(1, min(COMPONENTS, pixels // 8))
    if detector.model is not None:
        model: Any = clone(detector.model)
    elif detector.aggregate_ == scoring.STATISTICS:
        model = GoodStatistics(components)
    elif detector.preprocess_ is None:
        model = PCAAutoencoder(components)
    elif imsim.METRICS[detector.metric].needs_contrast:
        model = PCAAutoencoder(PATCH_COMPONENTS, patch=PATCH)
    else:
        model = MeanModel()
    for name in ("random_state", "seed"):
        if model.get_params().get(name, 0) is None:
            model.set_params(**{name: seed})
    return model
