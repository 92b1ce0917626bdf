"""`imsim list`: the facts about every metric."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from typing import Any

from imsim.cli.terminal import json_number, table
from imsim.registry import METRICS, Metric

FACTS = ("name", "title", "better", "range", "needs data range", "unit")


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the table, or JSON."""
    if arguments.json:
        yield json.dumps([_record(metric) for metric in METRICS.values()], indent=2)
    else:
        rows = [facts(metric) for metric in METRICS.values()]
        yield table([FACTS, *([row[column] for column in FACTS] for row in rows)])


def facts(metric: Metric) -> dict[str, str]:
    """Describe a metric in words, one per column of `FACTS`.

    Parameters
    ----------
    metric : Metric
        The record to describe.

    Returns
    -------
    dict of str
        The keys of `FACTS`.
    """
    return {
        "name": metric.name,
        "title": metric.title + (" (experimental)" if metric.experimental else ""),
        "better": "higher" if metric.higher_is_better else "lower",
        "range": interval(metric),
        "needs data range": "yes" if metric.needs_data_range else "no",
        "unit": metric.unit or "-",
    }


def interval(metric: Metric) -> str:
    """Write the bounds; an infinite one is closed where some pair of images reaches it."""
    low, high = metric.bounds
    left = "(" if math.isinf(low) else "["
    right = ")" if math.isinf(high) and metric.best != high else "]"
    names = {math.pi: "pi", math.pi / 2: "pi/2"}
    return f"{left}{names.get(low, f'{low:.4g}')}, {names.get(high, f'{high:.4g}')}{right}"


def _record(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "title": metric.title,
        "higher_is_better": metric.higher_is_better,
        "best": json_number(metric.best),
        "bounds": [json_number(bound) for bound in metric.bounds],
        "symmetric": metric.symmetric,
        "needs_data_range": metric.needs_data_range,
        "unit": metric.unit,
        "has_map": metric.map_function is not None,
        "references": list(metric.references),
        "experimental": metric.experimental,
    }
