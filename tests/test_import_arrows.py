"""Who may import whom inside imsim; any other arrow fails."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

# Not imported from the installed package: the checks of the source tree run without installing it.
ROOT = Path(__file__).parent.parent / "imsim"

# Modules without imports of their own that everyone may use.
LEAVES = {"errors", "typing"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "typing": set(),
    "__init__": {"metrics", "registry", "comparison", "masks", "engine", "validation"} | LEAVES,
    "metrics": {"registry", "engine", "portable"} | LEAVES,
    "portable": {"portable"} | LEAVES,
    "kernels": {"kernels", "portable"} | LEAVES,
    "engine": {"validation", "masks", "kernels", "portable"} | LEAVES,
    "masks": {"validation", "portable"} | LEAVES,
    "validation": {"portable"} | LEAVES,
    "registry": LEAVES,
    "comparison": {"registry", "validation", "masks"} | LEAVES,
    "cli": {"", "comparison", "registry", "anomaly", "_images"} | LEAVES,
    "_images": LEAVES,
    "__main__": {"cli"},
    "anomaly": {"", "anomaly"},
}
# Packages that cost an import or need a home of their own, and the modules that may name them.
HOMES = {
    "numba": {"kernels"},
    "jax": {"anomaly"},
    "equinox": {"anomaly"},
    "optax": {"anomaly"},
    "sklearn": {"anomaly"},
    "matplotlib": {"anomaly"},
    "torch": set(),
    "cupy": set(),
    "array_api_strict": set(),
    "pytest": set(),
    "PIL": {"_images", "anomaly"},
    "tifffile": {"_images", "anomaly"},
    "pywt": {"metrics", "portable"},
    "skimage": {"metrics", "portable"},
    "argparse": {"cli"},
}

FILES = sorted(ROOT.rglob("*.py"))


def part(path: Path) -> str:
    """Return the part of the house a file belongs to: its top-level folder or module."""
    inside = path.relative_to(ROOT)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imports(path: Path) -> set[str]:
    """Return the full names of all modules a file imports, anywhere in it."""
    package = ["imsim", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from imsim import masks` imports a module where there is one of that name.
            for alias in node.names:
                inner = ROOT.parent.joinpath(*module.split("."), alias.name)
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                found.add(f"{module}.{alias.name}" if is_module else module)
    return found


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 13


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_arrows_inside(path: Path) -> None:
    targets = [name.split(".") for name in imports(path)]
    used = {(t[1] if len(t) > 1 else "") for t in targets if t[0] == "imsim"}
    source = part(path)
    assert source in ALLOWED, f"{source} is new: give it a place in this table"
    assert used <= ALLOWED[source], f"{source} must not import {sorted(used - ALLOWED[source])}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_arrows_outside(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)}
    for package in used & HOMES.keys():
        assert part(path) in HOMES[package], f"{package} has its home in {HOMES[package]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_metric_imports_another(path: Path) -> None:
    """A newcomer may delete or add a metric file without touching the others."""
    if part(path) == "metrics" and path.stem != "__init__":
        siblings = {n for n in imports(path) if n.startswith("imsim.metrics")}
        assert siblings == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_assert_and_no_long_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text)))
    assert text.count("\n") <= 320


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("import imsim.kernels", {"imsim.kernels"}),
        ("from imsim import kernels", {"imsim.kernels"}),
        ("from imsim.kernels import x", {"imsim.kernels"}),
        ("from ..kernels import x", {"imsim.kernels"}),
        ("from .. import kernels", {"imsim.kernels"}),
        ("def f():\n    import numba.core", {"numba.core"}),
    ],
)
def test_the_walk_sees_every_form(
    text: str, want: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "imsim"
    for name in ("metrics", "kernels"):
        (root / name).mkdir(parents=True)
    monkeypatch.setattr(f"{__name__}.ROOT", root)
    path = root / "metrics" / "new.py"
    path.write_text(text, encoding="utf-8")
    assert imports(path) == want
