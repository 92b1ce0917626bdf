"""One page per metric, made at every build from the registry, the docstring and measurements.

The pages are written to docs/generated/metrics, which git ignores.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from metric_pictures import draw
from numpy.typing import NDArray
from skimage import data

import imsim

if TYPE_CHECKING:
    from sphinx.application import Sphinx

Image = NDArray[np.float64]
Changed = tuple[Image, Image, float]

DATA_RANGE = 255.0
UNCHANGED = 1e-9
"""Scores whose relative difference is less count as equal."""
NEARLY = 1e-3


def texture() -> tuple[Image, Image]:
    """A photograph with values from 60 to 160, and the same with a little noise and blur."""
    photo = data.camera()[100:196, 180:276].astype(np.float64)
    reference = 60 + photo * (100 / 255)
    noise = np.random.default_rng(5).normal(0, 4, photo.shape)
    blurred = (reference + np.roll(reference, 1, axis=1)) / 2
    return reference, blurred + noise


def shuffled(image: Image) -> Image:
    return np.random.default_rng(6).permutation(image.ravel()).reshape(image.shape)


CHOOSING = "[Choosing a metric](../../choosing.md) puts all metrics next to each other."
EXPERIMENTAL = "**Experimental:** its formula could not be checked against its paper."

CHANGES: dict[str, Callable[[Image, Image], Changed]] = {
    "the two images change places": lambda a, b: (b, a, DATA_RANGE),
    "+20 on both images": lambda a, b: (a + 20, b + 20, DATA_RANGE),
    "both images and the data range times 1.2": lambda a, b: (1.2 * a, 1.2 * b, 1.2 * DATA_RANGE),
    "both images times 1.2": lambda a, b: (1.2 * a, 1.2 * b, DATA_RANGE),
    "+20 on the test image": lambda a, b: (a, b + 20, DATA_RANGE),
    "test image times 1.2": lambda a, b: (a, 1.2 * b, DATA_RANGE),
    "both images mirrored": lambda a, b: (a[:, ::-1], b[:, ::-1], DATA_RANGE),
    "both images transposed": lambda a, b: (a.T, b.T, DATA_RANGE),
    "both images shuffled, pixel by pixel": lambda a, b: (shuffled(a), shuffled(b), DATA_RANGE),
    "both images tiled 2 x 2": lambda a, b: (np.tile(a, (2, 2)), np.tile(b, (2, 2)), DATA_RANGE),
}


def invariances(name: str) -> list[tuple[str, str, str]]:
    """What happens to the score under each of `CHANGES`."""
    function = imsim.METRICS[name].function
    before = float(function(*texture(), data_range=DATA_RANGE))
    rows = []
    for words, change in CHANGES.items():
        a, b, data_range = change(*texture())
        after = float(function(a, b, data_range=data_range))
        difference = abs(after - before) / abs(before)
        same = "the same" if difference <= UNCHANGED else "nearly" if difference <= NEARLY else "no"
        rows.append((words, same, f"{before:.6g} → {after:.6g}"))
    return rows


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def with_links(reference: str) -> str:
    return re.sub(r"(?:doi:\s*)?(10\.\d{4,}/[^\s;,]+)", r"[doi:\1](https://doi.org/\1)", reference)


def arrays(metric: imsim.Metric) -> str:
    """Where the metric runs, and what else works there."""
    places: dict[frozenset[str], list[str]] = {}
    for (library, device), abilities in metric.capabilities.items():
        places.setdefault(abilities, []).append(f"{library} ({device})")
    return "; ".join(
        ", ".join(sorted(abilities - {"value"}) or ["scores and maps"]) + ": " + ", ".join(where)
        for abilities, where in places.items()
    )


def fact_table(metric: imsim.Metric) -> str:
    words = metric.describe()
    unit = (
        words["unit"].replace("I", "I (the unit of the pixel values)").replace(")^2", ", squared)")
    )
    rows = [
        ("better", words["better"]),
        ("range", words["range"]),
        ("identical images", "no fixed value" if metric.experimental else f"{metric.best:g}"),
        ("unit", unit if words["unit"] != "-" else "none"),
        ("needs `data_range`", words["needs data range"]),
        ("symmetric", "yes" if metric.symmetric else "no: the first image is the reference"),
        ("map", f"`{metric.name}_map`" if metric.map_function else "none"),
        ("arrays", arrays(metric)),
        ("reference", "; ".join(with_links(r) for r in metric.references)),
    ]
    return table(("fact", "value"), rows)


def functions_of(metric: imsim.Metric) -> list[str]:
    """The public functions in the file of a metric, itself first."""
    names = (n for n in imsim.__all__ if inspect.isfunction(getattr(imsim, n)))
    home = metric.function.__module__
    return sorted((n for n in names if getattr(imsim, n).__module__ == home), key=len)


def summary() -> str:
    """The list of all of them, for the reference and for the navigation beside it."""
    names = "\n".join(f"   {name}" for m in imsim.METRICS.values() for name in functions_of(m))
    pages = "\n".join(f"{name} <generated/metrics/{name}>" for name in imsim.METRICS)
    return f"""\
```{{eval-rst}}
.. autosummary::
   :nosignatures:

{names}
```

```{{toctree}}
:hidden:

{pages}
```
"""


def page(metric: imsim.Metric) -> str:
    name = metric.name
    directives = "\n".join(f".. autofunction:: imsim.{f}\n" for f in functions_of(metric))
    shown = (
        "the scores, and below them the map, dark where alike"
        if metric.map_function
        else "the scores"
    )
    return f"""\
# {name}: {metric.title}

{EXPERIMENTAL if metric.experimental else ""}

{fact_table(metric)}

## In pictures

Seven distortions of one photograph, {shown}. {CHOOSING}

```{{image}} {name}.png
:alt: {metric.title} of seven distortions of a photograph
```

## What changes the score

Measured when this page was built, on a textured pair of 96 x 96 pixels in float64; "the same" means
to within a relative difference of {UNCHANGED:g}, "nearly" of {NEARLY:g}.

{table(("what is done", "same score?", "before → after"), list(invariances(name)))}

## Functions

```{{eval-rst}}
{directives}
```
"""


def index() -> str:
    rows = [
        (
            f"[{m.name}]({m.name}.md)",
            m.describe()["title"],
            m.describe()["better"],
            m.describe()["range"],
            m.describe()["needs data range"],
            m.describe()["unit"],
            "yes" if m.map_function else "no",
        )
        for m in imsim.METRICS.values()
    ]
    heads = ("name", "title", "better", "range", "needs `data_range`", "unit", "map")
    names = "\n".join(imsim.METRICS)
    return f"""\
# The metrics

A page each: the facts, pictures, what leaves the score as it is, the formula and the options. They
are made from the registry and the docstrings whenever this site is built. "I" is the unit of the
pixel values.

{table(heads, rows)}

```{{toctree}}
:hidden:

{names}
```
"""


def write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "generated" / "metrics"
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{m.name}.md": page(m) for m in imsim.METRICS.values()}
    pages |= {"index.md": index(), "functions.txt": summary()}
    for name, text in pages.items():
        path = folder / name
        # Unchanged pages keep their date, so that Sphinx does not read them again.
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for name in imsim.METRICS:
        draw(name, folder / f"{name}.png")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
