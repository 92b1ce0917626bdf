"""The state of a detector, as a file holds it."""

from __future__ import annotations

from typing import Any

import numpy as np

import imsim
from imsim.anomaly import optional, scoring
from imsim.anomaly.card import Card
from imsim.anomaly.detector_parameters import check_parameters
from imsim.anomaly.pca import MeanModel, PCAAutoencoder
from imsim.anomaly.pose import Pose
from imsim.anomaly.raw import RAW, check_raw
from imsim.anomaly.statistics import GoodStatistics
from imsim.anomaly.storage import Arrays, State
from imsim.anomaly.threshold import Threshold, threshold_of
from imsim.anomaly.xray.peel import VirtualPeel
from imsim.errors import silent
from imsim.validation import check_choice, check_data_range, check_integer

FITTED = ("data_range_", "aggregate_", "shape_", "depth_")
"""What a detector learns, beside its parts and its scores."""
PARTS = ("model", "preprocess", "pose")
KINDS = (
    "MeanModel",
    "PCAAutoencoder",
    "GoodStatistics",
    "ConvAutoencoder",
    "VirtualPeel",
    "Pose",
)
"""Classes of the parts that can be saved."""


def class_of(kind: str) -> Any:
    """Return the class of a part by its name."""
    if kind == "ConvAutoencoder":  # needs JAX
        return optional.found("imsim.anomaly", kind, "convolutional")
    for known in (MeanModel, PCAAutoencoder, GoodStatistics, VirtualPeel, Pose):
        if kind == known.__name__:
            return known
    raise imsim.OptionError(f"there is no {kind!r} among {', '.join(KINDS)}")


def state_of(detector: Any) -> State:
    """Return what `restore` needs; model and preprocess must be of `imsim.anomaly`."""
    own = detector.get_params(deep=False)
    stored: dict[str, Any] = {}
    arrays = {  # scores may be infinite or NaN, which JSON cannot hold
        "threshold": np.array(detector.false_alarms_[:4]),
        "number": np.array(detector.false_alarms_.number),
        "held_out_columns": detector.held_out_columns_,
        "raw_statistics": detector.raw_statistics_,
        "scales": detector.scales_,
        "digests": detector.card_.digests,
    }
    for name in PARTS:
        part = getattr(detector, f"{name}_")
        if part is None:
            continue
        kind = type(part).__name__
        if kind not in KINDS or type(part) is not class_of(kind):
            raise imsim.OptionError(
                f"{name}={part!r} cannot be saved; expected one of {', '.join(KINDS)}: "
                "save it by its own means"
            )
        # None and "xray" are stored as they are, an object as its parameters.
        if own[name] is not None and not isinstance(own[name], str):
            own[name] = {"kind": kind, "parameters": own[name].get_params()}
        state, found = part.get_state()
        stored[name] = {"kind": kind, "state": state}
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    if not isinstance(own["random_state"], int | np.integer):
        own["random_state"] = None  # a generator has changed since; the model is fitted anyway
    fitted = {name: getattr(detector, name) for name in FITTED}
    lessons = detector.card_.to_list()
    return {"fitted": fitted, "parts": stored, "parameters": own, "card": lessons}, arrays


def restore(detector: Any, parameters: dict[str, Any], arrays: Arrays) -> None:
    """Make a fresh detector what `state_of` was told of; refuse everything else."""
    own, fitted, stored = (dict(parameters.pop(k)) for k in ("parameters", "fitted", "parts"))
    detector.card_ = Card.from_list(parameters.pop("card"), arrays)
    if parameters or own.keys() != detector.get_params(deep=False).keys():
        raise imsim.OptionError("its parameters are not those of a detector")
    for name in PARTS:
        if isinstance(own[name], dict):
            own[name] = class_of(own[name]["kind"])(**own[name]["parameters"])
        part = None
        optional = name == "pose" and name not in stored
        if name == "model" or (own[name] is not None and not optional):
            state = stored.pop(name)
            part = class_of(state["kind"]).from_state(state["state"], arrays.under(f"{name}/"))
        setattr(detector, f"{name}_", part)
    detector.set_params(**own)
    fitted["shape_"] = tuple(fitted["shape_"])
    if stored or fitted.keys() != set(FITTED):
        raise imsim.OptionError("it holds other things than a detector learns")
    for name, value in fitted.items():
        setattr(detector, name, value)
    check_data_range(detector.data_range_, (), None, np)
    check_choice("aggregate_", detector.aggregate_, (check_parameters(detector),))
    for side in detector.shape_:
        check_integer("shape_", side, 1)
    if len(detector.shape_) != 2 or not isinstance(detector.depth_, str):
        raise imsim.OptionError(
            f"shape_={detector.shape_}, depth_={detector.depth_!r} make no sense"
        )
    columns: int | None = 2 if detector.aggregate_ == scoring.BOTH else 1
    if detector.aggregate_ == scoring.STATISTICS:
        columns = getattr(detector.model_, "columns_", None)
    detector.scales_ = arrays.take("scales", np.float64, 2, columns)
    detector.held_out_columns_ = arrays.take(
        "held_out_columns", np.float64, None, columns, finite=False
    )
    raw = arrays.take("raw_statistics", np.float64, None, len(RAW), finite=False)
    detector.raw_statistics_ = check_raw(raw)
    if detector.pose_ is not None and detector.pose_.mean_.shape != detector.shape_:
        raise imsim.OptionError("its pose was learned from images of another size")
    scores = detector.held_out_scores_ = scoring.most_anomalous(
        detector.held_out_columns_, detector.scales_
    )
    # Of good images that are all reproduced exactly, the threshold may be minus infinity.
    value, rate, low, high = arrays.take("threshold", np.float64, 4, finite=False).tolist()
    number = arrays.number("number", np.int64)
    found = detector.false_alarms_ = Threshold(value, rate, low, high, number)
    detector.threshold_, detector.offset_ = found.value, -found.value
    sizes = [lesson.images for lesson in detector.card_.lessons]
    if len(scores) != sum(sizes):
        raise imsim.OptionError("its scores of good images are not as many as its card counts")
    with silent(UserWarning):  # `fit` has warned
        expected = threshold_of(scores, sizes, detector.false_alarm_rate).value
    if not np.isclose(found.value, expected, rtol=1e-9, atol=0):
        raise imsim.OptionError("its threshold does not come from its scores of good images")
    is_share = 0 <= found.low <= found.high <= 1 and 0 < found.rate < 1 <= found.number
    is_share &= found.value < np.inf  # above which nothing would be an anomaly
    if not (detector.scales_[1] > 0).all() or not is_share:
        raise imsim.OptionError("its scales or its false-alarm rate are none that exist")
    detector.n_features_in_ = int(np.prod(detector.shape_))
