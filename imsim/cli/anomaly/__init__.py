"""`imsim anomaly`: from simulated or own images to detectors, verdicts and reports."""

from __future__ import annotations

from typing import Any

from imsim.cli.anomaly.labelled import add_report, add_simulate
from imsim.cli.anomaly.score import add_score
from imsim.cli.anomaly.train import add_info, add_train, add_update
from imsim.cli.anomaly.watch import add_watch


def add_anomaly(commands: Any) -> None:
    """Add the command with its own commands."""
    parser = commands.add_parser("anomaly", help="find what is unlike good images")
    own = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_simulate, add_train, add_update, add_info, add_score, add_watch, add_report):
        add(own)
