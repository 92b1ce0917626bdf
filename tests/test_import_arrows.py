"""Who may import whom inside imsim; any other arrow fails."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

# Not imported from the installed package: the checks of the source tree run without installing it.
ROOT = Path(__file__).parent.parent / "imsim"

# Modules without arrows of their own, which everyone may use.
LEAVES = {"errors", "notice", "tables", "typing", "whole_files"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "notice": set(),
    "tables": {"errors", "typing", "whole_files"},
    "typing": set(),
    "whole_files": {"errors"},
    "_version": set(),
    "_interrupt": set(),
    "caches": set(),
    "__init__": {
        "_interrupt",
        "_version",
        "alignment",
        "caches",
        "comparison",
        "compilation",
        "differing",
        "engine",
        "labelled",
        "masks",
        "metrics",
        "registry",
        "slices",
        "workers",
    }
    | LEAVES,
    # A metric checks its own options where it declares them, and its record loads its kernel.
    "metrics": {"registry", "engine", "kernels", "portable", "scenes", "validation", "caches"}
    | LEAVES,
    "portable": {"portable", "caches"} | LEAVES,
    # Of the validation, the record of the checked images.
    "kernels": {"kernels", "portable", "validation", "workers", "caches"} | LEAVES,
    "alignment": {"inputs", "masks", "portable", "shifts", "tensors", "validation"} | LEAVES,
    "shifts": LEAVES,
    "slices": {"finite", "inputs", "masks", "portable", "registry", "validation", "weights"}
    | LEAVES,
    "engine": {
        "checking",
        "derivatives",
        "finite",
        "masks",
        "validation",
        "registry",
        "kernels",
        "portable",
        "scenes",
        "tensors",
        "weights",
    }
    | LEAVES,
    "checking": {"masks", "portable", "registry", "validation", "weights"} | LEAVES,
    "weights": {"inputs", "kernels", "masks", "portable", "validation"} | LEAVES,
    # Metrics in blocks, whose parts are computed by kernels or by formulas that the records name.
    "scenes": {
        "caches",
        "checking",
        "finite",
        "inputs",
        "kernels",
        "masks",
        "portable",
        "registry",
        "scenes",
        "validation",
        "workers",
    }
    | LEAVES,
    # The accessor, which nobody imports but users.
    "xarray": {"", "registry"},
    "derivatives": {
        "finite",
        "kernels",
        "masks",
        "portable",
        "registry",
        "tensors",
        "validation",
    }
    | LEAVES,
    "tensors": {"inputs", "portable"} | LEAVES,
    "masks": {"finite", "inputs", "validation", "portable", "tensors"} | LEAVES,
    "finite": {"kernels", "validation", "portable"} | LEAVES,
    "validation": {"inputs", "portable"} | LEAVES,
    "inputs": {"portable"} | LEAVES,
    "workers": {"validation"} | LEAVES,
    "registry": LEAVES,
    # Of the engine, the check of input that is wrong for every metric; of the portable part, the
    # way from a device to the text.
    "comparison": {
        "checking",
        "differing",
        "registry",
        "finite",
        "validation",
        "portable",
        "scenes",
    }
    | LEAVES,
    # Crops are counted, and copied, by compiled code.
    "region_scores": {"engine", "kernels", "portable", "registry", "validation"} | LEAVES,
    "differing": {"checking", "portable", "registry", "tensors", "validation"} | LEAVES,
    "labelled": {
        "checking",
        "comparison",
        "engine",
        "finite",
        "inputs",
        "portable",
        "region_scores",
        "registry",
        "tensors",
        "validation",
    }
    | LEAVES,
    "compilation": {
        "",
        "engine",
        "kernels",  # passes over X-ray images, which no metric has
        "labelled",
        "region_scores",
        "registry",
        "tensors",
        "validation",
    }
    | LEAVES,
    "cli": {
        "",
        "_interrupt",
        "cli",
        "_images",
        "_version",
        "anomaly",
        "comparison",
        "compilation",
        "differing",
        "kernels",  # the folder of compiled code
        "finite",  # what the pixels span
        "labelled",
        "pages",
        "registry",
        "shifts",
        "validation",  # the hint that names an argument where the command has an option
    }
    | LEAVES,
    "_images": {"_images"} | LEAVES,
    # Colour maps and self-contained HTML pages, which command and workflow share.
    "pages": {"", "differing", "finite", "inputs", "pages", "portable", "tensors", "validation"}
    | LEAVES,
    # What the pytest plugin does, which lies beside the package.
    "regression": {"", "_images", "differing", "pages", "tensors", "validation"} | LEAVES,
    "__main__": {"cli"},
    "anomaly": {
        "",
        "anomaly",
        "caches",
        "inputs",
        "kernels",  # passes over X-ray images
        "pages",
        "portable",  # FSIM's filters, of which statistics are learned
        "validation",
        "workers",
    }
    | LEAVES,
}
# A metric that is made of another one; no other metric imports one.
MADE_OF = {"issm": {"imsim.metrics.ssim"}}
# The portable mathematics knows no NumPy, save where filters are made once on the host, and in
# the metrics whose records say that they take NumPy arrays only.
NUMPY_HOMES = {
    "metrics/issm.py",
    "metrics/sh.py",
    "portable/arrays.py",  # NumPy as one namespace among others, by its own name
    "portable/edges.py",  # of ISSM
    "portable/hashes.py",  # of SH
    "portable/phase_congruency.py",
}
# Packages that cost an import or need a home of their own, and the modules that may name them.
HOMES = {
    "numba": {"kernels"},
    "jax": {"anomaly", "tensors"},
    "jinja2": {"anomaly"},
    "equinox": {"anomaly"},
    "optax": {"anomaly"},
    "safetensors": {"anomaly"},
    "sklearn": {"anomaly"},
    "matplotlib": {"anomaly"},
    "torch": {"tensors"},
    "cupy": set(),
    "array_api_strict": set(),
    "pandas": {"tables"},
    "pytest": set(),
    "PIL": {"_images", "pages"},
    "simplejpeg": {"_images"},
    "tifffile": {"_images"},
    "astropy": {"_images"},
    "OpenEXR": {"_images"},
    "nibabel": {"_images"},
    "pydicom": {"_images"},
    "pywt": {"portable"},
    "skimage": {"portable", "masks", "anomaly"},
    "argparse": {"cli"},
    "distributed": {"cli"},
    "tabulate": {"tables"},
    "tqdm": {"cli", "anomaly"},
    "xarray": {"scenes", "xarray"},
}

FILES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}


def part(path: Path) -> str:
    """Return the part of the house a file belongs to: its top-level folder or module."""
    inside = path.relative_to(ROOT)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> set[str]:
    """Return the full names of all modules a file imports, anywhere in it."""
    package = ["imsim", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(tree(path)):
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


def test_no_arrow_runs_back_up() -> None:
    """The allowed arrows leave an order in which the parts can be read; "" are the public names."""
    below = {source: targets - {source, ""} for source, targets in ALLOWED.items()}
    while below:
        read = {source for source, targets in below.items() if not targets & below.keys()}
        assert read, f"in a circle: {sorted(below)}"
        below = {source: targets for source, targets in below.items() if source not in read}


def test_no_files_of_a_part_import_each_other() -> None:
    """Arrows inside a part; what all files of a circle need would have no home."""
    parts: dict[str, dict[str, set[str]]] = {}
    for path in FILES.values():
        names = ["imsim", *path.relative_to(ROOT).with_suffix("").parts]
        arrows = parts.setdefault(part(path), {})
        arrows[".".join(names).removesuffix(".__init__")] = imports(path)
    for arrows in parts.values():
        TopologicalSorter(arrows).prepare()  # raises CycleError, which names the circle


def test_nothing_is_imported_by_a_name_made_up() -> None:
    """What a reader cannot follow; lazy packages may look their own public names up."""
    users = {
        name for name, path in FILES.items() if "import_module" in path.read_text(encoding="utf-8")
    }
    assert users == {"anomaly/optional.py"}


def test_arrows_inside() -> None:
    wrong = {}
    for name, path in FILES.items():
        targets = [target.split(".") for target in imports(path)]
        used = {(t[1] if len(t) > 1 else "") for t in targets if t[0] == "imsim"}
        source = part(path)
        if source == "metrics":
            used.discard("metrics")  # test_no_metric_imports_another has a say in these
        assert source in ALLOWED, f"{source} is new: give it a place in this table"
        if not used <= ALLOWED[source]:
            wrong[name] = sorted(used - ALLOWED[source])
    assert wrong == {}, "these must not import what stands beside them"


def test_arrows_outside() -> None:
    for name, path in FILES.items():
        used = {target.split(".")[0] for target in imports(path)}
        for package in used & HOMES.keys():
            assert part(path) in HOMES[package], f"{name}: {package}'s home is {HOMES[package]}"


def test_no_metric_imports_another() -> None:
    """Anyone may add or delete a metric file without touching the others."""
    found = {}
    for path in FILES.values():
        siblings = {name for name in imports(path) if name.startswith("imsim.metrics")}
        if part(path) == "metrics" and path.stem != "__init__" and siblings:
            found[path.stem] = siblings
    assert found == MADE_OF


def test_portable_mathematics_knows_no_numpy() -> None:
    users = {
        name
        for name, path in FILES.items()
        if part(path) in {"metrics", "portable"}
        and {target.split(".")[0] for target in imports(path)} & {"numpy", "scipy"}
    }
    assert users <= NUMPY_HOMES


def test_no_assert() -> None:
    for name, path in FILES.items():
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree(path))), name


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


def test_names_that_coverage_looks_away_from() -> None:
    """A name that is none any more is left out of the list."""
    tests = Path(__file__).parent
    for entry in (tests / "no_cover.txt").read_text(encoding="utf-8").split():
        file, *names = entry.split("::")
        source = (tests.parent / file).read_text(encoding="utf-8")
        assert all(name.rpartition(".")[2] in source for name in names), entry
