"""A task that kills the worker which scores one of the images."""

from __future__ import annotations

import os
import signal
from typing import Any

from imsim.cli import pair_scoring

NAME = "05.png"
_score_parts = pair_scoring.score_parts


def score_parts(jobs: Any, run: Any, parts: list[Any], threads: int) -> Any:
    """Score pairs, on a worker, which may not survive that."""
    if any(part.subject.test.endswith(NAME) for part in parts):
        os.kill(os.getpid(), signal.SIGKILL)
    return _score_parts(jobs, run, parts, threads)


def allow(deaths: int, dask_scheduler: Any = None) -> None:
    """Let the scheduler give up a task after so many dead workers."""
    dask_scheduler.allowed_failures = deaths
