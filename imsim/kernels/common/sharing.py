"""Threads for many images, or for the parts of one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from imsim.workers import get_workers, parallel

Run: TypeAlias = Callable[[Callable[[int], object], int, int], None]
"""``run(task, n, pixels)`` calls a task for 0 to n - 1; `pixels` measures the work."""


def serial(task: Callable[[int], object], n: int, pixels: int) -> None:
    """Call a task for 0 to n - 1 in this thread."""
    for i in range(n):
        task(i)


def share_out(
    task: Callable[[int, Run], None],
    n: int,
    pixels: int,
    *,
    run: Run = parallel,
    at_once: bool = True,
) -> None:
    """Share n tasks of some pixels each among threads; where they are few, the work within each.

    Each task gets the `Run` for its parts. Without `at_once`, it is one task after the other.
    """
    if run is parallel and at_once and n >= get_workers():
        parallel(lambda i: task(i, serial), n, n * pixels)
    else:
        for i in range(n):
            task(i, run)
