"""Ctrl-C while the command starts and ends: it stops at once, without a traceback.

Python imports this package, which takes some tenths of a second, before any line of the command
runs. So the package itself sees to it, but only in a process that was started as the command.
What is imported here, before anything else, is there already when Python starts.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without its enumerations
import os
import sys

INTERRUPTED = 130
"""The exit status, that of a shell for this signal."""
_PROGRAMS = {"imsim", "imsim.exe", "imsim-script.py"}


def leave(*_: object) -> None:
    """End the process; nothing is under way yet, or any more."""
    try:
        os.write(2, b"imsim: interrupted\n")
    finally:
        os._exit(INTERRUPTED)


def watch() -> None:
    """Let Ctrl-C end the process quietly, if it was started as the command."""
    if _is_command() and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        try:  # noqa: SIM105 - contextlib takes time to import
            _signal.signal(_signal.SIGINT, leave)
        except ValueError:
            pass  # another thread than the main one imports this


def _is_command() -> bool:
    if "--multiprocessing-fork" in sys.orig_argv:
        return False  # a process that helps the command, which ends it
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # while Python looks for the module
        following = sys.orig_argv[sys.orig_argv.index("-m") + 1 :] if "-m" in sys.orig_argv else []
        return bool(following) and following[0] in ("imsim", "imsim.cli")
    return os.path.basename(program) in _PROGRAMS


watch()
