"""`imsim list`: the facts about every metric."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from imsim.cli.rows import json_number
from imsim.registry import METRICS, Metric
from imsim.tables import table


def add_list(commands: Any) -> None:
    """Add the command with its options."""
    parser = commands.add_parser("list", help="show the facts of every metric")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the table, or JSON."""
    if arguments.json:
        yield json.dumps([_record(metric) for metric in METRICS.values()], indent=2)
    else:
        rows = [metric.describe() for metric in METRICS.values()]
        yield table([list(rows[0]), *(list(row.values()) for row in rows)])


def _volumes(metric: Metric) -> str:
    if not metric.volumes:
        return "no"
    return "experimental" if metric.experimental_volumes else "yes"


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
        "volumes": _volumes(metric),
    }
