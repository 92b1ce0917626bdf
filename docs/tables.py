"""Write the tables that pages take from the registry: `python docs/tables.py`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import imsim
from imsim.registry import GRADIENT, JIT, VALUE, VMAP

ROOT = Path(__file__).parents[1]
ABILITIES = (VALUE, GRADIENT, JIT, VMAP)


def lines(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows])


def metrics() -> str:
    """What is known of each metric."""
    heads = [*imsim.METRICS["ssim"].describe(), "map", "reference"]
    heads = [head.replace("data range", "`data_range`") for head in heads]
    rows = []
    for metric in imsim.METRICS.values():
        has_map = "yes" if metric.map_function else "no"
        references = "; ".join(with_link(reference) for reference in metric.references)
        name, *others = metric.describe().values()
        rows.append([f"`{name}`", *others, has_map, references])
    return lines(heads, rows)


def with_link(reference: str) -> str:
    return re.sub(r"(?:doi:\s*)?(10\.\d{4,}/[^\s;,]+)", r"[\1](https://doi.org/\1)", reference)


def arrays() -> str:
    """What works with which arrays, a column for metrics that are alike in this."""
    columns: dict[tuple[str, ...], list[str]] = {}
    places = dict.fromkeys(place for m in imsim.METRICS.values() for place in m.capabilities)
    for m in imsim.METRICS.values():
        cells = [", ".join(sorted(m.capabilities.get(p, ()), key=ABILITIES.index)) for p in places]
        by_kernels = "no" if m.gradient is None else "yes"
        columns.setdefault((*cells, by_kernels), []).append(f"`{m.name}`")
    heads = ["arrays", *(", ".join(names) for names in columns.values())]
    names = [*(f"{library} ({device})" for library, device in places), "gradients are kernels too"]
    return lines(
        heads, [[name, *(cells[i] or "-" for cells in columns)] for i, name in enumerate(names)]
    )


TABLES: dict[str, Callable[[], str]] = {"README.md": metrics, "docs/tensors.md": arrays}
"""The table of each page; it stands between comments that have its name."""


def with_table(page: str, text: str) -> str:
    """Return the text of a page with its table as it is now."""
    table = TABLES[page]
    begin, end = (f"<!-- {table.__name__}: {word} -->" for word in ("begin", "end"))
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{table()}\n{end}{after}"


if __name__ == "__main__":
    for page in TABLES:
        path = ROOT / page
        path.write_text(with_table(page, path.read_text(encoding="utf-8")), encoding="utf-8")
