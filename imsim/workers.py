"""How many threads compute, and the one pool they live in."""

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
from typing import TypeVar

from imsim.validation import check_integer

T = TypeVar("T")
SMALL = 1 << 16
"""Pixels below which handing work to another thread costs more than it saves."""
PATIENCE = 50
"""Looks whether another thread has ended, a microsecond each, before going to sleep until then."""


def _available() -> int:
    """Return IMSIM_WORKERS, or the number of CPUs this process may use."""
    given = os.environ.get("IMSIM_WORKERS", "").strip()
    if not given:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        number = int(given)
    except ValueError:
        number = 0  # refused below, with what was given
    if number < 1:
        check_integer("IMSIM_WORKERS", given, 1)
    return number


class _Help:
    """A share of some work, done by a thread of the pool, or by nobody if none comes in time.

    What `concurrent.futures` makes of it costs as much as a kernel on a small image.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._context = copy_context()  # of the caller, and with it NumPy's error handling
        self._begun, self._ended = threading.Lock(), threading.Lock()
        self._ended.acquire()
        self._error: BaseException | None = None

    def give(self) -> None:
        """Do the work, unless the caller has done without."""
        if self._begun.acquire(blocking=False):
            try:
                self._context.run(self._work)
            except BaseException as error:  # raised again in the caller's thread
                self._error = error
            finally:
                self._ended.release()

    def finish(self) -> BaseException | None:
        """Do without the help, or wait for its end if it has begun; return what it raised."""
        if self._begun.acquire(blocking=False):
            return None
        for _ in range(PATIENCE):
            if self._ended.acquire(blocking=False):
                break
            time.sleep(0)
        else:
            self._ended.acquire()
        return self._error


class _Pool:
    """Threads that start when first needed, wait for work, and are left behind by a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: SimpleQueue[_Help | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.is_closed = False

    def ask(self, work: Callable[[], object], size: int) -> list[_Help]:
        """Offer some work to `size` threads, or to fewer if there are no more to be had."""
        if len(self._threads) < size:
            with self._lock, contextlib.suppress(RuntimeError):  # too many, or the end is near
                while len(self._threads) < size and not self.is_closed:
                    thread = threading.Thread(target=self._serve, name="imsim", daemon=True)
                    thread.start()
                    self._threads.append(thread)
        helps = [_Help(work) for _ in self._threads[:size]]
        for one in helps:
            self._wanted.put(one)
        return helps

    def _serve(self) -> None:
        while help := self._wanted.get():
            help.give()
            del help  # a thread that waits must not hold the arrays of its last work

    def close(self) -> None:
        """Let the threads end what they are at, and wait for that.

        A thread that comes back from compiled code when there is no interpreter any more aborts
        the process.
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
    _pool = _Pool()  # the threads, and whoever held the lock, stayed in the parent


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

    Results do not depend on it. By default it is that of the environment variable
    ``IMSIM_WORKERS``, else the number of CPUs this process may use.

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
        At least 1, which computes everything in the caller's thread.

    Raises
    ------
    OptionError
        If `n` is not an integer of at least 1.

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
    """Call ``task(i)`` for every i below `n`, in several threads if there are `pixels` enough.

    Tasks must write their results to places of their own: the order is not defined. The
    caller's thread works too, so that nothing waits for a pool that is busy elsewhere.
    """
    count = 1 if pixels < SMALL else min(get_workers(), n)
    if count == 1:
        for i in range(n):
            task(i)
        return
    pool, indices = _pool, itertools.count()  # next() on it is atomic
    is_stopped = False

    def help() -> None:
        while not pool.is_closed and one_more():
            pass

    def one_more() -> bool:
        nonlocal is_stopped
        i = next(indices)
        if i >= n or is_stopped:
            return False
        try:
            task(i)
        except BaseException:  # an interrupt, too, ends the work of all threads
            is_stopped = True
            raise
        return True

    helps: list[_Help] = []
    try:
        helps = pool.ask(help, count - 1)
        while one_more():
            pass
    except BaseException:
        is_stopped = True
        raise
    finally:
        errors = [one.finish() for one in helps]
    for error in filter(None, errors):
        raise error


def divided(n: int, most: int) -> list[slice]:
    """Divide `n` things evenly into parts of at most `most`; the same for any number of threads."""
    count = -(-n // most)
    return [slice(n * k // count, n * (k + 1) // count) for k in range(count)]


def in_parts(function: Callable[[slice], T], n: int, most: int) -> list[T]:
    """Call a function for each of the `divided` parts of `n` things; return the results in order.

    The threads that take part share the workers evenly.
    """
    parts = divided(n, most)
    share = get_workers() // min(get_workers(), len(parts))
    results: dict[int, T] = {}

    def task(i: int) -> None:
        with workers(share):
            results[i] = function(parts[i])

    parallel(task, len(parts), SMALL)
    return [results[i] for i in range(len(parts))]
