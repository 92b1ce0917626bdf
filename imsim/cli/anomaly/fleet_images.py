"""`imsim anomaly score --scheduler`: images scored by the workers of a cluster."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import imsim
from imsim._images import without_index
from imsim.cli.anomaly.inputs import Correction, Pictures, digest, field_files, load_any
from imsim.cli.executors import Answer, Opened, Part, as_they_come
from imsim.cli.fleet import Fleet, folders_of, refuse_pipes
from imsim.cli.messages import progress, say
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
    score: Callable[[Any, Correction, Iterable[Any]], Iterator[Any]]
    """Takes the detector, the correction and images, and yields the results."""


def check_fleet(arguments: argparse.Namespace, inputs: Iterable[str]) -> None:
    """Refuse what workers cannot read."""
    if arguments.scheduler is not None:
        refuse_pipes(inputs)


def scored_afar(
    arguments: argparse.Namespace,
    pictures: Pictures,
    model_sha256: str,
    score: Callable[[Any, Correction, Iterable[Any]], Iterator[Any]],
    lost: Callable[[str], Any],
    known: Iterable[str] = (),
) -> Iterator[Any]:
    """Score the images that are not known on a cluster, and yield the results as they come.

    `score`, as `Run` has it, travels by its name; `lost` returns the result of an image that no
    worker survived.
    """
    files = arguments.model, model_sha256, arguments.flat, arguments.dark
    run = Run(secrets.token_hex(8), *files, os.getcwd(), score)
    parts = list(_parts(pictures.files, set(known)))
    if not parts:
        return
    inputs = [arguments.model, *pictures.paths, *field_files(arguments)]
    order = Order(score_parts, forget, run, folders_of(inputs), arguments.workers)
    with progress(len(parts), "file") as bar, Fleet(arguments.scheduler, order, say) as fleet:
        for answer in as_they_come(fleet, parts, lambda part: lost(part.name(part.subject))):
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


class _Loaded(NamedTuple):
    detector: Any
    correction: Correction


def _load(run: Run) -> _Loaded:
    model = os.path.join(run.folder, run.model)
    flat, dark = (path and os.path.join(run.folder, path) for path in (run.flat, run.dark))
    detector = load_any(model)
    if digest(model) != run.model_sha256:
        raise ImsimError(f"{model}: is another file there", "copy the model to all machines")
    fields = argparse.Namespace(flat=flat, dark=dark)
    return _Loaded(detector, Correction(fields, tell=lambda _: None))  # the command tells it


_loaded = Kept(_load)
"""On a worker: the detectors and fields of runs."""


class KeptNotes:
    """Keeps the notes on images, to be said elsewhere."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, note: str, label: str) -> None:
        """Keep a note on an image."""
        self.found.append((note, label))


def score_parts(run: Run, parts: list[Part], threads: int) -> Answer:
    """Score images, on a worker."""
    loaded, opened = _loaded.of(run), Opened()
    pictures, notes = Pictures([], run.folder), KeptNotes()
    pictures.notes = notes  # type: ignore[assignment]
    images = (pictures.each_of(part.subject, choose=opened.choice(part)) for part in parts)
    with imsim.workers(threads):
        results = list(run.score(*loaded, chain.from_iterable(images)))
    return opened.answer(results, notes.found)


def forget(run: Run) -> None:
    """Let go of the detector of a run, on a worker."""
    _loaded.forget(run)
