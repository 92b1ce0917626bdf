"""Compilation: one decorator for every kernel."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}
"""Freedom to fuse and reorder, never to assume that NaN and infinities do not occur."""
_PACKAGE = Path(__file__).parent.parent


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first use, for each combination of dtypes; release the GIL; cache on disk."""
    return _compile(function, nogil=True)


def exact(function: Callable[..., Any]) -> Any:
    """Compile a part of a kernel whose operations must happen just as they are written."""
    return _compile(function, nogil=True, fastmath=False)


def inline(function: Callable[..., Any]) -> Any:
    """Compile a scalar formula into the kernels that call it."""
    return numba.njit(function, inline="always", fastmath=FAST_MATH, error_model="numpy")


@functools.cache
def _digest(module: str) -> str:
    """Digest of the code that the kernels of a module are made of, its imports included.

    Comments and docstrings do not count: no kernel depends on them.
    """
    sources: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py")
        if name in sources or not path.is_file():
            continue
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            _drop_docstring(node)
        sources[name] = ast.unparse(tree)
    digest = hashlib.blake2s(digest_size=6)
    for name in sorted(sources):
        digest.update(f"{name}\0{sources[name]}\0".encode())
    return digest.hexdigest()


def _drop_docstring(node: ast.AST) -> None:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    # Numba's cache on disk knows a kernel by its name, and its age by its own file; but what it
    # inlines and the constants in it come from other files, so that these must be in the name.
    function.__qualname__ += f"_{_digest(function.__module__)}"
    options = {"fastmath": FAST_MATH, "error_model": "numpy", **options}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # nowhere to write a cache: compile in every process
        return numba.njit(function, **options)
