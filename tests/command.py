"""The `imsim` command, run within the process of the tests."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest

from imsim.cli import main


def by_kind(text: str) -> dict[str, list[Any]]:
    """Read lines of JSON; of a kind that does not occur there are none."""
    found = defaultdict(list)
    for line in text.splitlines():
        record = json.loads(line, parse_constant=pytest.fail)  # JSON has no infinity
        found[record["kind"]].append(record)
    return found


def compared(
    capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0
) -> tuple[dict[str, list[Any]], list[str]]:
    """Run `imsim compare`; return its lines of JSON by their kinds, and the lines it said."""
    assert main(["compare", "--json", *arguments]) == status
    out, err = capsys.readouterr()
    return by_kind(out), err.splitlines()
