"""Draws time against size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers import WORKS

LIBRARIES = ("OpenCV", "scikit-image", "piq", "torchmetrics", "sewar", "NumPy", "SciPy", "imed",
             "ImageHash", "image-similarity-measures")  # fmt: skip


def plot(result: dict[str, Any], path: Path) -> None:
    """Time against size, one panel for each metric, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "imsim", "font.size": 8, "axes.grid": True}
    )
    colours = {name: f"C{i}" for i, name in enumerate(LIBRARIES)} | {"imsim": "black"}
    names = [name for name in WORKS if any(e["work"] == name for e in result["sizes"])]
    columns = 4
    rows = -(-len(names) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(11, 2.3 * rows), sharex=True, squeeze=False, layout="constrained"
    )
    lines = {}
    for axes, name in zip(grid.flat, names, strict=False):
        entries = [e for e in result["sizes"] if e["work"] == name]
        for library in ("imsim", *LIBRARIES):
            points = [
                (e["size"], 1e3 * e["seconds"][library][0])
                for e in entries
                if library in e["seconds"]
            ]
            if points:
                lines[library] = axes.loglog(
                    *zip(*points, strict=True),
                    marker=".",
                    color=colours[library],
                    linewidth=2 if library == "imsim" else 1,
                )[0]
        axes.set_title(name)
        axes.set_xticks(sizes := [e["size"] for e in entries], [str(size) for size in sizes])
        axes.minorticks_off()
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    figure.supylabel("milliseconds")
    figure.supxlabel("side of the image in pixels")
    order = [name for name in ("imsim", *LIBRARIES) if name in lines]
    figure.legend([lines[n] for n in order], order, loc="outside upper center", ncols=6)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    # Matplotlib leaves trailing spaces, which the repository's checks remove.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
