"""The number of threads that compute, and the one pool of threads."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

from imsim.validation import check_integer

T = TypeVar("T")
Run: TypeAlias = Callable[[Callable[[int], object], int, int], None]
"""``run(task, n, pixels)`` calls a task for 0 to n - 1; `pixels` measures the work."""
SMALLEST_SHARED = 1 << 16
"""Pixels below which it costs more time than it saves to hand work to another thread."""
SPINS = 50
"""Times that a waiting thread polls another one before it sleeps; a poll takes about 1 us."""


def _available() -> int:
    """Return IMSIM_WORKERS, or the number of CPUs this process may use."""
    given = os.environ.get("IMSIM_WORKERS", "").strip()
    if not given:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        number = int(given)
    except ValueError:
        number = 0  # refused below; the message quotes the text
    if number < 1:
        check_integer("IMSIM_WORKERS", given, 1)
    return number


class _Share:
    """A share of some work: a thread of the pool takes it, or the caller withdraws it.

    A future of `concurrent.futures` would cost as much time as a kernel on a small image.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._context = copy_context()  # holds NumPy's error handling of the caller
        self._begun, self._ended = threading.Lock(), threading.Lock()
        self._ended.acquire()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do the work, unless the caller has withdrawn it."""
        if self._begun.acquire(blocking=False):
            try:
                self._context.run(self._work)
            except BaseException as error:  # raised again in the caller's thread
                self._error = error
            finally:
                self._ended.release()

    def withdraw(self) -> BaseException | None:
        """Withdraw the work, or wait for its end if it has begun; return what it raised."""
        if self._begun.acquire(blocking=False):
            return None
        for _ in range(SPINS):
            if self._ended.acquire(blocking=False):
                break
            time.sleep(0)
        else:
            self._ended.acquire()
        return self._error


class _Pool:
    """Threads that start on first use and then wait for work; a forked process starts new ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: SimpleQueue[_Share | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.is_closed = False

    def offer(self, work: Callable[[], object], size: int) -> list[_Share]:
        """Offer some work to `size` threads, or to fewer if no more can be started."""
        if len(self._threads) < size:
            with self._lock, contextlib.suppress(RuntimeError):  # no more threads, or exiting
                while len(self._threads) < size and not self.is_closed:
                    thread = threading.Thread(target=self._serve, name="imsim", daemon=True)
                    thread.start()
                    self._threads.append(thread)
        shares = [_Share(work) for _ in self._threads[:size]]
        for share in shares:
            self._wanted.put(share)
        return shares

    def _serve(self) -> None:
        while share := self._wanted.get():
            share.run()
            del share  # a waiting thread must not hold the arrays of its last work

    def close(self) -> None:
        """Wait until all threads have ended their work.

        A thread that returns from compiled code after the interpreter has gone aborts the process.
        """
        self.is_closed = True
        for _ in self._threads:
            self._wanted.put(None)
        for thread in self._threads:
            while thread.is_alive():
                with contextlib.suppress(KeyboardInterrupt):
                    thread.join()


_pool = _Pool()
atexit.register(lambda: _pool.close())
_default: int | None = None
_here: ContextVar[int | None] = ContextVar("imsim_workers", default=None)


def _forget_pool() -> None:
    global _pool
    _pool = _Pool()  # threads do not survive a fork, and one of them may hold the lock


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def get_workers() -> int:
    """Return the number of threads that a call made here would use.

    Examples
    --------
    >>> import imsim
    >>> with imsim.workers(3):
    ...     imsim.get_workers()
    3
    """
    global _default
    local = _here.get()
    if local is not None:
        return local
    if _default is None:
        _default = _available()
    return _default


def set_workers(n: int) -> None:
    """Set the number of threads that metrics may use, for the whole process.

    Results do not depend on the number. The default is the environment variable
    ``IMSIM_WORKERS``, or else the number of CPUs that this process may use.

    Parameters
    ----------
    n : int
        At least 1, which computes everything in the caller's thread.

    Raises
    ------
    OptionError
        If `n` is not an integer of at least 1.

    Examples
    --------
    >>> import imsim
    >>> n = imsim.get_workers()
    >>> imsim.set_workers(1)
    >>> imsim.get_workers()
    1
    >>> imsim.set_workers(n)
    """
    global _default
    check_integer("n", n, 1)
    _default = int(n)


@contextlib.contextmanager
def workers(n: int) -> Iterator[None]:
    """Use `n` threads within a ``with`` block, in this thread or task only.

    Parameters
    ----------
    n : int
        As for `set_workers`, which also says what is raised.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> with imsim.workers(1):
    ...     print(imsim.se(np.ones((4, 4)), np.zeros((4, 4))))
    16.0
    """
    check_integer("n", n, 1)
    token = _here.set(int(n))
    try:
        yield
    finally:
        _here.reset(token)


def parallel(task: Callable[[int], object], n: int, pixels: int) -> None:
    """Call ``task(i)`` for every i below `n`, in several threads if there are enough `pixels`.

    The order of the calls is not defined: each task writes its results to a place of its own. The
    caller's thread works too, so that a busy pool delays nothing.
    """
    count = 1 if pixels < SMALLEST_SHARED else min(get_workers(), n)
    if count == 1:
        for i in range(n):
            task(i)
        return
    pool, indices = _pool, itertools.count()  # next() on it is atomic
    is_stopped = False

    def work() -> None:
        while not pool.is_closed and one_more():
            pass

    def one_more() -> bool:
        nonlocal is_stopped
        i = next(indices)
        if i >= n or is_stopped:
            return False
        try:
            task(i)
        except BaseException:  # also an interrupt ends the work of all threads
            is_stopped = True
            raise
        return True

    shares: list[_Share] = []
    try:
        shares = pool.offer(work, count - 1)
        while one_more():
            pass
    except BaseException:
        is_stopped = True
        raise
    finally:
        errors = [share.withdraw() for share in shares]
    for error in filter(None, errors):
        raise error


def _serial(task: Callable[[int], object], n: int, pixels: int) -> None:
    """Call a task for 0 to n - 1 in this thread."""
    for i in range(n):
        task(i)


def share_out(
    task: Callable[[int, Run], None],
    n: int,
    pixels: int,
    *,
    run: Run = parallel,
    at_once: bool = True,
) -> None:
    """Share n tasks of some pixels each among threads, or the work within each where n is small.

    Each task gets the `Run` for its parts. Without `at_once`, tasks run one after the other.
    """
    if run is parallel and at_once and n >= get_workers():
        parallel(lambda i: task(i, _serial), n, n * pixels)
    else:
        for i in range(n):
            task(i, run)


def divided(n: int, most: int) -> list[slice]:
    """Divide `n` things evenly into parts of at most `most`, whatever the number of threads."""
    count = -(-n // most)
    return [slice(n * k // count, n * (k + 1) // count) for k in range(count)]


def in_parts(function: Callable[[slice], T], n: int, most: int) -> list[T]:
    """Call a function for each of the `divided` parts of `n` things; return all results."""
    parts = divided(n, most)
    share = get_workers() // min(get_workers(), len(parts))
    results: dict[int, T] = {}

    def task(i: int) -> None:
        with workers(share):
            results[i] = function(parts[i])

    parallel(task, len(parts), SMALLEST_SHARED)
    return [results[i] for i in range(len(parts))]
