"""`imsim anomaly score` with a detector of items: a row per item, with its place."""

from __future__ import annotations

import argparse
import math
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import imsim
from imsim._images import Picture
from imsim.cli.anomaly.fleet_images import LOST, check_fleet, scored_afar
from imsim.cli.anomaly.inputs import (
    Correction,
    Pictures,
    Unusable,
    digest,
    field_files,
    load,
    reason_of,
)
from imsim.cli.messages import say, shortened, width
from imsim.cli.options import check_output, output_format
from imsim.cli.rows import Csv, Json, Writer
from imsim.errors import OptionError

if TYPE_CHECKING:
    from imsim.anomaly import ItemDetector

ABOUT_ITEMS = """\
With a model of `imsim anomaly train --items`, images have any size, and each
item in them has its row, in JSON of the kind "item": "image", "number" in the
image, "object", which is "item", "debris", smaller than any item, "cut" by the
border, "large", beyond an item and not to be parted, or "damaged", "x", "y",
"width" and "height" of its box and "centre_x" and "centre_y" in pixels; then
the columns as above. Debris is an anomaly without a score. An image without
items has one row, which is not inspected. There is no --resume, --report or
--maps."""
PLACE = ("number", "object", "x", "y", "width", "height", "centre_x", "centre_y")
COLUMNS = ("image", *PLACE, "anomaly_score", "verdict", "reason", "threshold", "model_sha256")
NO_ITEM = "shows no item: nothing stands out from the background"
Row = dict[str, Any]


def score_items(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Score the items in images, and return the exit status."""
    from imsim.anomaly import ItemDetector

    if arguments.resume:
        raise OptionError("--resume: an image has several rows with this model; leave it out")
    for option in ("report", "maps", "maps_of", "maps_as"):
        if getattr(arguments, option) is not None:
            raise OptionError(
                f"--{option.replace('_', '-')}: shows whole images, not the items that this model "
                "inspects; leave it out"
            )
    form = output_format(arguments)
    inputs = [arguments.model, *arguments.images, *field_files(arguments)]
    check_output(arguments.output, inputs, resume=False)
    check_fleet(arguments, inputs)
    items = load(ItemDetector, arguments.model)
    detector = items.detector_
    facts: Row = {
        "threshold": float(detector.threshold_),
        "model_sha256": digest(arguments.model),
    }
    correction = Correction(arguments)
    pictures = Pictures(arguments.images)
    writer: Writer[Any] | None = None
    more: Row = facts
    if form == "csv":
        writer = Writer(Csv(COLUMNS), arguments.output, False, lambda record: record)
    elif form == "json":
        fields = {"flat": arguments.flat, "dark": arguments.dark}
        layout = Json(model=arguments.model, metric=detector.metric, **facts, **fields)
        writer = Writer(layout, arguments.output, False, lambda record: record)
        more = {"kind": "item"}
    counts = {"good": 0, "anomaly": 0, "not inspected": 0}
    without = 0
    try:
        for row in _each(arguments, items, correction, pictures, facts["model_sha256"]):
            if row["verdict"] == "not inspected":
                pictures.fail(Unusable(_name(row), row["reason"]))
            if writer is not None:
                writer.row({**more, **row})
            else:
                yield from _lines(row, is_first=not (without or any(counts.values())))
            if "number" in row:
                counts[row["verdict"]] += 1
            else:
                without += 1
    finally:
        if writer is not None:
            writer.close()
    if writer is None or arguments.output:
        yield _summary(counts, without, facts["threshold"], is_table=writer is None)
    if arguments.output:
        yield f"A row per item: {arguments.output}"
    pictures.notes.end()
    if not counts["good"] + counts["anomaly"]:
        say("error: no item was inspected")
    if pictures.failures or not counts["good"] + counts["anomaly"]:
        return 2
    return int(arguments.fail_on_anomaly and counts["anomaly"] > 0)


def _each(
    arguments: argparse.Namespace,
    items: ItemDetector,
    correction: Correction,
    pictures: Pictures,
    sha256: str,
) -> Iterator[Row]:
    """Score the images, here or on a cluster."""
    if arguments.scheduler is not None:
        yield from (_without(odd.path, odd.reason) for odd in pictures.odd)
        yield from scored_afar(arguments, pictures, sha256, scored_all, _lost)
        return
    with imsim.workers(arguments.workers or imsim.get_workers()):
        yield from scored_all(items, correction, pictures.each())


def scored_all(
    items: ItemDetector, correction: Correction, pictures: Iterable[Picture | Unusable]
) -> Iterator[Row]:
    """Yield the rows of images: their items, or why there are none."""
    for picture in pictures:
        if isinstance(picture, Unusable):
            yield _without(picture.path, picture.reason)
        else:
            yield from _rows(items, correction, picture)


def _without(image: str, reason: str) -> Row:
    nothing = {"anomaly_score": None, "verdict": "not inspected"}
    return {"image": image, **nothing, "reason": reason}


def _lost(image: str) -> Row:
    return _without(image, LOST)


def _rows(items: ItemDetector, correction: Correction, picture: Picture) -> Iterator[Row]:
    try:
        found = items.inspect_frame(correction(picture.pixels[None])[0])
    except Exception as error:  # of whatever kind: it does not end the run
        yield _without(picture.path, reason_of(error, "scored"))
        return
    if not found:
        yield _without(picture.path, NO_ITEM)
    for number, row in enumerate(found):
        place: Row = {"number": number, "object": row.kind}
        place |= {name: getattr(row, name) for name in PLACE[2:]}
        score = None if math.isnan(row.anomaly_score) else row.anomaly_score
        yield {
            "image": picture.path,
            **place,
            "anomaly_score": score,
            "verdict": row.verdict,
            "reason": row.reason,
        }


def _name(row: Row) -> str:
    place = f", at x={row['x']}, y={row['y']}" if "x" in row else ""
    return f"{row['image']}{place}"


def _lines(row: Row, *, is_first: bool) -> Iterator[str]:
    """Yield a row for the terminal."""
    space = width() - 54
    if is_first:
        yield f"{'':{space}}{'x':>6}{'y':>6}{'width':>6}{'height':>7}{'score':>12}  verdict"
    score = "" if row["anomaly_score"] is None else f"{row['anomaly_score']:.6g}"
    x, y, w, h = (row.get(name, "") for name in ("x", "y", "width", "height"))
    name = shortened(row["image"], space)
    yield f"{name:{space}}{x:>6}{y:>6}{w:>6}{h:>7}{score:>12}  {row['verdict']}"


def _summary(counts: dict[str, int], without: int, threshold: float, *, is_table: bool) -> str:
    """Say how many items are anomalies; images without any are none of them."""
    missing = ""
    if rejected := counts["not inspected"]:
        missing = f", {rejected} could not be inspected: {counts['anomaly'] + rejected} rejected"
    if without:
        missing += f"; images without an item, or unreadable: {without}"
    gap = "\n" if is_table else ""
    total = sum(counts.values())
    return (
        f"{gap}{counts['anomaly']} of {total} items are anomalies{missing} "
        f"(threshold {threshold:.6g})"
    )
