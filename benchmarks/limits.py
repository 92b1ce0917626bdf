"""What the machine itself allows, measured in turns with imsim: copies and multiply-adds.

A metric reads each pixel of both images at least once, and a windowed one filters its planes along
both axes. The time that the machine takes for that alone bounds every implementation of the same
algorithm.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.bars import Bar, Case, Input
from benchmarks.images import Array
from benchmarks.libraries import Call
from benchmarks.peers import WORKS
from benchmarks.timing import Spread, interleave
from imsim.workers import parallel

CHAIN = 24
"""Multiply-adds in a row on each number: enough that loads and stores do not count."""
BLOCK = 1024
"""Numbers that stay in the first-level cache."""
TASKS = 16
"""Parts that the threads share."""


@dataclass(frozen=True)
class Limit:
    """A call that imsim's is measured against."""

    work: str
    given: Input
    multiply_adds: int = 0
    """By pixel; 0 if memory is the limit: a copy then moves as many bytes as both images have."""
    computes_in: str = "float64"

    @property
    def kind(self) -> str:
        if not self.multiply_adds:
            return "copying both images' bytes"
        return f"{self.multiply_adds} {self.computes_in} multiply-adds a pixel"

    @property
    def amount(self) -> float:
        """Multiply-adds of a call, or bytes of both images."""
        pixels = self.given.size**2
        return pixels * (self.multiply_adds or 2 * np.dtype(self.given.dtype).itemsize)

    def bind(self, x: Array, y: Array) -> Call:
        """Return the call that does as much, and nothing else, on as many threads as imsim."""
        if not self.multiply_adds:
            return _copying(x)
        return _multiplying(self.multiply_adds * x.size, np.dtype(self.computes_in))

    def measure(self, budget: float) -> dict[str, Spread]:
        """Return both times, and the share of the limit that is reached, in percent."""
        x, y = self.given.pair(self.work)
        calls = {"imsim": WORKS[self.work].bind(x, y), "limit": self.bind(x, y)}
        measured = interleave(calls, budget)
        share = measured.ratio("limit", "imsim")
        percent = Spread(100 * share.median, 100 * share.low, 100 * share.high)
        return {"share": percent, **{name: measured.seconds(name) for name in calls}}


def _copying(x: Array) -> Call:
    """Read an image and write another one: as many bytes as to read two images."""
    source, target = x.reshape(-1), np.empty_like(x).reshape(-1)
    step = -(-x.size // TASKS)

    def task(i: int) -> None:
        part = slice(i * step, (i + 1) * step)
        np.copyto(target[part], source[part])

    return lambda: parallel(task, TASKS, x.size)


def _multiplying(count: int, dtype: np.dtype[Any]) -> Call:
    """Do `count` multiply-adds on numbers in the first-level cache."""
    kernel = _chain()
    rounds = max(1, round(count / (CHAIN * BLOCK * TASKS)))
    numbers = np.linspace(0.1, 0.9, BLOCK).astype(dtype)
    a, b = dtype.type(0.3), dtype.type(0.2)

    def task(_: int) -> None:
        kernel(numbers, a, b, np.empty_like(numbers), rounds)

    return lambda: parallel(task, TASKS, count)


@functools.cache
def _chain() -> Callable[..., None]:
    """Compile the chains; all numbers of a block go through theirs at once, in vectors.

    The steps are written out: the compiler does not vectorise a loop around another one.
    """
    from numba import njit

    fast = {"nogil": True, "fastmath": {"contract"}}

    @njit(**fast)
    def four(total: Any, value: Any, b: Any) -> Any:
        total = total * value + b
        total = total * value + b
        total = total * value + b
        return total * value + b

    @njit(**fast)
    def chain(numbers: Any, a: Any, b: Any, out: Any, rounds: int) -> None:
        for _ in range(rounds):
            for j in range(numbers.size):
                value = numbers[j]
                total = four(four(four(a, value, b), value, b), value, b)
                out[j] = four(four(four(total, value, b), value, b), value, b)

    return chain  # type: ignore[no-any-return]


def _filtered(planes: int, taps: int) -> int:
    """Multiply-adds of a separable window, by pixel."""
    return planes * 2 * taps


SSIM, UIQ, IMED = _filtered(4, 11), _filtered(4, 8), _filtered(1, 13)
F32, U8 = "float32", "uint8"
LIMITS = (
    Limit("ssim", Input(1024), SSIM, F32),
    Limit("ssim", Input(1024, U8), SSIM),
    Limit("uiq", Input(1024), UIQ),
    Limit("uiq", Input(1024, U8), UIQ),
    Limit("imed", Input(1024), IMED, F32),
    *(
        Limit(work, Input(4096, dtype))
        for work in ("se", "rmse", "psnr", "sre", "zncc", "sam, image", "gmsd")
        for dtype in (F32, U8)
    ),
)


def _share(limit: Limit) -> Case:
    def measure(budget: float) -> Spread:
        return limit.measure(budget)["share"]

    return Case(f"{limit.work}, {limit.given.label}", measure, slow=limit.given.size > 1024)


def _limit(work: str, size: int, dtype: str) -> Limit:
    given = Input(size, dtype)
    return next(limit for limit in LIMITS if limit.work == work and limit.given == given)


LIMIT_BARS = (
    Bar("SSIM, float32, 1024x1024", "60 % of the machine's multiply-adds", 60, True,
        (_share(_limit("ssim", 1024, F32)),), unit="%"),
    Bar("SE, RMSE, PSNR, uint8, 4096x4096", "80 % of the machine's copy bandwidth", 80, True,
        tuple(_share(_limit(work, 4096, U8)) for work in ("se", "rmse", "psnr")), unit="%"),
)  # fmt: skip
