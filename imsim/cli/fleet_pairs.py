"""`imsim compare --scheduler`: pairs of files, scored by the workers of a cluster."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from imsim._images import Reading, without_index
from imsim.cli.executors import LOST, Answer, Opened, Part, as_they_come
from imsim.cli.fleet import Fleet, folders_of
from imsim.cli.jobs import Jobs, clash_with, contested_stems, left
from imsim.cli.measures import Settings
from imsim.cli.messages import say
from imsim.cli.pair_scoring import Result, scored
from imsim.cli.pairing import Failure, FilePair, Pairing
from imsim.cli.tasks import Kept, Order


class Run(NamedTuple):
    """What a worker needs to know beside the pairs."""

    number: str
    """Of this run alone: files of the same name may be others in the next one."""
    reference: str | None
    mask: str | None
    labels: str | None
    """The files that every pair has."""
    reading: Reading
    settings: Settings
    contested: Mapping[str, str]


def scored_afar(
    arguments: argparse.Namespace,
    found: Pairing,
    reading: Reading,
    settings: Settings,
    done: set[tuple[str, str]],
    bar: Any,
) -> Iterator[Result | Failure]:
    """Score the pairs on a cluster, and yield the results as they come.

    `done` are the names of the reference and the test image of each row of an earlier run. `bar`
    takes the images that were found in files, and those of an earlier run.
    """
    maps = settings.maps and os.path.abspath(settings.maps)
    run = Run(
        secrets.token_hex(8),
        found.reference,
        found.mask,
        arguments.labels,
        replace(reading, folder=os.getcwd()),
        settings._replace(maps=maps),
        contested_stems(found.pairs, reading) if maps else {},
    )
    parts = list(_parts(found.pairs, done))
    if bar is not None:
        bar.update(len(found.pairs) - len(parts))
    if not parts:
        return
    folders = folders_of([*found.inputs, *(path for path in (maps, arguments.labels) if path)])
    order = Order(score_parts, forget, run, folders, arguments.workers)
    with Fleet(arguments.scheduler, order, say) as fleet:
        for answer in as_they_come(fleet, parts, _lost):
            if bar is not None:
                bar.total += sum(part.images for part in answer.rests)
                bar.update(answer.done)
            yield from answer.results


def _parts(pairs: Sequence[FilePair], done: set[tuple[str, str]]) -> Iterator[Part]:
    """Yield the pairs that may have images without a row."""
    rows: dict[tuple[str, str], set[int]] = {}
    for reference, test in done:
        file, index = without_index(test)
        if index is not None:
            for other in {reference, without_index(reference)[0]}:
                rows.setdefault((other, file), set()).add(index)
    for pair in pairs:
        names = pair.reference, pair.test
        if names not in done:  # as the only image of a file is called
            yield Part(pair, done=frozenset(rows.get(names, ())))


def _lost(part: Part) -> Failure:
    pair: FilePair = part.subject
    test = part.name(pair.test)
    return Failure(f"{test}: {LOST}", pair.reference, test)


def _opening(run: Run) -> Jobs:
    shared = Pairing([], run.reference, run.mask, [], False, [], [], [], [], [])
    return Jobs(shared, run.reading, run.labels)


_opened = Kept(_opening)
"""On a worker: the files that all pairs of a run share."""


def score_parts(run: Run, parts: list[Part], threads: int) -> Answer:
    """Score pairs, on a worker."""
    jobs, opened = _opened.of(run), Opened()
    images = (jobs.of(part.subject, opened.choice(part)) for part in parts)
    work = left(chain.from_iterable(images), set(), clash_with(run.contested), lambda: None)
    return opened.answer(list(scored(work, run.settings, threads)))


def forget(run: Run) -> None:
    """Let go of the files of a run, on a worker."""
    _opened.forget(run)
