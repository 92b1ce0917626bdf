"""Parameters in scikit-learn's manner, without scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

import imsim
from imsim.anomaly import PCAAutoencoder
from imsim.anomaly.parameters import Parameterised


class Holder(Parameterised):
    def __init__(self, model: object = None, level: float = 0.5) -> None:
        self.model = model
        self.level = level


def test_get_and_set() -> None:
    holder = Holder()
    assert holder.get_params() == {"model": None, "level": 0.5}
    assert holder.set_params(level=2) is holder
    assert holder.level == 2
    assert holder.model is None


def test_nested_parameters() -> None:
    holder = Holder(PCAAutoencoder(3, patch=8))
    assert holder.get_params()["model__components"] == 3
    assert "model__components" not in holder.get_params(deep=False)
    holder.set_params(model__components=5, level=1)
    assert holder.model.components == 5  # type: ignore[attr-defined]
    # A new model and its parameters in one call: the parameters are for the new one.
    holder.set_params(model__patch=4, model=PCAAutoencoder(7))
    assert (holder.model.components, holder.model.patch) == (7, 4)  # type: ignore[attr-defined]


def test_a_class_as_parameter_has_no_parameters() -> None:
    assert Holder(PCAAutoencoder).get_params() == {"model": PCAAutoencoder, "level": 0.5}


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(Holder()) == "Holder()"
    assert (
        repr(Holder(PCAAutoencoder(4), 2)) == "Holder(model=PCAAutoencoder(components=4), level=2)"
    )
    assert repr(Holder(np.arange(3))) == "Holder(model=array([0, 1, 2]))"


def test_unknown_names() -> None:
    with pytest.raises(imsim.OptionError, match=r"Holder has no parameter 'levle'.*model, level"):
        Holder().set_params(levle=1)
    with pytest.raises(imsim.OptionError, match=r"level=0.5 of Holder has no parameters"):
        Holder().set_params(level__x=1)
    with pytest.raises(imsim.OptionError, match=r"PCAAutoencoder has no parameter 'x'"):
        Holder(PCAAutoencoder()).set_params(model__x=1)


def test_clone() -> None:
    sklearn = pytest.importorskip("sklearn.base", reason="scikit-learn is optional")
    model = Holder(PCAAutoencoder(3, patch=8), 2)
    twin = sklearn.clone(model)
    assert repr(twin) == repr(model)
    assert twin.model is not model.model
