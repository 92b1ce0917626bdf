"""Write the metric table of README.md from the registry: `python docs/readme_table.py`."""

from __future__ import annotations

import re
from pathlib import Path

import imsim

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- metrics: begin -->", "<!-- metrics: end -->"


def table() -> str:
    heads = [*imsim.METRICS["ssim"].describe(), "map", "reference"]
    heads = [head.replace("data range", "`data_range`") for head in heads]
    rows = [heads, ["---"] * len(heads)]
    for metric in imsim.METRICS.values():
        has_map = "yes" if metric.map_function else "no"
        references = "; ".join(with_link(reference) for reference in metric.references)
        name, *others = metric.describe().values()
        rows.append([f"`{name}`", *others, has_map, references])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def with_link(reference: str) -> str:
    return re.sub(r"(?:doi:\s*)?(10\.\d{4,}/[^\s;,]+)", r"[\1](https://doi.org/\1)", reference)


def with_table(readme: str) -> str:
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
