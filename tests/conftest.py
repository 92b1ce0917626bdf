"""Settings and fixtures that every test module shares."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

import imsim

# Beside other workers of pytest-xdist, threads of OpenBLAS wait for each other in loops, which took
# 4 of 5 CPU seconds. The variable is for processes that tests start.
threadpool_limits(1, user_api="blas")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Most optimisations take half of the time of compiling a program; tests/tensors have them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# No deadline: the first call of a compiled kernel takes seconds. Few, small examples: every
# property runs over all metrics, and the whole suite has to stay a matter of minutes. Those that
# `@example` names come in addition.
_COMMON = {
    "deadline": None,
    "max_examples": 10,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("default", **_COMMON)  # type: ignore[arg-type]
# On a build machine the same examples every time: a red build is the fault of the change.
settings.register_profile("ci", derandomize=True, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("thorough", **{**_COMMON, "max_examples": 300})  # type: ignore[arg-type]
settings.load_profile("ci" if os.environ.get("CI", "").lower() in {"1", "true"} else "default")


pytest_plugins = ["pytester", "pytest_imsim"]
"""The second one by its name, whatever the installation declares."""

collect_ignore = ["new_metric.py"]
"""Registers a metric when it is imported, which is to happen in processes of their own only."""


UNCOVERED = frozenset(Path(__file__).with_name("no_cover.txt").read_text(encoding="utf-8").split())
"""Modules and tests that take long and, together, reach hardly a line alone: coverage, with which
they would take half as long again, looks away from them."""


HAS_TORCH = importlib.util.find_spec("torch") is not None
"""The environment of `make test-tensors` has it; that of `make test` stays light."""


def pytest_report_header() -> list[str]:
    """Say what is compiled, and what is left out."""
    cache = os.environ.get("IMSIM_CACHE_DIR", "imsim/kernels/**/__pycache__")
    lines = [f"kernels are compiled, seconds each, when a test needs them and {cache} has none"]
    if not HAS_TORCH:
        lines.append("tests/tensors are left to make test-tensors: PyTorch is missing")
    return lines


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the suite run on the portable engine, and with all its variants."""
    parser.addoption("--engine", choices=("auto", "portable"), default="auto")
    parser.addoption("--thorough", action="store_true", help="also run what is marked thorough")


def pytest_configure(config: pytest.Config) -> None:
    """Draw many examples where everything is asked for."""
    if config.getoption("--thorough"):
        settings.load_profile("thorough")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only `--thorough` asks for."""
    if config.getoption("--thorough"):
        return
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out tests of tensors without PyTorch."""
    is_tensors = collection_path.is_dir() and collection_path.name == "tensors"
    return True if is_tensors and not HAS_TORCH else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let coverage look away from what is long, and from the fixtures that it makes."""
    coverage = getattr(item.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    test = item.nodeid.partition("[")[0]
    if coverage is None or UNCOVERED.isdisjoint((test, test.partition("::")[0])):
        return (yield)
    coverage.pause()
    try:
        return (yield)
    finally:
        coverage.resume()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let coverage look away while kernels are compiled, which takes it half as long again."""
    if not session.config.getoption("cov_source", None):
        return
    from imsim.kernels.common import jit

    compile_ = jit._without_collection

    def untraced(*arguments: Any, **named: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return compile_(*arguments, **named)
        finally:
            sys.settrace(tracer)

    jit._without_collection = untraced


def pytest_collection_finish() -> None:
    """Look for garbage less often: what a compiler makes mostly lives, and a tenth went into it."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Leave the tests of a file to one worker, mostly: they share kernels and fixtures."""
    from xdist.scheduler import WorkStealingScheduling

    is_usual = config.getvalue("dist") == "load"
    return WorkStealingScheduling(config, log) if is_usual else None


@pytest.fixture(scope="session", autouse=True)
def engine(request: pytest.FixtureRequest) -> None:
    """Choose the engine once for all tests."""
    imsim.set_engine(request.config.getoption("--engine"))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded with the test's own name: reproducible, and different for every test."""
    return np.random.default_rng(list(request.node.name.encode()))


@pytest.fixture
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory, as a user with files of short names would."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def kernels(request: pytest.FixtureRequest) -> None:
    """Ask for the kernels, for what the formulas do by its definition."""
    if request.config.getoption("--engine") == "portable":
        pytest.skip("is about what kernels score")
