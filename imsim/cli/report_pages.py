"""The folder of a report: a new one, or one that an earlier report has made."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from imsim.cli.outputs import check_folder
from imsim.errors import OptionError
from imsim.pages import page, tag
from imsim.pages.page import GENERATOR
from imsim.whole_files import is_part, replacing, writing_to

INDEX, PAGES = "index.html", "pairs"
_NAME = re.compile(r"[0-9a-f]{16}\.html")
_MARK = str(tag("meta", name="generator", content=GENERATOR)).encode("ascii")
_HEAD = 4096
"""Bytes at the beginning of a page, which hold its mark."""


class ReportPages:
    """Writes the pages of a report into a new or empty folder, or one with an index of imsim."""

    def __init__(self, folder: str, inputs: Iterable[str]) -> None:
        self._folder = folder
        if os.path.exists(folder):
            if not os.path.isdir(folder):
                raise OptionError(
                    f"{folder}: is a file; the report of two folders is a folder, name a new one"
                )
            # Another run may be making its index.
            holds = [name for name in os.listdir(folder) if not is_part(name)]
            if holds and not _is_ours(os.path.join(folder, INDEX)):
                raise OptionError(
                    f"{folder}: is there, and holds no report; name a new folder, or an empty one"
                )
        check_folder(folder, inputs)
        with writing_to(folder):
            os.makedirs(folder, exist_ok=True)
        # Whatever happens, the folder is known as ours, and an old index does not stay.
        unfinished = "This report is being written, or was interrupted."
        self.write(INDEX, page("Unfinished report", tag("h1", unfinished)))
        with writing_to(folder):
            os.makedirs(os.path.join(folder, PAGES), exist_ok=True)

    def write(self, name: str, html: str) -> None:
        """Write a page, all of it or nothing; its name is relative to the folder."""
        path = os.path.join(self._folder, name)
        with writing_to(path), replacing(path) as new:
            Path(new).write_text(html, encoding="utf-8")

    def tidy(self, kept: Collection[str]) -> None:
        """Remove the pages of an earlier report that this one has not; nothing else."""
        place = os.path.join(self._folder, PAGES)
        for name in os.listdir(place):
            path = os.path.join(place, name)
            if f"{PAGES}/{name}" not in kept and _NAME.fullmatch(name) and _is_ours(path):
                with suppress(OSError):
                    os.remove(path)


def _is_ours(path: str) -> bool:
    """Tell whether a file is a page of this program."""
    if not os.path.isfile(path):  # a pipe would be waited for
        return False
    try:
        with open(path, "rb") as file:
            return _MARK in file.read(_HEAD)
    except OSError:
        return False
