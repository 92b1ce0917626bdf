"""A few seeded cases of the fuzzer; thousands run with ``python tests/fuzz.py``."""

from __future__ import annotations

import itertools

import fuzz
import pytest


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_wrong_in_silence(seed: int) -> None:
    """Documented results only, whatever the call."""
    drawn = itertools.islice(fuzz.cases(seed, large=0.02, huge=0), 40)
    broken = [f"{case}: {breach}" for case in map(fuzz.judge, drawn) for breach in case.breaches]
    assert not broken
