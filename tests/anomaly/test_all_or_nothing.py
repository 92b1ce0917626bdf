"""What fails to learn stays as it was, whatever class it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import imsim
from imsim.anomaly import AnomalyDetector, GoodStatistics, ItemDetector, ItemFinder, storage
from imsim.anomaly.storage import _class_of

LEARNERS = ("fit", "partial_fit", "update")


def classes() -> Iterator[type[Any]]:
    """Yield the classes of whatever is saved."""
    yield from (AnomalyDetector, ItemDetector, ItemFinder)
    for kind in (
        kind for name, *kinds in AnomalyDetector._PARTS if name != "card" for kind in kinds
    ):
        with suppress(ImportError):  # one needs a package that is optional
            yield _class_of([kind], kind) if isinstance(kind, str) else kind


def test_every_class_learns_all_or_nothing() -> None:
    wanted = storage.all_or_nothing(classes).__code__
    for kind in classes():
        for name in LEARNERS:
            method = vars(kind).get(name)
            assert method is None or method.__code__ is wanted, f"{kind.__name__}.{name}"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_nothing(failure: type[BaseException]) -> None:
    class Learner:
        known = 0

        @storage.all_or_nothing
        def fit(self, number: int, *, fails: bool = False) -> Learner:
            """Learn a number."""
            self.known = number
            if fails:
                raise failure
            return self

    learner = Learner().fit(1)
    with pytest.raises(failure):
        learner.fit(2, fails=True)
    assert learner.known == 1
    assert Learner.fit.__doc__ == "Learn a number."


def test_a_detector_that_cannot_be_fitted_again_scores_as_before() -> None:
    rng = np.random.default_rng(0)
    good = rng.random((20, 24, 24), np.float32)
    detector = AnomalyDetector(preprocess=None, random_state=0).fit(good)
    before = detector.anomaly_score(good)
    with pytest.raises(imsim.ImsimError, match="groups names one group"):
        detector.fit(100 * rng.random((20, 30, 24), np.float32), groups=["one"] * 20)
    np.testing.assert_array_equal(detector.anomaly_score(good), before)


def test_statistics_that_cannot_learn_further_keep_their_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = np.random.default_rng(0).random((20, 24, 24), np.float32)
    model = GoodStatistics(4).fit(good)
    before = model.reconstruct(good)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(model, "_learn", fail)
    with pytest.raises(MemoryError):
        model.partial_fit(good + 1)
    np.testing.assert_array_equal(model.reconstruct(good), before)


def test_what_is_not_fitted_says_so() -> None:
    for kind in classes():
        for error in (imsim.ImsimError, NotFittedError):  # scikit-learn's own, too
            with pytest.raises(error, match=rf"this {kind.__name__} is not fitted: call fit"):
                kind().save("nowhere")
