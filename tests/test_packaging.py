"""What the repository says about itself holds: README and versions."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from pathlib import Path

import pytest

import imsim
from imsim import _version, cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_tables_are_current():
    tool = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    for page in tool["TABLES"]:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert tool["with_table"](page, text) == text, "run: python docs/tables.py"


NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]?\d+)?")


def numbers(text: str) -> list[float]:
    return [float(found) for found in NUMBER.findall(text)]


def test_readme_example_prints_what_its_comments_say(capsys):
    block, *_ = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (table,) = re.findall(r"```text\n(metric .*?)```", README, flags=re.DOTALL)
    said = re.findall(r"^print\(.*\)  # ([^:]*)", block, flags=re.MULTILINE)
    names: dict[str, object] = {}
    exec(block, names)
    before, head, after = capsys.readouterr().out.partition("metric ")
    lines = before.splitlines()
    assert len(lines) == len(said) - 1 == 6
    for line, comment in zip(lines, said, strict=False):
        assert numbers(line) == pytest.approx(numbers(comment), rel=1e-3)
        assert numbers(line) or line == comment
    rows, wanted = ((text.splitlines()[1:]) for text in (head + after, table))
    shown = {row.split()[0] for row in wanted}
    rows = [row for row in rows if row.split()[0] in shown]  # a new metric may not be shown yet
    for row, want in zip(rows, wanted, strict=True):
        assert re.sub(r"\d", "0", row) == re.sub(r"\d", "0", want)
        assert row.split()[0] == want.split()[0]
        assert numbers(row.split()[1]) == pytest.approx(numbers(want.split()[1]), rel=1e-3)


@pytest.mark.parametrize("line", re.findall(r"^imsim .*", README, flags=re.MULTILINE))
def test_readme_commands_are_understood(line):
    cli.command_parser().parse_args(shlex.split(line)[1:])


def test_one_version_everywhere():
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "imsim/_version.py"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, flags=re.MULTILINE) == [_version.__version__]
    assert re.findall(r"^## \[(\d.*?)\]", changelog, flags=re.MULTILINE)[0] == _version.__version__


def test_the_package_says_that_it_is_typed():
    assert (Path(imsim.__file__).parent / "py.typed").exists()
