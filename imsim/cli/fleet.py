"""A cluster of `distributed`, Dask's scheduler and its workers: reaching it, and tasks on it.

It is Dask that hands out the tasks, and gives those of a worker that died to another one. The
package is imported when a scheduler is named, and not before.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import pickle
import pkgutil
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

from imsim._images import file_of
from imsim._version import __version__
from imsim.cli.options import count
from imsim.cli.outputs import say
from imsim.errors import ImsimError, OptionError, unforeseen

INSTALL = f"install imsim {__version__} there, or use that version here"
SHARE = "the workers read the files: share the folders with all of them, under the same paths"


@dataclass(frozen=True)
class Order:
    """What is the same for all tasks of a run; functions of modules travel by their names."""

    make: Callable[[Any], Any]
    """Makes of the facts of the run what a worker keeps for all its tasks."""
    do: Callable[[Any, Any, list[Any], int], Any]
    """Takes that, the facts, the parts of a task and a number of threads; returns the answer."""
    run: Any
    """The facts."""
    folders: tuple[str, ...] = ()
    """What there must be on a worker."""
    threads: int | None = None
    """Of each task; None: the CPUs divided by the tasks at a time."""
    number: str = field(default_factory=lambda: secrets.token_hex(8))
    """Of this run alone: files of the same name may be others in the next one."""
    version: str = __version__


_MOST_KEPT = 4
"""Runs of which a worker keeps something; a command that is killed cannot say that one is over."""
_kept: dict[str, Any] = {}
_keeping = threading.Lock()


def _kept_for(order: Order) -> Any:
    """Return what a worker keeps for a run; the first task makes it while the others wait."""
    with _keeping:
        if order.number not in _kept:
            _kept[order.number] = order.make(order.run)
            while len(_kept) > _MOST_KEPT:
                del _kept[next(iter(_kept))]
        return _kept[order.number]


def forget(number: str) -> None:
    """Let go of what is kept for a run, on a worker."""
    with _keeping:
        _kept.pop(number, None)


class Done(NamedTuple):
    """What a worker returns."""

    answer: Any
    seconds: float
    refusal: tuple[str, str] | None = None
    """Why this worker does nothing of this run, and the remedy."""


class Task:
    """What travels; Dask looks for its own objects in lists and tuples, not in this."""

    def __init__(self, order: Order, slots: Counter[str], parts: list[Any]) -> None:
        self.order, self.slots, self.parts = order, slots, parts


def perform(task: Task) -> Done:
    """Do a task, on a worker."""
    from distributed import get_worker

    order = task.order
    worker = get_worker()
    refusal = _refusal(order)
    start = time.perf_counter()
    answer = None
    if refusal is None:
        try:
            threads = order.threads or _threads(worker, task.slots)
            answer = order.do(_kept_for(order), order.run, task.parts, threads)
        except ImsimError as error:  # of what all images need; those of single ones are results
            refusal = f": {error.message}", error.remedy or SHARE
        except ImportError as error:  # of an optional package, which names it
            refusal = f": {error}", "install it there"
    if refusal is not None:
        refusal = f"the worker {worker.address}{refusal[0]}", refusal[1]
    return Done(answer, time.perf_counter() - start, refusal)


def _refusal(order: Order) -> tuple[str, str] | None:
    """Say what this worker lacks for the work, and the remedy."""
    if order.version != __version__:
        return f" has imsim {__version__}, not {order.version}", INSTALL
    for folder in order.folders:
        if not os.path.isdir(folder):
            return f" has no folder {folder}", SHARE
    return None


def _threads(worker: Any, slots: Counter[str]) -> int:
    """Return how many threads a task on this worker may use, of the tasks of each machine."""
    from dask.system import CPU_COUNT

    # Of a machine that has just come nothing is known.
    tasks = slots[host_of(worker.address)] or max(slots.values(), default=1)
    return max(1, int(CPU_COUNT) // max(tasks, int(worker.state.nthreads)))


def host_of(address: str) -> str:
    """Return the machine in the address of a worker."""
    from distributed.comm import get_address_host

    return str(get_address_host(address))


LOCAL = "local"
"""The word for a cluster on this machine, which lives as long as the command."""
CONNECT_SECONDS = 15
"""After which a scheduler that does not answer counts as out of reach."""
LOOK_SECONDS = 1.0
"""Between two looks at which workers there are."""
_FAST = {
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
"""Of a cluster that lives as long as the command: workers that nobody looks at, and that keep the
memory of an image for the next one. Together these take a tenth of their time."""
FLEET_HELP = """\
With --scheduler, images are scored by the workers of a running cluster of Dask:
`pip install 'imsim[dask]'` on all machines, `dask scheduler` on one, `dask
worker ADDRESS` on each. "local" starts one process per CPU on this machine.
The workers read the files, so every path must be readable there under the same
name, relative ones below this folder; no pipes and no standard input. Rows come
in the order in which they are ready. What a worker was at when it was killed is
done by another one; each image has one row.
"""


class FleetError(ImsimError):
    """A cluster that cannot be reached, or cannot do this work."""


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """Add the options on the cluster, and on threads, with what is said on these."""
    add = parser.add_argument
    add(
        "--scheduler",
        metavar="ADDRESS",
        help="have the images scored by the workers of this Dask scheduler, as tcp://host:8786; "
        "local starts one here",
    )
    add(
        "--workers",
        metavar="N",
        type=count,
        help="threads to use; by default one per CPU; with --scheduler, threads of each task: by "
        "default the CPUs of a machine divided by the tasks that its workers run at a time",
    )


def refuse_pipes(arguments: argparse.Namespace, paths: Iterable[str]) -> None:
    """Refuse what only this process can read, if others are to."""
    for path in () if arguments.scheduler is None else paths:
        file = file_of(path)
        if os.path.isfile(file) or os.path.isdir(file):
            continue
        if os.path.exists(file) or path == "-":
            what = "the standard input" if path == "-" else "a pipe or a device"
            raise OptionError(
                f"{path}: is {what} of this machine, which the workers of --scheduler cannot read",
                "save it in a file",
            )


def folders_of(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the folders of files, and the folders themselves, as absolute paths, each once."""
    files = (os.path.abspath(file_of(path)) for path in paths)
    found = (path if os.path.isdir(path) else os.path.dirname(path) for path in files)
    return tuple(dict.fromkeys(found))


class Fleet:
    """A connection to a scheduler, for the tasks of an order; used in a ``with`` statement."""

    def __init__(self, address: str, order: Order) -> None:
        self.address, self._order = address, order
        self._slots: Counter[str] = Counter()  # tasks that run at a time on each machine
        self._looked = -LOOK_SECONDS
        self._waits = False
        self._parts: dict[Any, list[Any]] = {}  # of the tasks under way

    def __enter__(self) -> Fleet:
        try:
            import distributed
        except ModuleNotFoundError as error:
            raise FleetError(
                f"--scheduler needs the package {error.name!r}, which is not installed",
                "pip install 'imsim[dask]'",
            ) from error
        for handler in logging.getLogger("distributed").handlers:
            handler.setLevel(logging.CRITICAL)  # what matters of its log is said here
        with contextlib.ExitStack() as stack:
            address = self.address
            if address == LOCAL:
                address = stack.enter_context(_local_cluster(self._order.threads))
            try:
                # A client waits for ever where something else answers, and is slow to give up.
                asyncio.run(asyncio.wait_for(_call(address), CONNECT_SECONDS))
                client = distributed.Client(
                    address, timeout=CONNECT_SECONDS, set_as_default=False, name="imsim"
                )
            except (OSError, ValueError, TypeError, RuntimeError) as error:
                said = [*str(error).splitlines(), type(error).__name__]
                why = "nothing answers" if isinstance(error, TimeoutError) else said[0]
                raise self._error(
                    f"cannot be reached: {why}",
                    "start one with `dask scheduler`, and give the address it prints",
                ) from error
            self._client: Any = stack.enter_context(client)
            self._survey()
            self._ready = distributed.as_completed(
                loop=client.loop, with_results=True, raise_errors=False
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._parts:
            with contextlib.suppress(Exception):  # whatever ended the run is what is told
                self._client.cancel(list(self._parts), force=True)
        if error[0] is None and self.address != LOCAL:
            with contextlib.suppress(OSError, RuntimeError):  # the scheduler is done, too
                self._client.run(forget, self._order.number, on_error="ignore")
        self._stack.__exit__(*error)

    def _error(self, problem: str, remedy: str | None = None) -> FleetError:
        return FleetError(f"--scheduler {self.address}: {problem}", remedy)

    def _survey(self) -> None:
        """Refuse a cluster whose machines have no imsim, or another version of it."""
        name = "imsim:__version__"
        found: dict[str, Any] = {}
        try:
            found["the scheduler"] = self._client.run_on_scheduler(pkgutil.resolve_name, name)
        except ImportError as error:
            found["the scheduler"] = error
        workers = self._client.run(pkgutil.resolve_name, name, on_error="return")
        found |= {f"the worker {worker}": version for worker, version in workers.items()}
        wrong = {
            place: version
            for place, version in found.items()
            if version != __version__ and isinstance(version, (str, ImportError, AttributeError))
        }  # other errors are those of workers that have just died
        for place, version in wrong.items():
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise self._error(f"{place}{more} {_said_of(version)}", INSTALL)

    def slots(self) -> int:
        """Return how many tasks the cluster runs at a time, as of the last second."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            threads = self._asked(self._client.nthreads)
            self._slots = Counter()
            for worker, number in threads.items():
                self._slots[host_of(worker)] += number
            self._looked = time.monotonic()
            if not threads and not self._waits:
                say(f"note: --scheduler {self.address}: has no worker; waiting for one")
            self._waits = not threads
        return self._slots.total()

    def _asked(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except (OSError, RuntimeError, CancelledError) as error:
            raise self._gone() from error

    def _gone(self) -> FleetError:
        lost = "the connection to the scheduler was lost"
        return self._error(lost, "see that it runs, and its log")

    def __len__(self) -> int:
        return len(self._parts)

    def submit(self, parts: list[Any]) -> None:
        """Hand a task to the scheduler."""
        # Not pure: a scheduler that lives on must not answer with what an earlier run found.
        task = Task(self._order, self._slots, parts)
        future = self._asked(lambda: self._client.submit(perform, task, pure=False))
        self._parts[future] = parts
        self._ready.add(future)

    def ended(self) -> Iterator[tuple[list[Any], Done | None]]:
        """Yield the parts of the tasks that have ended since, with what came of them."""
        for future, result in self._ready.next_batch(block=False):
            yield self._parts.pop(future), self._outcome(future, result)

    def _outcome(self, future: Any, result: Any) -> Done | None:
        """Return what came of a task, or None if workers died of it."""
        from distributed import KilledWorker

        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                return None
            if isinstance(error, (ImportError, AttributeError, pickle.UnpicklingError)):
                raise self._error(f"a worker {_said_of(error)}", INSTALL) from error
            raise self._error(f"a task failed: {unforeseen(error)}")
        if future.status != "finished" or not isinstance(result, Done):
            raise self._gone()
        if result.refusal is not None:
            raise self._error(*result.refusal)
        return result


async def _call(address: str) -> None:
    """Raise an error unless a scheduler answers at an address."""
    from distributed.core import rpc
    from distributed.security import Security

    # The limit of the caller is for what takes the call and does not answer.
    options = Security().get_connection_args("client")
    async with rpc(address, timeout=CONNECT_SECONDS / 2, connection_args=options) as place:
        kind = (await place.identity())["type"]
    if kind != "Scheduler":
        raise ValueError(f"it is the address of a {kind.lower()}")


def _said_of(version: Any) -> str:
    if isinstance(version, str):
        return f"has imsim {version}, not {__version__}"
    if isinstance(version, ModuleNotFoundError) and str(version.name).split(".")[0] == "imsim":
        return "lacks imsim" if version.name == "imsim" else "has another imsim"
    return f"cannot load imsim ({type(version).__name__}: {version})"


@contextlib.contextmanager
def _local_cluster(threads: int | None) -> Iterator[str]:
    """Start workers on this machine, each a process; yield the address of their scheduler."""
    import dask
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    with contextlib.ExitStack() as stack:
        with _ctrl_c_later(), dask.config.set(_FAST):
            cluster = LocalCluster(
                n_workers=max(1, CPU_COUNT // (threads or 1)),
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",  # any port: the usual one may be taken
                silence_logs=logging.CRITICAL,
            )
            stack.enter_context(cluster)
        yield cluster.scheduler_address


@contextlib.contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Take Ctrl-C at the end, and keep it from the processes started meanwhile: this ends them."""
    came: list[bool] = []
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    waits = raises and threading.current_thread() is threading.main_thread()
    if waits:
        signal.signal(signal.SIGINT, lambda *_: came.append(True))
    masks = hasattr(signal, "pthread_sigmask")  # not on Windows
    if masks:
        resource_tracker.ensure_running()  # its start would lift the mask, which processes inherit
        earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
        if waits:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt
