"""`imsim anomaly watch`: a row per image as it appears in a folder, and the drift alarm."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import time
from collections import deque
from collections.abc import Generator, Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from imsim._images import STDIN, Picture, file_of, why_not_read
from imsim.cli.anomaly.inputs import IMAGES, OTHER, Pictures, Unusable, add_fields, field_files
from imsim.cli.anomaly.judges import NOT_INSPECTED, Found, add_strips, by_number, load_judge
from imsim.cli.anomaly.score import Rows
from imsim.cli.options import add_command, count
from imsim.cli.outputs import check_output, output_format, say
from imsim.cli.pairing import Folder
from imsim.cli.rows import changed_since
from imsim.errors import ImsimError, OptionError

if TYPE_CHECKING:
    from imsim.anomaly.drift import Drift

INTERVAL = 0.5
"""Seconds between two looks at the folder: an image has its row after about twice as long."""
LONGEST_SLEEP = 3600.0
"""Seconds of one sleep; the operating system does not take any number."""
REMEMBERED = 10_000
"""Images whose names are remembered, to say since when something drifts."""
HELP = f"""\
Score images as they appear in FOLDER and the folders in it, until Ctrl-C.

{IMAGES} A
file counts when its size and times have not changed from one look at the folder
to the next; one that cannot be read then is not inspected, and so rejected.
Files whose names begin with a dot do not count: write under such a name, and
rename. A file that is replaced is scored again, also by one of the same size
and time, and so is one whose owner, permissions or links change; one that goes
is forgotten.

Rows are CSV or JSON lines as of `imsim anomaly score`, with a further column
"time", when the image was scored (ISO 8601). They go to standard output or to
FILE. With --resume, FILE keeps its rows, and images that have one and were not
changed since are not scored again; those that came meanwhile are scored with
--existing only.

The drift alarm compares the scores and simple statistics of the images (level,
contrast, border, noise, texture, patterns of columns and rows) and the share of
those not inspected with the good images of the training. When something begins
or ends to drift, a message on standard error says so; with --json, also a row
of the "kind" "drift" with "time", "state", "name", "since" (the image from
which on it is so), "now", "usual", "value", "limit" and "text".

With a model of `imsim anomaly train --items`, rows are those of its items, and
the drift alarm takes these. With --strips, images are strips of a line-scan
camera, the oldest first. See `imsim anomaly score --help` for both.

Exit status, at the end by --stop-after or --for: 0 if every image was
inspected; 2 if one was not, and after any error, also if FOLDER goes; else 1 if
there is an anomaly and --fail-on-anomaly is given; 130 if interrupted.
"""


def add_watch(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(commands, "watch", run, "score images as they appear in a folder", HELP)
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `imsim anomaly train` wrote")
    add("folder", metavar="FOLDER", help="where the images appear")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="write JSON lines")
    form.add_argument("--csv", action="store_true", help="write CSV; the default")
    add("-o", "--output", metavar="FILE", help="write the rows to FILE (.csv, .json, .jsonl)")
    add("--resume", action="store_true", help="keep the rows that FILE has, and add others")
    add(
        "--existing",
        action="store_true",
        help="score the images that are there at the start, too, the oldest first",
    )
    add(
        "--interval",
        metavar="S",
        type=float,
        default=INTERVAL,
        help=f"seconds between two looks at the folder, by default {INTERVAL}",
    )
    add("--stop-after", metavar="N", type=count, help="end after N images")
    add("--for", dest="seconds", metavar="S", type=float, help="end after S seconds")
    add(
        "--drift",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether to say when images are no longer like the good ones; by default yes",
    )
    add("--fail-on-anomaly", action="store_true", help="end with status 1 if there was an anomaly")
    add_strips(parser)
    add_fields(parser)


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Score images as they appear, and return the exit status."""
    for option, value in (("--interval", arguments.interval), ("--for", arguments.seconds)):
        if value is not None and not 0 < value < math.inf:
            raise OptionError(f"{option} {value:g}: expected a positive number of seconds")
    if arguments.output is None and not arguments.json:
        arguments.csv = True
    output_format(arguments)
    if not os.path.isdir(arguments.folder):
        is_there = arguments.folder == STDIN or os.path.exists(arguments.folder)
        what = "is no folder" if is_there else "there is no such folder"
        raise OptionError(f"{arguments.folder}: {what}; name the folder in which images appear")
    inputs = [arguments.model, arguments.folder, *field_files(arguments)]
    check_output(arguments.output, inputs, resume=arguments.resume)
    judge = load_judge(arguments)
    pictures = Pictures([])
    rows = Rows(arguments, judge, pictures, ("time",))
    is_interrupted = False
    try:
        try:
            _watch(arguments, rows)
        except KeyboardInterrupt:
            is_interrupted = True
        for found in judge.end():
            _add(found, rows)
    finally:
        if rows.writer is not None:
            rows.writer.close()
    if arguments.output:
        yield from rows.end()
    else:
        say(rows.summary())
    pictures.notes.end()
    status = 0
    if rows.count or rows.without:
        status = rows.status(arguments.fail_on_anomaly)
    if is_interrupted:
        raise KeyboardInterrupt
    return status


def _watch(arguments: argparse.Namespace, rows: Rows) -> None:
    """Write rows until the number of images or the time is reached."""
    drifts = _Drifts(rows) if arguments.drift else None
    known: set[str] = set()
    if rows.writer is not None and rows.known:
        changed = changed_since(rows.writer.written, rows.known)
        known = {name for name in rows.known if file_of(name) not in changed}
        if rows.last in known:
            rows.finish(time=_now())
    arrivals = _Arrivals(arguments.folder, rows.pictures, known, existing=arguments.existing)
    if not arguments.existing:  # they may have come while the command was starting
        have_rows = set(map(file_of, known))
        if missing := [path for path in arrivals.there if path not in have_rows]:
            without = ", without a row that holds," if arguments.resume else ""
            say(
                f"note: files that are there already{without} are not scored: {len(missing)}, "
                f"e.g. {missing[0]}; --existing takes them"
            )
    begun, most = time.monotonic(), arguments.stop_after
    output = _state_of(arguments.output) if arguments.output else None
    while True:
        left = None if most is None else most - arrivals.count
        for found in rows.judge.found(islice(arrivals.look(), left)):
            if output is not None:
                _check_there(arguments.output, output)
            _add(found, rows)
            if drifts is not None:
                drifts.take(found)
        if output is not None:
            _check_there(arguments.output, output)
        if most is not None and arrivals.count >= most:
            return
        rest = math.inf
        if arguments.seconds is not None:
            rest = arguments.seconds - (time.monotonic() - begun)
        if rest <= 0:
            return
        time.sleep(min(arguments.interval, rest, LONGEST_SLEEP))


def _add(found: Found, rows: Rows) -> None:
    """Write rows, with the time."""
    for row in found.rows:
        rows.add(row, time=_now())


def _now() -> str:
    """Return the time as ISO 8601 with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


State = tuple[int, int, int, int]
"""Number, size, time and time of change of a file: it is the same while these are. The last one
cannot be set: it tells of a file that was written anew and got back its earlier time."""


def _state_of(path: str) -> State | None:
    """Return the state of a file, or of a link that leads nowhere; None if there is none."""
    for look in (os.stat, os.lstat):
        with contextlib.suppress(OSError):
            found = look(path)
            return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return None


def _check_there(output: str, first: State) -> None:
    """Refuse to write on into a file that was removed, or replaced by another."""
    now = _state_of(output)
    if now is None or now[0] != first[0]:
        raise ImsimError(
            f"{output}: was moved, removed or replaced while rows were written to it; begin again, "
            "with another -o or with --resume --existing"
        )


_File = tuple[State, str | None]
"""A file in the folder, and why it is no image; of `OTHER`, its content decides."""


class _Arrivals:
    """The files of a folder that are new and complete.

    Images that are `known` are not read, as long as their files stay as they are now. Files that
    are `there` now count if `existing` ones do.
    """

    def __init__(self, folder: str, pictures: Pictures, known: set[str], *, existing: bool) -> None:
        self._folder, self._pictures, self._known = folder, pictures, known
        files = self._files()
        self._first = {path: state for path, (state, _) in files.items()}
        self.there = [path for path, (_, reason) in files.items() if reason is None]
        self.count = 0
        self._waiting: dict[str, State] = {}
        self._done = {} if existing else dict(self._first)

    def look(self) -> Iterator[Picture | Unusable]:
        """Yield the images of files that are as they were at the last look, the oldest first."""
        files = self._files()
        self._done = {path: state for path, state in self._done.items() if path in files}
        new = {path: f for path, f in files.items() if self._done.get(path) != f[0]}
        ready = [path for path, (state, _) in new.items() if self._waiting.get(path) == state]
        self._waiting = {path: state for path, (state, _) in new.items()}
        # Clocks of file systems are coarse: of files as old, numbers in the names decide.
        for path in sorted(ready, key=lambda path: (new[path][0][2], by_number(path))):
            state, reason = new[path]
            if reason is None:
                yield from self._images(path, state)
            elif reason is not OTHER or why_not_read(path):
                self.count += 1
                yield Unusable(path, reason)
            if self._waiting.get(path) == state:
                self._done[path] = self._waiting.pop(path)

    def _images(self, path: str, state: State) -> Iterator[Picture | Unusable]:
        """Yield the images of a file; one that somebody writes waits for the next look."""
        known = self._known if self._first.get(path) == state else ()
        for picture in self._pictures.each_of(path, lambda label: label in known):
            if (now := _state_of(path)) != state:
                self._waiting.pop(path)
                if now is not None:
                    self._waiting[path] = now
                return
            self.count += 1
            yield picture

    def _files(self) -> dict[str, _File]:
        folder = Folder(self._folder)
        reasons: dict[str, str | None] = dict.fromkeys(map(folder.path, folder.names))
        reasons |= dict.fromkeys(folder.odd, "is no file but a pipe or a device")
        reasons |= dict.fromkeys(folder.left_aside, OTHER)
        reasons |= dict(folder.unread)
        found: dict[str, _File] = {}
        for path, reason in reasons.items():
            if (state := _state_of(path)) is not None:  # it may have gone
                found[path] = state, reason
        return found


class _Drifts:
    """Follows the images with a drift alarm, and tells when something begins or ends to drift."""

    def __init__(self, rows: Rows) -> None:
        from imsim.anomaly import DriftAlarm

        self._writer = rows.writer if rows.form == "json" else None
        self._alarm: DriftAlarm | None = None
        self._names: deque[str] = deque(maxlen=REMEMBERED)
        self._drifting: dict[str, Drift] = {}
        try:
            self._alarm = DriftAlarm(rows.judge.model)
        except ImsimError as error:
            say(f"note: there is no drift alarm: {error}")

    def take(self, found: Found) -> None:
        """Take rows, and what the detector compared for them."""
        if self._alarm is None:
            return
        for row, image in zip(found.rows, found.seen, strict=True):
            if row.verdict == NOT_INSPECTED:
                self._alarm.miss()
            elif image is not None:
                self._alarm.update(image[None], (np.array([row.anomaly_score]), {}))
            else:  # debris, which is no item
                continue
            self._names.append(row.image)
        drifts = self._alarm.drifts()
        now = {drift.name: drift for drift in drifts}
        for name, drift in now.items():
            if name not in self._drifting:
                since = self._since(drift)
                after = "" if since is None else f", since {since}"
                say(f"drift: {drift}{after}")
                self._tell("begins", drift, since)
        for name, drift in self._drifting.items():
            if name not in now:
                say(f"drift: {name} is again as in the good images")
                self._tell("ends", drift, None)
        self._drifting = now

    def _since(self, drift: Drift) -> str | None:
        """Return the image from which on it is so, if that is not too long ago."""
        ago = self._alarm.count - drift.since if self._alarm else 0
        return self._names[-ago] if 0 < ago <= len(self._names) else None

    def _tell(self, state: str, drift: Drift, since: str | None) -> None:
        if self._writer is not None:
            facts = {**drift._asdict(), "since": since, "text": str(drift)}
            self._writer.row({"kind": "drift", "time": _now(), "state": state, **facts})
