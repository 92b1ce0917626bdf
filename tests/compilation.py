"""Compiling once what the workers of a whole run need, before they all compile the same."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from sampling import FRAME, MAPS, SCORES, blob_mask, textured_pair

import imsim
from imsim.kernels.common import jit

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

CAN_LOCK = fcntl is not None
"""Whether one worker can let others wait; otherwise all kernels are compiled before."""

PATIENCE = 60
"""Seconds after which a worker compiles what another one does not finish."""

DTYPES = ("uint8", "uint16", "float32", "float64")
"""Those that most tests use, with masks and without."""


def compile_kernels() -> None:
    """Compile the kernels of all metrics and maps, in as many processes as there are cores."""
    # The last ones, in windows, take longest.
    names = list(reversed(imsim.METRICS))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        list(pool.map(compile_metric, names))


def compile_metric(name: str) -> None:
    """Call a metric and its map, which leaves their kernels in the cache on disk."""
    rng = np.random.default_rng(0)
    mask = blob_mask(rng, *FRAME)
    for variant in (v for v in (*SCORES, *MAPS) if v.metric == name):
        images = textured_pair(rng, *FRAME, colour=variant.colour)
        for dtype in DTYPES:
            for inside in (None, mask):
                # What fails here is for the tests to say.
                with contextlib.suppress(Exception):
                    variant(*(image.astype(dtype) for image in images), mask=inside)
    if imsim.METRICS[name].region_kernel is not None:
        for dtype in DTYPES:
            images = textured_pair(rng, *FRAME)
            a, b = (image.astype(dtype) for image in images)
            imsim.regions(a, b, mask.astype(int), [name], data_range=255)


def compile_once(folder: Path) -> None:
    """Let workers wait for a kernel that another one compiles, and load it: half of the work.

    A kernel that is being compiled has a locked file in the folder.
    """
    if not CAN_LOCK or not jit.IS_ENABLED:
        return
    load, save = jit._Cache.load_overload, jit._Cache.save_overload
    locks: dict[str, Any] = {}

    def load_or_lock(self: Any, sig: Any, target_context: Any) -> Any:
        path = None
        with contextlib.suppress(Exception):  # no cache: nothing to wait for
            path = entry(self, sig, target_context.codegen())
        if path is not None and not path.exists():
            locks[path.name] = locked(folder / path.name)
        found = load(self, sig, target_context)
        if found is not None and path is not None:
            release(path)
        return found

    def save_and_release(self: Any, sig: Any, data: Any) -> None:
        save(self, sig, data)
        with contextlib.suppress(Exception):
            release(entry(self, sig, data.codegen))

    def release(path: Path) -> None:
        file = locks.pop(path.name, None)
        if file is not None:
            file.close()

    jit._Cache.load_overload, jit._Cache.save_overload = load_or_lock, save_and_release


def entry(cache: Any, sig: Any, codegen: Any) -> Path:
    """Return the file of a compiled kernel."""
    path: Path = cache._cache_file._entry(cache._index_key(sig, codegen))[0]
    return path


def locked(path: Path) -> Any:
    """Open a file that no other process has locked; what ends unlocks it, however it ends."""
    file = path.open("wb")
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.02)
        else:
            break
    return file
