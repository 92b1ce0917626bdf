"""`imsim compile`: the kernels ahead of time."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from imsim import kernels
from imsim.cli.measures import parse_metrics
from imsim.cli.messages import progress
from imsim.cli.options import add_command
from imsim.compilation import COMPILED, DTYPES, compiling_calls
from imsim.errors import ImsimError
from imsim.notice import heard_by
from imsim.pages import readable
from imsim.validation import check_names

TEXT = """\
Compile ahead of time what scores and maps need, with default options, for
images of some types. Otherwise the first comparison of such images does, which
takes seconds. The environment variable IMSIM_CACHE_DIR names the folder of the
compiled code; the last line says which one it is."""


def add_compile(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(commands, "compile", run, "compile the code of the metrics ahead", TEXT)
    parser.add_argument("--metrics", metavar="M,...", help="names of metrics; default: all")
    parser.add_argument(
        "--dtypes",
        metavar="T,...",
        help=f"types of pixels, of {', '.join(COMPILED)}; default: {','.join(DTYPES)}",
    )
    parser.add_argument(
        "--gradients",
        action="store_true",
        help="also the gradients of the scores, for tensors of PyTorch and JAX",
    )
    parser.add_argument(
        "--regions", action="store_true", help="also what scores the regions of a label image"
    )
    parser.add_argument(
        "--xray", action="store_true", help="also what peels X-ray images, for `imsim anomaly`"
    )


def _is_writable(folder: str) -> bool:
    """Tell whether a folder takes files; one that is missing was made before, if possible."""
    try:
        with tempfile.TemporaryFile(dir=os.path.expanduser(folder)):
            return True
    except OSError:
        return False


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """Compile, and yield how long it took."""
    metrics = parse_metrics(arguments.metrics, ())
    named = None if arguments.dtypes is None else [t.strip() for t in arguments.dtypes.split(",")]
    dtypes = check_names("--dtypes", named, COMPILED, DTYPES)  # by the option's name
    folder = kernels.cache_folder()
    if folder is None:
        raise ImsimError(
            "no folder can be written to, so that every process compiles anew",
            "let IMSIM_CACHE_DIR name one",
        )
    named_folder = os.environ.get("IMSIM_CACHE_DIR")
    if named_folder and not _is_writable(named_folder):
        raise ImsimError(
            f"IMSIM_CACHE_DIR={named_folder}: no folder that can be written to",
            "let it name one, or unset it",
        )
    also = (arguments.gradients, arguments.regions, arguments.xray)
    calls = compiling_calls(metrics, dtypes, *also)
    start = time.monotonic()
    # Whoever calls this need not be told that code is compiled.
    with progress(len(calls), "call") as bar, heard_by(lambda _: None):
        for call in calls:
            call()
            if bar is not None:
                bar.update()
    yield f"compiled code is ready after {time.monotonic() - start:.0f} s, in {readable(folder)}"
