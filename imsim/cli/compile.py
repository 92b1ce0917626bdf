"""`imsim compile`: the kernels ahead of time."""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from typing import Any

from imsim.cli.messages import progress
from imsim.cli.options import add_command, parse_metrics
from imsim.compilation import COMPILED, DTYPES, compiling_calls
from imsim.validation import check_names

TEXT = """\
Compile ahead of time what scores and maps need, with default options, for
images of some types. Otherwise the first comparison of such images does, which
takes seconds. The compiled code is kept in the folder that the environment
variable IMSIM_CACHE_DIR names, or else beside the installed package, or, if
nobody may write there, among the caches of the user."""


def add_compile(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(commands, "compile", run, "compile the code of the metrics ahead", TEXT)
    parser.add_argument("--metrics", metavar="M,...", help="names of metrics; default: all")
    parser.add_argument(
        "--dtypes",
        metavar="T,...",
        help=f"types of pixels, of {', '.join(COMPILED)}; default: {','.join(DTYPES)}",
    )


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """Compile, and yield how long it took."""
    metrics = parse_metrics(arguments.metrics, ())
    named = None if arguments.dtypes is None else [t.strip() for t in arguments.dtypes.split(",")]
    dtypes = check_names("--dtypes", named, COMPILED, DTYPES)  # an error names the option
    calls = compiling_calls(metrics, dtypes)
    start = time.monotonic()
    # Whoever calls this need not be told that code is compiled.
    with progress(len(calls), "call") as bar, redirect_stderr(io.StringIO()):
        for call in calls:
            call()
            if bar is not None:
                bar.update()
    yield f"compiled code is ready after {time.monotonic() - start:.0f} s"
