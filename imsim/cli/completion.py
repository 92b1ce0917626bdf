"""`imsim completion`: a script that completes the command in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from imsim.cli.options import add_command

SHELLS = ("bash", "zsh", "tcsh")
_FILES = {
    "REF",
    "TEST",
    "FILE",
    "M",
    "MODEL",
    "CSV",
    "IMAGES",
    "MASKS",
    "GOOD",
    "BAD",
    "NEW",
    "PLACE",
}
_FOLDERS = {"DIR", "FOLDER", "EXPECTED", "ACTUAL"}
HELP = """\
Print a script for a shell, which then completes commands, options and files:

  bash  imsim completion bash > ~/.local/share/bash-completion/completions/imsim
  zsh   imsim completion zsh > a file _imsim in a folder of $fpath
  tcsh  imsim completion tcsh > a file that ~/.cshrc sources
"""


def add_completion(commands: Any, whole: Callable[[], argparse.ArgumentParser]) -> None:
    """Add the command; `whole` returns the parser of all commands."""
    parser = add_command(commands, "completion", run, "complete the command in a shell", HELP)
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(whole=whole)


def run(arguments: argparse.Namespace) -> Iterator[str]:
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
