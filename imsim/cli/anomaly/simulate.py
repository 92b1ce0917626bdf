"""`imsim anomaly simulate`: X-ray images to train and try a detector on."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from imsim._images import Array, write_png
from imsim.cli.options import add_command
from imsim.cli.outputs import check_folder, check_new_folder, progress
from imsim.cli.rows import Csv
from imsim.errors import OptionError
from imsim.whole_files import writing_to

if TYPE_CHECKING:
    from imsim.anomaly.simulate import Samples

OPEN_BEAM = 50_000
"""The pixel value of transmission 1 in the 16-bit images."""
HELP = f"""\
Write simulated X-ray images to train and try a detector on.

DIR/good, DIR/bad  transmission as 16-bit PNG; {OPEN_BEAM} is the open beam
DIR/clean          the bad images without their defects
DIR/defect_masks   255 where the defect is
DIR/labels.csv     file, label (0 good, 1 bad), kind, size and
                   contrast-to-noise ratio (cnr) of the defect

With --npy, each of these folders is a stack of transmissions: DIR/good.npy.
"""


def add_simulate(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(commands, "simulate", run, "write simulated X-ray images", HELP)
    add = parser.add_argument
    add("-o", "--output", metavar="DIR", required=True, help="a new folder")
    add("--item", default="potato", choices=("potato", "bar"), help="by default potato")
    add("--good", metavar="N", type=int, default=100, help="good images, by default 100")
    add("--bad", metavar="N", type=int, default=100, help="bad images, by default 100")
    add("--kinds", metavar="a,b", help="kinds of defect, which take turns; by default all")
    add(
        "--sizes",
        metavar=("LOW", "HIGH"),
        type=float,
        nargs=2,
        default=(0.5, 1.0),
        help="sizes of the defects, as fractions of the greatest of their kind, 0.1 to 1; by "
        "default 0.5 1",
    )
    add("--size", metavar="N", type=int, default=128, help="height and width, by default 128")
    add("--seed", metavar="N", type=int, default=0, help="other seeds make other items")
    add("--npy", action="store_true", help="write .npy stacks instead of PNG files")


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """Write good and bad images, and the ground truth."""
    from imsim.anomaly import simulate as generator

    folder = arguments.output
    check_new_folder(folder)
    if arguments.good == arguments.bad == 0:
        raise OptionError("--good 0 --bad 0: no image to make; ask for some")
    options = {} if arguments.kinds is None else {"kinds": arguments.kinds.split(",")}
    samples = generator.dataset(
        arguments.item,
        good=arguments.good,
        bad=arguments.bad,
        sizes=tuple(arguments.sizes),
        size=arguments.size,
        seed=arguments.seed,
        **options,
    )
    check_folder(folder, [])
    with writing_to(folder):
        names = _write_stacks(folder, samples) if arguments.npy else _write_images(folder, samples)
        _write_labels(folder, names, samples)
    yield (
        f"{folder}: {arguments.good} good and {arguments.bad} bad images of {arguments.size} x "
        f"{arguments.size} pixels"
    )
    yield f"Pixel value of the open beam: {1 if arguments.npy else OPEN_BEAM}"


def _write_images(folder: str, samples: Samples) -> list[str]:
    names = []
    digits = len(str(len(samples)))
    counts = {0: 0, 1: 0}
    for place in ("good", "bad", "clean", "defect_masks"):
        os.makedirs(os.path.join(folder, place))
    with progress(len(samples), "image") as bar:
        for i, label in enumerate(samples.labels.tolist()):
            stem = f"{counts[label]:0{digits}}_{samples.kinds[i]}.png"
            counts[label] += 1
            names.append(f"{'bad' if label else 'good'}/{stem}")
            write_png(os.path.join(folder, names[-1]), _deep(samples.images[i]))
            if label:
                write_png(os.path.join(folder, "clean", stem), _deep(samples.clean[i]))
                mask = samples.defect_masks[i].astype(np.uint8) * np.uint8(255)
                write_png(os.path.join(folder, "defect_masks", stem), mask)
            bar.update()
    return names


def _deep(transmission: Array) -> Array:
    pixels: Array = np.clip(np.rint(transmission * OPEN_BEAM), 0, 65535).astype(np.uint16)
    return pixels


def _write_stacks(folder: str, samples: Samples) -> list[str]:
    bad = samples.labels == 1
    for name, array in (
        ("good", samples.images[~bad]),
        ("bad", samples.images[bad]),
        ("clean", samples.clean[bad]),
        ("defect_masks", samples.defect_masks[bad]),
    ):
        if len(array):
            np.save(os.path.join(folder, f"{name}.npy"), array, allow_pickle=False)
    counts = np.where(bad, np.cumsum(bad), np.cumsum(~bad)) - 1
    return [f"{'bad' if b else 'good'}.npy[{i}]" for b, i in zip(bad, counts, strict=True)]


def _write_labels(folder: str, names: list[str], samples: Samples) -> None:
    layout = Csv(["file", "label", "kind", "size", "cnr"])
    with open(os.path.join(folder, "labels.csv"), "w", encoding="utf-8", newline="") as file:
        file.write(f"{layout.head()}\n")
        for i, name in enumerate(names):
            facts: dict[str, Any] = {
                "file": name,
                "label": int(samples.labels[i]),
                "kind": str(samples.kinds[i]),
            }
            if samples.labels[i]:
                facts |= {"size": float(samples.sizes[i]), "cnr": float(samples.cnr[i])}
            file.write(f"{layout.row(facts)}\n")
