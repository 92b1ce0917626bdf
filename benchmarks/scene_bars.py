"""What images larger than memory, and arrays of Dask, set out to reach."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import imsim
from benchmarks import probes
from benchmarks.bars import Bar, Case
from benchmarks.libraries import Call
from benchmarks.timing import Spread, interleave

NAMES = ("ssim", "gmsd", "psnr", "fsim")
SIDE, DASK_SIDE, CHUNK = 6000, 4096, 256


def stored_pair(folder: Path, side: int) -> tuple[Any, Any]:
    """Two images of bytes in files, as memory maps."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (500, side), dtype=np.uint8)
    found = []
    for name in ("a", "b"):
        path = folder / f"{name}.npy"
        image = np.lib.format.open_memmap(path, "w+", np.uint8, (side, side))
        for top in range(0, side, 500):
            image[top : top + 500] = np.roll(base, top // 7, axis=1)
            if name == "b":
                image[top : top + 500] ^= rng.integers(0, 8, (500, side), dtype=np.uint8)
        image.flush()
        found.append(np.load(path, mmap_mode="r"))
    return found[0], found[1]


def _in_memory(x: np.ndarray, y: np.ndarray) -> None:
    for name in NAMES:
        imsim.METRICS[name].function(x, y)


def _blocks(budget: float) -> Spread:
    with tempfile.TemporaryDirectory() as folder:
        a, b = stored_pair(Path(folder), SIDE)
        x, y = np.array(a), np.array(b)
        calls: dict[str, Call] = {
            "blocks": partial(imsim.compare, a, b, NAMES, memory="200 MB"),
            "memory": partial(_in_memory, x, y),
        }
        return interleave(calls, budget).ratio("blocks", "memory")


def _lazy_pair(dtype: str) -> tuple[list[Any], list[Any]]:
    """Two images in memory, and as arrays of Dask."""
    import dask.array

    rng = np.random.default_rng(0)
    pair = [(255 * rng.random((DASK_SIDE, DASK_SIDE))).astype(dtype) for _ in range(2)]
    return pair, [dask.array.from_array(v, chunks=CHUNK) for v in pair]


def _dask(dtype: str) -> Case:
    def measure(budget: float) -> Spread:
        pair, lazy = _lazy_pair(dtype)
        calls: dict[str, Call] = {
            "Dask": lambda: imsim.ssim(*lazy, data_range=255).compute(scheduler="threads"),
            "memory": partial(imsim.ssim, *pair, data_range=255),
        }
        return interleave(calls, budget).ratio("Dask", "memory")

    return Case(f"ssim, {DASK_SIDE}x{DASK_SIDE} {dtype}, 16x16 chunks", measure)


def _graph(budget: float) -> Spread:
    _, lazy = _lazy_pair("uint8")
    return interleave({"graph": partial(imsim.ssim, *lazy)}, budget).seconds("graph")


def _peak(_: float) -> Spread:
    return Spread.of(probes.scene()["megabytes"])


SCENE_BARS = (
    Bar("scenes", "1.67x the time of images in memory", 1.67, False,
        (Case(f"ssim, gmsd, psnr, fsim in one pass, {SIDE}x{SIDE} uint8 on disk", _blocks),)),
    Bar("scenes", "700 MB in all", 700, False,
        (Case("ssim, gmsd, psnr, fsim, 20000x20000 uint8 on disk", _peak, slow=True),),
        unit="MB"),
    Bar("Dask", "2x the time of arrays in memory", 2, False, (_dask("uint8"), _dask("float32"))),
    Bar("Dask", "0.3 s to build a graph", 0.3, False,
        (Case(f"ssim, {DASK_SIDE}x{DASK_SIDE}, 16x16 chunks", _graph),), unit="s"),
)  # fmt: skip
