"""Write docs/parity.md: which call of imsim gives which library's number, to how many digits.

`python -m benchmarks.parity`, in the environment of `make bench`. The calls in the page are texts;
they are evaluated here, and `benchmarks/test_parity.py` compares them with what `benchmarks.peers`
calls, so that the page shows what was measured.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import images, ism
from benchmarks import libraries as lib
from benchmarks.images import Array
from benchmarks.parity_calls import CALLS, FORMS, IMPORTS, VARIANTS
from benchmarks.parity_golden import authors_rows
from benchmarks.peers import WORKS, Peer, Work

PAGE = Path(__file__).parents[1] / "docs" / "parity.md"
SIZES = (96, 640)
"""Both sides of the sizes at which SSIM and FSIM of some libraries start to shrink images."""
DISTRIBUTIONS = {
    "OpenCV": "opencv-contrib-python-headless",
    "image-similarity-measures": None,  # in an environment of its own
}
ISM_VERSION = "0.3.6"
SUMS = Peer("", lib.plain(min)).reason
"""What every sum in another order says; not worth a note."""


class _Remote:
    """`quality_metrics` of image-similarity-measures, which lives in another environment."""

    def __getattr__(self, name: str) -> Any:
        return lambda x, y, **options: ism.bind(name, **options)(x, y)()


def namespace(library: str, x: Array, y: Array) -> dict[str, Any]:
    """Return the names that a text of `CALLS` may use: the library, x and y, in its form."""
    names: dict[str, Any] = {"np": np, "x": x, "y": y}
    names |= {f"{k}32": v.astype(np.float32) for k, v in (("x", x), ("y", y))}
    names |= {f"{k}8": v.astype(np.uint8) for k, v in (("x", x), ("y", y))}
    if library == "image-similarity-measures":
        return names | {"quality_metrics": _Remote()}
    if library == "piq":
        names["piq"] = lib._import_piq()
    elif library == "torchmetrics":
        names["functional"] = lib._import_torchmetrics()
    elif library == "ImageHash":
        names["imagehash"] = importlib.import_module("imagehash")
    elif library == "OpenCV":
        names["cv2"] = importlib.import_module("cv2")
    elif library == "scikit-image":
        names |= {m: importlib.import_module(f"skimage.{m}") for m in ("metrics", "measure")}
    elif library == "SciPy":
        names["ndimage"] = importlib.import_module("scipy.ndimage")
    elif library not in ("NumPy", "ImageHash"):
        names[library] = importlib.import_module(library)
    if library in ("piq", "torchmetrics"):
        names["x"], names["y"] = lib._tensors(x, y)
    elif library == "ImageHash":
        from PIL import Image

        names["x"], names["y"] = (Image.fromarray(v.astype(np.uint8)) for v in (x, y))
    return names


def evaluate(text: str, library: str, x: Array, y: Array) -> float:
    """Return the number that a text gives; several hashes or maps have no number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peers warn of is theirs
        return float(np.squeeze(eval(text, namespace(library, x, y))))


def ours(work: Work) -> str:
    """Return imsim's call as text."""
    import imsim

    options = dict(work.options)
    if imsim.METRICS[work.metric].needs_data_range:
        options["data_range"] = 255
    if work.channels > 1:
        options["channel_axis"] = -1
    arguments = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"imsim.{work.metric}(x, y{arguments})"


def difference(theirs: float, mine: float) -> float:
    """Return the difference, relative for values above 1."""
    return abs(theirs - mine) / max(1.0, abs(mine))


def digits(worst: float) -> str:
    """Say how many digits agree."""
    if not math.isfinite(worst) or worst > 0.05:
        return "none"
    return "all" if worst == 0 else f"{min(15, math.floor(-math.log10(2 * worst)))}"


def row(
    library: str,
    theirs: str,
    mine: str,
    note: str,
    *,
    channels: int,
    largest: int,
    excuse: bool = False,
) -> list[str]:
    """Measure both calls on pairs of every size, and show the worst.

    The note may be an excuse for a difference, which is not shown where there is none.
    """
    found = []
    for size in SIZES:
        if size <= largest or size == SIZES[0]:
            x, y = images.pair(size, "float64", channels=channels)
            a = evaluate(theirs, library, x, y)
            b = evaluate(mine, "imsim", x, y)
            found.append((difference(a, b), a, b))
    worst, a, b = max(found)
    agree = digits(worst)
    if worst > 1e-4:
        agree += f" ({a:.6g}, not {b:.6g})"
    return [f"`{theirs}`", f"`{mine}`", agree, "" if excuse and worst < 1e-12 else note]


def tables() -> dict[str, list[list[str]]]:
    """Return the rows of every library."""
    found: dict[str, list[list[str]]] = defaultdict(list)
    for name, work in WORKS.items():
        for peer in work.peers:
            text = CALLS[name, peer.library]
            note = peer.reason[0].upper() + peer.reason[1:]
            found[peer.library].append(
                row(
                    *(peer.library, text, ours(work), "" if peer.reason == SUMS else note),
                    channels=work.channels,
                    largest=peer.largest,
                    excuse=peer.same,
                )
            )
    for v in VARIANTS:
        measured = row(
            *(v.library, v.theirs, v.ours, v.note), channels=v.channels, largest=v.largest
        )
        found[v.library].append(measured)
    return found


def version(library: str) -> str:
    if library == "image-similarity-measures":
        return ISM_VERSION
    return importlib.metadata.version(DISTRIBUTIONS.get(library) or library)


def table(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in r) + " |" for r in lines
    )


HEADS = ("their call", "imsim's call", "digits that agree", "note")
INTRODUCTION = """\
# Parity with other libraries

<!-- written by `python -m benchmarks.parity`; do not edit -->

Which call of `imsim` gives the number of another library, and where that library computes
something else. Every line was run: the table of the benchmarks and of the agreement tests
([benchmarks/peers.py](../benchmarks/peers.py)) is measured on one textured pair each of {sizes}
pixels a side, in float64 with values from 1 to 255, and the worse agreement is shown. 15 digits
are as many as float64 has, and "all" that the two numbers are the same bit for bit. Where fewer
than four agree, both numbers are shown, and the note says why.

## The authors' programs (MATLAB)

SSIM, UIQ, GMSD and FSIM are held to the programs of their authors, which ran unmodified under GNU
Octave 7.3 on the images in `tests/golden`; its `README.md` also says how
Octave was checked to stand for MATLAB. x and y are doubles from 0 to 255. The last two columns are
the largest absolute differences over all images; the scores lie between -1 and 1.

{authors}

Functions of MATLAB's own toolboxes were not run. By their documentation, `psnr` and `immse` are
`imsim.psnr` and `imsim.se(..., reduction="mean")`, and `corr2` is `imsim.zncc`; the toolbox's
`ssim` is another program than the authors'.
"""


def page() -> str:
    """Return the page."""
    authors = table(
        ("program", "imsim's call", "images", "difference, float64", "float32"), authors_rows()
    )
    sizes = " and ".join(map(str, SIZES))
    parts = [INTRODUCTION.format(sizes=sizes, authors=authors)]
    for library, rows in sorted(tables().items(), key=lambda item: item[0].lower()):
        facts = f"Version {version(library)}; `{IMPORTS[library]}`; {FORMS[library]}."
        parts.append(f"## {library}\n\n{facts}\n\n{table(HEADS, rows)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
