"""Pages that read as plain Markdown in the repository, where nobody knows Sphinx's directives.

A directive stands in an HTML comment, which Markdown does not show, and is taken out of it here.
Pages that lie outside docs/ get one here each, which includes them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HIDDEN = re.compile(r"^<!--\n(```\{[\w-]+\}.*?^```)\n-->$", re.DOTALL | re.MULTILINE)
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md")


def with_directives(text: str) -> str:
    """Return a page with its hidden directives, and with links to pages that the site has."""
    text = HIDDEN.sub(r"\1", text)
    for name in OUTSIDE:
        text = text.replace(f"](../{name})", f"](generated/{name.lower()})")
    return text


def read(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = with_directives(source[0])


def write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    for name in OUTSIDE:
        text = f"```{{include}} ../../{name}\n```\n"
        (folder / name.lower()).write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_pages)
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
