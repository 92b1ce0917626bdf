"""A headless browser, for the pages that imsim writes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Nothing here may look for updates, or leave anything behind.
OPTIONS = [
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-sandbox",
    "--enable-logging=stderr",
    "--log-level=0",
    "--virtual-time-budget=5000",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def rendered(page: Path, profile: Path, fragment: str = "") -> tuple[str, list[str]]:
    """Open a page from disk; return its elements after the script ran, and the console's lines."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None or sys.platform != "linux":
        pytest.skip("no Chromium to open the page with")
    done = subprocess.run(
        [program, *OPTIONS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri() + fragment],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, re.findall(r".*:CONSOLE.*", done.stderr)
