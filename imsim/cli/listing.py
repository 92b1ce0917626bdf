"""`imsim list`: the facts about every metric."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from imsim.cli.terminal import json_number, table
from imsim.registry import METRICS, Metric


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the table, or JSON."""
    if arguments.json:
        yield json.dumps([_record(metric) for metric in METRICS.values()], indent=2)
    else:
        rows = [metric.describe() for metric in METRICS.values()]
        yield table([list(rows[0]), *(list(row.values()) for row in rows)])


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
