"""What tensors set out to reach: scores and gradients beside those of other libraries of tensors.

All calls on the same tensors take turns; several goals read the result of one such race.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from benchmarks import images
from benchmarks.bars import Bar, Case
from benchmarks.libraries import Call
from benchmarks.tensor_peers import TENSOR_WORKS, both_ways, forward
from benchmarks.timing import Measured, Spread, interleave, ratios

TIMES, MICROSECONDS = 1.3, 20
"""Longest time of a tensor's forward pass: so many times NumPy's, and so much more."""
NUMPY = "NumPy arrays"
WHOLE = "without a mask"


@dataclass(frozen=True)
class Race:
    """All calls of one work on the same float32 tensors."""

    work: str
    size: int
    count: int = 1
    channels: int = 1
    is_backward: bool = False
    is_masked: bool = False
    """Race against the same call without a mask, and nobody else."""

    @property
    def is_slow(self) -> bool:
        """Whether a quick run leaves it out."""
        return self.count > 1

    @property
    def label(self) -> str:
        shape = f"{self.size}x{self.size}"
        if self.count > 1 or self.channels > 1:
            shape = f"{self.count}x{self.channels}x{shape}"
        ways = "forward + backward" if self.is_backward else "forward"
        return f"{self.work}, {shape}, {ways}" + (", masked" if self.is_masked else "")

    def calls(self) -> tuple[dict[str, Call], list[str]]:
        """Return imsim's call and those of all peers that are installed, and the other peers."""
        work = TENSOR_WORKS[self.work]
        arrays = images.pair(self.size, count=self.count, channels=self.channels)
        tensors = work.tensors(*arrays)
        if self.is_masked:
            mask = images.mask(self.size)
            return {
                "imsim": forward(work.load(mask), *tensors),
                WHOLE: forward(work.load(), *tensors),
            }, []
        run = both_ways if self.is_backward else forward
        calls, missing = {"imsim": run(work.load(), *tensors)}, []
        if work.module == "torch" and not self.is_backward:
            calls[NUMPY] = partial(work.load(), *(v.numpy() for v in tensors))
        for other in work.peers:
            try:
                calls[other.library] = run(other.load(), *tensors)
            except ImportError:
                missing.append(other.library)
        return calls, missing


@cache
def measured(race: Race, budget: float) -> tuple[Measured, list[str]]:
    """Time a race once, for all goals that read it; return the peers that are missing as well."""
    calls, missing = race.calls()
    return interleave(calls, budget), missing


def _against(race: Race, library: str) -> Case:
    """How many times as long the peer takes."""

    def measure(budget: float) -> Spread:
        found, missing = measured(race, budget)
        if library in missing:
            raise ImportError(f"{library} is not installed")
        return found.ratio(library, "imsim")

    return Case(f"{race.label} against {library}", measure, race.is_slow)


def _beyond_numpy(race: Race) -> Case:
    """Microseconds beyond a multiple of the time of the same call on NumPy arrays."""

    def measure(budget: float) -> Spread:
        found, _ = measured(race, budget)
        turns = zip(found.rounds["imsim"], found.rounds[NUMPY], strict=True)
        return Spread.of(
            [1e6 * (t - TIMES * n) for t, n in turns if t is not None and n is not None]
        )

    return Case(race.label, measure)


def _masked(race: Race) -> Case:
    """How many times as long as without a mask."""

    def measure(budget: float) -> Spread:
        return measured(race, budget)[0].ratio("imsim", WHOLE)

    return Case(race.label, measure)


def _every_peer(race: Race) -> tuple[Case, ...]:
    return tuple(_against(race, other.library) for other in TENSOR_WORKS[race.work].peers)


SSIM, GMSD, FSIM, JITTED = TENSOR_WORKS
FORWARD = {name: Race(name, 512) for name in TENSOR_WORKS}
BACKWARD = {name: Race(name, 512, is_backward=True) for name in (SSIM, GMSD, FSIM)}
BATCHES = {name: Race(name, 256, 16, 3, is_backward=True) for name in (SSIM, GMSD, FSIM)}
MASKED = tuple(Race(name, 512, is_masked=True) for name in (SSIM, JITTED))

TENSOR_BARS = (
    Bar("torch, forward", f"{TIMES:g}x the time of {NUMPY} and {MICROSECONDS} µs", MICROSECONDS,
        False, tuple(_beyond_numpy(FORWARD[name]) for name in (SSIM, GMSD, FSIM)), unit="µs"),
    Bar("torch, forward", "30x as fast as others' SSIM", 30, True,
        tuple(_against(FORWARD[SSIM], name) for name in ("piq", "torchmetrics", "pytorch-msssim"))),
    Bar("torch, forward", "3x as fast as piq's GMSD", 3, True, _every_peer(FORWARD[GMSD])),
    Bar("torch, forward", "4x as fast as piq's FSIM", 4, True, _every_peer(FORWARD[FSIM])),
    Bar("torch, forward + backward", "15x as fast as others' SSIM", 15, True,
        _every_peer(BACKWARD[SSIM]) + _every_peer(BATCHES[SSIM])),
    Bar("torch, forward + backward", "5x as fast as piq's GMSD", 5, True,
        _every_peer(BACKWARD[GMSD]) + _every_peer(BATCHES[GMSD])),
    Bar("torch, forward + backward", "3x as fast as piq's FSIM", 3, True,
        _every_peer(BACKWARD[FSIM]) + _every_peer(BATCHES[FSIM])),
    Bar("JAX, jitted", "as fast as dm-pix's SSIM", 1, True, _every_peer(FORWARD[JITTED])),
    Bar("tensors, masked / unmasked", f"{TIMES:g}x the time", TIMES, False,
        tuple(_masked(race) for race in MASKED)),
)  # fmt: skip


def races(budget: float, quick: bool) -> list[dict[str, Any]]:
    """Return what the goals have read, and whose library is not installed."""
    found = []
    for race in (*FORWARD.values(), *BACKWARD.values(), *BATCHES.values(), *MASKED):
        if not (quick and race.is_slow):
            result, missing = measured(race, budget)
            marks = {other.library: other.mark for other in TENSOR_WORKS[race.work].peers}
            facts = {"label": race.label, "marks": marks, "missing": missing}
            found.append(facts | ratios(result))
    return found
