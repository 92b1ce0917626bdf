"""`imsim list`, `imsim compile` and `imsim completion`: commands that take no image."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from imsim import kernels
from imsim.cli.measures import ALL
from imsim.cli.options import add_command
from imsim.cli.outputs import progress
from imsim.cli.rows import json_number
from imsim.compilation import COMPILED, DTYPES, compiling_calls
from imsim.errors import ImsimError
from imsim.notice import heard_by
from imsim.pages import readable
from imsim.registry import METRICS, Metric
from imsim.tables import table
from imsim.validation import check_names


def add_list(commands: Any) -> None:
    """Add the command with its options."""
    parser = commands.add_parser("list", help="show the facts of every metric")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run_list)


def run_list(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the table, or JSON."""
    if arguments.json:
        yield json.dumps([_facts(metric) for metric in METRICS.values()], indent=2)
    else:
        rows = [metric.describe() for metric in METRICS.values()]
        yield table([list(rows[0]), *(list(row.values()) for row in rows)])


def _volumes(metric: Metric) -> str:
    if not metric.volumes:
        return "no"
    return "experimental" if metric.experimental_volumes else "yes"


def _facts(metric: Metric) -> dict[str, Any]:
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


COMPILE_HELP = """\
Compile ahead of time what scores and maps need, with default options, for
images of some types. Otherwise the first comparison of such images does, which
takes seconds. The environment variable IMSIM_CACHE_DIR names the folder of the
compiled code; the last line says which one it is."""


def add_compile(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(
        commands, "compile", run_compile, "compile the code of the metrics ahead", COMPILE_HELP
    )
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


def _named(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def run_compile(arguments: argparse.Namespace) -> Iterator[str]:
    """Compile, and yield how long it took."""
    named = _named(arguments.metrics)
    metrics = check_names("--metrics", None if named and ALL in named else named, METRICS)
    dtypes = check_names("--dtypes", _named(arguments.dtypes), COMPILED, DTYPES)
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
            bar.update()
    yield f"compiled code is ready after {time.monotonic() - start:.0f} s, in {readable(folder)}"


SHELLS = ("bash", "zsh", "tcsh")
_FILES = {
    *("REF", "TEST", "FILE", "M", "MODEL", "CSV", "IMAGES", "MASKS"),
    *("GOOD", "BAD", "NEW", "PLACE"),
}
_FOLDERS = {"DIR", "FOLDER", "EXPECTED", "ACTUAL"}
COMPLETION_HELP = """\
Print a script for a shell, which then completes commands, options and files:

  bash  imsim completion bash > ~/.local/share/bash-completion/completions/imsim
  zsh   imsim completion zsh > a file _imsim in a folder of $fpath
  tcsh  imsim completion tcsh > a file that ~/.cshrc sources
"""


def add_completion(commands: Any, whole: Callable[[], argparse.ArgumentParser]) -> None:
    """Add the command; `whole` returns the parser of all commands."""
    parser = add_command(
        commands, "completion", run_completion, "complete the command in a shell", COMPLETION_HELP
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(whole=whole)


def run_completion(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the script."""
    import shtab

    parser = arguments.whole()
    _mark(parser)
    yield shtab.complete(parser, arguments.shell)


def _mark(parser: argparse.ArgumentParser) -> None:
    """Say which arguments are files."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for other in action.choices.values():
                _mark(other)
        elif action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
