"""`imsim compare --scheduler`: pairs of files, scored by the workers of a cluster."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from imsim._images import Reading
from imsim.cli.executors import LOST, Answer, Opened, Part, as_they_come, parts_of
from imsim.cli.fleet import Fleet, Order, folders_of
from imsim.cli.jobs import Jobs, contested_stems, left
from imsim.cli.measures import Settings
from imsim.cli.messages import say
from imsim.cli.pair_scoring import Result, scored
from imsim.cli.pairing import Failure, FilePair, Pairing


class Run(NamedTuple):
    """What a worker needs to know beside the pairs."""

    reference: str | None
    mask: str | None
    labels: str | None
    """The files that every pair has."""
    reading: Reading
    settings: Settings
    contested: Mapping[str, str]


def scored_afar(
    arguments: argparse.Namespace,
    jobs: Jobs,
    settings: Settings,
    done: set[tuple[str, str]],
    bar: Any,
) -> Iterator[Result | Failure]:
    """Score the pairs that are not done on a cluster, and yield the results as they come."""
    found, reading = jobs.found, jobs.reading
    maps = settings.maps and os.path.abspath(settings.maps)
    run = Run(
        found.reference,
        found.mask,
        arguments.labels,
        replace(reading, folder=os.getcwd()),
        settings._replace(maps=maps),
        contested_stems(found.pairs, reading) if maps else {},
    )
    parts = list(parts_of(((pair, pair.reference, pair.test) for pair in found.pairs), done))
    if bar is not None:
        bar.update(len(found.pairs) - len(parts))
    if not parts:
        return
    folders = folders_of([*found.inputs, *(path for path in (maps, arguments.labels) if path)])
    order = Order(_opening, score_parts, run, secrets.token_hex(8), folders, arguments.workers)
    with Fleet(arguments.scheduler, order, say) as fleet:
        for answer in as_they_come(fleet, parts, _lost):
            if bar is not None:
                bar.total += sum(part.images for part in answer.rests)
                bar.update(answer.done)
            yield from answer.results


def _lost(part: Part) -> Failure:
    pair: FilePair = part.subject
    test = part.name(pair.test)
    return Failure(f"{test}: {LOST}", pair.reference, test)


def _opening(run: Run) -> Jobs:
    """Open the files that all pairs of a run share, on a worker."""
    shared = Pairing([], run.reference, run.mask, [], False, [], [], [], [], [])
    return Jobs(shared, run.reading, run.labels)


def score_parts(jobs: Jobs, run: Run, parts: list[Part], threads: int) -> Answer:
    """Score pairs, on a worker."""
    opened = Opened()
    images = (jobs.of(part.subject, opened.choice(part)) for part in parts)
    work = left(chain.from_iterable(images), set(), run.contested, lambda: None)
    return opened.answer(list(scored(work, run.settings, threads)))
