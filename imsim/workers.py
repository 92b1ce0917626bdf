"""How many threads compute, and the one pool they live in."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context

from imsim.validation import check_integer

SMALL = 1 << 16
"""Pixels below which handing work to another thread costs more than it saves."""


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


class _Pool:
    """A thread pool that is made when first needed, grows, and is left behind by a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._size = 0

    def executor(self, size: int) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None or self._size < size:
                # A smaller pool that others still use finishes what it was given, then ends.
                self._executor = ThreadPoolExecutor(size, thread_name_prefix="imsim")
                self._size = size
            return self._executor


_pool = _Pool()
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
    indices = itertools.count()  # next() on it is atomic

    def drain() -> None:
        for i in indices:
            if i >= n:
                return
            task(i)

    executor = _pool.executor(count - 1)
    # Each helper takes a copy of the caller's context, and with it NumPy's error handling.
    helpers = [executor.submit(copy_context().run, drain) for _ in range(count - 1)]
    try:
        drain()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()
