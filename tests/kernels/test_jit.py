"""The cache of compiled kernels: it may fail in any way, and never stops a computation."""

from __future__ import annotations

import errno
import gc
import importlib.util
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import caching

from imsim import notice
from imsim.kernels.common import jit

KERNEL = """
from imsim.kernels.common.jit import kernel

@kernel
def double(x):
    return x + x
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a tiny kernel, whose cache lies in a folder beside it."""
    path = tmp_path / "tiny.py"
    path.write_text(KERNEL)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("IMSIM_CACHE_DIR", raising=False)  # which goes before it
    return path


def loaded(path: Path) -> Any:
    """Import the kernel anew, as another process would."""
    spec = importlib.util.spec_from_file_location("tiny", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.double


def is_cached(path: Path, argument: Any = 21) -> bool:
    """Whether the kernel is loaded from the cache; its result is right in any case."""
    kernel = loaded(path)
    assert kernel(argument) == 2 * argument
    return bool(kernel.stats.cache_hits)


@pytest.mark.parametrize("mark", [jit.part, jit.exact_part])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_part_of_kernels_cannot_be_called_from_python(mark: Any, is_compiled: bool) -> None:
    """Numba would jump to an address of 0."""

    def twice(x: float) -> float:
        return 2 * x

    twice = mark(twice)
    if is_compiled:
        assert numba.njit(lambda x: twice(x))(2.0) == 4.0
    with pytest.raises(TypeError, match=r"twice\S* is a part of kernels: mark it as a kernel"):
        twice(2.0)


def test_branches_that_arguments_rule_out_are_not_compiled() -> None:
    """Nothing has the attribute `nothing`: Numba would refuse to compile such a branch."""

    @jit.inline
    def total(x, mask):  # type: ignore[no-untyped-def]
        return x.nothing if mask is None else x[0] + mask[0]

    def add(x, mask):  # type: ignore[no-untyped-def]
        if x.itemsize > 1:
            return x.nothing
        if mask is not None:
            return total(x, mask)
        return x[0] if mask is None else x.nothing

    add = jit.kernel(add)
    x = np.full(1, 20, np.uint8)
    assert add(x, x) == 40
    assert add(x, None) == 20
    with pytest.raises(numba.TypingError, match="nothing"):
        add(x.astype(np.uint16), None)


def test_a_part_has_no_machine_code_and_is_cached_for_other_kernels(module: Path) -> None:
    module.write_text(
        "from imsim.kernels.common.jit import kernel, part\n\n"
        "@part\ndef twice(x):\n    return 2 * x\n\n"
        "@kernel\ndef double(x, _):\n    return twice(x)\n"
    )
    for other, hits in ((0, 0), (0.0, 1)):
        double = loaded(module)
        assert double(21, other) == 42
        twice = double.py_func.__globals__["twice"]
        assert sum(twice.stats.cache_hits.values()) == hits
        if not hits:
            (compiled,) = twice.overloads.values()
            assert "define" not in compiled.library.get_llvm_str()


@pytest.mark.parametrize("is_enabled", [True, False])
def test_no_garbage_is_collected_while_a_kernel_is_compiled(
    module: Path, is_enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And after it as before, even if it cannot be compiled."""
    kernel, seen = loaded(module), []
    compile_ = type(kernel).compile
    monkeypatch.setattr(
        type(kernel), "compile", lambda *a: (seen.append(gc.isenabled()), compile_(*a))[1]
    )
    was_enabled = gc.isenabled()
    try:
        (gc.enable if is_enabled else gc.disable)()
        assert kernel(21) == 42
        assert (seen, gc.isenabled()) == ([False], is_enabled)
        with pytest.raises(numba.core.errors.TypingError):
            kernel({})
        assert gc.isenabled() == is_enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_who_returns_arrays_is_marked_as_allocating() -> None:
    """Without counts of users, the memory of what is returned would be freed too early."""

    def same(x: Any) -> Any:
        return x

    def beginning(x: Any) -> Any:
        return 1, x[:1]

    pixels = np.ones(3)
    for function in (same, beginning):
        expected = function(pixels)
        name = function.__qualname__
        kernel = jit.kernel(function)
        with pytest.raises((TypeError, numba.core.errors.TypingError), match="return"):
            kernel(pixels)
        function.__qualname__ = name
        kernel = jit.allocating(function)
        for _ in range(100):
            found = kernel(pixels)
        assert repr(found) == repr(expected)


def entries(path: Path) -> list[Path]:
    return sorted(path.parent.glob("cache/*/*"))


def test_compiled_once_for_each_signature(module: Path) -> None:
    assert [is_cached(module, x) for x in (21, 2.5, 21, 2.5)] == [False, False, True, True]
    assert len(entries(module)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"\0",
        lambda content: b"\x80\x04garbage." * 100,
        lambda content: content[:-100] + bytes(100),
    ],
    ids=["empty", "start", "half", "longer", "garbage", "zeros at the end"],
)
def test_a_damaged_file_is_made_anew(module: Path, damage: Any) -> None:
    is_cached(module)
    for path in entries(module):
        path.write_bytes(damage(path.read_bytes()))
    assert not is_cached(module)
    assert is_cached(module)


def test_the_file_of_another_signature_is_not_taken(module: Path) -> None:
    is_cached(module, 21)
    (first,) = entries(module)
    is_cached(module, 2.5)
    (second,) = set(entries(module)) - {first}
    second.write_bytes(first.read_bytes())
    assert not is_cached(module, 2.5)


def test_a_folder_in_place_of_the_file(module: Path) -> None:
    is_cached(module)
    (path,) = entries(module)
    path.unlink()
    path.mkdir()
    assert not is_cached(module)
    assert not is_cached(module)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_nothing_can_be_saved(module: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    kernel = loaded(module)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", refuse)
    assert kernel(21) == 42
    assert kernel(2.5) == 5


def test_a_read_only_installation_caches_for_the_user(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba looks for the next place where it may write."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(caching.InTreeCacheLocator, "from_function", classmethod(lambda *_: None))
    monkeypatch.setenv("XDG_CACHE_HOME", str(module.parent / "home"))
    assert not is_cached(module)
    assert is_cached(module)
    assert list(module.parent.glob("home/numba/*/*"))


def test_a_folder_of_our_own(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = module.parent / "own"
    monkeypatch.setenv("IMSIM_CACHE_DIR", str(folder))
    assert [is_cached(module), is_cached(module)] == [False, True]
    assert len(list(folder.iterdir())) == 1
    assert not entries(module)
    folder = module.parent / "elsewhere"
    folder.mkdir()
    assert is_cached(module.rename(folder / module.name))  # the place of the code does not matter


def test_a_folder_of_our_own_that_cannot_be(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As without it."""
    monkeypatch.setenv("IMSIM_CACHE_DIR", str(module / "below a file"))
    assert [is_cached(module), is_cached(module)] == [False, True]
    assert len(entries(module)) == 1


def test_a_folder_of_our_own_that_is_only_read(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled by one user, read by another, from whatever folder."""
    folder = module.parent / "own"
    monkeypatch.chdir(module.parent)
    monkeypatch.setenv("IMSIM_CACHE_DIR", "own")
    assert not is_cached(module)
    assert len(list(folder.iterdir())) == 1

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", refuse)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    kernel = loaded(module)
    monkeypatch.chdir("/")
    assert kernel(21) == 42
    assert kernel.stats.cache_hits
    assert kernel(2.5) == 5


def test_words_are_not_compiled_again(module: Path) -> None:
    is_cached(module)
    module.write_text(f'"""A docstring\n\nof lines."""\n{KERNEL}')
    assert is_cached(module)
    module.write_text(KERNEL.replace("x + x", "2 * x"))
    assert not is_cached(module)


def test_a_terminal_is_told_once(
    module: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for terminal, argument in ((False, 21), (True, 2.5)):
        notice.compiling.cache_clear()
        monkeypatch.setattr(sys.stderr, "isatty", lambda is_one=terminal: is_one)
        kernel = loaded(module)
        kernel(argument)
        kernel(argument * (1 + 1j))
        said = capsys.readouterr().err
        assert said.count("is compiled") == terminal
    notice.compiling.cache_clear()
    monkeypatch.setattr(sys, "stderr", None)
    assert loaded(module)(np.float32(2)) == 4


def test_no_place_at_all(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit._Impl, "_locator_classes", [])
    assert not is_cached(module)


def run(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_compile_at_once(module: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(module.parent)!r}); from tiny import double\n"
    calls = [f"print(double({x}), sum(double.stats.cache_hits.values()))\n" for x in (21, 2.5)]
    folder = str(module.parent / "cache")
    processes = [run(code + call, NUMBA_CACHE_DIR=folder) for call in calls]
    found = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert found == ["42 0", "5.0 0"]
    after = run(code + "".join(calls), NUMBA_CACHE_DIR=folder)
    assert after.communicate(timeout=120)[0].splitlines() == ["42 1", "5.0 2"]


def test_without_compilation_formulas_compute() -> None:
    code = (
        "import numpy as np, imsim; x = np.arange(256.0).reshape(16, 16)\n"
        "print([float(m.function(x, x.T, data_range=255)) for m in imsim.METRICS.values()])"
    )
    process = run(code, NUMBA_DISABLE_JIT="1")
    found = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    assert np.isfinite([float(word) for word in found.strip("[]\n").split(",")]).all()


def test_code_names_a_kernel_and_its_words_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edited docstring throws no compiled code away; edited code does, imported code too."""
    monkeypatch.setattr(jit, "_PACKAGE", tmp_path)
    (tmp_path / "kernels").mkdir()
    (tmp_path / "portable").mkdir()
    kernel, portable = tmp_path / "kernels/one.py", tmp_path / "portable/two.py"
    digests = []
    for word, number in (("first", 1), ("second", 1), ("second", 22)):  # of another size, too
        kernel.write_text(
            f'"""The {word}."""\nfrom imsim.portable.two import N\n\n# {word}\n'
            f'def f(x):\n    """Say {word}."""\n    return x + N\n'
        )
        portable.write_text(f'N = {number}\n"""A {word} number."""\n')
        jit._code.cache_clear()
        jit._digest.cache_clear()
        digests.append(jit._digest("imsim.kernels.one"))
    jit._code.cache_clear()
    jit._digest.cache_clear()
    assert digests[0] == digests[1] != digests[2]


def test_threads_may_look_at_sources_at_a_time():
    """A callback in a garbage collection, as Hypothesis has, lets another thread run meanwhile."""
    threshold = gc.get_threshold()

    def wait(*_):
        time.sleep(0.0002)

    gc.callbacks.append(wait)
    gc.set_threshold(200)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(jit._code.__wrapped__, ["imsim.kernels.gmsd"] * 16))
    finally:
        gc.callbacks.remove(wait)
        gc.set_threshold(*threshold)
    assert len({code for code, _ in found}) == 1
