"""Which images are left to score: not those of an earlier run, nor where maps would clash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from imsim._images import ImageFile, Reading
from imsim.cli.jobs import Job
from imsim.cli.pairing import Failure, FilePair
from imsim.errors import ImsimError


def owners_of_maps(folder: str | None) -> Callable[[Job], str | None]:
    """Return a function that says which earlier image has the maps of a job, if there are maps."""
    owners: dict[str, str] = {}
    if folder is None:
        return lambda _: None

    def clash(job: Job) -> str | None:
        owner = owners.setdefault(job.stem, job.test)
        return None if owner == job.test else owner

    return clash


def left(
    work: Iterable[Job | Failure],
    done: set[tuple[str, str]] | frozenset[tuple[str, str]],
    clash: Callable[[Job], str | None],
    skipped: Callable[[], object],
) -> Iterator[Job | Failure]:
    """Leave out the images whose rows are there from an earlier run, or whose maps clash.

    `done` are the names of the reference and the test image of each row, `clash` is as
    `owners_of_maps` returns it, and `skipped` is called for each image that has its row.
    """
    for item in work:
        other = clash(item) if isinstance(item, Job) else None
        if isinstance(item, Job) and other is not None:
            item.close()
            yield Failure(
                f"{item.test}: its maps would be called {item.stem}, like those of {other}; "
                "rename one of the files",
                item.reference,
                item.test,
            )
        elif isinstance(item, Job) and (item.reference, item.test) in done:
            item.close()
            skipped()
        else:
            yield item


def contested_stems(pairs: Iterable[FilePair], reading: Reading) -> dict[str, str]:
    """Return the image that has the maps of a stem, where two images ask for it.

    Image 0 of a stack ``a`` asks for that of a file ``a_0``. Only files that may be such stacks
    are opened.
    """
    order = {pair.stem: place for place, pair in enumerate(pairs)}
    by_stem = {pair.stem: pair for pair in pairs}
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for stem, pair in by_stem.items():
        head, _, digits = stem.rpartition("_")
        if not (digits.isdecimal() and head in by_stem):
            continue
        for one in (head, stem):
            if one not in counts:
                counts[one] = _count(by_stem[one].test, reading)
        number = counts[head]
        is_asked_for = number > 1 and int(digits) < number
        if is_asked_for and len(digits) == len(str(number - 1)) and counts[stem] == 1:
            first = min(stem, head, key=order.__getitem__)
            image = f"{by_stem[head].test}[{int(digits)}]"
            found[stem] = pair.test if first == stem else image
    return found


def clash_with(contested: Mapping[str, str]) -> Callable[[Job], str | None]:
    """Return a function that says which other image has the maps of a job."""

    def clash(job: Job) -> str | None:
        owner = contested.get(job.stem)
        return None if owner == job.test else owner

    return clash


def _count(path: str, reading: Reading) -> int:
    try:
        with ImageFile(path, reading) as file:
            return len(file)
    except ImsimError:
        return 1  # it has no maps
