"""The parts of a detector: making them, and bringing them into one file and back."""

from __future__ import annotations

import importlib
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

import imsim
from imsim.anomaly import storage
from imsim.anomaly.mean import MeanModel
from imsim.anomaly.pca import PCAAutoencoder
from imsim.anomaly.xray import VirtualPeel

COMPONENTS = 60
"""Components of the default model of whole images, see docs/decisions.md."""
NEED_STRUCTURE = {"uiq", "zncc"}
"""Metrics that divide by the contrast of the reconstruction, of which a constant has none."""
PATCH, PATCH_COMPONENTS = 8, 4
"""Side and components of the patches that these metrics compare peeled images with."""

_HOMES = {
    "MeanModel": "mean",
    "PCAAutoencoder": "pca",
    "ConvAutoencoder": "convolutional",
    "VirtualPeel": "xray",
}
"""Module of each class that can be saved."""
_FITTED = ("threshold_", "data_range_", "n_features_in_", "aggregate_")


def new_preprocess(given: Any) -> Any:
    """Return an unfitted preprocess, or None."""
    if given is None:
        return None
    if isinstance(given, str):
        if given != "xray":
            raise imsim.OptionError(
                f"preprocess={given!r}; expected 'xray', None, or an object with fit and transform"
            )
        return VirtualPeel()
    return clone(given)


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
        if not (hasattr(given, "fit") and hasattr(given, "reconstruct")):
            raise imsim.OptionError(
                f"model={given!r}; expected None, or an object with fit and reconstruct, such as "
                "PCAAutoencoder(components=60)"
            )
        model: Any = clone(given)
    elif preprocess is None:
        # With as many components as pixels everything would be reproduced, and nothing found.
        model = PCAAutoencoder(max(1, min(COMPONENTS, inputs[0].size // 8)))
    elif metric in NEED_STRUCTURE:
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
        known = {"u1": 255.0, "b1": 1.0}.get(np.dtype(dtype).str[1:])
    else:
        known = getattr(preprocess, "data_range", None)
    if known is not None:
        return float(known)
    pixels = inputs if used is None else inputs[used]
    return float(np.ptp(pixels)) or 1.0


class Saved(storage.Stored):
    """Saving and loading of a detector."""

    def get_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what `from_state` needs; model and preprocess must be of `imsim.anomaly`."""
        check_is_fitted(self, "threshold_")
        return detector_state(self)

    @classmethod
    def from_state(cls, parameters: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Make a fitted detector of what `get_state` returned."""
        detector = cls()
        restore(detector, parameters, arrays)
        return detector


def detector_state(detector: Any) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return parameters and arrays of a fitted detector and of its parts."""
    own = detector.get_params(deep=False)
    parameters: dict[str, Any] = {"fitted": {k: getattr(detector, k) for k in _FITTED}, "parts": {}}
    arrays = {"held_out_scores": detector.held_out_scores_, "scales": detector.scales_}
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


def restore(detector: Any, parameters: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Give an unfitted detector what `detector_state` returned."""
    own = dict(parameters["parameters"])
    for name in ("model", "preprocess"):
        if isinstance(own[name], dict):
            own[name] = _class(own[name]["kind"])(**own[name]["parameters"])
        stored = parameters["parts"].get(name)
        part = None
        if stored is not None:
            mine = {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith(f"{name}/")}
            part = _class(stored["kind"]).from_state(stored["state"], mine)
        setattr(detector, f"{name}_", part)
    detector.set_params(**own)
    for name in _FITTED:
        setattr(detector, name, parameters["fitted"][name])
    detector.offset_ = -detector.threshold_
    detector.held_out_scores_, detector.scales_ = arrays["held_out_scores"], arrays["scales"]


def _class(name: str) -> Any:
    return getattr(importlib.import_module(f"imsim.anomaly.{_HOMES[name]}"), name)
