"""Settings and fixtures that every test module shares."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# No deadline: the first call of a compiled kernel takes seconds. Few, small examples: every
# property runs over all metrics, and the whole suite has to stay a matter of minutes.
_COMMON = {
    "deadline": None,
    "max_examples": 25,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("default", **_COMMON)  # type: ignore[arg-type]
# On a build machine the same examples every time: a red build is the fault of the change.
settings.register_profile("ci", derandomize=True, **_COMMON)  # type: ignore[arg-type]
settings.load_profile("ci" if os.environ.get("CI", "").lower() in {"1", "true"} else "default")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded with the test's own name: reproducible, and different for every test."""
    return np.random.default_rng(list(request.node.name.encode()))


@pytest.fixture
def pair(rng: np.random.Generator) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Make a textured image and a distorted version of it, float64 in [0, 255]."""
    from sampling import textured_pair

    def make(height: int = 40, width: int = 44, **options: object) -> tuple[np.ndarray, np.ndarray]:
        return textured_pair(rng, height, width, **options)  # type: ignore[arg-type]

    return make
