"""`imsim anomaly score --scheduler`: images scored by the workers of a cluster."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import imsim
from imsim._images import without_index
from imsim.cli.anomaly.inputs import Correction, Pictures, digest, field_files, load_any
from imsim.cli.anomaly.judges import ImageJudge, Score, judge_of, unusable
from imsim.cli.executors import LOST, Answer, Opened, Part, as_they_come
from imsim.cli.fleet import Fleet, folders_of, refuse_pipes
from imsim.cli.messages import Notes, progress, say
from imsim.cli.tasks import Kept, Order
from imsim.errors import ImsimError


class Run(NamedTuple):
    """What a worker needs to know beside the images."""

    number: str  # of this run alone: files of the same name may be others in the next one
    model: str
    model_sha256: str
    flat: str | None
    dark: str | None
    folder: str  # where relative paths begin


def check_fleet(arguments: argparse.Namespace, inputs: Iterable[str]) -> None:
    """Refuse what workers cannot read."""
    if arguments.scheduler is not None:
        refuse_pipes(inputs)


def scored_afar(
    arguments: argparse.Namespace,
    pictures: Pictures,
    model_sha256: str,
    known: Iterable[str] = (),
) -> Iterator[Score]:
    """Score the images that are not known on a cluster, and yield the rows as they come."""
    files = arguments.model, model_sha256, arguments.flat, arguments.dark
    run = Run(secrets.token_hex(8), *files, os.getcwd())
    parts = list(_parts(pictures.files, set(known)))
    if not parts:
        return
    inputs = [arguments.model, *pictures.paths, *field_files(arguments)]
    order = Order(score_parts, forget, run, folders_of(inputs), arguments.workers)

    def lost(part: Part) -> Score:
        return unusable(part.name(part.subject), LOST)

    with progress(len(parts), "file") as bar, Fleet(arguments.scheduler, order, say) as fleet:
        for answer in as_they_come(fleet, parts, lost):
            if bar is not None:
                bar.total += sum(part.images for part in answer.rests)
                bar.update(answer.images)
            for note, label in answer.notes:
                pictures.notes.add(note, label)
            yield from answer.results


def _parts(files: Iterable[str], known: set[str]) -> Iterator[Part]:
    """Yield the files that may have images without a row."""
    rows: dict[str, set[int]] = {}
    for label in known:
        file, index = without_index(label)
        if index is not None:
            rows.setdefault(file, set()).add(index)
    for path in files:
        if path not in known:  # as the only image of a file is called
            yield Part(path, done=frozenset(rows.get(path, ())))


def _load(run: Run) -> ImageJudge:
    model = os.path.join(run.folder, run.model)
    flat, dark = (path and os.path.join(run.folder, path) for path in (run.flat, run.dark))
    detector = load_any(model)
    if digest(model) != run.model_sha256:
        raise ImsimError(f"{model}: is another file there", "copy the model to all machines")
    fields = argparse.Namespace(flat=flat, dark=dark)
    return judge_of(detector, Correction(fields, tell=lambda _: None))  # the command tells it


_loaded = Kept(_load)
"""On a worker: what judges the images of runs."""


class KeptNotes(Notes):
    """Keeps the notes on images, to be said elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def add(self, note: str, name: str) -> None:
        """Keep a note on an image."""
        self.found.append((note, name))


def score_parts(run: Run, parts: list[Part], threads: int) -> Answer:
    """Score images, on a worker."""
    judge, opened = _loaded.of(run), Opened()
    pictures = Pictures([], run.folder)
    pictures.notes = notes = KeptNotes()
    images = (pictures.each_of(part.subject, choose=opened.choice(part)) for part in parts)
    with imsim.workers(threads):
        results = [row for found in judge.found(chain.from_iterable(images)) for row in found.rows]
    return opened.answer(results, notes.found)


def forget(run: Run) -> None:
    """Let go of the detector of a run, on a worker."""
    _loaded.forget(run)
