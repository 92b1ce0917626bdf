"""The authors' quality maps: statistics and sampled pixels, at imsim's place of each cell."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from golden_checks import UNDEFINED
from golden_data import PAIRS, Pair

import imsim


@dataclass(frozen=True)
class MapCheck:
    """How to obtain the authors' map from the one imsim gives on the input grid."""

    call: Callable[[Any, Any], np.ndarray]
    # Index, on the authors' (coarse) grid, of the window centre of the authors' first cell.
    first: int
    absolute: float
    # Whether the map lives on the grid that FSIM's and ssim.m's downsampling rule gives.
    downsampled: bool = False
    factor: int = 1


# The tolerances are those of the scores; see golden_checks.
MAPS = {
    "ssim_index": MapCheck(lambda a, b: imsim.ssim_map(a, b, data_range=255), 5, 1e-11),
    "ssim_auto": MapCheck(
        lambda a, b: imsim.ssim_map(a, b, data_range=255, downsample=True), 5, 1e-11, True
    ),
    "uiq_b8": MapCheck(lambda a, b: imsim.uiq_map(a, b), 4, 1e-11),
    "gmsd": MapCheck(lambda a, b: imsim.gmsd_map(a, b, data_range=255), 0, 1e-12, factor=2),
}

CASES = [
    (pair, name)
    for pair in PAIRS
    for name in MAPS
    if (
        name == "gmsd"
        or f"{name}_map.rows" in pair.intermediates
        or f"{name}_map@grey601.rows" in pair.intermediates
    )
    and (pair.id, f"{name}@grey601") not in UNDEFINED
]


def _coarse(pair: Pair, name: str, images: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the authors' map as imsim has it: one value per cell, from its first scored one."""
    check = MAPS[name]
    factor = pair.downsample_factor if check.downsampled else check.factor
    full = check.call(*images)
    assert full.shape == images[0].shape
    cells = full[::factor, ::factor]
    # Every pixel of a block carries the value of its cell.
    repeated = np.repeat(np.repeat(cells, factor, axis=0), factor, axis=1)
    np.testing.assert_array_equal(full, repeated[: full.shape[0], : full.shape[1]])
    return cells[check.first :, check.first :]


@pytest.mark.parametrize(("pair", "name"), CASES, ids=[f"{p.id}-{n}" for p, n in CASES])
def test_map(pair: Pair, name: str) -> None:
    grey = pair.is_rgb
    suffix = "@grey601" if grey else ""
    got = _coarse(pair, name, pair.grey601 if grey else pair.float64)
    close = MAPS[name].absolute
    known = pair.intermediates
    if f"{name}_map{suffix}.rows" in known:
        rows, cols = (int(known[f"{name}_map{suffix}.{side}"]) for side in ("rows", "cols"))
        beyond = got.copy()
        beyond[:rows, :cols] = np.nan
        assert np.all(np.isnan(beyond))  # the windows that would leave the frame
        got = got[:rows, :cols]
        for statistic in (np.max, np.min, np.mean, np.std):
            label = {"std": "std_n"}.get(statistic.__name__, statistic.__name__.removeprefix("a"))
            assert abs(statistic(got) - known[f"{name}_map{suffix}.{label}"]) <= close, label
        pattern = re.compile(re.escape(f"{name}_map{suffix}") + r"\[(\d+),(\d+)\]")
        pixels = {k: m for k in known if (m := pattern.fullmatch(k))}
        assert len(pixels) == 8
        for label, match in pixels.items():
            assert abs(got[int(match[1]), int(match[2])] - known[label]) <= close, label
    if name == "gmsd":
        assert abs(np.mean(got) - known[f"gmsd_map_mean{suffix}"]) <= close
        assert abs(np.min(got) - known[f"gmsd_map_min{suffix}"]) <= close


@pytest.mark.parametrize("pair", [p for p in PAIRS if p.is_rgb], ids=lambda pair: pair.id)
def test_map_of_a_colour_pair_is_the_mean_over_channels(pair: Pair) -> None:
    got = imsim.gmsd_map(*pair.float64, data_range=255, channel_axis=-1)
    want = np.mean([pair.intermediates[f"gmsd_map_mean@ch{k}"] for k in range(3)])
    assert abs(np.mean(got[::2, ::2]) - want) <= 1e-12
