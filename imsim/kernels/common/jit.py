"""Compilation: one decorator for every kernel."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import os
import pickle
import sys
import threading
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar, NamedTuple, TypeAlias, cast

import numba
from llvmlite.binding import PassBuilder, PipelineTuningOptions, parse_assembly
from numba.core import config, ir, types
from numba.core.analysis import dead_branch_prune
from numba.core.caching import CacheImpl, CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, Flags
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import get_definition, guard
from numba.core.typed_passes import NopythonRewrites
from numba.core.types import misc
from numba.core.untyped_passes import (
    DeadBranchPrune,
    GenericRewrites,
    InlineClosureLikes,
    InlineInlinables,
)
from numba.np.numpy_support import as_dtype

from imsim import notice

FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}
"""Kernels may fuse and reorder operations, and must still expect NaN and infinities."""
CHECKSUM = 32
"""Bytes of the checksum at the beginning of a file of compiled code."""
IS_ENABLED = not config.DISABLE_JIT
"""Whether Numba compiles; without it, kernels would run as Python, thousands of times slower."""
_PACKAGE = Path(__file__).parents[2]
_HOMES = {"kernels", "portable", "validation"}
"""Folders and files that hold compiled code and its constants."""
_ENVIRONMENT = "_ZN08NumbaEnv"
"""Beginning of the names of variables that hold what Numba keeps for a function."""
_COUNTS_USERS: dict[str, Any] = {"_nrt": True}
"""Numba counts who uses memory that a kernel makes. It need not count for all other code: there the
caller keeps the arrays. Counting at each slice took a twentieth of the time of compiling."""


class _Given(NamedTuple):
    """The type of an argument that is not None, as `dead_branch_prune` takes it."""

    literal_type: Any


@register_pass(mutates_CFG=True, analysis_only=False)
class _LeaveOut(FunctionPass):  # type: ignore[misc]
    """Leave out branches that the types of the arguments rule out.

    Numba leaves out what a function does with an argument that is given where it is None, but not
    what it does without one where it is given; and it takes the size of pixels for a variable.
    """

    _name = "imsim_leave_out"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Change the function; return whether a branch was left out."""
        code, may_be_none = state.func_ir, (misc.NoneType, misc.Omitted, misc.Optional)
        for statement in _statements(code, ir.Assign):
            value = statement.value
            if isinstance(value, ir.Expr) and value.op == "getattr" and value.attr == "itemsize":
                source = guard(get_definition, code, value.value)
                kind = state.args[source.index] if isinstance(source, ir.Arg) else None
                if isinstance(kind, types.Array):
                    size = as_dtype(kind.dtype).itemsize
                    statement.value = ir.Const(size, statement.loc)
                    code._definitions[statement.target.name] = [statement.value]
        branches = len(_statements(code, ir.Branch))
        given = (t if isinstance(t, may_be_none) else _Given(t) for t in state.args)
        dead_branch_prune(code, tuple(given))
        return len(_statements(code, ir.Branch)) < branches


def _statements(code: Any, kind: type) -> list[Any]:
    return [s for block in code.blocks.values() for s in block.body if isinstance(s, kind)]


_NEEDLESS = {DeadBranchPrune, InlineClosureLikes, NopythonRewrites}
"""Passes of Numba that kernels, without closures and expressions of arrays, do not need. After
each, Numba finds anew where variables are used."""


class _KernelLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The code of a kernel: LLVM vectorises its loops, and does not unroll them.

    To unroll them took an eighth of the time of compiling, and made no kernel faster. The settings
    of Numba for its optimiser, such as NUMBA_OPT, do not count here.
    """

    def _optimize_final_module(self) -> None:
        options = PipelineTuningOptions(speed_level=3)
        options.loop_vectorization, options.loop_unrolling = True, False
        builder = PassBuilder(self._codegen._tm, options)
        passes = builder.getModulePassManager()
        passes.add_refprune_pass()
        passes.run(self._final_module, builder)


class _PartLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The code of a part, for the kernels that take it over, without machine code of its own."""

    def _optimize_final_module(self) -> None:
        """Leave it to the kernels."""

    def _finalize_final_module(self) -> None:
        self._finalized = True  # as it must be to be linked
        whole = self._get_module_for_linking()
        # Numba sets the environments of all functions, which therefore need an address.
        environments = (str(v) for v in whole.global_variables if v.name.startswith(_ENVIRONMENT))
        self._final_module = parse_assembly("\n".join(environments))
        super()._finalize_final_module()


class _Flags(Flags):  # type: ignore[misc]
    """Options of Numba, which compares them whenever it looks for what it has compiled before.

    To list them one by one for that took up to a tenth of the time of compiling.
    """

    __slots__ = ()
    _defaults: ClassVar[dict[str, Any]] = {
        name: option.default for name, option in Flags.options.items()
    }
    _hash = hash(Flags())  # that of all options, since it is made of their names alone

    def values(self) -> dict[str, Any]:
        """Return the value of each option."""
        return {**self._defaults, **self._values}

    def __hash__(self) -> int:
        return self._hash


class _Compiler(CompilerBase):  # type: ignore[misc]
    """Numba's compiler, with `_LeaveOut` before other functions are taken over, and after that."""

    library = _KernelLibrary

    def define_pipelines(self) -> list[Any]:
        """List the passes."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [p for p in passes.passes if p[0] not in _NEEDLESS]
        for earlier in (GenericRewrites, InlineInlinables):
            passes.add_pass_after(_LeaveOut, earlier)
        passes.finalize()
        return [passes]

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        """Compile a function."""
        self.state.library = self.library(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        self.state.flags = _Flags(self.state.flags)
        return super().compile_extra(func)


class _PartCompiler(_Compiler):
    """The same, for parts."""

    library = _PartLibrary


_OF_PART = {"no_cpython_wrapper": True, "forceinline": True, "pipeline_class": _PartCompiler}
"""A part becomes code of the kernels that call it. To pass many arrays to it, row by row, took a
tenth of the time of SSIM. Of the time of compiling, code by which Python could call it took a
sixth, to optimise it by itself first a seventh, and machine code of its own a twentieth."""


def inline(function: Callable[..., Any]) -> Any:
    """Compile a scalar formula into the kernels that call it."""
    return numba.njit(function, inline="always", fastmath=FAST_MATH, error_model="numpy")


@functools.cache
def _digest(module: str) -> str:
    """Digest of the code of a module's kernels, including the modules that it imports."""
    codes: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in codes and (found := _code(name)):
            codes[name], imports = found
            waiting += imports
    digest = hashlib.blake2s(digest_size=6)
    for name in sorted(codes):
        digest.update(f"{name}\0{codes[name]}\0".encode())
    return digest.hexdigest()


@functools.cache
def _code(module: str) -> tuple[str, list[str]] | None:
    """Return the bytecode of a module, and its imports; None if no kernel needs the module.

    Python keeps it on disk. To parse the sources took an eighth of the first call of a process.
    """
    package, *place = module.split(".")
    path = _PACKAGE.joinpath(*place).with_suffix(".py")
    if package != "imsim" or not _HOMES & {*place[:1]} or not path.is_file():
        return None
    loader = SourceFileLoader(module, str(path))
    # In CPython 3.11, threads that parse at a time fail if a garbage collection lets others run.
    # Numba parses, too, in its own lock.
    with global_compiler_lock:
        code = cast(CodeType, loader.get_code(module))
    imports = [name for name in code.co_names if name.partition(".")[0] == package]
    for name in [n for n in imports if _PACKAGE.joinpath(*n.split(".")[1:]).is_dir()]:
        imports += [f"{name}.{part}" for part in code.co_names]
    return repr(_without_words(code)), imports


def _without_words(code: CodeType) -> tuple[Any, ...]:
    """Return what a piece of code does, without lines and strings of several words.

    No kernel depends on docstrings and messages.
    """
    constants: list[Any] = []
    for value in code.co_consts:
        if isinstance(value, CodeType):
            constants.append(_without_words(value))
        elif isinstance(value, frozenset):
            constants.append(sorted(map(repr, value)))  # whose order differs between processes
        elif not (isinstance(value, str) and " " in value):
            constants.append(value)
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    return code.co_name, code.co_code, code.co_exceptiontable, names, counts, constants


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    # Inlined code and constants come from other files, so their digest goes into the name, by
    # which the cache on disk identifies a kernel.
    function.__qualname__ += f"_{_digest(function.__module__)}"
    usual = {"nogil": True, "fastmath": FAST_MATH, "error_model": "numpy", "_nrt": False}
    usual |= {"no_cfunc_wrapper": True, "pipeline_class": _Compiler}  # C calls no kernel
    dispatcher = numba.njit(function, **{**usual, **options})
    if IS_ENABLED:
        compile_ = dispatcher._compile_for_args
        dispatcher._compile_for_args = functools.partial(_without_collection, compile_)
        if not dispatcher.targetoptions["_nrt"]:
            dispatcher.add_overload = functools.partial(_add_without_arrays, dispatcher)
    with contextlib.suppress(Exception):  # no writable folder: compile in every process
        dispatcher._cache = _Cache(function)
    return dispatcher


class _Compiling:
    """How many threads compile, and whether Python collected garbage before the first one did."""

    lock = threading.Lock()
    threads = 0
    collected = False


def _without_collection(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a function while Python collects no garbage: Numba makes many objects, and few cycles.

    To look for these took an eighth of the time of compiling.
    """
    state = _Compiling
    with state.lock:
        if state.threads == 0:
            state.collected = gc.isenabled()
            gc.disable()
        state.threads += 1
    try:
        return function(*arguments, **named)
    finally:
        with state.lock:
            state.threads -= 1
            if state.threads == 0 and state.collected:
                gc.enable()


def _add_without_arrays(dispatcher: Any, compiled: Any) -> None:
    """Take compiled code unless it returns arrays, whose users it has not counted."""
    returned = compiled.signature.return_type
    if any(isinstance(t, types.Array) for t in getattr(returned, "types", (returned,))):
        raise TypeError(f"{dispatcher.__name__} returns arrays: mark it as allocating")
    type(dispatcher).add_overload(dispatcher, compiled)


def _uncallable(dispatcher: Any) -> Any:
    """Let Python's calls fail: there is no code for them, and Numba would jump to nowhere."""

    def refuse(*_: Any, **__: Any) -> None:
        raise TypeError(f"{dispatcher.__name__} is a part of kernels: mark it as a kernel")

    if IS_ENABLED:
        dispatcher._insert = lambda *_, **__: None
        dispatcher._compile_for_args = refuse
    return dispatcher


def _compile_part(function: Callable[..., Any], **options: Any) -> Any:
    return _uncallable(_compile(function, **_OF_PART, **options))


Decorator: TypeAlias = Callable[[Callable[..., Any]], Any]
kernel: Decorator = _compile
"""Compile on first use, for each combination of dtypes; release the GIL; cache on disk."""
allocating: Decorator = functools.partial(_compile, **_COUNTS_USERS)
"""Compile a kernel that makes arrays, or calls what returns arrays."""
exact: Decorator = functools.partial(_compile, fastmath=False)
"""Compile a kernel whose operations must keep their written order."""
allocating_exact: Decorator = functools.partial(_compile, fastmath=False, **_COUNTS_USERS)
"""Compile a kernel of both kinds."""
part: Decorator = _compile_part
"""Compile what only kernels call."""
allocating_part: Decorator = functools.partial(_compile_part, **_COUNTS_USERS)
"""Compile what only kernels call, and makes or returns arrays."""
exact_part: Decorator = functools.partial(_compile_part, fastmath=False)
"""Compile what only kernels call, and whose operations must keep their written order."""
contracting_part: Decorator = functools.partial(_compile_part, fastmath={"contract"})
"""Compile what only kernels call, and whose operations may be fused, but not reordered."""


class _Folder:
    """The folder that IMSIM_CACHE_DIR names, as one of the places where Numba looks.

    A folder that exists is read even if nothing can be written there: it may have been filled
    before, by another user.
    """

    def __init__(self, path: str, file: str) -> None:
        self._path = path
        self._py_file = file  # named in Numba's warnings

    @classmethod
    def from_function(cls, _: Callable[..., Any], file: str) -> _Folder | None:
        """Return the place; None if there is none, or it cannot be made."""
        given = os.environ.get("IMSIM_CACHE_DIR")
        if not given:
            return None
        place = cls(os.path.abspath(os.path.expanduser(given)), file)
        with contextlib.suppress(OSError):
            place.ensure_cache_path()
            return place
        return None

    def get_cache_path(self) -> str:
        """Return the folder."""
        return self._path

    def ensure_cache_path(self) -> None:
        """Make the folder."""
        os.makedirs(self._path, exist_ok=True)

    def get_source_stamp(self) -> None:
        """Return nothing: the name of a kernel tells whether its code has changed."""


class _Impl(CompileResultCacheImpl):  # type: ignore[misc]
    """Where the files lie, and what they are called.

    Numba's names hold the line of the function, which an edited docstring above it changes.
    """

    _locator_classes = (_Folder, *CacheImpl._locator_classes)

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        """Return the name of the function, which holds its digest, and that of the Python."""
        return f"{fullname}.{sys.implementation.cache_tag}{abiflags}"


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache on disk, whose failures never stop a computation."""

    _impl_class = _Impl

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Entries(self._cache_path, self._impl.filename_base, None)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load compiled code; return None, so that it is compiled, if that fails for any reason."""
        found = None
        with contextlib.suppress(Exception):
            found = super().load_overload(sig, target_context)
        if found is None:
            notice.compiling()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save compiled code if possible."""
        with contextlib.suppress(Exception):
            super().save_overload(sig, data)


def cache_folder() -> str | None:
    """Return the folder of compiled code; None if there is none, and every process compiles."""
    with contextlib.suppress(Exception):
        return str(_Cache(_signed).cache_path)
    return None


class _Entries(IndexDataCacheFile):  # type: ignore[misc]
    """One file for the compiled code of each signature, without an index.

    When two processes compile at once, Numba's index can lose a signature or give it the code of
    another, and a damaged index stays damaged. Here a checksum proves that each file is whole and
    of its signature, and a file is written whole or not at all.
    """

    def load(self, key: Any) -> Any:
        """Return what was saved; None if nothing was, or if the file is damaged."""
        path, salt = self._entry(key)
        content = path.read_bytes()
        saved = content[CHECKSUM:]
        return pickle.loads(saved) if content == _signed(saved, salt) else None

    def save(self, key: Any, data: Any) -> None:
        """Write a new file, and then replace the old one by it."""
        path, salt = self._entry(key)
        with self._open_for_write(str(path)) as file:
            file.write(_signed(self._dump(data), salt))

    def _entry(self, key: Any) -> tuple[Path, bytes]:
        """Return the file of a signature, and the salt of its checksum: what must be unchanged."""
        signature = repr(key).encode()
        number = int.from_bytes(hashlib.blake2s(signature, digest_size=8).digest())
        return Path(self._data_path(self._data_name(number))), self._version.encode() + signature


def _signed(content: bytes, salt: bytes) -> bytes:
    return hashlib.blake2s(salt + content, digest_size=CHECKSUM).digest() + content
