"""What happens while `imsim anomaly watch` looks at a folder."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace


def between_looks(monkeypatch):
    """Return a list that takes what happens between two looks at "in"; then there is Ctrl-C."""
    steps = []

    def sleep(_):
        if not steps:
            raise KeyboardInterrupt
        step = steps.pop(0)
        if step is not None:
            step()

    # Its own clock alone: the workers that judge items sleep, too.
    clock = SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
    monkeypatch.setattr("imsim.cli.anomaly.watch.time", clock)
    Path("in").mkdir()
    return steps
