"""`imsim anomaly simulate` and `report`: images whose truth is known, and who finds it."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Generator, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from imsim._images import (
    Array,
    ImageFile,
    ImageFileError,
    Reading,
    file_of,
    without_index,
    write_png,
)
from imsim.cli.anomaly import inputs
from imsim.cli.options import add_command
from imsim.cli.outputs import check_folder, check_new_folder, progress, say, say_of
from imsim.cli.pairing import Folder
from imsim.cli.reading import mask_of
from imsim.cli.rows import Csv
from imsim.errors import ImsimError, OptionError, silent
from imsim.whole_files import writing_to

if TYPE_CHECKING:
    from imsim.anomaly.simulate import Samples

OPEN_BEAM = 50_000
"""The pixel value of transmission 1 in the 16-bit images."""
SIMULATE_HELP = f"""\
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
    parser = add_command(
        commands, "simulate", simulate, "write simulated X-ray images", SIMULATE_HELP
    )
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


def simulate(arguments: argparse.Namespace) -> Iterator[str]:
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


REPORT_HELP = f"""\
Judge a detector on GOOD and BAD images, which took no part in its training,
and write a page with the result: what it found and missed, and which
similarity measure tells good from bad best.

{inputs.IMAGES}
{inputs.SKIPPED} An image that is among the good
and the bad ones is refused, and so is its copy; images that the model learned
from are counted in a note.

Exit status: 0; 2 after any error.
"""


def add_report(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(
        commands, "report", report, "judge a detector, and the similarity measures", REPORT_HELP
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `imsim anomaly train` wrote")
    add("good", metavar="GOOD", help="a file or folder of good images")
    add("bad", metavar="BAD", help="a file or folder of bad images")
    add("-o", "--output", metavar="DIR", required=True, help="the folder of the report")
    add(
        "--labels",
        metavar="CSV",
        help="file, kind and size of each anomaly, like the labels.csv of simulate; file is "
        "relative to the folder of the CSV. The page then judges each kind and size",
    )
    add(
        "--masks",
        metavar="MASKS",
        help="where the defects are: a folder with a mask for each bad image, like the "
        "defect_masks of simulate, or a stack for a stack; 0 is sound, one other value the defect. "
        "Matched by name, with any ending, or NAME_mask. The page then judges the anomaly maps by "
        "pixels and by regions",
    )
    inputs.add_fields(parser)


def report(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Judge a detector on labelled images, write the report, and return the exit status."""
    from imsim import anomaly
    from imsim.anomaly.detector import UnscorableImageWarning

    pictures = [inputs.Pictures([path]) for path in (arguments.good, arguments.bad)]
    inputs.refuse_shared(*pictures)
    read = (arguments.good, arguments.bad, arguments.masks)
    check_folder(arguments.output, [path for path in read if path])
    detector = inputs.load(arguments.model)
    correction = inputs.Correction(arguments)
    (good_names, good), (bad_names, bad) = map(inputs.stacked, pictures)
    if good.shape[1:] != bad.shape[1:] or good.dtype != bad.dtype:
        raise ImageFileError(
            f"{bad_names[0]} is of {bad.shape[2]} x {bad.shape[1]} pixels ({bad.dtype}), but "
            f"{good_names[0]} of {good.shape[2]} x {good.shape[1]} ({good.dtype}); they must have "
            "the same size and type"
        )
    inputs.refuse_equal((good_names, good), (bad_names, bad))
    images = np.concatenate([correction(good), correction(bad)])
    labels = np.arange(len(images)) >= len(good)
    names = good_names + bad_names
    kinds = sizes = None
    if arguments.labels is not None:
        kinds, sizes = kinds_and_sizes(arguments.labels, names, labels)
    defects = None
    if arguments.masks is not None:
        defects = np.zeros(images.shape, dtype=np.bool_)
        defects[labels] = defect_masks(arguments.masks, arguments.bad, bad_names, bad.shape[1:])
    try:
        with silent(UnscorableImageWarning):  # the page names what has no score
            evaluation = anomaly.evaluate(
                detector, images, labels, kinds=kinds, sizes=sizes, defects=defects
            )
            reconstruction = detector.reconstruct(images)
    except ImsimError as error:
        raise ImsimError(f"{arguments.good}, {arguments.bad}: {error}") from error
    ranking = anomaly.rank_metrics(
        reconstruction.inputs,
        reconstruction.reconstructions,
        labels,
        masks=reconstruction.masks,
        data_range=detector.data_range_,
    )
    page = anomaly.write_report(
        arguments.output,
        evaluation,
        ranking,
        reconstruction,
        images=images,
        metric=detector.metric,
        data_range=detector.data_range_,
        kinds=kinds,
        names=[os.path.basename(name) for name in names],
        facts={
            "model": arguments.model,
            "SHA-256 of the model": inputs.digest(arguments.model),
            **detector.describe(),
        },
    )
    if learned := np.count_nonzero(detector.card_.knows(images)):
        say(
            f"note: the model learned from {learned} of these images, which flatters it: judge it "
            "by others"
        )
    yield f"{evaluation}\n\n{ranking}\n\nReport: {page}"
    return max(map(inputs.status, pictures))


def defect_masks(path: str, bad: str, names: list[str], size: tuple[int, ...]) -> Array:
    """Read the mask of each named image of the folder or file `bad`, True where the defect is."""
    folder = Folder(path) if os.path.isdir(path) else None
    if folder is None and os.path.isdir(bad):
        raise ImageFileError(
            f"{path}: is no folder, but {bad} is one; name the folder with a mask for each image"
        )
    places = [path if folder is None else _partner(folder, bad, name) for name in names]
    if folder is not None:
        unused = {*map(folder.path, folder.names)} - {*places}
        say_of(sorted(unused), "masks of none of the bad images")
    masks = np.zeros((len(names), *size), dtype=np.bool_)
    reading = Reading(grey=True)
    for place, group in groupby(range(len(names)), key=places.__getitem__):
        members = [*group]
        with ImageFile(place, reading) as file:
            _check_number(file, names[members[0]])
            for i in members:
                masks[i] = _mask(file, names[i], size)
    return masks


def _check_number(file: ImageFile, name: str) -> None:
    """Refuse a file that has not as many masks as the file of an image has images."""
    images, index = without_index(name)
    if not index and len(file) == 1:
        return
    with ImageFile(images) as other:
        count = len(other)
    if count != len(file):
        raise ImageFileError(
            f"{file.path}: the number of masks is {len(file)}, that of the images in {images} "
            f"{count}; each image needs its own mask"
        )


def _mask(file: ImageFile, name: str, size: tuple[int, ...]) -> Array:
    """Read the mask of an image out of a file, which may hold those of others too."""
    mask = mask_of(file.read(without_index(name)[1] or 0))
    if mask.pixels.shape != size:
        height, width = mask.pixels.shape
        raise ImageFileError(
            f"{mask.path}: the mask is {width} x {height} pixels, but {name} is "
            f"{size[1]} x {size[0]}; they must have the same size"
        )
    if not mask.pixels.any():
        raise ImageFileError(
            f"{mask.path}: marks no pixel, but {name} is among the bad images; mark its "
            "defect, or leave the image out"
        )
    found: Array = mask.pixels
    return found


def _partner(folder: Folder, bad: str, name: str) -> str:
    """Return the mask of an image: of its name, with any ending, or with ``_mask`` behind."""
    file = file_of(name)
    inside = os.path.relpath(file, bad) if os.path.isdir(bad) else os.path.basename(file)
    stem, ending = os.path.splitext(inside)
    found = folder.partners(inside) or folder.partners(f"{stem}_mask{ending}")
    if len(found) == 1:
        return folder.path(found[0])
    if found:
        raise ImageFileError(
            f"{folder.root}: has more than one mask of {name}: {', '.join(found)}; keep one of them"
        )
    raise ImageFileError(
        f"{folder.root}: has no mask of {name}; expected {inside} or {stem}_mask, with any ending"
    )


def kinds_and_sizes(path: str, names: list[str], labels: Array) -> tuple[list[str], list[float]]:
    """Read the kind and the size of each anomaly from a file like that of the simulation."""
    folder = os.path.dirname(path)
    rows: dict[str, tuple[str, float]] = {}
    try:
        # Excel writes the mark of UTF-8 in front.
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            for row in csv.DictReader(file):
                name = os.path.normpath(os.path.join(folder, row["file"]))
                found = row["kind"], _size(row["size"], row["file"])
                if str(rows.setdefault(name, found)) != str(found):  # NaN is no other size
                    raise ImageFileError(
                        f"has {row['file']} twice, of different kinds or sizes; name one of them"
                    )
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read: {error.strerror}") from error
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error
    except (KeyError, TypeError, csv.Error) as error:
        raise ImageFileError(
            f"{path}: expected a CSV file with the columns file, kind and size, separated by commas"
        ) from error
    known = [rows.get(os.path.normpath(name), ("good", np.nan)) for name in names]
    for name, (_, size), is_bad in zip(names, known, labels, strict=True):
        if is_bad and np.isnan(size):
            raise ImageFileError(f"{path}: has no kind and size of {name}")
    return [kind for kind, _ in known], [size for _, size in known]


def _size(text: str, file: str) -> float:
    try:
        return float(text or "nan")
    except ValueError as error:
        raise ImageFileError(f"the size of {file}, {text!r}, is not a number") from error
