"""Calls between other work: the caches hold other data, and the threads sleep."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import imsim
from benchmarks.bars import Bar, Case, Input
from benchmarks.libraries import Call
from benchmarks.peers import WORKS
from benchmarks.timing import Spread, interleave, spread

OTHER_BYTES = 20 << 20
"""Bytes that the other work reads and writes."""
REPEATS = 5
"""Most calls of one sample, each after other work, which takes milliseconds."""
SIDES = (256, 1024)


@dataclass(frozen=True)
class Between:
    """A call that times itself, each time after other work."""

    call: Call
    workers: int
    other: Any

    def __call__(self) -> None:
        with imsim.workers(self.workers):
            self.call()

    def measure(self, repeats: int) -> float:
        """Return the seconds of one call."""
        total, repeats = 0.0, min(repeats, REPEATS)
        with imsim.workers(self.workers):
            for _ in range(repeats):
                np.add(self.other, 1, out=self.other)
                start = time.perf_counter()
                self.call()
                total += time.perf_counter() - start
        return total / repeats


def _calls(work: str, side: int) -> dict[str, Call]:
    call = WORKS[work].bind(*Input(side, WORKS[work].dtype).pair(work))
    other = np.zeros(OTHER_BYTES // 8)
    return {
        "in a row": call,
        "between": Between(call, imsim.get_workers(), other),
        "alone": Between(call, 1, other),
    }


def measure_between(work: str, side: int, budget: float) -> dict[str, Any]:
    """Time calls in a row and between other work, with all threads and with one."""
    measured = interleave(_calls(work, side), budget)
    return {
        "work": work,
        "size": side,
        "seconds": {name: spread(measured.seconds(name)) for name in measured.rounds},
    }


def _against_one_thread(work: str) -> Case:
    def measure(budget: float) -> Spread:
        calls = _calls(work, 256)
        del calls["in a row"]
        return interleave(calls, budget).ratio("between", "alone")

    return Case(work, measure, slow=True)


BETWEEN_BARS = (
    Bar("between other work, 256x256", "1.5x the time with one thread", 1.5, False,
        tuple(_against_one_thread(work) for work in WORKS)),
)  # fmt: skip
