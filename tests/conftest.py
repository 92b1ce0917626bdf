"""Settings and fixtures that every test module shares."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import imsim

# No deadline: the first call of a compiled kernel takes seconds. Few, small examples: every
# property runs over all metrics, and the whole suite has to stay a matter of minutes.
_COMMON = {
    "deadline": None,
    "max_examples": 25,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("default", **_COMMON)  # type: ignore[arg-type]
# On a build machine the same examples every time: a red build is the fault of the change.
settings.register_profile("ci", derandomize=True, **_COMMON)  # type: ignore[arg-type]
# By hand, before a release: pytest --hypothesis-profile=thorough
settings.register_profile("thorough", **{**_COMMON, "max_examples": 300})  # type: ignore[arg-type]
settings.load_profile("ci" if os.environ.get("CI", "").lower() in {"1", "true"} else "default")


pytest_plugins = ["pytester", "pytest_imsim"]
"""The second one by its name, whatever the installation declares."""

collect_ignore = ["new_metric.py"]
"""Registers a metric when it is imported, which is to happen in processes of their own only."""


MATRICES = {
    f"test_{name}"
    for name in (
        *("contract", "distant_pixelwise", "distant_windows", "exact_integers", "fsim_oracle"),
        *("fuzz", "golden", "golden_maps", "golden_phase_congruency", "human_agreement"),
        *("identities", "inputs", "large_frames", "mask_oracles", "not_finite", "properties"),
        "properties_pixelwise",
    )
}
"""Modules that run all metrics over many inputs. Under coverage they take 1.7 times as long, and
the other tests reach the same lines."""


LOCKS = pytest.StashKey[tempfile.TemporaryDirectory]()

HAS_TORCH = importlib.util.find_spec("torch") is not None
"""The environment of `make test-tensors` has it; that of `make test` stays light."""


def pytest_report_header() -> str | None:
    """Say what is left out."""
    return None if HAS_TORCH else "tests/tensors are left to make test-tensors: PyTorch is missing"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the suite run on the portable engine, and in two parts, one of them under coverage."""
    parser.addoption("--engine", choices=("auto", "portable"), default="auto")
    parser.addoption("--matrices", choices=("with", "without", "only"), default="with")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the modules that `--matrices` does not ask for, and tensors without PyTorch."""
    if collection_path.is_dir() and collection_path.name == "tensors" and not HAS_TORCH:
        return True
    choice = config.getoption("--matrices")
    if collection_path.suffix != ".py" or choice == "with":
        return None
    is_matrix = collection_path.stem in MATRICES
    return True if is_matrix is (choice == "without") else None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Say what is compiled: in a run of the whole, all kernels, before several workers need them.

    Without the matrices, which take them all, a worker compiles a kernel when a test needs it.
    """
    config = session.config
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    # Workers themselves have no number of processes.
    if not (is_whole and config.getoption("numprocesses", None)):
        return
    if config.getoption("--engine") == "portable":
        return
    import compilation

    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if config.getoption("--matrices") == "without" and compilation.CAN_LOCK:
        terminal.write_line(
            "compiling each kernel when a test first needs it, in one of the workers, unless "
            "imsim/kernels/**/__pycache__ has it"
        )
        return
    terminal.write_line(
        f"compiling all kernels for {', '.join(compilation.DTYPES)}, with masks and without, "
        "unless imsim/kernels/**/__pycache__ has them ..."
    )
    start = time.monotonic()
    compilation.compile_kernels()
    terminal.write_line(f"kernels ready after {time.monotonic() - start:.0f} s")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give each worker the folder where it says what it compiles."""
    if LOCKS not in node.config.stash:
        node.config.stash[LOCKS] = tempfile.TemporaryDirectory(prefix="imsim-tests-")
    node.workerinput["locks"] = node.config.stash[LOCKS].name


def pytest_configure(config: pytest.Config) -> None:
    """Let no worker compile what another one compiles."""
    if hasattr(config, "workerinput"):
        import compilation

        compilation.compile_once(Path(config.workerinput["locks"]))


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
