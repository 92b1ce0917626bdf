"""What the command and its subcommands say about themselves, for the page on the command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from imsim.cli import command_parser


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of its subcommands, at any depth."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


def write_help(app: Sphinx) -> None:
    os.environ["COLUMNS"] = "80"
    os.environ["NO_COLOR"] = "1"
    sections = [
        f"## {parser.prog}\n\n```text\n{parser.format_help()}```\n"
        for parser in parsers(command_parser())
    ]
    path = Path(app.srcdir) / "generated" / "command_help.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("# Every option\n\n" + "\n".join(sections), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_help)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
