"""The number of threads changes no bit; calls from many threads and after a fork are safe."""

from __future__ import annotations

import concurrent.futures
import contextvars
import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import imsim
from imsim.workers import SMALLEST_SHARED, parallel

IN_CHILDREN = ["fsim", "ssim"]
"""Each process loads their kernels, and those of FSIM's transform."""
NAMES = ["fsim", "gmsd", "imed", "psnr", "sam", "sre", "ssim", "uiq", "zncc"]


def images() -> tuple[np.ndarray, np.ndarray]:
    """Large enough for the pool to be used."""
    rng = np.random.default_rng(7)
    x = rng.uniform(0, 255, (300, 310))
    return x, np.clip(x + rng.normal(0, 9, x.shape), 0, 255)


def scores(names: list[str] = NAMES) -> list[float]:
    x, y = images()
    return [float(imsim.METRICS[name].function(x, y, data_range=255)) for name in names]


def scores_in_child(workers: int) -> list[float]:
    imsim.set_workers(workers)
    return scores(IN_CHILDREN)


def run_python(code: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.strip()


@pytest.mark.parametrize("name", [*imsim.METRICS])
def test_result_does_not_depend_on_workers(name: str) -> None:
    x, y = images()
    x, y = np.stack([x, y, x]), np.stack([y, y, x + 1])
    results = []
    for n in (1, 2, 3, 7):
        with imsim.workers(n):
            results.append(imsim.METRICS[name].function(x, y, data_range=256))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_calls_from_many_threads() -> None:
    expected = scores()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(scores) for _ in range(12)]:
            assert future.result() == expected


def same_in_children(method: str) -> bool:
    """Whether a process started after the pool was used computes what this one does."""
    with imsim.workers(3):
        expected = scores(IN_CHILDREN)
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.map_async(scores_in_child, [1, 3]).get(timeout=120) == [expected] * 2


def test_after_a_process_is_started() -> None:
    """In an interpreter of its own: where another test loaded JAX, a fork would make it warn."""
    methods = [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()]
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        f"import test_workers; print(*map(test_workers.same_in_children, {methods}))"
    )
    assert run_python(code) == " ".join(["True"] * len(methods))


def test_every_task_runs_once_in_several_threads() -> None:
    done = np.zeros(100, dtype=int)
    threads = set()
    meeting = threading.Barrier(3)

    def task(i: int) -> None:
        if i < 3:
            meeting.wait(30)  # passes only if three threads take part
        done[i] += 1
        threads.add(threading.get_ident())

    with imsim.workers(3):
        parallel(task, 100, SMALLEST_SHARED)
    np.testing.assert_array_equal(done, 1)
    assert len(threads) == 3


def test_small_work_stays_in_the_thread_of_the_caller() -> None:
    threads = set()
    with imsim.workers(4):
        parallel(lambda i: threads.add(threading.get_ident()), 10, SMALLEST_SHARED - 1)
    assert threads == {threading.get_ident()}


def test_error_in_a_task_reaches_the_caller() -> None:
    def task(i: int) -> None:
        if i == 5:
            raise ZeroDivisionError

    for n in (1, 3):
        with imsim.workers(n), pytest.raises(ZeroDivisionError):
            parallel(task, 50, SMALLEST_SHARED)


def test_error_in_another_thread_reaches_the_caller() -> None:
    caller, meeting = threading.get_ident(), threading.Barrier(2)

    def task(i: int) -> None:
        meeting.wait(30)
        if threading.get_ident() != caller:
            raise ZeroDivisionError

    with imsim.workers(2), pytest.raises(ZeroDivisionError):
        parallel(task, 2, SMALLEST_SHARED)


def test_an_error_ends_the_work_of_all_threads() -> None:
    caller, meeting, done = threading.get_ident(), threading.Barrier(3), []

    def task(i: int) -> None:
        if i < 3:
            meeting.wait(30)
            if threading.get_ident() == caller:
                raise KeyboardInterrupt
        time.sleep(0.01)
        done.append(i)

    with imsim.workers(3), pytest.raises(KeyboardInterrupt):
        parallel(task, 1000, SMALLEST_SHARED)
    assert len(done) < 100


def test_an_error_waits_until_all_threads_have_ended() -> None:
    """Nothing writes into an array that its owner has got back."""
    caller, meeting, ended = threading.get_ident(), threading.Barrier(4), []

    def task(i: int) -> None:
        if meeting.wait(30) == 0 and threading.get_ident() != caller:
            raise ZeroDivisionError
        time.sleep(0.05)
        ended.append(i)
        if threading.get_ident() == caller:
            raise ZeroDivisionError

    with imsim.workers(4), pytest.raises(ZeroDivisionError):
        parallel(task, 4, SMALLEST_SHARED)
    assert len(ended) >= 3


def test_the_interpreter_ends_while_a_thread_computes() -> None:
    """A second interrupt leaves the first one's wait; the process must not abort for that."""
    code = (
        "import signal, threading, numpy as np, scipy.fft\n"
        "from imsim.workers import SMALLEST_SHARED, parallel, set_workers\n"
        "set_workers(2)\n"
        "x, meeting = np.ones((512, 512)), threading.Barrier(2)\n"
        "def interrupt(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, interrupt)\n"
        "def task(i):\n"
        "    meeting.wait(30)\n"
        "    if threading.current_thread() is threading.main_thread():\n"
        "        signal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        "        raise KeyboardInterrupt\n"
        "    for _ in range(100): scipy.fft.fft2(x)\n"
        "    print('ended')\n"
        "try: parallel(task, 2, SMALLEST_SHARED)\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)\n"
    )
    assert run_python(code).split() == ["interrupted", "ended"]


def test_without_another_thread_the_caller_works_alone() -> None:
    code = (
        "import threading\n"
        "from imsim.workers import SMALLEST_SHARED, parallel, set_workers\n"
        'def start(self): raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = start\n"
        "set_workers(3)\n"
        "done = []\n"
        "parallel(done.append, 5, SMALLEST_SHARED)\n"
        "print(done)\n"
    )
    assert run_python(code) == "[0, 1, 2, 3, 4]"


def test_threads_have_the_context_of_the_caller() -> None:
    found, meeting = set(), threading.Barrier(2)

    def task(i: int) -> None:
        meeting.wait(30)
        found.add((np.geterr()["divide"], imsim.get_workers()))

    with imsim.workers(2), np.errstate(divide="call"):
        parallel(task, 2, SMALLEST_SHARED)
    assert found == {("call", 2)}


def test_set_workers_and_workers() -> None:
    before = imsim.get_workers()
    try:
        imsim.set_workers(5)
        with imsim.workers(2):
            assert imsim.get_workers() == 2
            with imsim.workers(3):
                assert imsim.get_workers() == 3
            assert imsim.get_workers() == 2
            # A new thread starts outside the block.
            assert contextvars.Context().run(imsim.get_workers) == 5
        assert imsim.get_workers() == 5
    finally:
        imsim.set_workers(before)


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True])
def test_bad_number_of_workers(n: object) -> None:
    with pytest.raises(imsim.OptionError, match=r"n=.*integer of at least 1"):
        imsim.set_workers(n)  # type: ignore[arg-type]
    with pytest.raises(imsim.OptionError, match=r"n=.*integer of at least 1"), imsim.workers(n):  # type: ignore[arg-type]
        pass


def test_environment_variable() -> None:
    code = "import imsim; print(imsim.get_workers())"
    assert run_python(code, IMSIM_WORKERS="3") == "3"
    assert int(run_python(code, IMSIM_WORKERS="")) >= 1


@pytest.mark.parametrize("bad", ["0", "many"])
def test_bad_environment_variable(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMSIM_WORKERS", bad)
    monkeypatch.setattr(sys.modules["imsim.workers"], "_default", None)
    with pytest.raises(imsim.OptionError, match="IMSIM_WORKERS"):
        imsim.get_workers()


def test_compiled_without_a_place_for_the_cache() -> None:
    """Where Numba can write nowhere, kernels are compiled anew, not refused."""
    code = (
        "import numpy as np, imsim\n"
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "print(imsim.se(np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)))"
    )
    assert run_python(code) == "16.0"


def test_pool_grows() -> None:
    counter = itertools.count()
    for n in (2, 4):
        with imsim.workers(n):
            parallel(lambda i: next(counter), 20, SMALLEST_SHARED)
    assert next(counter) == 40
