"""Stacks of images in parts: small enough for the caches, and shared out among threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

import imsim

TOGETHER = 32
"""Most images of a part."""

T = TypeVar("T")


def divided(n: int, most: int = TOGETHER) -> list[slice]:
    """Divide `n` images evenly into parts of at most `most`; the same for any number of threads."""
    count = -(-n // most)
    return [slice(n * k // count, n * (k + 1) // count) for k in range(count)]


def in_threads(function: Callable[[slice], T], n: int) -> list[T]:
    """Call a function for each part of `n` images, and return the results in order.

    It runs in as many threads as `imsim.get_workers` says, and has one worker in each.
    """
    slices = divided(n)
    workers = min(imsim.get_workers(), len(slices))
    if workers == 1:
        return [function(part) for part in slices]

    def alone(part: slice) -> T:
        with imsim.workers(1):
            return function(part)

    with ThreadPoolExecutor(workers, thread_name_prefix="imsim.anomaly") as pool:
        # In the caller's context, and with it NumPy's error handling.
        waiting = [pool.submit(copy_context().run, alone, part) for part in slices]
        return [one.result() for one in waiting]
