"""The `imsim` command."""

from __future__ import annotations

import _thread
import argparse
import gc
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from imsim import _interrupt
from imsim._version import __version__
from imsim.cli.accept import add_accept
from imsim.cli.anomaly import add_anomaly
from imsim.cli.compare import add_compare
from imsim.cli.options import Parser
from imsim.cli.outputs import NOTED, flush, say, say_on_terminal, write
from imsim.cli.report import add_report
from imsim.cli.tools import add_compile, add_completion, add_list
from imsim.errors import ImsimError, unforeseen
from imsim.notice import heard_by

__all__ = ["command_parser", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, of which the help of each command tells."""
    try:
        with _interruptible():
            status = _guarded(lambda: _command(argv))
    except KeyboardInterrupt:  # in the instant before anything could take it, or once more
        status = _interrupt.INTERRUPTED
    if _is_process():
        if status == _interrupt.INTERRUPTED:
            os._exit(status)  # Python would wait for threads, each until the end of what it does
        gc.freeze()  # as it ends, Python would look through all objects, for 0.3 s
    return status


def command_parser() -> argparse.ArgumentParser:
    """Return the parser; the arguments it finds have a function `run`."""
    parser = Parser(
        prog="imsim", description="How alike are two images? By many measures, whole or masked."
    )
    parser.add_argument("--version", action="version", version=f"imsim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_list, add_compare, add_report, add_accept, add_anomaly, add_compile):
        add(commands)
    add_completion(commands, command_parser)
    return parser


def _command(argv: Sequence[str] | None) -> int:
    _make_streams_safe()
    try:
        arguments = command_parser().parse_args(argv)
    except SystemExit as end:  # help, or wrong usage
        status = int(end.code or 0)
        raise SystemExit(_guarded(lambda: flush(status))) from None
    caught: dict[str, None] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # Not recorded one by one: a long run may give the same one for each pair.
        warnings.showwarning = lambda message, kind, *_, **__: (
            None if issubclass(kind, NOTED) else caught.setdefault(str(message))
        )
        with heard_by(say_on_terminal):
            status = _guarded(lambda: _run(arguments))
    for message in caught:
        say(f"warning: {message}")
    return status


def _guarded(run: Callable[[], int]) -> int:
    """Return the status of what is run, whatever happens to it."""
    try:
        return run()
    except BrokenPipeError:
        return 2
    except KeyboardInterrupt as end:
        say(f"interrupted{end}")
        return _interrupt.INTERRUPTED
    except (ImsimError, ImportError) as error:
        say(f"error: {error}")
    except Exception as error:
        if isinstance(error, FileNotFoundError) and _is_nowhere():
            say("error: the folder in which the command runs is gone; change to another one")
            return 2
        # Not Python's own status for this, 1, which is that of scores beyond a limit.
        say(f"error: imsim itself failed, please report this: {unforeseen(error)}")
    return 2


def _is_nowhere() -> bool:
    """Tell whether the folder in which the process runs was removed."""
    try:
        os.getcwd()
    except OSError:
        return True
    return False


def _is_process() -> bool:
    """Tell whether the process is there for the command alone."""
    return signal.getsignal(signal.SIGINT) is _interrupt.leave


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt, where it ended the process since its start."""
    if not _is_process():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    earlier, sys.unraisablehook = sys.unraisablehook, _raised_again
    try:
        yield
    finally:
        sys.unraisablehook = earlier
        signal.signal(signal.SIGINT, _interrupt.leave)


def _raised_again(lost: sys.UnraisableHookArgs) -> None:
    """Interrupt once more where the exception is lost, as in a callback of the compiler."""
    if lost.exc_type is KeyboardInterrupt:
        threading.Timer(0.01, _thread.interrupt_main).start()  # this call would lose it, too
    else:
        sys.__unraisablehook__(lost)


def _make_streams_safe() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The name of a file need not be text in the encoding of the terminal.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # A file must not get the number of a stream that was closed: messages would go into it.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _run(arguments: argparse.Namespace) -> int:
    """Print what the command yields; what it returns is the exit status."""
    output = arguments.run(arguments)
    try:
        while True:
            try:
                text = next(output)
            except StopIteration as end:
                return int(end.value or 0)
            write(text)
    finally:
        output.close()  # whatever file is being written is ended properly
