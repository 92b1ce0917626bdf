"""The parts of a detector: making them, and bringing them into one file and back."""

from __future__ import annotations

import importlib
import warnings
from collections import Counter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

import imsim
from imsim.anomaly import combined, storage
from imsim.anomaly.mean import MeanModel
from imsim.anomaly.pca import PCAAutoencoder
from imsim.anomaly.xray import VirtualPeel
from imsim.anomaly.xray.segmentation import VARIED, UnlikelyItemWarning
from imsim.validation import check_choice, check_data_range, check_integer, usual_data_range

COMPONENTS = 60
"""Components of the default model of whole images, see docs/decisions.md."""
PATCH, PATCH_COMPONENTS = 8, 4
"""Of the patches that reconstruct peeled images for metrics that need contrast."""

_HOMES = {
    "MeanModel": "mean",
    "PCAAutoencoder": "pca",
    "ConvAutoencoder": "convolutional",
    "VirtualPeel": "xray",
}
"""Module of each class that can be saved."""
_FITTED = ("data_range_", "aggregate_", "shape_", "depth_")


def check_parts(model: Any, preprocess: Any) -> None:
    """Refuse what is neither a part nor the name of one."""
    for name, given, method, names, example in (
        ("model", model, "reconstruct", (), "PCAAutoencoder(components=60)"),
        ("preprocess", preprocess, "transform", ("xray",), "VirtualPeel(width=4)"),
    ):
        if given is None or (isinstance(given, str) and given in names):
            continue
        methods = ("fit", method, "get_params")
        if isinstance(given, type) or not all(hasattr(given, m) for m in methods):
            known = ", ".join(map(repr, (*names, None)))
            raise imsim.OptionError(
                f"{name}={given!r}; expected {known}, or an object with {', '.join(methods)}, "
                f"such as {example}"
            )


def new_preprocess(given: Any) -> Any:
    """Return an unfitted preprocess, or None."""
    if given is None:
        return None
    return VirtualPeel() if isinstance(given, str) else clone(given)


def check_single_items(given: Any, preprocess: Any, frames: NDArray[Any]) -> None:
    """Refuse the peel of images most of which hardly show single items; a hundred of them tell.

    Only warn where the peel was made on purpose, or where nothing but the pattern speaks against.
    """
    if not isinstance(preprocess, VirtualPeel):
        return
    some = frames[:: -(-len(frames) // 100)]
    doubts = preprocess.doubts(some)
    if len(doubts) <= len(some) / 2:
        return
    reasons = Counter(doubts.values())
    reason = reasons.most_common(1)[0][0]
    message = (
        f"most of the good images do not look like X-ray images of single items with the open beam "
        f"around them, as the peel needs them ({len(doubts)} of {len(some)}; the commonest reason: "
        f"one {reason}): for other images pass preprocess=None, on the command line --preprocess "
        "none; for X-ray images take a larger frame, or pass preprocess=VirtualPeel()"
    )
    if isinstance(given, str) and len(doubts) - reasons[VARIED] > len(some) / 2:
        raise imsim.ImsimError(message)
    warnings.warn(message, UnlikelyItemWarning, stacklevel=3)


def is_fast(given: Any) -> bool:
    """Whether a model is trained in closed form, so that it costs little to do so again."""
    return given is None or isinstance(given, PCAAutoencoder | MeanModel)


def fitted_model(
    given: Any,
    metric: str,
    preprocess: Any,
    inputs: Any,
    used: Any,
    index: NDArray[np.intp],
    seed: int,
) -> Any:
    """Return a fresh model, fitted to some of the images."""
    if given is not None:
        model: Any = clone(given)
    elif preprocess is None:
        # With as many components as pixels everything would be reproduced, and nothing found.
        model = PCAAutoencoder(max(1, min(COMPONENTS, inputs[0].size // 8)))
    elif imsim.METRICS[metric].needs_contrast:
        model = PCAAutoencoder(PATCH_COMPONENTS, patch=PATCH)
    else:
        model = MeanModel()
    if hasattr(model, "get_params"):
        for name in ("random_state", "seed"):
            if model.get_params().get(name, 0) is None:
                model.set_params(**{name: seed})
    return model.fit(inputs[index], None if used is None else used[index])


def find_data_range(given: Any, preprocess: Any, dtype: Any, inputs: Any, used: Any) -> float:
    """Return the given range, that of the preprocess or of the dtype, or that of good images."""
    if given is not None:
        return float(given)
    if preprocess is None:
        known = usual_data_range([np.dtype(dtype)])
    else:
        known = getattr(preprocess, "data_range", None)
    if known is not None:
        return float(known)
    pixels = inputs if used is None else inputs[used]
    return float(np.ptp(pixels)) or 1.0


class Saved(storage.Stored):
    """Saving and loading of a detector."""

    def get_state(self) -> storage.State:
        """Return what `from_state` needs; model and preprocess must be of `imsim.anomaly`."""
        check_is_fitted(self, "threshold_")
        return detector_state(self)

    @classmethod
    def from_state(cls, parameters: dict[str, Any], arrays: storage.Arrays) -> Self:
        """Make a fitted detector of what `get_state` returned."""
        detector = cls()
        restore(detector, parameters, arrays)
        return detector


def detector_state(detector: Any) -> storage.State:
    """Return parameters and arrays of a fitted detector and of its parts."""
    own = detector.get_params(deep=False)
    parameters: dict[str, Any] = {"fitted": {k: getattr(detector, k) for k in _FITTED}, "parts": {}}
    arrays = {
        # A threshold may be infinite, which JSON cannot hold.
        "threshold": np.array(detector.threshold_),
        "held_out_scores": detector.held_out_scores_,
        "scales": detector.scales_,
    }
    for name in ("model", "preprocess"):
        part = getattr(detector, f"{name}_")
        if part is None:
            continue
        kind = type(part).__name__
        if kind not in _HOMES or type(part).__module__.split(".")[:2] != ["imsim", "anomaly"]:
            raise imsim.OptionError(
                f"{name}={part!r} cannot be saved; expected one of {', '.join(_HOMES)}: "
                "save it by its own means"
            )
        # What was given, None or "xray", says it all; an object is made anew from its parameters.
        if own[name] is not None and not isinstance(own[name], str):
            own[name] = {"kind": kind, "parameters": own[name].get_params()}
        state, found = part.get_state()
        parameters["parts"][name] = {"kind": kind, "state": state}
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    if not (own["random_state"] is None or isinstance(own["random_state"], int | np.integer)):
        own["random_state"] = None  # a generator has moved on; what it gave is in the model
    return parameters | {"parameters": own}, arrays


def restore(detector: Any, parameters: dict[str, Any], arrays: storage.Arrays) -> None:
    """Give an unfitted detector what `detector_state` returned."""
    own, fitted, stored = (dict(parameters.pop(key)) for key in ("parameters", "fitted", "parts"))
    if parameters or own.keys() != detector.get_params(deep=False).keys():
        raise imsim.OptionError("its parameters are not those of a detector")
    for name in ("model", "preprocess"):
        if isinstance(own[name], dict):
            own[name] = _class(own[name]["kind"])(**own[name]["parameters"])
        part = None
        if name == "model" or own[name] is not None:
            state = stored.pop(name)
            part = _class(state["kind"]).from_state(state["state"], arrays.under(f"{name}/"))
        setattr(detector, f"{name}_", part)
    detector.set_params(**own)
    fitted["shape_"] = tuple(fitted["shape_"])
    if stored or fitted.keys() != set(_FITTED):
        raise imsim.OptionError("it holds other things than a detector learns")
    for name, value in fitted.items():
        setattr(detector, name, value)
    detector.threshold_ = arrays.take("threshold", np.float64, finite=False).item()
    check_data_range(detector.data_range_, (), None, np)
    check_choice("aggregate_", detector.aggregate_, (detector._check_parameters(),))
    for side in detector.shape_:
        check_integer("shape_", side, 1)
    if len(detector.shape_) != 2 or not isinstance(detector.depth_, str):
        raise imsim.OptionError(
            f"shape_={detector.shape_}, depth_={detector.depth_!r} make no sense"
        )
    columns = 2 if detector.aggregate_ == combined.BOTH else 1
    detector.scales_ = arrays.take("scales", np.float64, 2, columns)
    detector.held_out_scores_ = arrays.take("held_out_scores", np.float64, None, finite=False)
    if not (detector.scales_[1] > 0).all() or detector.threshold_ not in detector.held_out_scores_:
        raise imsim.OptionError("its threshold does not come from its scores of good images")
    detector.offset_ = -detector.threshold_
    detector.n_features_in_ = int(np.prod(detector.shape_))


def _class(name: str) -> Any:
    if name not in _HOMES:
        raise imsim.OptionError(f"there is no {name!r} among {', '.join(_HOMES)}")
    return getattr(importlib.import_module(f"imsim.anomaly.{_HOMES[name]}"), name)
