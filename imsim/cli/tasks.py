"""What travels to a worker of a cluster, and what the worker does with it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from imsim._version import __version__
from imsim.errors import ImsimError

T = TypeVar("T")

INSTALL = f"install imsim {__version__} there, or use that version here"
SHARE = "the workers read the files: share the folders with all of them, under the same paths"


class Order(NamedTuple):
    """What is the same for all tasks of a run."""

    do: Callable[[Any, list[Any], int], Any]
    """Takes the facts of the run, the parts of a task and a number of threads; returns the answer.

    A function of a module, which travels by its name.
    """
    forget: Callable[[Any], None]
    """Lets go of what a worker keeps for the run, whose facts it gets."""
    run: Any
    folders: tuple[str, ...] = ()
    """What there must be on a worker."""
    threads: int | None = None
    """Of each task; None: the CPUs divided by the tasks at a time."""
    version: str = __version__


class Kept(Generic[T]):
    """What a worker keeps for all tasks of a run, made from its facts.

    Their `number` is the run's own.
    """

    MOST = 4
    """Runs that are kept; a command that is killed cannot say that one is over."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._found: dict[str, T] = {}
        self._lock = threading.Lock()

    def of(self, run: Any) -> T:
        """Return it; the first task makes it while the others wait."""
        with self._lock:
            if run.number not in self._found:
                self._found[run.number] = self._make(run)
                while len(self._found) > self.MOST:
                    del self._found[next(iter(self._found))]
            return self._found[run.number]

    def forget(self, run: Any) -> None:
        """Let go of it."""
        with self._lock:
            self._found.pop(run.number, None)


class Slots(NamedTuple):
    """How many tasks run at a time on a machine."""

    usual: int
    others: Mapping[str, int]
    """By the name of the machine, where it is another number."""


class Done(NamedTuple):
    """What a worker returns."""

    answer: Any
    seconds: float
    refusal: tuple[str, str] | None = None
    """Why this worker does nothing of this run, and the remedy."""


class Task:
    """What travels; Dask looks for its own objects in lists and tuples, not in this."""

    def __init__(self, order: Order, slots: Slots, parts: list[Any]) -> None:
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
            answer = order.do(order.run, task.parts, order.threads or _threads(worker, task.slots))
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


def _threads(worker: Any, slots: Slots) -> int:
    """Return how many threads a task on this worker may use."""
    from dask.system import CPU_COUNT

    tasks = slots.others.get(host_of(worker.address), slots.usual)
    return max(1, int(CPU_COUNT) // max(tasks, int(worker.state.nthreads)))


def host_of(address: str) -> str:
    """Return the machine in the address of a worker."""
    from distributed.comm import get_address_host

    return str(get_address_host(address))
