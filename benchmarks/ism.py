"""Calls image-similarity-measures in its own environment, through a process that waits there."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.images import Array

HERE = Path(__file__).parent


def python() -> Path:
    """Return the interpreter of that environment."""
    default = HERE.parent / ".venv-bench-ism" / "bin" / "python"
    return Path(os.environ.get("IMSIM_BENCH_ISM", default))


@functools.cache
def _worker() -> subprocess.Popen[str]:
    if not python().exists():
        raise ImportError("image-similarity-measures has no environment; make bench makes it")
    worker = subprocess.Popen(
        [python(), HERE / "ism_worker.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(worker.kill)
    return worker


class Remote:
    """A call of one of its metrics on one pair; gives the value, or measures itself there."""

    def __init__(self, metric: str, x: Array, y: Array, options: dict[str, Any]) -> None:
        self._worker = _worker()
        self._folder = tempfile.TemporaryDirectory()
        self._request: dict[str, Any] = {"metric": metric, "options": options}
        for name, image in (("x", x), ("y", y)):
            path = Path(self._folder.name) / f"{name}.npy"
            np.save(path, image if image.ndim == 3 else image[..., None])
            self._request[name] = str(path)

    def __call__(self) -> float:
        return self._ask(1)["value"]

    def measure(self, repeats: int) -> float:
        return self._ask(repeats)["seconds"]

    def _ask(self, repeats: int) -> dict[str, float]:
        stdin, stdout = self._worker.stdin, self._worker.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the worker has no pipes")
        stdin.write(json.dumps(self._request | {"repeats": repeats}) + "\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise RuntimeError("image-similarity-measures ended; its message is above")
        result: dict[str, float] = json.loads(answer)
        return result


def bind(metric: str, **options: Any) -> Callable[[Array, Array], Remote]:
    """Bind one of its metrics."""
    return lambda x, y: Remote(metric, x, y, options)
