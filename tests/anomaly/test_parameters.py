"""Parameters in scikit-learn's manner, of every class that can be saved."""

from __future__ import annotations

import pytest
from sklearn.base import clone

from imsim.anomaly import AnomalyDetector, PCAAutoencoder
from imsim.anomaly.xray import VirtualPeel


def test_get_set_and_clone() -> None:
    model = PCAAutoencoder(3, patch=8)
    assert model.get_params() == {"components": 3, "patch": 8}
    assert model.set_params(components=5) is model
    assert model.components == 5
    twin = clone(model)
    assert twin is not model
    assert repr(twin) == repr(model) == "PCAAutoencoder(components=5, patch=8)"


def test_nested_parameters() -> None:
    detector = AnomalyDetector(PCAAutoencoder(3, patch=8), VirtualPeel(width=4))
    assert detector.get_params()["model__components"] == 3
    detector.set_params(model__components=5, preprocess__width=2, window=5)
    assert (detector.model.components, detector.preprocess.width, detector.window) == (5, 2, 5)


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"Invalid parameter 'patsch' for estimator PCAAuto"):
        PCAAutoencoder().set_params(patsch=1)
