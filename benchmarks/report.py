"""Measures everything and writes it down: ``python -m benchmarks.report [--quick]``.

The result of each machine is a file of its own in ``benchmarks/results``; ``docs/benchmarks.md``,
its plot and the table in the README are made from it.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import imsim
from benchmarks import ism, probes, render
from benchmarks.bars import BARS, Bar, Case, Input
from benchmarks.between import BETWEEN_BARS, SIDES, measure_between
from benchmarks.detector_bars import DETECTOR_BARS
from benchmarks.images import DTYPES
from benchmarks.libraries import looped
from benchmarks.limits import LIMIT_BARS, LIMITS, Limit
from benchmarks.peers import WORKS
from benchmarks.scene_bars import SCENE_BARS
from benchmarks.tensor_bars import TENSOR_BARS, races
from benchmarks.timing import Spread, interleave, ratios, spread
from benchmarks.volume_bars import VOLUME_BARS

ROOT = Path(__file__).parent.parent
SIZES = (128, 256, 512, 1024, 2048)
BATCH = Input(128, count=64)
BATCHED = {"psnr": ("piq", "OpenCV"), "ssim": ("piq", "OpenCV"), "gmsd": ("piq", "OpenCV"),
           "fsim": ("piq",)}  # fmt: skip
PACKAGES = ("imsim", "numpy", "scipy", "numba", "scikit-image", "opencv-contrib-python-headless",
            "torch", "piq", "torchmetrics", "pytorch-msssim", "kornia", "jax", "dm-pix", "sewar",
            "ImageHash", "imed")  # fmt: skip


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What the times depend on, without any name of the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())):
        model = found[1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model.strip(),
        "cores": imsim.get_workers(),
        "memory_GiB": round(memory),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    found = {"imsim": imsim.__version__}
    for package in PACKAGES[1:]:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if ism.python().exists():
        code = "import importlib.metadata as m; print(m.version('image-similarity-measures'))"
        output = subprocess.run([ism.python(), "-c", code], stdout=subprocess.PIPE, text=True)
        found["image-similarity-measures"] = output.stdout.strip()
    return found


def commit() -> str:
    """The commit measured; a plus sign if the package or its benchmarks were changed."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return head + (
            "+" if git("status", "--porcelain", "--", "imsim", "benchmarks/*.py") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def equal_footing() -> dict[str, int]:
    """Let every library use as many threads as imsim does."""
    count = imsim.get_workers()
    threads = {"imsim": count}
    try:
        import torch

        torch.set_num_threads(count)
        threads["torch"] = torch.get_num_threads()
    except ImportError:
        say("torch is not installed: its peers are left out")
    try:
        import cv2

        cv2.setNumThreads(count)
        threads["OpenCV"] = cv2.getNumThreads()
    except ImportError:
        say("OpenCV is not installed: its peers are left out")
    return threads


def measure_bar(bar: Bar, budget: float, quick: bool) -> dict[str, Any]:
    cases = []
    for case in bar.cases:
        measured = None if quick and case.slow else measure_case(case, budget)
        met = None if measured is None else bar.meets(measured.median)
        value = None if measured is None else spread(measured)
        cases.append({"label": case.label, "value": value, "met": met})
        say(f"  {bar.work}: {bar.text}: {case.label}: {value}")
    return {
        "work": bar.work,
        "text": bar.text,
        "limit": bar.limit,
        "at_least": bar.at_least,
        "unit": bar.unit,
        "tensors": bar in TENSOR_BARS,
        "cases": cases,
    }


def measure_case(case: Case, budget: float) -> Spread | None:
    try:
        return case.measure(budget)
    except ImportError as error:
        say(f"  {case.label}: {error}")
        return None


def measure_work(name: str, given: Input, budget: float) -> dict[str, Any]:
    """Time imsim and all peers that are installed, in turns."""
    work = WORKS[name]
    x, y = given.pair(name)
    calls = {"imsim": work.bind(x, y)}
    for other in work.peers:
        if given.size > other.largest:
            continue
        if given.count and other.library not in BATCHED[name]:
            continue
        bind = looped(other.bind) if given.count and other.library != "piq" else other.bind
        try:
            calls[other.library] = bind(x, y)
        except ImportError as error:
            say(f"  {name}, {other.library}: {error}")
    result = ratios(interleave(calls, budget))
    say(f"  {name}, {given.label}: {result['ratios']}")
    return {"work": name, "size": given.size, "dtype": given.dtype, **result}


def measure_dtypes(metric: str, budget: float) -> dict[str, Any]:
    """How long other pixel types take, in turns with float32."""
    calls = {d: WORKS[metric].bind(*Input(512, d).pair(metric)) for d in DTYPES}
    measured = interleave(calls, budget)
    others = [d for d in DTYPES if d != "float32"]
    return {"work": metric, **{d: spread(measured.ratio(d, "float32")) for d in others}}


def measure_limit(limit: Limit, budget: float) -> dict[str, Any]:
    """What share of what the machine allows a metric reaches."""
    found = {name: spread(value) for name, value in limit.measure(budget).items()}
    say(f"  {limit.work}, {limit.given.label}, {limit.kind}: {found['share']} %")
    given = limit.given
    return {
        "work": limit.work,
        "size": given.size,
        "dtype": given.dtype,
        "kind": limit.kind,
        "amount": limit.amount,
        **found,
    }


def rest(most: float = 180) -> None:
    """Wait, for `most` seconds at the longest, until the machine has finished other work.

    Installing the environment and the tests before leave a load of their own behind.
    """
    end = time.monotonic() + most
    while os.getloadavg()[0] > render.BUSY_LOAD * imsim.get_workers() and time.monotonic() < end:
        time.sleep(5)


def measure(quick: bool) -> dict[str, Any]:
    if not quick:
        say("Waiting for the machine to come to rest")
        rest()
    budget = 0.05 if quick else 0.6
    result: dict[str, Any] = {
        "quick": quick,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "kernels": sorted(m.name for m in imsim.METRICS.values() if m.kernel),
        "threads": equal_footing(),
        "load": {"before": [round(v, 2) for v in os.getloadavg()]},
    }
    say("Bars")
    result["bars"] = [
        measure_bar(bar, budget, quick)
        for bar in (
            *BARS,
            *LIMIT_BARS,
            *BETWEEN_BARS,
            *VOLUME_BARS,
            *SCENE_BARS,
            *DETECTOR_BARS,
            *TENSOR_BARS,
        )
    ]
    result["races"] = races(budget, quick)
    for race in result["races"]:
        for library in race["missing"]:
            say(f"  {race['label']}: {library} is not installed")
    say("Peers")
    result["sizes"] = [
        measure_work(name, Input(size, work.dtype), budget / 2)
        for name, work in WORKS.items()
        for size in (SIZES[:3:2] if quick else SIZES)
    ]
    result["batches"] = [measure_work(name, BATCH, budget / 2) for name in BATCHED]
    say("Pixel types")
    result["dtypes"] = [measure_dtypes(name, budget / 2) for name in WORKS]
    say("Limits of the machine")
    result["limits"] = [
        measure_limit(limit, budget) for limit in LIMITS if not quick or limit.given.size <= 1024
    ]
    say("Between other work")
    result["between"] = [
        measure_between(name, side, budget / 4)
        for name in WORKS
        for side in (SIDES[:1] if quick else SIDES)
    ]
    say("First calls")
    first = ("ssim",) if quick else tuple(WORKS)
    result["first_calls"] = {name: probes.first_call(name) for name in first}
    result["load"]["after"] = [round(v, 2) for v in os.getloadavg()]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="about a minute: few rounds and sizes, written to build/benchmarks only",
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # what peers warn of is theirs
    result = measure(given.quick)
    about = result["machine"]
    stem = re.sub(r"[^a-z0-9]+", "-", f"{about['cpu']} {about['cores']} cores".lower()).strip("-")
    folder = ROOT / "build" / "benchmarks" if given.quick else ROOT / "benchmarks" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.json"
    path.write_text(render.to_json(result))
    render.write(result, folder if given.quick else ROOT / "docs")
    if not given.quick:
        render.update_readme(result, ROOT / "README.md")
    say(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
