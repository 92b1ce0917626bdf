"""The authors' own programs next to imsim, from the values in tests/golden."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from golden_deviations import PAIRS, checks, difference

PROGRAMS = {
    r"ssim_index": ("`ssim_index.m` (2003)", "imsim.ssim(x, y, data_range=255)"),
    r"ssim_auto": ("`ssim.m` (2009)", "imsim.ssim(x, y, downsample=True, data_range=255)"),
    r"ssim_index_win_ones8": (
        "`ssim_index.m`, `ones(8)`",
        "imsim.ssim(x, y, window='uniform', window_size=8, data_range=255)",
    ),
    r"uiq_b8": ("`img_qi.m` (2001)", "imsim.uiq(x, y)"),
    r"gmsd": ("`GMSD.m`", "imsim.gmsd(x, y, data_range=255)"),
    r"fsim": ("`FeatureSIM.m`, FSIM", "imsim.fsim(x, y, data_range=255)"),
    r"fsimc": (
        "`FeatureSIM.m`, FSIMc",
        "imsim.fsim(x, y, chromatic=True, data_range=255, channel_axis=-1)",
    ),
}


def authors_rows() -> list[list[str]]:
    """Return program, call, number of images, and the largest difference in either precision."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pattern, (program, call) in PROGRAMS.items():
            held = [
                (pair, check)
                for pair in PAIRS
                for check in checks(pair)
                if re.fullmatch(pattern + "(@.*)?", check.name)
            ]
            double, single = (
                max(difference(pair, check, dtype)[0] for pair, check in held)
                for dtype in (np.float64, np.float32)
            )
            rows.append([program, f"`{call}`", str(len(held)), f"{double:.0e}", f"{single:.0e}"])
    return rows
