"""What needs a fresh process: peak memory, the time of an import, the time of a first call."""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import WORKS
from benchmarks.timing import Call, Spread

ROOT = Path(__file__).parent.parent


def extra_memory(work: str, size: int, masked: bool = False) -> float:
    """Peak memory of a call on a float32 pair beyond what it was given, in parts of the pair."""
    return float(_probe("memory", work, str(size), *(["--masked"] if masked else []))["extra"])


def import_seconds(rounds: int) -> Spread:
    """How much longer `import imsim` takes than `import numpy`, in processes taking turns."""
    differences = []
    for _ in range(rounds + 1):
        numpy, imsim = (_wall([sys.executable, "-c", f"import {m}"]) for m in ("numpy", "imsim"))
        differences.append(imsim - numpy)
    return Spread.of(differences[1:])  # the first one reads the files from the disk


@functools.cache
def first_call(work: str) -> dict[str, float]:
    """Seconds until the first score on a 256 x 256 pair, and what a later call takes.

    `cold` compiles, `warm` finds what that left on disk; both import what they need.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = {"IMSIM_CACHE_DIR": cache}
        cold = _probe("first", work, environment=environment)
        warm = _probe("first", work, environment=environment)
    return {"cold": cold["first"], "warm": warm["first"], "later": warm["later"]}


def compile_seconds() -> float:
    """Seconds of CPU that compile what `imsim.compile_kernels` compiles unasked."""
    with tempfile.TemporaryDirectory() as cache:
        return _probe("compile", environment={"IMSIM_CACHE_DIR": cache})["seconds"]


@functools.cache
def volume() -> dict[str, list[float]]:
    """Seconds and megabytes of SSIM of volumes of 512^3 pixels of uint16, of several calls."""
    found: dict[str, list[float]] = _probe("volume")  # type: ignore[assignment]
    return found


def scene() -> dict[str, list[float]]:
    """Peak megabytes of a process that scores images of 400 MB each from files."""
    found: dict[str, list[float]] = _probe("scene")  # type: ignore[assignment]
    return found


def _probe(*arguments: str, environment: dict[str, str] | None = None) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.probes", *arguments]
    own = _installed() | (environment or {})
    output = subprocess.run(
        command, cwd=ROOT, env=own, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    result: dict[str, float] = json.loads(output)
    return result


def _wall(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=_installed(), check=True)
    return time.perf_counter() - start


@functools.cache
def _installed() -> dict[str, str]:
    """Return an environment in which modules have byte code, as those that pip installs have.

    Where PYTHONDONTWRITEBYTECODE is set, each process would translate this package anew, but not
    NumPy: 0.1 s of every import.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "compileall", "-q", "imsim", "benchmarks"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return environment


def _pair(work: str, size: int) -> tuple[Any, Any]:
    """Plain noise: cheap, and nothing is left of its making."""
    rng = np.random.default_rng(size)
    channels = WORKS[work].channels
    shape = (size, size) if channels == 1 else (size, size, channels)
    if WORKS[work].dtype == "uint8":
        x, y = (rng.integers(1, 256, shape, dtype=np.uint8) for _ in range(2))
        return x, y
    images = [rng.random(shape, dtype=np.float32) for _ in range(2)]
    for image in images:
        image *= 255
    return images[0], images[1]


def _status(field: str) -> int:
    """Bytes, from the kernel's account of this process."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    if found is None:
        raise RuntimeError(f"no {field} in /proc/self/status")
    return int(found[1]) * 1024


def _memory(work: str, size: int, masked: bool) -> dict[str, float]:
    def call_on(x: Any, y: Any) -> Call:
        mask = np.ones(x.shape, bool) if masked else None
        if mask is not None:
            mask[: len(x) // 4] = False
        return WORKS[work].bind(x, y, mask)

    for small in (512, 1024):  # which compile all kernels that larger images need
        call_on(*_pair(work, small))()
    x, y = _pair(work, size)
    call = call_on(x, y)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest peak so far
        before = _status("VmRSS")
        call()
        after = _status("VmHWM")
    except OSError:  # not Linux, or not allowed
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        call()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"extra": max(0, after - before) / (x.nbytes + y.nbytes)}


def _volume() -> dict[str, list[float]]:
    import imsim

    rng = np.random.default_rng(0)
    x = rng.integers(0, 4000, (512, 512, 512), dtype=np.uint16)
    y = x + rng.integers(0, 96, x.shape, dtype=np.uint16)
    imsim.ssim(x[:16], y[:16], ndim=3, data_range=4095)  # compiles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        imsim.ssim(x, y, ndim=3, data_range=4095)
        seconds.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "megabytes": [(after - before) / 1024]}


def _scene() -> dict[str, list[float]]:
    import imsim
    from benchmarks.scene_bars import NAMES, stored_pair

    with tempfile.TemporaryDirectory() as folder:
        a, b = stored_pair(Path(folder), 20_000)
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak of their making
        except OSError:
            return {"megabytes": []}
        imsim.compare(a, b, NAMES)
        return {"megabytes": [_status("VmHWM") / 1e6]}


def _first(work: str) -> dict[str, float]:
    import imsim  # noqa: F401  # its own time is measured elsewhere

    call = WORKS[work].bind(*_pair(work, 256))
    times = []
    for _ in range(6):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {"first": times[0], "later": statistics.median(times[1:])}


def _compile() -> dict[str, float]:
    import imsim

    start = time.process_time()
    imsim.compile_kernels()
    return {"seconds": time.process_time() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure one thing in this process; print JSON.")
    commands = parser.add_subparsers(dest="what", required=True)
    memory = commands.add_parser("memory")
    memory.add_argument("work", choices=WORKS)
    memory.add_argument("size", type=int)
    memory.add_argument("--masked", action="store_true")
    commands.add_parser("first").add_argument("work", choices=WORKS)
    commands.add_parser("volume")
    commands.add_parser("scene")
    commands.add_parser("compile")
    given = parser.parse_args()
    if given.what == "volume":
        print(json.dumps(_volume()))
    elif given.what == "scene":
        print(json.dumps(_scene()))
    elif given.what == "compile":
        print(json.dumps(_compile()))
    elif given.what == "memory":
        print(json.dumps(_memory(given.work, given.size, given.masked)))
    else:
        print(json.dumps(_first(given.work)))


if __name__ == "__main__":
    main()
