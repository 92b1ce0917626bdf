"""Options on what a report shows of each pair, and when a pair fails."""

from __future__ import annotations

import argparse

from imsim.cli.measures import BY_RULE, PLAIN, named_ones, parse_limits, parse_metrics
from imsim.cli.options import pixel_value


def add_judging(parser: argparse.ArgumentParser, metrics: str) -> None:
    """Add the options; `metrics` says which are shown by default."""
    add = parser.add_argument
    add("--metrics", metavar="a,b", help=f"names from `imsim list`, or of counts; {metrics}")
    add(
        "--tolerance",
        metavar="D",
        type=pixel_value,
        help=f"count {', '.join(PLAIN)}: a pixel differs by more than D in some channel",
    )
    add(
        "--anti-aliasing",
        action="store_true",
        help=f"count {', '.join(BY_RULE)}: only pixels whose value is nowhere near in the other "
        "image, see `imsim compare --help`",
    )
    for name, example in (("under", "ssim=0.95"), ("over", "rmse=2")):
        add(
            f"--fail-{name}",
            metavar="m=x",
            action="append",
            default=[],
            help=f"a pair fails as in `imsim compare --fail-{name}`, such as {example}; can be "
            "repeated",
        )


def judged_by(
    arguments: argparse.Namespace, default: str | None
) -> tuple[list[str], dict[str, float], set[str]]:
    """Return the metrics and counts to run, the limits, and which of them no pair may lack."""
    limits = parse_limits(arguments.fail_under, arguments.fail_over)
    counts = [*(PLAIN if arguments.tolerance is not None else ())]
    counts += BY_RULE if arguments.anti_aliasing else []
    metrics = parse_metrics(arguments.metrics or default, limits, counts)
    return metrics, limits, {*limits, *counts, *named_ones(arguments.metrics)}
