"""Links resolve, code on the pages runs, and the reference leaves no public name out."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex

import pytest
from documents import DOCS, KINDS, PAGES, ROOT, WITH_JAX, blocks, run

import imsim
from benchmarks import parity_tensors
from benchmarks.parity_calls import CALLS, VARIANTS
from benchmarks.peers import WORKS
from imsim.cli import command_parser

FENCED = re.compile(r"^(`{3,}).*?^\1\s*$", flags=re.DOTALL | re.MULTILINE)
MODULES = (
    "imsim",
    "imsim.anomaly",
    "imsim.anomaly.simulate",
    "imsim.anomaly.xray",
)
OUTSIDE = "contributing", "changelog"
"""Pages of the site that lie at the top of the repository."""
RESULTS = {
    "imsim.Alignment": "imsim.align",
    "imsim.Comparison": "imsim.compare",
    "imsim.ISSMComponents": "imsim.issm_components",
    "imsim.Regions": "imsim.regions",
    "imsim.anomaly.Evaluation": "imsim.anomaly.evaluate",
    "imsim.anomaly.Item": "imsim.anomaly.ItemFinder",
    "imsim.anomaly.ItemInspection": "imsim.anomaly.ItemDetector",
    "imsim.anomaly.Ranking": "imsim.anomaly.rank_metrics",
    "imsim.anomaly.simulate.Samples": "imsim.anomaly.simulate.dataset",
    "imsim.anomaly.xray.Peeled": "imsim.anomaly.xray.VirtualPeel",
}
"""Classes that nobody makes by hand, and the function whose example shows one."""


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as the repository's web page and the site make them."""
    heads = re.findall(r"^#+ (.*)$", FENCED.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(text: str) -> list[str]:
    """Return the targets of links and images, without those in code, and of figures."""
    prose = re.sub(r"`[^`\n]*`", "", FENCED.sub("", text))
    figures = re.findall(r"^```\{(?:figure|include|literalinclude)\} (\S+)", text, re.MULTILINE)
    return re.findall(r"\]\(([^)\s]+)\)", prose) + figures


def made_by_the_build(path: str) -> bool:
    """Whether `make docs` writes the file: a page of a metric, a figure of an example, a help."""
    if match := re.fullmatch(r"generated/metrics/(\w+)(\.md|\.txt)?", path):
        return match[1] in {"index", "functions", *imsim.METRICS}
    if match := re.fullmatch(r"auto_examples/images/sphx_glr_(\w+)_(\d{3})\.png", path):
        script = ROOT / "examples" / f"{match[1]}.py"
        return script.exists() and script.read_text(encoding="utf-8").count("plt.show()") >= int(
            match[2]
        )
    others = "auto_examples/index", *(f"generated/{n}" for n in ("command_help", *OUTSIDE))
    return path.removesuffix(".md") in others


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_and_anchors_resolve(page):
    broken = []
    for link in links(PAGES[page]):
        path, _, anchor = link.partition("#")
        if re.match(r"https?:|mailto:", link) or (
            page.startswith("docs/") and made_by_the_build(path)
        ):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        found = target.exists()
        if found and anchor:
            found = anchor in anchors(target.read_text(encoding="utf-8"))
        if not found:
            broken.append(link)
    assert broken == []


def test_every_page_is_in_a_table_of_contents():
    entries = {"index"}
    for text in PAGES.values():
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            entries |= {line for line in block.splitlines() if line and not line.startswith(":")}
    on_disk = {path.stem for path in DOCS.glob("*.md")}
    assert on_disk - entries == set()
    assert {e for e in entries - on_disk if not made_by_the_build(e)} == set()


@pytest.mark.parametrize("page", PAGES)
def test_a_code_host_shows_no_directive_of_sphinx(page):
    """They stand in comments, which docs/_extensions/plain_markdown.py takes away."""
    shown = re.sub(r"^<!--$.*?^-->$", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^\s*(?:`{3,}|:{3,})\s*\{.*", shown, re.MULTILINE) == []
    assert re.findall(r"\{[\w:-]+\}`", FENCED.sub("", shown)) == []


@pytest.mark.parametrize("page", ["docs/index.md", "docs/guide.md", "docs/project.md"])
def test_pages_that_are_hidden_in_a_table_of_contents_have_a_link(page):
    text = PAGES[page]
    (block,) = re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    entries = {line for line in block.splitlines() if line and not line.startswith(":")}
    entries -= {"guide", "api", "project", "auto_examples/index", "generated/metrics/index"}
    linked = {link.removesuffix(".md").removeprefix("../").lower() for link in links(text)}
    assert {entry.removeprefix("generated/") for entry in entries} - linked == set()


@pytest.mark.parametrize(
    "page",
    [
        # JAX compiles for seconds: tests/tensors run these pages.
        pytest.param(page, marks=pytest.mark.thorough if page in WITH_JAX else ())
        for page in PAGES
        if blocks(page)
    ],
)
def test_python_on_the_page_runs_from_top_to_bottom(page):
    run(page)


def test_every_block_of_python_is_one_that_runs():
    # Those that need PyTorch run in tests/tensors, those of xarray and Dask in tests/scenes.
    for page, text in PAGES.items():
        found = [block for kind in KINDS for block in blocks(page, kind)]
        assert len(re.findall(r"^ *`{3,}python", text, re.MULTILINE)) == len(found), page


@pytest.mark.parametrize(
    "line", sorted({line for t in PAGES.values() for line in re.findall(r"^imsim .*", t, re.M)})
)
def test_commands_on_the_pages_are_understood(line):
    command_parser().parse_args(shlex.split(line, comments=True)[1:])


def test_the_pages_on_parity_have_every_call():
    # Their numbers need the other libraries: `python -m benchmarks.parity` in `make bench`.
    assert {(name, p.library) for name, work in WORKS.items() for p in work.peers} == set(CALLS)
    calls = [*CALLS.values(), *(text for v in VARIANTS for text in (v.theirs, v.ours))]
    assert [call for call in calls if f"`{call}`" not in PAGES["docs/parity.md"]] == []
    rows = [f"`{row.theirs}` | `{row.ours}`" for row in parity_tensors.ROWS]
    assert [row for row in rows if row not in PAGES["docs/tensors.md"]] == []


def public(module: str) -> dict[str, object]:
    home = importlib.import_module(module)
    return {f"{module}.{name}": getattr(home, name) for name in home.__all__}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_and_class_has_an_example(module):
    # `pytest imsim` runs them all: --doctest-modules, warnings are errors.
    names = public(module)
    without = [
        name
        for name, value in names.items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and not (inspect.isclass(value) and issubclass(value, Exception))
        and not has_example(names[RESULTS.get(name, name)])
    ]
    assert without == []


def has_example(value: object) -> bool:
    """Whether the docstring has an example, or of a class that of some public method."""
    texts = [inspect.getdoc(value)]
    if inspect.isclass(value):
        texts += [inspect.getdoc(m) for name, m in vars(value).items() if not name.startswith("_")]
    return any(">>> " in (text or "") for text in texts)


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(module):
    text = PAGES["docs/api.md"]
    section = text.split(".. currentmodule:: ")
    listed = "".join(part for part in section[1:] if part.split()[0] == module)
    names = {
        name.removeprefix(f"{module}.")
        for name, value in public(module).items()
        # Metrics and their maps are listed when the pages are made.
        if not (inspect.isfunction(value) and value.__module__.startswith("imsim.metrics"))
    }
    names -= {"__version__", "simulate", "xray"}
    assert {
        name
        for name in names
        if not re.search(rf"^(   |.. py:data:: ){name}$", listed, re.MULTILINE)
    } == set()
