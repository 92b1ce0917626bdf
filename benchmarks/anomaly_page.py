"""Makes the page of anomaly results from the numbers: ``python -m benchmarks.anomaly_page``."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parent.parent
NUMBERS = ROOT / "benchmarks" / "results" / "anomaly.json"
PAGE = ROOT / "docs" / "anomaly_results.md"

Result = dict[str, Any]


INTRODUCTION = """
# Results of the anomaly workflow

How well good images and images with a defect are told apart, by what `AnomalyDetector` does when
nothing is set, next to what it is made of and to plainer methods. Three generators make the images:
the package's own potatoes and chocolate bars (`imsim.anomaly.simulate`), and a second one of
potatoes, `benchmarks/held_out.py`, with other outlines, textures, noise and defects, which shares
nothing with the first. Each time, {train} good images to learn from; {good} other good images and
{bad} defective ones, whose kinds take turns and whose sizes go from half to full, to judge by. All
images are drawn {times} times; given are the mean and the range (the convolutional model, which
takes long to train: one draw).

**AUROC** is the probability that a defective image scores higher than a good one. **Accuracy**,
**found** (the share of the defective images) and **false alarms** (of the good ones) are those at
the threshold that the method chose from good images alone; **best accuracy** is that of the best
threshold for the judged images, which nobody knows beforehand.

"Whole image" is a PCA of 30 components of the images as they are (in one pose where that makes good
ones more alike), compared by the mean of FSIM over the frame. The high-pass filter learns nothing:
it is the largest difference of two Gaussians of the absorbance inside the eroded item, with the
widths tuned by hand on the second generator. "As they are" is the detector with `preprocess=None`,
for the bars, in one place or in any pose, and for real images: chest radiographs (PneumoniaMNIST,
28x28 pixels), learned from 1214 without a finding, and judged by 468, half of them with pneumonia;
and products of 128x128 pixels: solar cells (elpv-dataset: Buerhop-Lutz et al. 2018, Deitsch et al.
2019, 2021; 300 to learn from and 300 to judge), cookies (20 and 65) and toy figures ("Aliens"
below; 30 and 88; both from Amazon Lookout for Vision). Of real images, the good ones to learn from
are dealt into folds {deals} times.

## Methods
"""
METRICS = """
## Metrics

The AUROC of every metric, with its 95 % bootstrap interval, on the first draw of images: each
compares the same inputs with the same reconstructions, averaged over the image ("mean"), over
the highest 2 % of the map ("highest"), or at the worst place ("worst"). They are sorted by the mean
over the columns.
"""
KINDS = """
## Kinds and sizes of defect

The AUROC of each kind and size of defect against all good images, and the share found at the
detector's threshold, for one detector each.
"""
LIMITS = """
## What the numbers rest on

The constants of the peel and of the default detector were set on throwaway generators, on images of
the second generator with other seeds than those judged here, and on one draw of a third, all with
needles, shavings, stones, glass, bone and hollow hearts. The simulated potatoes took no part in
that, and balls, PVC and gaps are kinds of defect that no constant was set with. The width of the
peel, and what is divided at its rim, were tried on the first draw of each generator, the second
draw of the second one, and others that are not judged here. The statistics of images as they are
(grids, quantiles, the shares of places) were chosen on the first draw of the bars, and on the
radiographs and real products judged here, which therefore are no independent test of them. What a
detector chooses itself, it chooses from good images only.

## What limits them

- **The rim.** What lies within the peeled width of the outline, three pixels by default, is not
  inspected. Next to it good texture is strongest, and is divided by how strong: faint bodies count
  less there.
- **Small, faint bodies.** In the second generator misses are concentrated in the lower classes of
  size: there the contrast of the body is that of the good texture's own grain and lumps, over an
  area of as few pixels.
- **Comparing whole images** fails because outlines and orientation of good items differ by more
  than a defect does; the peel takes that away.
- **Images as they are** are compared with statistics of good ones at the same place. Where items
  stand out from the border of the frame, their pose is taken out first; parts that deform, and
  scenes without an item, are not brought to coincide. Where no place means anything, faint defects
  of textures are hard to see. Pneumonia shows all over a radiograph of 28x28 pixels, and as a
  change of structure: the mean of SSIM, with few components, sees it as well. No choice is the best
  everywhere; that is what `rank_metrics` is for.
- **Few images.** Thirty or fewer good images place the threshold far out: nearly all toy figures
  score right, but a fifth to a third of the bad ones are below the threshold.
- **Averaging.** With the default model a body of twenty pixels vanishes in the mean of thousands,
  and the worst window of the same map finds it. The convolutional model, which rebuilds some of
  the good texture, does about as well with the mean.
- **ZNCC and UIQ** divide by the contrast of the reconstruction, and tell nothing apart with the
  default model, whose reconstruction is flat; with the convolutional model they work.
"""
SPEED = """
## Speed

From pixels to scores (peel, reconstruct, compare) of 256 images of 128x128 in one batch, on
{cores} cores of {cpu}; JAX on the same processor. Before the run the machine had a load of {load}
from other work: much above 0 the rates, and the times of training, say little.
"""


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def over_seeds(values: list[float]) -> str:
    """The mean, and the range where there are several."""
    if len(values) == 1:
        return number(values[0])
    return f"{mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def methods(result: Result, name: str) -> str:
    rows = []
    for method, runs in result["generators"][name]["methods"].items():
        columns = ("auroc", "accuracy", "detection_rate", "false_alarm_rate", "best_accuracy")
        numbers = [over_seeds([run[column] for run in runs]) for column in columns]
        rows.append([method, *numbers, f"{mean(run['training_seconds'] for run in runs):.1f} s"])
    head = ["method", "AUROC", "accuracy", "found", "false alarms", "best accuracy", "training"]
    return table(head, rows)


def metrics(result: Result) -> str:
    """AUROC of every metric and aggregate, peeled next to whole image."""
    found: dict[tuple[str, str], list[str]] = {}
    head = ["metric", "aggregate"]
    order: dict[tuple[str, str], float] = {}
    columns = [
        (name, method, part["ranking"][method]["records"])
        for name, part in result["generators"].items()
        for method in part["ranking"]
    ]
    for index, (name, method, records) in enumerate(columns):
        head.append(f"{name}: {method}")
        for record in records:
            key = (record["metric"], record["aggregate"])
            row = found.setdefault(key, [""] * len(columns))
            interval = f"{record['auroc_low']:.3f}–{record['auroc_high']:.3f}"
            row[index] = f"{record['auroc']:.3f} ({interval})"
            order[key] = order.get(key, 0) + record["auroc"]
    keys = sorted(found, key=lambda key: -order[key])
    return table(head, [[f"`{key[0]}`", key[1], *found[key]] for key in keys])


def kinds(result: Result, name: str) -> str:
    """AUROC by kind and size, the mean over the seeds."""
    part = result["generators"][name]
    classes = [f"{low:g} to {min(high, 1):g}" for low, high in pairwise(result["size_edges"])]
    runs = part["methods"][part["detailed"]]
    rows = []
    for kind in part["kinds_by_size"][0]:
        cells = zip(*(seed[kind] for seed in part["kinds_by_size"]), strict=True)
        groups = [group for run in runs for group in run["by_kind"] if group["name"] == kind]
        by_size = [[value for value in cell if value is not None] for cell in cells]
        rows.append(
            [
                kind.replace("_", " "),
                *(number(mean(values) if values else None) for values in by_size),
                number(mean(group["auroc"] for group in groups)),
                f"{mean(group['detection_rate'] for group in groups):.0%}",
            ]
        )
    return table(["kind", *classes, "all sizes", "found"], rows)


def speed(result: Result) -> str:
    rows = [
        [f"{name}: {method}", *(f"{rates[key]:.0f}" for key in ("median", "least", "most"))]
        for name, part in result["generators"].items()
        for method, rates in part["images_per_second"].items()
    ]
    return table(["images per second", "median", "least", "most"], rows)


def page(result: Result) -> str:
    amount, computer = result["amount"], result["machine"]
    counts = {"times": len(amount["seeds"]), "deals": len(amount["deals"])}
    parts = [INTRODUCTION.format(**{**amount, **counts})]
    for name in result["generators"]:
        parts += [f"### {name.capitalize()}", methods(result, name)]
    parts += [METRICS, metrics(result), KINDS]
    for name, part in result["generators"].items():
        if part["detailed"]:
            title = f"### {name.capitalize()}: kinds and sizes"
            parts += [title, part["detailed"].capitalize() + ".", kinds(result, name)]
    parts += [
        SPEED.format(**computer, load=result["load"]),
        speed(result),
        LIMITS,
        f"Measured on {result['date']} at commit `{result['commit']}` by "
        "`python -m benchmarks.anomaly`; `benchmarks/results/anomaly.json` has all the numbers.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(NUMBERS.read_text(encoding="utf-8"))), encoding="utf-8")
