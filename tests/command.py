"""The `imsim` command, run within the process of the tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imsim.cli import main


def compared(
    capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0
) -> tuple[Any, list[str]]:
    """Run `imsim compare`; return its JSON, None if it printed none, and the lines it said."""
    assert main(["compare", "--json", *arguments]) == status
    out, err = capsys.readouterr()
    return json.loads(out) if out else None, err.splitlines()
