"""A few seeded cases of the fuzzer; thousands run with ``python tests/fuzz.py``."""

from __future__ import annotations

import itertools

import fuzz
import numpy as np
import pytest
from sampling import PIXELWISE


def has_usual_kernels(case: fuzz.Case) -> bool:
    """Whether other tests compile the kernels too."""
    dtype = np.asarray(case.a).dtype
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return case.variant.metric in PIXELWISE
    return not case.variant.options or dtype == np.float64


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_wrong_in_silence(seed: int, request: pytest.FixtureRequest) -> None:
    """Documented results only, whatever the call."""
    drawn = fuzz.cases(seed, large=0.02, huge=0)
    if not request.config.getoption("--thorough"):
        drawn = filter(has_usual_kernels, drawn)
    drawn = itertools.islice(drawn, 40)
    broken = [f"{case}: {breach}" for case in map(fuzz.judge, drawn) for breach in case.breaches]
    assert not broken
