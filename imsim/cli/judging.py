"""Options on what is found of each pair, and when a pair fails."""

from __future__ import annotations

import argparse
from typing import Any

from imsim.cli.measures import ALL, BY_RULE, PLAIN, named_ones, parse_limits, parse_metrics
from imsim.cli.options import pixel_value
from imsim.validation import check_number


def add_judging(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options; `default` says which metrics are meant without --metrics."""
    add = parser.add_argument
    add(
        "--metrics",
        metavar="a,b",
        help=f"names from `imsim list`, or of counts, separated by commas; {default}. "
        f"`{ALL}` stands for every metric",
    )
    add(
        "--tolerance",
        metavar="D",
        type=pixel_value,
        help=f"count {', '.join(PLAIN)}: a pixel differs by more than D in some channel; 0 if "
        "these are named and no D is given",
    )
    add(
        "--anti-aliasing",
        action="store_true",
        help=f"count {', '.join(BY_RULE)}: a pixel counts only if its value, of either image, is "
        "nowhere in the other one within one pixel, to within the tolerance",
    )
    add(
        "--option",
        metavar="m.o=x",
        action="append",
        default=[],
        help="option o of metric m, as in Python: ssim.downsample=true, zncc.window_size=9; can be "
        "repeated",
    )
    several: dict[str, Any] = {"metavar": "m=x", "action": "append", "default": []}
    add(
        "--fail-under",
        **several,
        help="end with status 1 if a score of metric m is worse than x (above it where lower is "
        "better: gmsd=0.1), or a file has no partner; can be repeated",
    )
    add(
        "--fail-over",
        **several,
        help="the same for metrics and counts that are better if lower: rmse=2, pixels=0",
    )


def judged_by(
    arguments: argparse.Namespace, default: str | None = None
) -> tuple[list[str], dict[str, float], set[str]]:
    """Return the metrics and counts to run, the limits, and which of them no pair may lack."""
    if arguments.tolerance is not None:
        check_number("--tolerance", arguments.tolerance)
    limits = parse_limits(arguments.fail_under, arguments.fail_over)
    counts = [*(PLAIN if arguments.tolerance is not None else ())]
    counts += BY_RULE if arguments.anti_aliasing else []
    named = default if arguments.metrics is None else arguments.metrics
    metrics = parse_metrics(named, limits, counts)
    return metrics, limits, {*limits, *counts, *named_ones(arguments.metrics)}
