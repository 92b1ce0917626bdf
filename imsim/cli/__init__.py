"""The `imsim` command."""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from collections.abc import Sequence

from imsim.cli.listing import facts
from imsim.cli.parser import command_parser as _parser
from imsim.cli.terminal import say, write
from imsim.errors import EmptyMaskWarning, ImsimError

__all__ = ["facts", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        0 on success; 1 if a score is beyond its limit, or the reader of the output went away;
        2 after any error; 130 if interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        # The name of a file need not be text in the encoding of the terminal.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    caught: dict[str, None] = {}
    masked = getattr(arguments, "mask", None) is not None  # a note then names the mask
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # Not recorded one by one: a long run may give the same one for each pair.
        warnings.showwarning = lambda message, kind, *_, **__: (
            None if masked and kind is EmptyMaskWarning else caught.setdefault(str(message))
        )
        status = _run(arguments)
    for message in caught:
        say(f"warning: {message}")
    return status


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
    except (ImsimError, ImportError) as error:
        say(f"error: {error}")
        return 2
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt as end:
        say(f"interrupted{end}")
        return 130
    finally:
        output.close()  # whatever file is being written is ended properly
