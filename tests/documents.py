"""The pages in Markdown, and the code on them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("tests/golden/*.md")])
}
KINDS = ("python", "python torch", "python xarray", "python dask", "python zarr")
"""What opens a block; those of the second kind need the environment of `make test-tensors`, those
after it a package that is optional."""
WITH_JAX = [page for page, text in PAGES.items() if "import jax" in text]


def blocks(page: str, kind: str = "python") -> list[str]:
    """Return the blocks of a kind on a page."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)


def run(page: str, kind: str = "python") -> None:
    """Run the blocks of a kind from top to bottom, with the same names."""
    names: dict[str, object] = {}
    for block in blocks(page, kind):
        exec(compile(block, page, "exec"), names)
