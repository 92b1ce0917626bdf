"""Interleaved timing: everything takes turns in one process, and ratios are taken within turns."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Call = Callable[[], Any]

SAMPLE = 2e-3
"""Shortest sample in seconds: faster calls are repeated within a sample."""
SETTLE = 1e-3
"""Seconds of untimed calls before a sample, while the threads of the one before go to sleep."""
FEWEST, MOST = 3, 41
"""Rounds."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


def spread(value: Spread) -> list[float]:
    """Median and quartiles with four digits, which is more than the noise leaves."""
    return [float(f"{v:.4g}") for v in (value.median, value.low, value.high)]


@dataclass(frozen=True)
class Measured:
    """What each call took in each round; None where it sat the round out."""

    rounds: dict[str, list[float | None]]

    def seconds(self, name: str) -> Spread:
        """Seconds per call."""
        return Spread.of([t for t in self.rounds[name] if t is not None])

    def ratio(self, name: str, base: str) -> Spread:
        """How many times as long as `base` a call takes, round by round."""
        rounds = zip(self.rounds[name], self.rounds[base], strict=True)
        return Spread.of([t / b for t, b in rounds if t is not None and b is not None])


def ratios(measured: Measured) -> dict[str, Any]:
    """Return the times of all, and how many times as long as imsim the others take."""
    others = [name for name in measured.rounds if name != "imsim"]
    return {
        "seconds": {name: spread(measured.seconds(name)) for name in measured.rounds},
        "ratios": {name: spread(measured.ratio(name, "imsim")) for name in others},
    }


def seconds(call: Call, repeats: int) -> float:
    """Seconds per call; a call that runs in another process times itself there."""
    measure = getattr(call, "measure", None)
    if measure is not None:
        return float(measure(repeats))
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def interleave(calls: dict[str, Call], budget: float) -> Measured:
    """Time the calls in turns, each for about `budget` seconds, never for fewer than 3 rounds."""
    estimates = {name: _estimate(call) for name, call in calls.items()}
    repeats = {name: max(1, round(SAMPLE / t)) for name, t in estimates.items()}
    turns = {
        name: min(MOST, max(FEWEST, int(budget / (max(SETTLE, t) + repeats[name] * t))))
        for name, t in estimates.items()
    }
    total = max(turns.values())
    rounds: dict[str, list[float | None]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for r in range(total):
            for name in reversed(calls) if r % 2 else calls:
                # Slow calls sit most rounds out, evenly over the run.
                due = (r + 1) * turns[name] // total > r * turns[name] // total
                if due:
                    _settle(calls[name], estimates[name])
                rounds[name].append(seconds(calls[name], repeats[name]) if due else None)
    finally:
        gc.enable()
    return Measured(rounds)


def _estimate(call: Call) -> float:
    call()  # compiles, and fills caches
    first = seconds(call, 1)
    return first if first > 20 * SETTLE else min(first, seconds(call, 3))


def _settle(call: Call, estimate: float) -> None:
    if estimate < 20 * SETTLE:  # what is longer does not notice
        end = time.perf_counter() + SETTLE
        call()
        while time.perf_counter() < end:
            call()
